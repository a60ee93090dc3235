//! Keys that refuse the launch, and that none is read at request time.

use rocket::figment::value::Value as Setting;
use rocket::request::{FromRequest, Request as Incoming};
use rocket::{get, routes};
use rocket_mongo_session::{Error, Session, Sessions};

use crate::apps::calls::refusal;
use crate::support::{App, figment};

async fn all_refused(keys: &[&[(&str, Setting)]]) {
    for keys in keys {
        let refused = refusal("debug", keys).await;
        assert!(refused.contains("FailedFairings"), "{keys:?}: {refused}");
    }
}

#[rocket::async_test]
async fn a_timeout_that_is_none_is_refused_at_launch() {
    all_refused(&[
        &[("timeout", 0.into())],
        &[("timeout", (-1).into())],
        &[("timeout", f64::NAN.into())],
        &[("timeout", f64::INFINITY.into())],
        &[("timeout", "soon".into())],
        &[("reissue_time", (-1).into())],
        &[("lifetime", 0.into())],
    ])
    .await;
    // A number in quotes is one.
    let keys = [("timeout", "60".into())];
    let rocket = rocket::custom(figment("debug", None, &keys)).attach(Sessions::in_memory());
    drop(App::launch(rocket).await);
}

#[rocket::async_test]
async fn a_cookies_life_that_is_none_is_refused_at_launch() {
    all_refused(&[
        &[("max_age", 0.into())],
        &[("max_age", (-300).into())],
        &[("max_age", "long".into())],
        &[("max_age", f64::NAN.into())],
    ])
    .await;
}

#[rocket::async_test]
async fn a_cookie_that_browsers_would_refuse_is_refused_at_launch() {
    let secure = || ("secure", Setting::from(true));
    all_refused(&[
        &[("same_site", "None".into()), ("secure", false.into())],
        &[("cookie_name", "__Host-s".into()), ("secure", false.into())],
        &[
            ("cookie_name", "__Secure-s".into()),
            ("secure", false.into()),
        ],
        &[
            ("cookie_name", "__Host-s".into()),
            secure(),
            ("domain", "example.com".into()),
        ],
        &[
            ("cookie_name", "__Host-s".into()),
            secure(),
            ("path", "/app".into()),
        ],
        &[("cookie_name", "".into())],
        &[("cookie_name", "a b".into())],
        &[("partitioned", true.into()), ("secure", false.into())],
    ])
    .await;
    let keys = [("cookie_name", "__Host-s".into()), secure()];
    let rocket = rocket::custom(figment("debug", None, &keys)).attach(Sessions::in_memory());
    drop(App::launch(rocket).await);
}

#[rocket::async_test]
async fn options_that_contradict_each_other_are_refused_at_launch() {
    all_refused(&[
        &[("timeout", 60.into()), ("reissue_time", 60.into())],
        &[("httponly", true.into()), ("http_only", false.into())],
        &[("timeuot", 60.into())],
    ])
    .await;
    let rocket = rocket::custom(figment("debug", None, &[]))
        .attach(Sessions::in_memory())
        .attach(Sessions::fairing());
    let error = App::try_launch(rocket).await.err().expect("a refusal");
    assert!(format!("{:?}", error.kind()).contains("FailedFairings"));
}

#[get("/")]
fn index(_session: &Session) {}

/// Asks at request time, which no check at launch can see.
#[get("/hidden")]
fn hidden(asks: Asks) -> String {
    asks.0
}

struct Asks(String);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Asks {
    type Error = Error;

    async fn from_request(request: &'r Incoming<'_>) -> rocket::request::Outcome<Self, Error> {
        request
            .guard::<&Session>()
            .await
            .map(|_| Asks(String::new()))
    }
}

#[rocket::async_test]
async fn a_session_without_the_fairing_is_an_error_that_says_what_to_do() {
    let rocket = rocket::custom(figment("debug", None, &[])).mount("/", routes![index]);
    let error = App::try_launch(rocket).await.err().expect("a refusal");
    assert!(format!("{:?}", error.kind()).contains("SentinelAborts"));

    let rocket = rocket::custom(figment("debug", None, &[])).mount("/", routes![hidden]);
    let app = App::launch(rocket).await;
    assert_eq!(app.get("/hidden").await.status, 500);
    let hint = Error::NotAttached.to_string();
    assert!(hint.contains(".attach(Sessions::fairing())"), "{hint}");
}
