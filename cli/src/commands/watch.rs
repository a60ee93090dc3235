//! `watch`: what happens to sessions.

use rocket::futures::StreamExt;
use rocket::tokio::select;
use rocket_mongo_session::mongodb::bson::Bson;
use rocket_mongo_session::{Event, EventKind};
use serde_json::{Value, json};

use super::Context;
use crate::failure::Failure;
use crate::output;
use crate::userid::UserId;

pub async fn run(mut context: Context, user: Option<UserId>) -> Result<(), Failure> {
    let sessions = context.app.sessions().await?;
    sessions.ping().await?;
    let wanted = user.map(|user| user.value);
    let mut events = sessions.events();
    loop {
        let event = select! {
            event = events.next() => event,
            () = context.interrupt.wait() => return Ok(()),
        };
        let Some(event) = event else { return Ok(()) };
        let event = event?;
        // What may have been missed is everybody's.
        let is_wanted = |wanted: &Bson| {
            let user = event.user::<Bson>().ok().flatten();
            event.kind == EventKind::Missed || user.is_some_and(|user| is_same(wanted, &user))
        };
        if wanted.as_ref().is_none_or(is_wanted) {
            print(&event, context.json)?;
        }
    }
}

/// Whether two values are equal, as they are to the server: integers and doubles by their value, also inside
/// of documents and arrays.
pub fn is_same(one: &Bson, other: &Bson) -> bool {
    match (one, other) {
        // The order of the fields counts.
        (Bson::Document(one), Bson::Document(other)) => {
            let mut fields = one.iter().zip(other.iter());
            one.len() == other.len() && fields.all(|(a, b)| a.0 == b.0 && is_same(a.1, b.1))
        }
        (Bson::Array(one), Bson::Array(other)) => {
            let mut elements = one.iter().zip(other);
            one.len() == other.len() && elements.all(|(a, b)| is_same(a, b))
        }
        _ => one == other || whole(one).is_some_and(|number| Some(number) == whole(other)),
    }
}

/// The integer that a number is equal to.
fn whole(number: &Bson) -> Option<i64> {
    match number {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        Bson::Double(number) => {
            // From 2^63 on it is too large for an integer, and a conversion would saturate.
            let is_whole = number.fract() == 0.0 && *number < -(i64::MIN as f64);
            (is_whole && *number >= i64::MIN as f64).then_some(*number as i64)
        }
        _ => None,
    }
}

fn print(event: &Event, is_json: bool) -> Result<(), Failure> {
    let kind = format!("{:?}", event.kind);
    let user = event.user::<Value>().ok().flatten().unwrap_or_default();
    if is_json {
        let at = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::from(event.at));
        output::json(&json!({
            "at": at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            "kind": kind,
            "id": event.id,
            "user": user,
        }))?;
    } else {
        let (at, user) = (output::local(event.at), output::user(&user));
        output::line(&format!("{at}  {kind:<10}  {:<22}  {user}", event.id))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rocket_mongo_session::mongodb::bson::{bson, doc};

    use super::*;

    #[test]
    fn whole_numbers_are_the_same_whatever_their_type() {
        let types = [Bson::Int32(7), Bson::Int64(7), Bson::Double(7.0)];
        for one in &types {
            for other in &types {
                assert!(is_same(one, other), "{one} {other}");
                let nested = |number: &Bson| bson!({ "a": [{ "b": number.clone() }, "c"] });
                assert!(is_same(&nested(one), &nested(other)), "{one} {other}");
            }
        }
        // As a double the integer is rounded to its neighbour.
        let (large, double) = (Bson::Int64((1 << 53) + 1), Bson::Double(2f64.powi(53)));
        assert!(!is_same(&large, &double));
        assert!(!is_same(
            &Bson::Int64(i64::MAX),
            &Bson::Double(2f64.powi(63))
        ));
        assert!(is_same(
            &Bson::Int64(i64::MIN),
            &Bson::Double(-2f64.powi(63))
        ));
        assert!(!is_same(&Bson::Double(1e300), &Bson::Double(1e301)));
    }

    #[test]
    fn other_values_are_the_same_only_as_they_are() {
        let user = Bson::Document(doc! { "a": 1, "b": [2, "x"] });
        assert!(is_same(&user, &user.clone()));
        for other in [
            bson!({ "b": [2, "x"], "a": 1 }),
            bson!({ "a": 1, "b": [2] }),
            bson!({ "a": 1 }),
            bson!({ "a": 1, "c": [2, "x"] }),
            bson!({ "a": 1, "b": ["x", 2] }),
            bson!("7"),
        ] {
            assert!(!is_same(&user, &other), "{other}");
        }
        assert!(!is_same(&Bson::Int32(7), &Bson::from("7")));
        assert!(!is_same(&Bson::Int32(7), &Bson::Double(7.5)));
    }
}
