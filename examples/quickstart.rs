//! Counts a browser's visits. `cargo run --example quickstart`, then open http://127.0.0.1:8000.

#[macro_use]
extern crate rocket;

use rocket_mongo_session::{Error, Key, Session, Sessions};

const VISITS: Key<i64> = Key::new("visits");

#[get("/")]
fn index(session: &Session) -> Result<String, Error> {
    // The stored count stays exact even if this browser sends several requests at once.
    let visits = session.increment(VISITS, 1)?;
    Ok(format!("visit number {visits}"))
}

#[launch]
fn rocket() -> _ {
    rocket::build()
        .attach(Sessions::fairing())
        .mount("/", routes![index])
}
