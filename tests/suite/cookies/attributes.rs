//! Cookie attributes, and the headers that go with a cookie.

use rocket::serde::json::json;

use crate::apps::calls::{ask, go, probe, refusal, script, visitor};
use crate::apps::probe::{Ran, removes, run, value_of};
use crate::support::{Browser, Response};

/// The attributes of a `Set-Cookie` line, in order.
fn attributes(line: &str) -> Vec<&str> {
    line.split("; ").skip(1).collect()
}

#[rocket::async_test]
async fn the_cookie_has_what_the_manual_says_by_default() {
    let probe = probe(&[]).await;
    let written = go(&probe.browser(), json!([["set", "k", 1]])).await;
    let line = written.sent().expect("a cookie");
    assert!(line.starts_with("session="));
    assert_eq!(attributes(line), ["HttpOnly", "SameSite=Lax", "Path=/"]);

    // Outside the debug profile it is `Secure`, too.
    let mongod = crate::support::Mongod::shared().await;
    let url = mongod.url("case_80");
    let figment = crate::support::figment("release", Some(&url), &[]);
    let gates = crate::apps::probe::Gates::default();
    let rocket = crate::apps::probe::rocket(figment, &probe.clock, &gates);
    let app = crate::support::App::launch(rocket).await;
    let written: Ran = run(&app.browser(), script(json!([["set", "k", 1]]))).await;
    let line = written.sent().expect("a cookie");
    let expected = ["HttpOnly", "SameSite=Lax", "Secure", "Path=/"];
    assert_eq!(attributes(line), expected);
}

#[rocket::async_test]
async fn the_cookie_has_what_the_configuration_says() {
    let keys = [
        ("cookie_name", "abc".into()),
        ("path", "/run".into()),
        ("domain", "localhost".into()),
        ("secure", true.into()),
        ("http_only", true.into()),
        ("same_site", "Lax".into()),
    ];
    let probe = probe(&keys).await;
    let written = go(&probe.browser(), json!([["set", "k", 1]])).await;
    let line = written.set_cookies()[0];
    assert!(line.starts_with("abc="), "{line}");
    let mut found = attributes(line);
    found.sort_unstable();
    let expected = [
        "Domain=localhost",
        "HttpOnly",
        "Path=/run",
        "SameSite=Lax",
        "Secure",
    ];
    assert_eq!(found, expected);
}

#[rocket::async_test]
async fn max_age_is_the_cookies_life() {
    let probe = probe(&[("max_age", 300.into())]).await;
    let written = go(&probe.browser(), json!([["set", "k", 1]])).await;
    let line = written.sent().expect("a cookie");
    assert!(attributes(line).contains(&"Max-Age=300"), "{line}");
}

#[rocket::async_test]
async fn same_site_is_sent_as_configured() {
    for same_site in ["Strict", "Lax", "None"] {
        let keys = [("same_site", same_site.into()), ("secure", true.into())];
        let probe = probe(&keys).await;
        let written = go(&probe.browser(), json!([["set", "k", 1]])).await;
        let line = written.sent().expect("a cookie");
        let expected = format!("SameSite={same_site}");
        assert!(attributes(line).contains(&expected.as_str()), "{line}");
    }
    let keys = [("same_site", "None".into()), ("secure", false.into())];
    assert!(refusal("debug", &keys).await.contains("FailedFairings"));
}

#[rocket::async_test]
async fn http_only_can_be_switched_off() {
    for key in ["http_only", "httponly"] {
        let probe = probe(&[(key, false.into())]).await;
        let written = go(&probe.browser(), json!([["set", "k", 1]])).await;
        let line = written.sent().expect("a cookie");
        assert!(!line.contains("HttpOnly"), "{line}");
    }
}

#[rocket::async_test]
async fn a_removal_names_what_the_cookie_was_set_with() {
    let keys = [
        ("path", "/run".into()),
        ("domain", "example.com".into()),
        ("secure", true.into()),
        ("same_site", "Strict".into()),
    ];
    let probe = probe(&keys).await;
    let browser = Browser::at(probe.app.addr(), "https://example.com");
    let set = go(&browser, json!([["set", "k", 1]])).await;
    let set = attributes(set.sent().expect("a cookie"))
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    let removed = go(&browser, json!([["logout"]])).await;
    let line = removed.sent().expect("a cookie");
    assert!(removes(line), "{line}");
    let kept: Vec<&str> = attributes(line)
        .into_iter()
        .filter(|attribute| !attribute.starts_with("Max-Age") && !attribute.starts_with("Expires"))
        .collect();
    assert_eq!(kept, set);
    assert_eq!(browser.cookie_at("/run", "session"), None);
}

#[rocket::async_test]
async fn data_is_not_limited_by_the_cookie() {
    let probe = probe(&[]).await;
    let (browser, small) = visitor(&probe).await;
    let long = go(&probe.browser(), json!([["set_long", "k", 100_000]])).await;
    assert_eq!(long.cookie().len(), small.len());
    go(&browser, json!([["set_long", "k", 100_000]])).await;
    let read = ask(&browser, json!(["get", "k"])).await;
    assert_eq!(read.as_str().map(str::len), Some(100_000));
}

fn vary(response: &Response) -> Vec<String> {
    let lines = response.headers_named("Vary").join(", ");
    lines.split(", ").map(str::to_owned).collect()
}

#[rocket::async_test]
async fn what_depends_on_the_cookie_says_so() {
    let probe = probe(&[]).await;
    let (browser, _) = visitor(&probe).await;
    let set = go(&probe.browser(), json!([["set", "k", 1]])).await;
    assert_eq!(vary(&set), ["Cookie"]);
    assert_eq!(vary(&browser.get("/unused").await), ["Cookie"]);
    let merged = script(json!([["get", "k"]])).answer_header("Vary", "Accept");
    assert_eq!(
        vary(&run(&browser, merged).await.response),
        ["Accept", "Cookie"]
    );
    let there = script(json!([["get", "k"]])).answer_header("Vary", "accept, cookie");
    assert_eq!(
        vary(&run(&browser, there).await.response),
        ["accept", "cookie"]
    );
    assert_eq!(browser.get("/plain").await.header("Vary"), None);
}

#[rocket::async_test]
async fn a_response_that_the_application_lets_caches_keep_never_carries_a_cookie() {
    // 91. There is no way to hold the cookie back: what is public is asked for without a session,
    // and where a cookie goes out no cache may keep it.
    let probe = probe(&[]).await;
    let (browser, _) = visitor(&probe).await;
    let public = |calls| script(calls).answer_header("Cache-Control", "public, max-age=60");
    let read = run(&browser, public(json!([["get", "k"]]))).await;
    assert_eq!(read.sent(), None);
    assert_eq!(read.headers_named("Cache-Control"), ["public, max-age=60"]);
    let set = run(&probe.browser(), public(json!([["set", "k", 1]]))).await;
    assert!(set.sent().is_some());
    assert_eq!(set.headers_named("Cache-Control"), ["no-store"]);
    let read = go(&browser, json!([["get", "k"]])).await;
    assert_eq!(read.headers_named("Cache-Control"), ["private, no-cache"]);
}

#[rocket::async_test]
async fn other_cookies_of_the_handler_are_not_ours_to_touch() {
    let probe = probe(&[]).await;
    let set = script(json!([["set", "k", 1]]))
        .answer_header("Set-Cookie", "a=1; Path=/")
        .answer_header("Set-Cookie", "sessions=2");
    let set = run(&probe.browser(), set).await;
    let lines = set.set_cookies();
    assert_eq!(lines[..2], ["a=1; Path=/", "sessions=2"]);
    assert_eq!(lines.len(), 3);
    assert_eq!(value_of(lines[2]), set.cookie());
}
