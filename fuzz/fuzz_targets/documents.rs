//! Stored documents: any bytes at all, or a good document that was changed. What is a session is one
//! by the rule that stands here a second time: it lets its user in, and keeps every field that was
//! not written. Any other document lets no user in, causes no failure, and stays
//! as it is.
#![cfg_attr(fuzzing, no_main)]

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use rocket::local::blocking::Client;
use rocket::serde::json::{Json, Value, json};
use rocket::{get, post, routes};
use rocket_mongo_session::mongodb::bson::spec::BinarySubtype;
use rocket_mongo_session::mongodb::bson::{self, Bson, Document, RawBsonRef, RawDocument, doc};
use rocket_mongo_session::testing::Clock;
use rocket_mongo_session::{Session, Sessions};
use rocket_mongo_session_fuzz::store::{Call, Watched};
use rocket_mongo_session_fuzz::{client, cookie, lock, member, rocket, set_cookie, target};

/// A cookie of the Python package.
const OLD: &str = "0123456789abcdef0123456789abcdef";

/// The configured timeout, in milliseconds: the default.
const TIMEOUT: i64 = 1_200_000;

/// Every field that the crate writes in a session's document; other programs wrote the others.
const OURS: [&str; 16] = [
    "_id", "created", "accessed", "value", "token", "csrf", "expires", "user", "timeout",
    "lifetime", "max_age", "renewed", "sent", "client", "ip", "seal",
];

/// Whether the session is a new one, and whose it is, as far as a text says it.
#[get("/look")]
fn look(session: &Session) -> Json<(bool, Option<String>)> {
    Json((session.is_new(), session.user().ok().flatten()))
}

/// Every call that reads or writes, whatever it finds.
#[post("/everything")]
async fn everything(session: &Session) -> String {
    let mut said = String::new();
    let mut keys = session.keys();
    keys.truncate(20);
    keys.extend(["n", "list", "", "a.b", "$x"].map(str::to_owned));
    for key in &keys {
        said += &format!("{:?}", session.get::<Value>(key).ok());
        said += &format!("{:?}", session.get::<u32>(key).ok());
        said += &format!("{:?}", session.get::<Vec<String>>(key).ok());
        let _ = session.increment(key, 1);
        let _ = session.push(key, "x");
        let add = |value: Option<i64>| value.unwrap_or_default().wrapping_add(1);
        let _ = session.modify(key, add).await;
        let _ = session.set(key, &json!({ "$a": [1] }));
        let _ = session.take::<bool>(key);
        let _ = session.get_or_insert(key, 1_u8);
        said += &format!("{}", session.contains(key));
    }
    let _ = session.flash("message");
    said += &format!("{:?}", session.peek_flash::<Value>().ok());
    said += &format!("{:?}", session.pop_flash::<Value>().await.ok());
    said += &format!("{:?}", session.flash_queue("q").pop::<String>().await.ok());
    let user = session.user::<Value>().ok();
    said += &format!("{user:?} {}", session.verify_csrf("x"));
    let (id, is_new, expires) = (session.id(), session.is_new(), session.expires());
    said += &format!("{id:?} {is_new} {expires:?}");
    said += &format!(
        "{} {} {}",
        session.created(),
        session.accessed(),
        session.len()
    );
    let _ = session.save().await;
    let _ = session.renew();
    let _ = session.save().await;
    let _ = session.elevate();
    session.touch();
    said
}

struct App {
    client: Mutex<Client>,
    store: Watched,
    clock: Clock,
    cookie: String,
    id: String,
    good: Vec<u8>,
    /// A good document of the Python package.
    old: Vec<u8>,
}

static APP: LazyLock<App> = LazyLock::new(|| {
    let (store, clock) = (Watched::default(), Clock::new());
    // A value that is malformed inside equals nothing, itself included, and is compared until the
    // deadline. All else is done at the first look, however short that is.
    let settings = json!({
        "max_age": 600,
        "legacy_ids": true,
        "max_per_user": 3,
        "deadline": 0.02,
    });
    let fairing = Sessions::with_store(store.clone()).with_clock(&clock);
    let client = client(rocket(fairing, settings).mount("/", routes![look, everything]));
    let cookie = member(&lock(&client), "alice");
    let id = cookie[..22].to_owned();
    let good = store.stored(&id).expect("a document");
    let seconds = millis(&clock) as f64 / 1000.0;
    let old = doc! {
        "_id": OLD,
        "created": seconds,
        "accessed": seconds,
        "value": { "a": 1, "b.c": "text", "_f_": ["message"], "_csrft_": "abc", "list": [1, [2]] },
        "pickled": false,
    };
    App {
        client,
        store,
        clock,
        cookie,
        id,
        good,
        old: bson::to_vec(&old).expect("bytes"),
    }
});

fn millis(clock: &Clock) -> i64 {
    i64::try_from(clock.time().unix_timestamp_nanos() / 1_000_000).expect("a time of today")
}

target!(|data: &[u8]| {
    let app = &*APP;
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    let good = if kind & 4 == 0 { &app.good } else { &app.old };
    let document = match kind % 4 {
        // Any bytes, of a length that they admit to or not.
        0 => data.to_vec(),
        // Some bytes of a good one changed.
        1 => {
            let mut document = good.clone();
            for change in data.chunks_exact(3) {
                let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
                let length = document.len();
                document[at % length] = change[2];
            }
            document
        }
        // A good one with more elements at its end.
        2 => closed([&good[4..good.len() - 1], data].concat()),
        // A good one with one field of another type and content.
        _ => replaced(good, data),
    };
    // No store answers with a document of another id than it was asked for.
    let id = RawDocument::from_bytes(&document).map(|raw| raw.get_str("_id").map(str::to_owned));
    let id = id.ok().and_then(Result::ok);
    if id.as_ref().is_none_or(|id| *id == app.id) {
        own(app, &document);
    }
    if id.as_ref().is_none_or(|id| id == OLD) {
        legacy(app, &document);
    }
});

/// The document that the live cookie names is this one.
fn own(app: &App, document: &[u8]) {
    let client = lock(&app.client);
    let is_session = is_own(app, document);
    app.store.hold_only(&app.id, document.to_vec());
    let response = client.get("/look").header(cookie(&app.cookie)).dispatch();
    assert_eq!(response.status().code, 200);
    let (is_new, user): (bool, Option<String>) = response.into_json().expect("a result");
    assert_eq!(
        is_session,
        !is_new,
        "{:?}",
        RawDocument::from_bytes(document)
    );
    if is_session {
        let raw = RawDocument::from_bytes(document).expect("a document");
        match raw.get("user") {
            Ok(None) => assert_eq!(user, None),
            Ok(Some(RawBsonRef::String(name))) => assert_eq!(user.as_deref(), Some(name)),
            _ => {}
        }
    } else {
        assert_eq!(user, None);
        untouched(app, &app.id, document);
    }

    app.store.hold_only(&app.id, document.to_vec());
    let response = client.post("/write").header(cookie(&app.cookie)).dispatch();
    if !is_session {
        assert_eq!(response.status().code, 200);
        untouched(app, &app.id, document);
    } else if let Some(before) = whole(document) {
        assert_eq!(response.status().code, 200);
        let after = app.store.stored(&app.id).expect("a document");
        let after = whole(&after).expect("a document");
        let n = after.get_document("value").map(|value| value.get("n"));
        assert_eq!(n, Ok(Some(&Bson::Int32(1))), "what was written is there");
        assert_eq!(others(before), others(after), "what was not is as it was");
    } else {
        // What no server would have kept: it is written or refused, and nothing in between.
        match response.status().code {
            200 => {}
            503 => assert_eq!(app.store.stored(&app.id).as_deref(), Some(document)),
            status => panic!("{status}"),
        }
    }

    app.store.hold_only(&app.id, document.to_vec());
    let everything = client.post("/everything");
    let response = everything.header(cookie(&app.cookie)).dispatch();
    if !is_session {
        assert_eq!(response.status().code, 200);
        untouched(app, &app.id, document);
    } else if whole(document).is_some() {
        assert_eq!(response.status().code, 200);
        assert_continues(app, &app.id, &app.cookie, set_cookie(&response));
    } else {
        assert!(matches!(response.status().code, 200 | 503));
    }
}

/// The document that a cookie of the Python package names is this one.
fn legacy(app: &App, document: &[u8]) {
    let client = lock(&app.client);
    let is_session = is_legacy(app, document);
    app.store.hold_only(OLD, document.to_vec());
    let response = client.get("/look").header(cookie(OLD)).dispatch();
    assert_eq!(response.status().code, 200);
    let (is_new, _): (bool, Option<String>) = response.into_json().expect("a result");
    assert_eq!(
        is_session,
        !is_new,
        "{:?}",
        RawDocument::from_bytes(document)
    );
    if !is_session {
        untouched(app, OLD, document);
    }
    for path in ["/write", "/everything"] {
        app.store.hold_only(OLD, document.to_vec());
        let response = client.post(path).header(cookie(OLD)).dispatch();
        let status = response.status().code;
        if !is_session {
            assert_eq!(status, 200, "{path}");
            untouched(app, OLD, document);
            continue;
        }
        let Some(before) = whole(document) else {
            assert!(matches!(status, 200 | 503), "{path}: {status}");
            continue;
        };
        assert_eq!(status, 200, "{path}");
        let before = before.get_document("value").expect("values");
        if path == "/everything" {
            assert_continues(app, OLD, OLD, set_cookie(&response));
            continue;
        }
        if before.get("n") == Some(&Bson::Int32(1)) {
            continue; // it was that before: nothing to write, and nothing to upgrade for
        }
        // It is upgraded in place, with what it held.
        let after = app.store.stored(OLD).expect("a document");
        let after = whole(&after).expect("a document");
        assert!(after.contains_key("token") && after.contains_key("expires"));
        let after = after.get_document("value").expect("values");
        assert_eq!(after.get("n"), Some(&Bson::Int32(1)));
        for (name, value) in before {
            let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if is_plain && !name.is_empty() && name != "n" {
                assert!(
                    after.get(name).is_some_and(|after| same(after, value)),
                    "{name}"
                );
            }
        }
    }
}

/// Nothing was written under the id, nor tried to be.
fn untouched(app: &App, id: &str, document: &[u8]) {
    assert_eq!(app.store.stored(id).as_deref(), Some(document));
    let calls = app.store.calls();
    let written = calls
        .iter()
        .any(|(call, of)| *call != Call::Load && of == id);
    assert!(!written, "{calls:?}");
}

/// The session has its id and its document, and the browser is told of a new secret.
fn assert_continues(app: &App, id: &str, before: &str, sent: Option<String>) {
    let sent = sent.expect("a cookie");
    assert!(sent.starts_with(&format!("{id}.")), "{sent}");
    assert_ne!(sent, before);
    let document = app.store.stored(id).expect("a document");
    whole(&document).expect("a document");
}

/// Whether the holder of the live cookie is let in: every field of ours is there once, in
/// its type; the id and the secret's hash are the cookie's; and its time is to come.
fn is_own(app: &App, document: &[u8]) -> bool {
    let Some(fields) = fields(document).filter(|fields| is_well_formed(fields, &app.id)) else {
        return false;
    };
    let get = |name: &str| fields.get(name).copied();
    let good = RawDocument::from_bytes(&app.good).expect("a document");
    let token = good.get_binary("token").expect("a token").bytes;
    let is_proven = get("token").and_then(bytes) == Some(token);
    is_proven && get("csrf").is_some() && get("expires").is_some() && is_alive(app, &fields)
}

/// Whether the document is a session of the Python package: what this crate adds is well-formed or
/// missing, it is not pickled, and it was last used within the timeout.
fn is_legacy(app: &App, document: &[u8]) -> bool {
    let Some(fields) = fields(document).filter(|fields| is_well_formed(fields, OLD)) else {
        return false;
    };
    let raw = RawDocument::from_bytes(document).expect("a document");
    let pickled = raw.get("pickled").ok().flatten();
    let is_pickled = !matches!(pickled, None | Some(RawBsonRef::Boolean(false)));
    let renamed = raw.get("renamed").ok().flatten();
    let accessed = fields.get("accessed").copied().and_then(moment);
    let is_ahead = accessed.is_some_and(|accessed| accessed > millis(&app.clock) + TIMEOUT);
    let is_believed = fields.contains_key("expires") || !is_ahead;
    // A token that opens it by the id alone is derived: no byte of the input is one.
    !is_pickled
        && renamed.is_none()
        && !fields.contains_key("token")
        && is_believed
        && is_alive(app, &fields)
}

/// Returns the crate's fields; `None` when the bytes are malformed or contain one of the fields twice.
fn fields(document: &[u8]) -> Option<BTreeMap<String, RawBsonRef<'_>>> {
    let mut fields = BTreeMap::new();
    for element in RawDocument::from_bytes(document).ok()? {
        let (name, value) = element.ok()?;
        let name = name.to_string();
        if OURS.contains(&name.as_str()) && fields.insert(name, value).is_some() {
            return None;
        }
    }
    Some(fields)
}

fn is_well_formed(fields: &BTreeMap<String, RawBsonRef<'_>>, id: &str) -> bool {
    let get = |name: &str| fields.get(name).copied();
    // An optional field must have its type, too.
    let optional = |name, is: fn(RawBsonRef<'_>) -> bool| get(name).is_none_or(is);
    let text: fn(RawBsonRef<'_>) -> bool = |value| value.as_str().is_some();
    let key: fn(RawBsonRef<'_>) -> bool = |value| bytes(value).is_some_and(|key| key.len() == 32);
    let duration: fn(RawBsonRef<'_>) -> bool = |value| match value {
        RawBsonRef::Boolean(lasts) => !lasts,
        value => moment(value).is_some_and(|millis| millis > 0),
    };
    get("_id").and_then(RawBsonRef::as_str) == Some(id)
        && get("value").is_some_and(is_values)
        && get("created").and_then(moment).is_some()
        && get("accessed").and_then(moment).is_some()
        && optional("expires", |value| value.as_datetime().is_some())
        && optional("token", key)
        && optional("csrf", key)
        && optional("user", is_principal)
        && optional("timeout", duration)
        && optional("lifetime", duration)
        && optional("max_age", duration)
        && optional("renewed", |value| {
            value.as_datetime().is_some() || moment(value).is_some()
        })
        && optional("sent", |value| moment(value).is_some())
        && optional("client", text)
        && optional("ip", text)
        // A wrapped key that no byte of the input opens.
        && get("seal").is_none()
}

/// Whether the time of a well-formed session is still to come.
fn is_alive(app: &App, fields: &BTreeMap<String, RawBsonRef<'_>>) -> bool {
    let get = |name: &str| fields.get(name).copied();
    let now = millis(&app.clock);
    let lasts = |since: &str, own: &str, configured: Option<i64>| {
        let own = match get(own) {
            Some(RawBsonRef::Boolean(_)) => None,
            Some(own) => moment(own),
            None => configured,
        };
        let since = get(since).and_then(moment).unwrap_or_default();
        own.is_none_or(|own| since.saturating_add(own) >= now)
    };
    let expires = get("expires").and_then(RawBsonRef::as_datetime);
    expires.is_none_or(|expires| expires.timestamp_millis() >= now)
        && lasts("accessed", "timeout", Some(TIMEOUT))
        && lasts("created", "lifetime", None)
}

fn is_values(value: RawBsonRef<'_>) -> bool {
    let values = value.as_document();
    values.is_some_and(|values| values.into_iter().all(|element| element.is_ok()))
}

/// A time or a duration in milliseconds, as seconds of any number type name it.
fn moment(value: RawBsonRef<'_>) -> Option<i64> {
    let seconds = match value {
        RawBsonRef::Double(seconds) => seconds,
        RawBsonRef::Int32(seconds) => f64::from(seconds),
        RawBsonRef::Int64(seconds) => seconds as f64,
        _ => return None,
    };
    let millis = (seconds * 1000.0).round();
    // Beyond that there is no calendar.
    (millis.is_finite() && millis.abs() < 1e16).then_some(millis as i64)
}

fn bytes(value: RawBsonRef<'_>) -> Option<&[u8]> {
    match value {
        RawBsonRef::Binary(binary) => {
            (binary.subtype == BinarySubtype::Generic).then_some(binary.bytes)
        }
        _ => None,
    }
}

/// Whether equality can be asked of it: no null, no list, no code, no pattern.
fn is_principal(value: RawBsonRef<'_>) -> bool {
    use RawBsonRef::*;
    matches!(
        value,
        String(_)
            | Int32(_)
            | Int64(_)
            | Double(_)
            | Boolean(_)
            | ObjectId(_)
            | Binary(_)
            | Decimal128(_)
            | DateTime(_)
            | Document(_)
    )
}

/// A document as a server keeps it: well-formed to its innermost value, with each name once.
fn whole(document: &[u8]) -> Option<Document> {
    let whole = bson::from_slice::<Document>(document).ok()?;
    (bson::to_vec(&whole).ok()?.as_slice() == document).then_some(whole)
}

/// Equal, as far as a NaN is.
fn same(a: &Bson, b: &Bson) -> bool {
    let bytes = |value: &Bson| bson::to_vec(&doc! { "v": value }).expect("bytes");
    bytes(a) == bytes(b)
}

/// What `/write` must not change, as bytes.
fn others(mut document: Document) -> Vec<u8> {
    for field in ["accessed", "expires", "sent"] {
        document.remove(field);
    }
    if let Ok(value) = document.get_document_mut("value") {
        value.remove("n");
    }
    bson::to_vec(&document).expect("bytes")
}

/// A document of these elements.
fn closed(elements: Vec<u8>) -> Vec<u8> {
    let length = i32::try_from(elements.len() + 5).expect("a length");
    let mut document = length.to_le_bytes().to_vec();
    document.extend(elements);
    document.push(0);
    document
}

/// The document with one field (the first byte chooses) of this type (the second) and content.
fn replaced(good: &[u8], data: &[u8]) -> Vec<u8> {
    const MORE: [&str; 8] = [
        "timeout", "max_age", "renewed", "client", "ip", "sent", "token", "pickled",
    ];
    let [choice, kind, payload @ ..] = data else {
        return good.to_vec();
    };
    let raw = RawDocument::from_bytes(good).expect("a document");
    let fields: Vec<(String, RawBsonRef<'_>)> = raw
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.to_string(), value))
        .collect();
    let names = fields.iter().map(|(name, _)| name.as_str()).chain(MORE);
    let names: Vec<&str> = names.collect();
    let name = names[usize::from(*choice) % names.len()];
    let mut rest = Document::new();
    for (other, value) in fields.iter().filter(|(other, _)| other != name) {
        let value = Bson::try_from(*value).expect("a value");
        rest.insert(other.clone(), value);
    }
    let rest = bson::to_vec(&rest).expect("bytes");
    let mut elements = rest[4..rest.len() - 1].to_vec();
    elements.push(*kind);
    elements.extend(name.bytes());
    elements.push(0);
    elements.extend(payload);
    closed(elements)
}
