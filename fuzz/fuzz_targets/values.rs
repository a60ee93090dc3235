//! Keys and values: what was set is what is read, in the next request, in both encodings.
//!
//! The input is a JSON list of pairs, `[["key", value], …]`.
#![no_main]

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use rocket::http::ContentType;
use rocket::local::blocking::Client;
use rocket::serde::json::{self, Value, json};
use rocket::{get, routes, serde::json::Json};
use rocket_mongo_session::{Session, Sessions};
use rocket_mongo_session_fuzz::{client, cookie, member, rocket};

#[get("/all")]
fn all(session: &Session) -> Json<BTreeMap<String, Option<Value>>> {
    let keys = session.keys().into_iter();
    Json(keys.map(|key| (key.clone(), session.get(&key).ok().flatten())).collect())
}

static APPS: LazyLock<Vec<(Mutex<Client>, String)>> = LazyLock::new(|| {
    let both = ["document", "binary"].into_iter();
    both.map(|encoding| {
        let settings = json!({ "timeout": false, "encoding": encoding });
        let client = client(rocket(Sessions::in_memory(), settings).mount("/", routes![all]));
        let cookie = member(&client.lock().expect("a client"));
        (client, cookie)
    })
    .collect()
});

fuzz_target!(|data: &[u8]| {
    let Ok(pairs) = json::from_slice::<Vec<(String, Value)>>(data) else {
        return;
    };
    for (client, live) in APPS.iter() {
        let client = client.lock().expect("a client");
        client.post("/clear").header(cookie(live)).dispatch();
        let request = client.post("/values").header(cookie(live));
        let request = request.header(ContentType::JSON).body(data);
        let answer = request.dispatch();
        if answer.status().code != 200 {
            return; // Rocket's own limits
        }
        let set: Vec<bool> = answer.into_json().expect("a list");
        let pairs = pairs.iter().zip(set);
        let expected: BTreeMap<String, Option<Value>> = pairs
            .filter_map(|((key, value), set)| set.then(|| (key.clone(), Some(value.clone()))))
            .collect();
        let read = client.get("/all").header(cookie(live)).dispatch();
        let read: BTreeMap<String, Option<Value>> = read.into_json().expect("a map");
        assert_eq!(read, expected);
        let user = client.get("/whoami").header(cookie(live)).dispatch();
        assert_eq!(user.into_string().as_deref(), Some("alice"));
    }
});
