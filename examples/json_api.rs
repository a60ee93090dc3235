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

/// A page's script fetches the token once, and sends it with every unsafe request.
#[get("/token")]
fn token(session: &Session) -> String {
    session.csrf_token()
}

#[get("/notes")]
fn list(session: &Session) -> Result<Json<Vec<Note>>, Error> {
    Ok(Json(session.get(NOTES)?.unwrap_or_default()))
}

/// Adds a note. `push` appends in the database, so concurrent requests lose no note.
///
/// The list grows until the session's data would exceed `max_bytes`. Then `push` fails with
/// `Error::TooLarge` and changes nothing. Returned with `?`, that error would be a 500.
#[post("/notes", data = "<note>")]
fn add(_checked: CsrfHeader, note: Json<Note>, session: &Session) -> Result<Status, Error> {
    match session.push(NOTES, &*note) {
        Ok(()) => Ok(Status::Created),
        Err(Error::TooLarge { .. }) => Ok(Status::PayloadTooLarge),
        Err(error) => Err(error),
    }
}

/// Returns errors as JSON, those of the session included.
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
