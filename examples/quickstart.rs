//! Counts a browser's visits. `cargo run --example quickstart`, then open the address it prints.

#[macro_use]
extern crate rocket;

use rocket_mongo_session::{Error, Key, Session, Sessions};

const VISITS: Key<u32> = Key::new("visits");

#[get("/")]
async fn index(session: &Session) -> Result<String, Error> {
    let visits = session.get(VISITS)?.unwrap_or(0) + 1;
    session.set(VISITS, &visits)?;
    Ok(format!("visit number {visits}"))
}

#[launch]
fn rocket() -> _ {
    rocket::build()
        .attach(Sessions::fairing())
        .mount("/", routes![index])
}
