//! What an attacker tries, over the wire, and what comes of it. `docs/security.md` names the test for
//! each requirement.

mod caching;
mod cookies;
mod csrf;
mod documents;
mod drawing;
mod fixation;
mod forms;
mod headers;
mod held;
mod least_privilege;
mod limits;
mod logs;
mod principals;
mod reading;
mod revocation;
mod table;

use mongodb::bson::doc;
use rocket::serde::json::{Value, json};
use rocket::{Build, FromForm, Rocket, get, post, routes};
use rocket_mongo_session::{CsrfForm, CsrfHeader, Error, RecentLogin, Session};

use crate::apps::probe::{Probe, Script, run_with};
use crate::support::App;

#[derive(Debug, FromForm)]
struct Order {
    n: i64,
}

#[post("/form", data = "<order>")]
fn form(order: CsrfForm<Order>, session: &Session) -> Result<&'static str, Error> {
    session.set("n", &order.n)?;
    Ok("done")
}

#[post("/header")]
fn header(_checked: CsrfHeader, session: &Session) -> Result<&'static str, Error> {
    session.set("n", &1)?;
    Ok("done")
}

#[rocket::put("/put")]
fn put(session: &Session) -> Result<&'static str, Error> {
    session.set("n", &1)?;
    Ok("done")
}

#[get("/recent")]
fn recent(_recent: RecentLogin<60>) -> &'static str {
    "recent"
}

/// What the probe has, and routes with the crate's other guards.
fn guards(rocket: Rocket<Build>) -> Rocket<Build> {
    rocket.mount("/", routes![form, header, put, recent])
}

/// Who the application takes the sender of this cookie for.
async fn whoami(app: &App, cookie: &str) -> Value {
    let ran = run_with(app, cookie, Script::new().then("user")).await;
    assert_eq!(ran.status, 200, "{ran:?}");
    ran.last().clone()
}

/// Logs a user in, without a session before; returns the cookie.
async fn member(probe: &Probe, user: impl Into<Value>) -> String {
    let login = Script::new().login(user).request();
    let response: crate::apps::probe::Ran = probe.app.send(login).await.into();
    response.cookie()
}

/// Deletes what is remembered of revocations, as if more than a second had passed since: a login that
/// begins within a second after one is dropped on MongoDB.
async fn forget_revocations(probe: &Probe) {
    let of_all_and_of_users = doc! { "_id": { "$regex": "^~(all$|user:)" } };
    let deleted = probe.sessions().delete_many(of_all_and_of_users).await;
    deleted.expect("a delete");
}

/// What a script's last call gives for the sender of a cookie.
async fn call(app: &App, cookie: &str, call: Value) -> Value {
    let ran = run_with(app, cookie, Script::new().call(call)).await;
    assert_eq!(ran.status, 200, "{ran:?}");
    ran.last().clone()
}

/// The administrator's call, without a session.
async fn ask(app: &App, call: Value) -> Value {
    let response: crate::apps::probe::Ran =
        app.send(Script::new().call(call).request()).await.into();
    response.last().clone()
}

fn null() -> Value {
    json!(null)
}
