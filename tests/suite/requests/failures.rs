//! Handlers that fail: what their catchers' responses keep and send. A database that is down is in
//! `robustness/outage`.

use rocket::serde::json::json;

use crate::apps::calls::{ask, keys, script, visitor};
use crate::apps::database;
use crate::apps::probe::{Probe, caught, removes, run};

/// An application with a catcher of its own.
async fn probe(set_on_exception: bool) -> Probe {
    let keys = keys(&[("set_on_exception", set_on_exception.into())]);
    let add = |rocket: rocket::Rocket<rocket::Build>| rocket.register("/", caught());
    Probe::start_with(&database(), &keys, add).await
}

#[rocket::async_test]
async fn with_set_on_exception_a_failed_handler_keeps_its_changes() {
    let probe = probe(true).await;
    let browser = probe.browser();
    let failed = run(&browser, script(json!([["set", "k", "v"]])).fail(500)).await;
    assert_eq!(
        (failed.status, failed.header("X-Caught")),
        (500, Some("yes"))
    );
    assert!(failed.sent().is_some());
    assert_eq!(ask(&browser, json!(["get", "k"])).await, "v");
}

#[rocket::async_test]
async fn without_set_on_exception_a_failed_handler_changes_nothing() {
    let probe = probe(false).await;
    let (browser, cookie) = visitor(&probe).await;
    let before = probe.document(&cookie).await;
    let calls = json!([
        ["set", "k", "w"],
        ["flash", "m"],
        ["new_csrf_token"],
        ["renew"]
    ]);
    let failed = run(&browser, script(calls).fail(500)).await;
    assert_eq!(failed.status, 500);
    assert_eq!(failed.sent(), None);
    assert_eq!(probe.document(&cookie).await, before);
}

#[rocket::async_test]
async fn what_a_handler_returns_itself_is_not_an_exception() {
    let probe = probe(false).await;
    for status in [302, 404, 500] {
        let browser = probe.browser();
        let response = run(&browser, script(json!([["set", "k", "v"]])).status(status)).await;
        assert_eq!(response.status, status);
        assert!(response.sent().is_some(), "{status}");
        assert_eq!(ask(&browser, json!(["get", "k"])).await, "v", "{status}");
    }
}

#[rocket::async_test]
async fn a_logout_stands_whatever_becomes_of_the_response() {
    let probe = probe(false).await;
    let (browser, cookie) = visitor(&probe).await;
    let calls = json!([["invalidate"], ["set", "k", "w"]]);
    let failed = run(&browser, script(calls).fail(500)).await;
    assert_eq!(failed.status, 500);
    assert!(failed.sent().is_some_and(removes));
    assert!(probe.documents().await.is_empty());
    assert_eq!(probe.document(&cookie).await, None);
}

#[rocket::async_test]
async fn a_message_survives_the_redirect_after_a_post() {
    let probe = probe(true).await;
    let browser = probe.browser();
    let posted = script(json!([["flash", "saved"]])).status(302);
    assert_eq!(run(&browser, posted).await.status, 302);
    let shown = browser
        .send(script(json!([["pop_flash"]])).request_by("GET"))
        .await;
    assert_eq!(
        crate::apps::probe::Ran::from(shown).results,
        [json!(["saved"])]
    );
}
