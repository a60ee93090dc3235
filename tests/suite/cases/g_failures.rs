//! G. Errors: an exception is an answer that a catcher made because the handler failed.
//!
//! A database that is down or does not answer (107, 108, 110) is in `outage`.

use rocket::serde::json::json;

use super::{ask, keys, script, visitor};
use crate::probe::{Probe, caught, removes, run};

/// An application with a catcher of its own.
async fn probe(case: &str, set_on_exception: bool) -> Probe {
    let keys = keys(&[("set_on_exception", set_on_exception.into())]);
    let add = |rocket: rocket::Rocket<rocket::Build>| rocket.register("/", caught());
    Probe::start_with(&format!("case_{case}"), &keys, add).await
}

#[rocket::async_test]
async fn with_set_on_exception_a_failed_handler_keeps_its_changes() {
    // 94
    let probe = probe("94", true).await;
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
    // 96, 97
    let probe = probe("96", false).await;
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
async fn what_a_handler_returns_itself_is_no_exception() {
    // 98
    let probe = probe("98", false).await;
    for status in [302, 404, 500] {
        let browser = probe.browser();
        let answer = run(&browser, script(json!([["set", "k", "v"]])).status(status)).await;
        assert_eq!(answer.status, status);
        assert!(answer.sent().is_some(), "{status}");
        assert_eq!(ask(&browser, json!(["get", "k"])).await, "v", "{status}");
    }
}

#[rocket::async_test]
async fn a_logout_stands_whatever_becomes_of_the_answer() {
    // 102
    let probe = probe("102", false).await;
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
    // 106
    let probe = probe("106", true).await;
    let browser = probe.browser();
    let posted = script(json!([["flash", "saved"]])).status(302);
    assert_eq!(run(&browser, posted).await.status, 302);
    let shown = browser
        .send(script(json!([["pop_flash"]])).request_by("GET"))
        .await;
    assert_eq!(crate::probe::Ran::from(shown).results, [json!(["saved"])]);
}
