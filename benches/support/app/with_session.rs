//! The routes with sessions, as an application writes them.

use rocket::{Build, Rocket, State, get, routes};
use rocket_mongo_session::{Error, Key, Session, Sessions};

use super::held::{self, Held};
use super::{AFTER, BEFORE, COUNTER, Settings};

const N: Key<i64> = Key::new(COUNTER);

pub fn routes(rocket: Rocket<Build>, settings: &Settings) -> Rocket<Build> {
    let fairing = match settings.url.is_empty() {
        true => Sessions::in_memory(),
        false => Sessions::fairing(),
    };
    rocket
        .attach(fairing)
        .mount("/", routes![none, unused, new, read, write, fill, hold])
        .mount("/", held::routes())
}

#[get("/none")]
fn none() -> &'static str {
    "ok"
}

#[get("/unused")]
fn unused(_session: &Session) -> &'static str {
    "ok"
}

#[get("/new")]
fn new(session: &Session) -> Result<&'static str, Error> {
    session.set(N, &1)?;
    Ok("1")
}

#[get("/read")]
fn read(session: &Session) -> Result<String, Error> {
    Ok(session.get(N)?.unwrap_or(-1).to_string())
}

#[get("/write")]
fn write(session: &Session) -> Result<String, Error> {
    let n = session.get(N)?.unwrap_or(-1) + 1;
    session.set(N, &n)?;
    Ok(n.to_string())
}

/// Builds a session with a number of keys and a total size, with the counter in the middle.
#[get("/fill?<keys>&<bytes>")]
fn fill(session: &Session, keys: usize, bytes: usize) -> Result<&'static str, Error> {
    let others = keys.saturating_sub(1);
    let text = "x".repeat(bytes / others.max(1));
    for at in 0..others / 2 {
        session.set(format!("{BEFORE}{at:05}").as_str(), &text)?;
    }
    session.set(N, &0)?;
    for at in others / 2..others {
        session.set(format!("{AFTER}{at:05}").as_str(), &text)?;
    }
    Ok("0")
}

/// Reads and changes the session, and then waits until it is released.
#[get("/hold")]
async fn hold(session: &Session, held: &State<Held>) -> Result<String, Error> {
    let n = session.get(N)?.unwrap_or(-1);
    session.set(N, &(n + 1))?;
    held.wait().await;
    Ok(n.to_string())
}
