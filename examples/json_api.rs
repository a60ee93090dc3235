//! A JSON interface whose requests carry the CSRF token in a header.
//!
//! `cargo run --example json_api`, then:
//!
//! ```sh
//! token=$(curl -s -c jar -b jar http://127.0.0.1:8000/token)
//! curl -b jar -H "X-CSRF-Token: $token" -H 'Content-Type: application/json' \
//!     -d '{"text": "milk"}' http://127.0.0.1:8000/notes
//! curl -b jar http://127.0.0.1:8000/notes
//! curl -b jar -H 'Content-Type: application/json' -d '{"text": "forged"}' http://127.0.0.1:8000/notes
//! ```

#[macro_use]
extern crate rocket;

use rocket::http::Status;
use rocket::request::Request;
use rocket::serde::json::{Json, Value, json};
use rocket::serde::{Deserialize, Serialize};
use rocket_mongo_session::{CsrfHeader, Error, Key, Session, Sessions};

#[derive(Serialize, Deserialize)]
#[serde(crate = "rocket::serde")]
struct Note {
    text: String,
}

const NOTES: Key<Vec<Note>> = Key::new("notes");

/// A page's script asks for the token once, and sends it with every request that changes something.
#[get("/token")]
fn token(session: &Session) -> String {
    session.csrf_token()
}

#[get("/notes")]
fn list(session: &Session) -> Result<Json<Vec<Note>>, Error> {
    Ok(Json(session.get(NOTES)?.unwrap_or_default()))
}

/// `push` appends in the database: notes that are sent at the same time are all kept.
#[post("/notes", data = "<note>")]
fn add(_checked: CsrfHeader, note: Json<Note>, session: &Session) -> Result<Status, Error> {
    session.push(NOTES, &*note)?;
    Ok(Status::Created)
}

/// Errors speak JSON, too: the session's are the application's.
#[catch(default)]
fn error(status: Status, _: &Request<'_>) -> Value {
    json!({ "error": status.reason_lossy() })
}

#[launch]
fn rocket() -> _ {
    rocket::build()
        .attach(Sessions::fairing())
        .mount("/", routes![token, list, add])
        .register("/", catchers![error])
}
