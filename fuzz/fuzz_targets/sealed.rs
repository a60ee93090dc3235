//! Sealed sessions whose stored bytes were changed, or put into another place: of the same session, of
//! another one, or of an earlier state. Each key is read as what was sealed for it, or is an error;
//! no other key notices.
#![cfg_attr(fuzzing, no_main)]

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use rocket::local::blocking::Client;
use rocket::serde::json::{Json, Value, json};
use rocket::{get, post, routes};
use rocket_mongo_session::mongodb::bson::spec::BinarySubtype;
use rocket_mongo_session::mongodb::bson::{self, Bson, Document};
use rocket_mongo_session::{Error, Session, Sessions};
use rocket_mongo_session_fuzz::store::Watched;
use rocket_mongo_session_fuzz::{client, cookie, lock, rocket, set_cookie, target};

/// The keys, and the places in a document that are sealed.
const KEYS: [&str; 4] = ["n", "text", "list", "a.b"];
const PLACES: [&str; 7] = ["n", "text", "list", "a%2Eb", "_f_", "csrf", "seal"];

/// What a request sees: each key, the flash messages, and whether its form is valid.
#[get("/read?<form>")]
fn read(session: &Session, form: &str) -> Json<Vec<Value>> {
    let said = |value: Result<Option<Value>, Error>| match value {
        Ok(value) => json!({ "is": value }),
        Err(Error::Decode { .. }) => json!("Decode"),
        Err(error) => panic!("{error}"),
    };
    let mut all: Vec<Value> = KEYS.iter().map(|key| said(session.get(*key))).collect();
    all.push(said(
        session.peek_flash().map(|all| Some(Value::Array(all))),
    ));
    all.push(json!(session.verify_csrf(form)));
    all.push(json!(!session.is_new()));
    Json(all)
}

/// Every call that changes something, on every key.
#[post("/change")]
async fn change(session: &Session) -> Result<(), Error> {
    for key in KEYS {
        let _ = session.increment(key, 1);
        let _ = session.push(key, "x");
        let _ = session
            .modify(key, |value: Option<Value>| json!([value]))
            .await;
        let _ = session.take::<i64>(key);
        session.set(key, &1)?;
    }
    let _ = session.pop_flash::<String>().await;
    session.elevate()
}

#[post("/fill/<name>")]
fn fill(session: &Session, name: &str) -> Result<String, Error> {
    session.set("n", &name.len())?;
    session.set("text", name)?;
    session.set("list", &[name; 3])?;
    session.set("a.b", &json!({ "inside": name }))?;
    session.flash(name)?;
    Ok(session.csrf_token())
}

struct App {
    client: Mutex<Client>,
    store: Watched,
    cookie: String,
    id: String,
    form: String,
    /// The session, what it was before, and another one.
    good: Document,
    others: [Document; 2],
    read: Vec<Value>,
    /// What an older text of the same place is read as.
    before: Vec<Value>,
}

static APP: LazyLock<App> = LazyLock::new(|| {
    let store = Watched::default();
    let fairing = Sessions::with_store(store.clone());
    let settings = json!({ "seal": true });
    let client = client(rocket(fairing, settings).mount("/", routes![read, change, fill]));
    let (cookie_value, id, form, good, others, reads) = {
        let client = lock(&client);
        let fill = |name: &str, known: Option<&str>| {
            let mut request = client.post(format!("/fill/{name}"));
            if let Some(known) = known {
                request.add_header(cookie(known));
            }
            let response = request.dispatch();
            let sent = set_cookie(&response);
            (sent, response.into_string().expect("a form's token"))
        };
        let stored = |cookie: &str| {
            let bytes = store.stored(&cookie[..22]).expect("a document");
            bson::from_slice::<Document>(&bytes).expect("a document")
        };
        let (mine, _) = fill("before", None);
        let mine = mine.expect("a cookie");
        let before = stored(&mine);
        let was = seen(&client, &mine, "");
        let (_, form) = fill("afterwards", Some(&mine));
        let (theirs, _) = fill("theirs", None);
        let theirs = stored(&theirs.expect("a cookie"));
        let is = seen(&client, &mine, &form);
        (
            mine.clone(),
            mine[..22].to_owned(),
            form,
            stored(&mine),
            [before, theirs],
            [is, was],
        )
    };
    let [read, before] = reads;
    App {
        client,
        store,
        cookie: cookie_value,
        id,
        form,
        good,
        others,
        read,
        before,
    }
});

fn seen(client: &Client, token: &str, form: &str) -> Vec<Value> {
    let request = client
        .get(format!("/read?form={form}"))
        .header(cookie(token));
    request.dispatch().into_json().expect("a response")
}

/// The sealed bytes of a place.
fn of(document: &Document, place: &str) -> Vec<u8> {
    let value = match place {
        "csrf" | "seal" => document.get(place),
        name => document.get_document("value").expect("values").get(name),
    };
    match value {
        Some(Bson::Binary(binary)) => binary.bytes.clone(),
        other => panic!("{other:?}"),
    }
}

fn put(document: &mut Document, place: &str, bytes: Vec<u8>) {
    let subtype = BinarySubtype::UserDefined(0x80);
    let value = Bson::Binary(bson::Binary { subtype, bytes });
    match place {
        "csrf" | "seal" => document.insert(place, value),
        name => document
            .get_document_mut("value")
            .expect("values")
            .insert(name, value),
    };
}

target!(|data: &[u8]| {
    let app = &*APP;
    let mut document = app.good.clone();
    let mut data = data.iter().copied();
    while let Some(kind) = data.next() {
        let mut next = || usize::from(data.next().unwrap_or_default());
        let place = PLACES[next() % PLACES.len()];
        let mut bytes = of(&document, place);
        match kind % 6 {
            0 => bytes.truncate(next() % (bytes.len() + 1)),
            1 => bytes.extend(std::iter::repeat_n(next() as u8, next() % 40)),
            2 => {
                let (at, length) = (next(), bytes.len().max(1));
                if let Some(byte) = bytes.get_mut(at % length) {
                    *byte ^= 1 << (next() % 8);
                }
            }
            // Other bytes behind the header.
            3 => {
                let count = next() % 80;
                bytes = b"s\x01".to_vec();
                bytes.extend((0..count).map(|_| next() as u8));
            }
            4 => bytes = of(&app.good, PLACES[next() % PLACES.len()]),
            _ => bytes = of(&app.others[next() % 2], PLACES[next() % PLACES.len()]),
        }
        put(&mut document, place, bytes);
    }
    let client = lock(&app.client);
    let stored = bson::to_vec(&document).expect("bytes");
    app.store.hold_only(&app.id, stored.clone());
    let read = seen(&client, &app.cookie, &app.form);
    let bytes = |place: &str| of(&document, place);
    let is_sealed = |place: &str| bytes(place).first() == Some(&b's');

    let [is_valid, is_live] = [&read[5], &read[6]];
    let opens = bytes("seal") == of(&app.good, "seal");
    // A CSRF secret in another form: the document is malformed.
    assert_eq!(*is_live, json!(opens && is_sealed("csrf")));
    if *is_live != json!(true) {
        assert_eq!(app.store.stored(&app.id), Some(stored), "it stays as it is");
        return;
    }
    let known: BTreeMap<&str, usize> = PLACES.into_iter().zip(0..).take(5).collect();
    for (place, at) in known {
        let wanted = match bytes(place) {
            same if same == of(&app.good, place) => &app.read[at],
            older if older == of(&app.others[0], place) => &app.before[at],
            // A value that is not sealed is read as what it is.
            _ if !is_sealed(place) => continue,
            _ => &json!("Decode"),
        };
        assert_eq!(read[at], *wanted, "{place}");
    }
    let is_ours = ["csrf"].iter().all(|place| {
        bytes(place) == of(&app.good, place) || bytes(place) == of(&app.others[0], place)
    });
    assert_eq!(*is_valid, json!(is_ours));

    let response = client
        .post("/change")
        .header(cookie(&app.cookie))
        .dispatch();
    assert_eq!(response.status().code, 200);
    let sent = set_cookie(&response).expect("a cookie");
    let after = seen(&client, &sent, "");
    assert_eq!(
        after[..5],
        [1, 1, 1, 1]
            .map(|n| json!({ "is": n }))
            .into_iter()
            .chain([json!({ "is": [] })])
            .collect::<Vec<_>>()[..]
    );
});
