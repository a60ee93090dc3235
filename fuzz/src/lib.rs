//! What the targets share: an application in this process, asked through Rocket's local client, so
//! that only the crate's public face is used. A panic anywhere is a finding (libFuzzer's hook ends
//! the process, also where Rocket would catch it).

use std::sync::Mutex;

use rocket::config::LogLevel;
use rocket::figment::Figment;
use rocket::http::{ContentType, Header};
use rocket::local::blocking::{Client, LocalResponse};
use rocket::serde::json::{Json, Value, json};
use rocket::{Build, FromForm, Rocket, get, post, routes};
use rocket_mongo_session::{CsrfForm, CsrfHeader, Error, Session, SessionFairing};

/// Rocket's own defaults, silence, and `[default.session]` as given.
pub fn figment(session: Value) -> Figment {
    let config = rocket::Config {
        log_level: LogLevel::Off,
        cli_colors: false,
        ..rocket::Config::debug_default()
    };
    Figment::from(config).merge(("session", session))
}

pub fn rocket(fairing: SessionFairing, session: Value) -> Rocket<Build> {
    rocket::custom(figment(session)).attach(fairing).mount(
        "/",
        routes![whoami, login, token, everything, write, form, header, clear, values],
    )
}

/// A client without a jar of its own: what is sent is what a target says.
pub fn client(rocket: Rocket<Build>) -> Mutex<Client> {
    Mutex::new(Client::untracked(rocket).expect("a rocket"))
}

/// A login, and the cookie's value that came of it.
pub fn member(client: &Client) -> String {
    let answer = client.post("/login").dispatch();
    set_cookie(&answer).expect("a cookie")
}

/// The value that an answer sends.
pub fn set_cookie(answer: &LocalResponse<'_>) -> Option<String> {
    let lines: Vec<&str> = answer.headers().get("Set-Cookie").collect();
    assert!(lines.len() <= 1, "{lines:?}");
    let line = lines.first()?;
    let value = line.strip_prefix("session=").expect("our cookie");
    let value = value.split(';').next().unwrap_or_default();
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    assert!(value.chars().all(legal), "{line:?}");
    Some(value.to_owned())
}

pub fn cookie(value: &str) -> Header<'static> {
    Header::new("Cookie", format!("session={value}"))
}

#[get("/whoami")]
fn whoami(session: &Session) -> String {
    match session.user::<String>() {
        Ok(Some(user)) => user,
        Ok(None) => "nobody".into(),
        Err(_) => "somebody".into(),
    }
}

#[post("/login")]
fn login(session: &Session) -> Result<(), Error> {
    session.login("alice")
}

#[get("/token")]
fn token(session: &Session) -> String {
    session.csrf_token()
}

#[post("/write")]
fn write(session: &Session) -> Result<(), Error> {
    session.set("n", &1)
}

#[derive(FromForm)]
struct Order<'r> {
    name: &'r str,
    count: Option<u8>,
}

#[post("/form", data = "<order>")]
fn form(order: CsrfForm<Order<'_>>) -> String {
    format!("{} {:?}", order.name, order.count)
}

#[post("/header")]
fn header(_checked: CsrfHeader) -> &'static str {
    "checked"
}

#[post("/clear")]
fn clear(session: &Session) {
    session.clear();
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
        let _ = session.set(key, &json!({ "$a": [1] }));
        let _ = session.take::<bool>(key);
        let _ = session.get_or_insert(key, 1_u8);
        let add = |value: Option<i64>| value.unwrap_or_default().wrapping_add(1);
        let _ = session.modify(key, add).await;
        said += &format!("{}", session.contains(key));
    }
    let _ = session.flash("message");
    said += &format!("{:?}", session.peek_flash::<Value>().ok());
    said += &format!("{:?}", session.pop_flash::<Value>().await.ok());
    said += &format!("{:?}", session.queue("q").pop::<String>().await.ok());
    said += &format!("{:?} {}", session.user::<Value>().ok(), session.verify_csrf("x"));
    said += &format!("{:?} {} {:?}", session.id(), session.is_new(), session.expires());
    said += &format!("{} {}", session.created(), session.accessed());
    let _ = session.save().await;
    let _ = session.renew();
    let _ = session.save().await;
    let _ = session.elevate();
    session.touch();
    said
}

/// Sets each value under its key, or not; says which.
#[post("/values", data = "<values>")]
fn values(session: &Session, values: Json<Vec<(String, Value)>>) -> Json<Vec<bool>> {
    let values = values.into_inner().into_iter();
    let set = values.map(|(key, value)| session.set(&key, &value).is_ok());
    Json(set.collect())
}

/// The type that forms have.
pub fn form_type() -> ContentType {
    ContentType::Form
}
