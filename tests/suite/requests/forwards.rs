//! Requests that go from route to route.

use rocket::http::Status;
use rocket::request::{FromRequest, Outcome};
use rocket::serde::json::json;
use rocket::{Request as Incoming, async_trait, get, routes};
use rocket_mongo_session::{Error, Session};

use crate::apps::probe::{Probe, Script, asked, run, sent_by};

/// A guard that writes to the session and lets the route run.
struct Writes;

#[async_trait]
impl<'r> FromRequest<'r> for Writes {
    type Error = Error;

    async fn from_request(request: &'r Incoming<'_>) -> Outcome<Writes, Error> {
        let session: &Session = rocket::outcome::try_outcome!(request.guard().await);
        match session.increment("guarded", 1) {
            Ok(_) => Outcome::Success(Writes),
            Err(error) => Outcome::Error((error.status(), error)),
        }
    }
}

/// A guard that hands the request on.
struct Forwards;

#[async_trait]
impl<'r> FromRequest<'r> for Forwards {
    type Error = ();

    async fn from_request(_: &'r Incoming<'_>) -> Outcome<Forwards, ()> {
        Outcome::Forward(Status::NotFound)
    }
}

#[get("/forward", rank = 1)]
fn forwarding(_writes: Writes, _forwards: Forwards) {}

#[get("/forward", rank = 2)]
fn forwarded(session: &Session) -> Result<String, Error> {
    let before: i64 = session.get("guarded")?.unwrap_or_default();
    session.set("handled", &true)?;
    Ok(before.to_string())
}

#[get("/exhausted")]
fn exhausted(_writes: Writes, _forwards: Forwards) {}

#[rocket::async_test]
async fn a_forwarded_request_keeps_its_session() {
    let keys = [("indexes", false.into())];
    let probe = Probe::start_with("life_forward", &keys, |rocket| {
        rocket.mount("/", routes![forwarding, forwarded])
    })
    .await;
    let browser = probe.browser();
    let first = browser.get("/forward").await;
    assert_eq!(first.text(), "1");
    assert!(sent_by(&first).is_some());
    let profile = probe.profile().await;
    assert_eq!(browser.get("/forward").await.text(), "2");
    assert_eq!(asked(&profile).await, ["find", "update"]);
    let seen = run(&browser, Script::new().get("guarded").get("handled")).await;
    assert_eq!(seen.results, [json!(2), json!(true)]);
}

#[rocket::async_test]
async fn an_exhausted_forward_is_an_exception() {
    for kept in [true, false] {
        let keys = [("set_on_exception", kept.into())];
        let probe = Probe::start_with("life_exhausted", &keys, |rocket| {
            rocket.mount("/", routes![exhausted])
        })
        .await;
        let browser = probe.browser();
        let response = browser.get("/exhausted").await;
        assert_eq!(response.status, 404);
        assert_eq!(sent_by(&response).is_some(), kept);
        assert_eq!(probe.documents().await.len(), usize::from(kept));
    }
}
