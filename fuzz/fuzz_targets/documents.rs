//! Stored documents: any bytes at all, or a good document that was changed. What is no session lets
//! nobody in, is no failure, and stays as it is; what is one keeps every field that was not written.
#![cfg_attr(fuzzing, no_main)]

use std::sync::{LazyLock, Mutex};

use rocket::local::blocking::Client;
use rocket::serde::json::{Value, json};
use rocket::{post, routes};
use rocket_mongo_session::mongodb::bson::spec::BinarySubtype;
use rocket_mongo_session::mongodb::bson::{self, Bson, Document, RawBsonRef, RawDocument};
use rocket_mongo_session::testing::Clock;
use rocket_mongo_session::{Session, Sessions};
use rocket_mongo_session_fuzz::store::{Call, Watched};
use rocket_mongo_session_fuzz::{client, cookie, lock, member, rocket, target};

/// A cookie of the ancestor's.
const OLD: &str = "0123456789abcdef0123456789abcdef";

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
    said += &format!("{:?}", session.queue("q").pop::<String>().await.ok());
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
}

static APP: LazyLock<App> = LazyLock::new(|| {
    let (store, clock) = (Watched::default(), Clock::new());
    let settings = json!({ "max_age": 600, "legacy_ids": true, "max_per_user": 3 });
    let fairing = Sessions::with_store(store.clone()).with_clock(&clock);
    let client = client(rocket(fairing, settings).mount("/", routes![everything]));
    let cookie = member(&lock(&client), "alice");
    let id = cookie[..22].to_owned();
    let good = store.stored(&id).expect("a document");
    App {
        client,
        store,
        clock,
        cookie,
        id,
        good,
    }
});

target!(|data: &[u8]| {
    let app = &*APP;
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    let document = match kind % 4 {
        // Any bytes, of a length that they admit to or not.
        0 => data.to_vec(),
        // Some bytes of a good one changed.
        1 => {
            let mut document = app.good.clone();
            for change in data.chunks_exact(3) {
                let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
                let length = document.len();
                document[at % length] = change[2];
            }
            document
        }
        // A good one with more elements at its end.
        2 => closed([&app.good[4..app.good.len() - 1], data].concat()),
        // A good one with one field of another type and content.
        _ => replaced(&app.good, data),
    };
    if data.is_empty() || document == app.good {
        return;
    }
    // No store answers with a document of another id than it was asked for.
    let id = RawDocument::from_bytes(&document).map(|raw| raw.get_str("_id").map(str::to_owned));
    let id = id.ok().and_then(Result::ok);
    if id.as_ref().is_none_or(|id| *id == app.id) {
        own(app, &document);
    }
    if id.as_ref().is_none_or(|id| id == OLD) {
        ancestors(app, &document);
    }
});

/// The document that the live cookie names is this one.
fn own(app: &App, document: &[u8]) {
    let client = lock(&app.client);
    app.store.hold_only(&app.id, document.to_vec());
    let answer = client.get("/whoami").header(cookie(&app.cookie)).dispatch();
    assert_eq!(answer.status().code, 200);
    let user = answer.into_string().unwrap_or_default();
    let is_session = user != "stranger";
    if is_session {
        assert!(proves(app, document), "let in by another's document");
    }
    if user == "alice" {
        let raw = RawDocument::from_bytes(document).expect("a document");
        assert_eq!(raw.get_str("user"), Ok("alice"));
    }
    if !is_session {
        untouched(app, &app.id, document);
    }

    app.store.hold_only(&app.id, document.to_vec());
    let answer = client.post("/write").header(cookie(&app.cookie)).dispatch();
    let whole = bson::from_slice::<Document>(document);
    if !is_session {
        assert_eq!(answer.status().code, 200);
        untouched(app, &app.id, document);
    } else if let Ok(before) = whole {
        assert_eq!(answer.status().code, 200);
        let after = app.store.stored(&app.id).expect("a document");
        let after = bson::from_slice::<Document>(&after).expect("a document");
        let n = after
            .get_document("value")
            .ok()
            .and_then(|value| value.get("n"));
        assert_eq!(n, Some(&Bson::Int32(1)), "what was written is there");
        assert_eq!(others(before), others(after), "what was not is as it was");
    }

    app.store.hold_only(&app.id, document.to_vec());
    drop(
        client
            .post("/everything")
            .header(cookie(&app.cookie))
            .dispatch(),
    );
    if !is_session {
        untouched(app, &app.id, document);
    }
}

/// The document that a cookie of the ancestor's names is this one.
fn ancestors(app: &App, document: &[u8]) {
    let client = lock(&app.client);
    app.store.hold_only(OLD, document.to_vec());
    let answer = client.get("/whoami").header(cookie(OLD)).dispatch();
    assert_eq!(answer.status().code, 200);
    let user = answer.into_string().unwrap_or_default();
    assert!(
        user == "stranger" || user == "nobody",
        "the ancestor knew no users"
    );
    let is_session = user != "stranger";
    if !is_session {
        untouched(app, OLD, document);
    }
    for path in ["/write", "/everything"] {
        app.store.hold_only(OLD, document.to_vec());
        drop(client.post(path).header(cookie(OLD)).dispatch());
        if !is_session {
            untouched(app, OLD, document);
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

/// Whether the document holds what only the holder of the cookie can have caused: its id, the hash
/// of its secret, and a time that has not come; each said once.
fn proves(app: &App, document: &[u8]) -> bool {
    let now = app.clock.time().unix_timestamp_nanos() / 1_000_000;
    let good = RawDocument::from_bytes(&app.good).expect("a document");
    let Ok(raw) = RawDocument::from_bytes(document) else {
        return false;
    };
    let id = raw.get_str("_id").is_ok_and(|id| id == app.id);
    let token = match (raw.get_binary("token"), good.get_binary("token")) {
        (Ok(here), Ok(there)) => {
            here.subtype == BinarySubtype::Generic && here.bytes == there.bytes
        }
        _ => false,
    };
    // A field of the crate's that is there twice says two things.
    let ours = [
        "_id", "created", "accessed", "value", "token", "csrf", "expires", "user",
    ];
    let names = raw.into_iter().flatten().map(|(name, _)| name.to_string());
    let mut names: Vec<String> = names.filter(|name| ours.contains(&name.as_str())).collect();
    names.sort();
    let once = names.windows(2).all(|pair| pair[0] != pair[1]);
    let expires = raw.get_datetime("expires");
    once && id
        && token
        && expires.is_ok_and(|expires| i128::from(expires.timestamp_millis()) >= now)
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
    const MORE: [&str; 6] = ["timeout", "max_age", "renewed", "client", "ip", "sent"];
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
