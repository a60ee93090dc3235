//! Keys that refuse the launch, and that none is read at request time.

use rocket::figment::value::Value as Setting;
use rocket::request::{FromRequest, Request as Incoming};
use rocket::{get, routes};
use rocket_mongo_session::{Error, Session, Sessions};
use rstest::rstest;

use crate::apps::calls::refusal;
use crate::support::{App, figment};

type Keys<'a> = &'a [(&'a str, Setting)];

async fn is_refused(keys: Keys<'_>) {
    let refused = refusal("debug", keys).await;
    assert!(refused.contains("FailedFairings"), "{refused}");
}

async fn is_accepted(keys: Keys<'_>) {
    let rocket = rocket::custom(figment("debug", None, keys)).attach(Sessions::in_memory());
    drop(App::launch(rocket).await);
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case("timeout", 0)]
#[case("timeout", -1)]
#[case("timeout", f64::NAN)]
#[case("timeout", f64::INFINITY)]
#[case("timeout", "soon")]
#[case("reissue_time", -1)]
#[case("lifetime", 0)]
async fn a_timeout_that_is_none_is_refused_at_launch(
    #[case] key: &str,
    #[case] value: impl Into<Setting>,
) {
    is_refused(&[(key, value.into())]).await;
}

#[rocket::async_test]
async fn a_number_in_quotes_is_one() {
    is_accepted(&[("timeout", "60".into())]).await;
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(0)]
#[case(-300)]
#[case("long")]
#[case(f64::NAN)]
async fn a_cookies_life_that_is_none_is_refused_at_launch(#[case] max_age: impl Into<Setting>) {
    is_refused(&[("max_age", max_age.into())]).await;
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(&[("same_site", "None".into()), ("secure", false.into())])]
#[case(&[("cookie_name", "__Host-s".into()), ("secure", false.into())])]
#[case(&[("cookie_name", "__Secure-s".into()), ("secure", false.into())])]
#[case(&[("cookie_name", "__Host-s".into()), ("secure", true.into()), ("domain", "example.com".into())])]
#[case(&[("cookie_name", "__Host-s".into()), ("secure", true.into()), ("path", "/app".into())])]
#[case(&[("cookie_name", "".into())])]
#[case(&[("cookie_name", "a b".into())])]
#[case(&[("partitioned", true.into()), ("secure", false.into())])]
async fn a_cookie_that_browsers_would_refuse_is_refused_at_launch(#[case] keys: Keys<'_>) {
    is_refused(keys).await;
}

#[rocket::async_test]
async fn a_secure_host_cookie_is_accepted() {
    is_accepted(&[("cookie_name", "__Host-s".into()), ("secure", true.into())]).await;
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(&[("timeout", 60.into()), ("reissue_time", 60.into())])]
#[case(&[("httponly", true.into()), ("http_only", false.into())])]
#[case(&[("timeuot", 60.into())])]
async fn options_that_contradict_each_other_are_refused_at_launch(#[case] keys: Keys<'_>) {
    is_refused(keys).await;
}

#[rocket::async_test]
async fn two_fairings_are_refused_at_launch() {
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
