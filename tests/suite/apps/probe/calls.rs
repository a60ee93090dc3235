//! The calls that a script can make, by the names that they have in the crate.

use std::time::Duration;

use rocket::http::uri::Origin;
use rocket::serde::json::{Value, json};
use rocket::time::OffsetDateTime;
use rocket_mongo_session::{Error, Session, Sessions};

use super::Gates;

/// Carries out one call: `["name", argument, …]`.
pub(super) async fn perform(
    call: &Value,
    session: &Session,
    sessions: &Sessions,
    gates: &Gates,
) -> Value {
    let attempt = attempt(call, session, sessions, gates).await;
    attempt.unwrap_or_else(|failed| error(&failed))
}

/// An error by the name of its variant.
pub(super) fn error(error: &Error) -> Value {
    let shown = format!("{error:?}");
    let name = shown.split([' ', '(', '{']).next().unwrap_or_default();
    json!({ "error": name })
}

async fn attempt(
    call: &Value,
    session: &Session,
    sessions: &Sessions,
    gates: &Gates,
) -> Result<Value, Error> {
    let text = |at: usize| call[at].as_str().unwrap_or_default();
    let (name, key) = (text(0), text(1));
    let number = || call[2].as_i64().expect("a whole number");
    let none = json!(null);
    Ok(match name {
        // Values.
        "get" => json!(session.get::<Value>(key)?),
        "get_as" => match text(2) {
            "i64" => json!(session.get::<i64>(key)?),
            "bool" => json!(session.get::<bool>(key)?),
            "string" => json!(session.get::<String>(key)?),
            other => panic!("no type {other:?}"),
        },
        "set" => {
            session.set(key, &call[2])?;
            none
        }
        // A string of that many bytes.
        "set_long" => {
            session.set(key, &"x".repeat(number() as usize))?;
            none
        }
        "remove" => json!(session.remove(key)),
        "take" => json!(session.take::<Value>(key)?),
        "take_as_i64" => json!(session.take::<i64>(key)?),
        "contains" => json!(session.contains(key)),
        "keys" => json!(session.keys()),
        "len" => json!(session.len()),
        "is_empty" => json!(session.is_empty()),
        "clear" => {
            session.clear();
            none
        }
        "get_or_insert" => session.get_or_insert(key, call[2].clone())?,
        "increment" => json!(session.increment(key, number())?),
        "push" => {
            session.push(key, &call[2])?;
            none
        }
        // Adds to a number by compare-and-set.
        "modify" => {
            let by = number();
            let add = |value: Option<i64>| value.unwrap_or_default() + by;
            json!(session.modify(key, add).await?)
        }
        // Subtracts one, and removes what would be zero.
        "modify_or_remove" => {
            let less = |value: Option<i64>| value.filter(|n| *n > 1).map(|n| n - 1);
            json!(session.modify_or_remove(key, less).await?)
        }

        // Messages.
        "flash" => {
            session.flash(&call[1])?;
            none
        }
        "pop_flash" => json!(session.pop_flash::<Value>().await?),
        "peek_flash" => json!(session.peek_flash::<Value>()?),
        "queue_push" => {
            session.flash_queue(key).push(&call[2])?;
            none
        }
        "queue_push_unique" => {
            session.flash_queue(key).push_unique(&call[2])?;
            none
        }
        "queue_peek" => json!(session.flash_queue(key).peek::<Value>()?),
        "queue_pop" => json!(session.flash_queue(key).pop::<Value>().await?),
        "queue_pop_as_i64" => json!(session.flash_queue(key).pop::<i64>().await?),
        "csrf_token" => json!(session.csrf_token()),
        "new_csrf_token" => json!(session.new_csrf_token()),
        "verify_csrf" => json!(session.verify_csrf(key)),

        // Whose it is.
        "login" => {
            session.login(&call[1])?;
            none
        }
        "login_keeping" => {
            let keys = call[2].as_array().expect("a list of keys");
            let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
            session.login_keeping(&call[1], &keys)?;
            none
        }
        "user" => json!(session.user::<Value>()?),
        "elevate" => {
            session.elevate()?;
            none
        }
        "logout" => {
            session.logout()?;
            none
        }
        "logout_keeping" => {
            let keys = call[1].as_array().expect("a list of keys");
            let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
            session.logout_keeping(&keys)?;
            none
        }
        "set_return_to" => {
            session.set_return_to(&Origin::parse(key).expect("an address"))?;
            none
        }
        "take_return_to" => json!(session.take_return_to().map(|page| page.to_string())),
        "invalidate" => {
            session.invalidate()?;
            none
        }
        "renew" => {
            session.renew()?;
            none
        }

        // The session itself.
        "touch" => {
            session.touch();
            none
        }
        "save" => {
            session.save().await?;
            none
        }
        "id" => json!(session.id()),
        "is_new" => json!(session.is_new()),
        "created" => json!(seconds(session.created())),
        "accessed" => json!(seconds(session.accessed())),
        "expires" => json!(session.expires().map(seconds)),
        "set_timeout" => {
            session.set_timeout(call[1].as_f64().map(Duration::from_secs_f64))?;
            none
        }
        "set_max_age" => {
            session.set_max_age(call[1].as_f64().map(Duration::from_secs_f64))?;
            none
        }

        "set_lifetime" => {
            session.set_lifetime(call[1].as_f64().map(Duration::from_secs_f64))?;
            none
        }
        "remember_for" => {
            session.remember_for(Duration::from_secs(call[1].as_u64().expect("seconds")))?;
            none
        }
        "reset_times" => {
            session.reset_times()?;
            none
        }
        "skip_touch" => {
            session.skip_touch();
            none
        }
        "times" => {
            let times = [session.timeout(), session.lifetime(), session.max_age()];
            json!(times.map(|time| time.map(|time| time.as_secs_f64())))
        }

        // The administrator's.
        "count" => json!(sessions.count().await?),
        "count_user" => json!(sessions.of(&call[1]).count().await?),
        "list" => {
            let skip = call[2].as_u64().unwrap_or_default();
            let listed = sessions.of(&call[1]).list(skip, 100).await?.into_iter();
            let shown = listed.map(|info| {
                json!({
                    "id": info.id,
                    "created": seconds(info.created),
                    "accessed": seconds(info.accessed),
                    "expires": info.expires.map(seconds),
                    "client": info.client,
                    "ip": info.ip.map(|ip| ip.to_string()),
                })
            });
            shown.collect()
        }
        "revoke" => json!(sessions.revoke(key).await?),
        "revoke_of" => json!(sessions.of(&call[1]).revoke(text(2)).await?),
        "revoke_user" => json!(sessions.of(&call[1]).revoke_all().await?),
        "revoke_others" => json!(sessions.revoke_others(session).await?),
        "revoke_all" => json!(sessions.revoke_all().await?),
        "purge_expired" => json!(sessions.purge_expired().await?),
        "ensure_indexes" => {
            sessions.ensure_indexes().await?;
            none
        }
        "ping" => {
            sessions.ping().await?;
            none
        }
        // As it prints itself.
        "stats" => json!(format!("{:?}", sessions.stats())),

        "pause" => {
            gates.pass(key).await;
            none
        }
        other => panic!("no call {other:?}"),
    })
}

/// Epoch seconds, as documents have them.
fn seconds(time: OffsetDateTime) -> f64 {
    time.unix_timestamp_nanos() as f64 / 1e9
}
