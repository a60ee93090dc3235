//! The life of a request, as browsers see it: visits, headers, what is stored.

use rocket::serde::json::{Value, json};
use rstest::rstest;

use crate::apps::calls::script;
use crate::apps::database;
use crate::apps::probe::{Probe, Script, asked, id_of, removes, run};
use crate::support::{Connection, Request};

mod dropped;
mod exceptions;
mod failures;
mod forwards;
mod wire;

#[rocket::async_test]
async fn a_visitor_is_known_from_visit_to_visit() {
    let probe = Probe::start("life_visits", &[]).await;
    let browser = probe.browser();
    let first = run(&browser, Script::new().then("is_new").set("n", 1)).await;
    assert_eq!(first.results, [json!(true), json!(null)]);
    let cookie = first.cookie();

    let second = run(&browser, Script::new().then("is_new").get("n").set("n", 2)).await;
    assert_eq!(second.results, [json!(false), json!(1), json!(null)]);
    assert_eq!(second.sent(), None, "nothing new to tell");
    assert_eq!(browser.cookie("session"), Some(cookie));

    let third = run(&browser, Script::new().get("n")).await;
    assert_eq!(third.results, [json!(2)]);
    assert_eq!(probe.documents().await.len(), 1);
    let stranger = run(&probe.browser(), Script::new().get("n").then("id")).await;
    assert_eq!(stranger.results, [json!(null), json!(null)]);
    assert_eq!(stranger.sent(), None);
}

#[rocket::async_test]
async fn the_id_is_public_and_of_no_use_as_a_cookie() {
    let probe = Probe::start("life_id", &[]).await;
    let browser = probe.browser();
    let script = Script::new().then("id").set("n", 1).then("id");
    let first = run(&browser, script.then("save").then("id")).await;
    let id = first.last().as_str().expect("an id").to_owned();
    let before = [&first.results[0], &first.results[2]];
    assert_eq!(before, [&json!(null); 2], "nothing was stored yet");
    assert_eq!(id_of(&first.cookie()), id);
    assert_eq!(
        run(&browser, Script::new().then("id")).await.results,
        [json!(id)]
    );

    let thief = probe.browser();
    thief.set_cookie(&format!("session={id}; Path=/"));
    assert_eq!(
        run(&thief, Script::new().get("n")).await.results,
        [json!(null)]
    );
}

#[rocket::async_test]
async fn a_route_that_asks_for_no_session_costs_nothing() {
    let probe = Probe::start("life_plain", &[("indexes", false.into())]).await;
    let browser = probe.browser();
    run(&browser, Script::new().set("n", 1)).await;
    let profile = probe.profile().await;
    let plain = browser.get("/plain").await;
    assert_eq!(plain.text(), "plain");
    assert_eq!(plain.set_cookies(), Vec::<&str>::new());
    assert_eq!(
        (plain.header("Vary"), plain.header("Cache-Control")),
        (None, None)
    );
    assert_eq!(asked(&profile).await, Vec::<String>::new());
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(json!([]))]
#[case(json!([["get", "a"], ["keys"], ["user"], ["expires"]]))]
#[case(json!([["set", "a", 1], ["remove", "a"]]))]
#[case(json!([["set", "a", 1], ["clear"]]))]
#[case(json!([["set", "a", 1], ["logout"]]))]
#[case(json!([["remove", "a"], ["take", "a"], ["clear"]]))]
#[case(json!([["pop_flash"], ["peek_flash"]]))]
#[case(json!([["touch"]]))]
#[case(json!([["renew"]]))]
#[case(json!([["elevate"]]))]
#[case(json!([["logout"], ["logout"]]))]
#[case(json!([["save"]]))]
#[case(json!([["verify_csrf", "x"]]))]
async fn a_new_session_that_holds_nothing_is_never_stored(#[case] calls: Value) {
    let probe = Probe::start(&database(), &[("indexes", false.into())]).await;
    let profile = probe.profile().await;
    let ran = run(&probe.browser(), script(calls)).await;
    assert_eq!((ran.status, ran.sent()), (200, None), "{ran:?}");
    let mut results = ran.results.iter();
    assert!(
        results.all(|result| result.get("error").is_none()),
        "{ran:?}"
    );
    assert_eq!(
        ran.header("Vary"),
        Some("Cookie"),
        "it depends on the cookie nevertheless"
    );
    assert_eq!(asked(&profile).await, Vec::<String>::new());
    assert_eq!(probe.documents().await, []);
}

#[rocket::async_test]
async fn two_guards_of_one_request_share_one_session() {
    let probe = Probe::start("life_twice", &[("indexes", false.into())]).await;
    let browser = probe.browser();
    run(&browser, Script::new().set("n", 1)).await;
    let profile = probe.profile().await;
    assert_eq!(browser.get("/twice").await.text(), "[2,1]");
    assert_eq!(asked(&profile).await, ["find", "update"]);
    let seen = run(&browser, Script::new().then("keys")).await;
    assert_eq!(seen.results, [json!(["n", "one", "other"])]);
}

#[rocket::async_test]
async fn an_equal_value_changes_nothing() {
    let probe = Probe::start("life_equal", &[("indexes", false.into())]).await;
    let browser = probe.browser();
    run(
        &browser,
        Script::new()
            .set("n", 1)
            .set("list", json!([1, {"a": "b"}])),
    )
    .await;
    let profile = probe.profile().await;
    let again = Script::new()
        .set("n", 2)
        .set("n", 1)
        .set("list", json!([1, {"a": "b"}]))
        .call(json!(["get_or_insert", "n", 7]));
    assert_eq!(run(&browser, again).await.last(), &json!(1));
    assert_eq!(asked(&profile).await, ["find"]);
}

#[rocket::async_test]
async fn a_response_with_a_cookie_is_kept_by_no_cache() {
    let probe = Probe::start("life_headers", &[]).await;
    let browser = probe.browser();
    let order = Script::new()
        .set("n", 1)
        .answer_header("Cache-Control", "public, max-age=60")
        .answer_header("Expires", "Fri, 01 Jan 2100 00:00:00 GMT")
        .answer_header("Vary", "Accept, Accept-Language")
        .answer_header("Set-Cookie", "theme=dark; Path=/")
        .answer_header("Set-Cookie", "session=forged; Path=/");
    let first = run(&browser, order).await;
    assert_eq!(first.headers_named("Cache-Control"), ["no-store"]);
    assert_eq!(first.header("Expires"), None);
    assert_eq!(
        first.headers_named("Vary"),
        ["Accept, Accept-Language, Cookie"]
    );
    let cookie = first.cookie();
    assert_ne!(cookie, "forged");
    assert_eq!(
        first.set_cookies()[0],
        "theme=dark; Path=/",
        "the application's own stay"
    );

    let read = run(&browser, Script::new().get("n")).await;
    assert_eq!(read.headers_named("Cache-Control"), ["private, no-cache"]);
    assert_eq!(read.headers_named("Vary"), ["Cookie"]);
    let order = Script::new()
        .get("n")
        .answer_header("Cache-Control", "private, max-age=5");
    let told = run(&browser, order.answer_header("Vary", "accept, COOKIE")).await;
    assert_eq!(told.headers_named("Cache-Control"), ["private, max-age=5"]);
    assert_eq!(told.headers_named("Vary"), ["accept, COOKIE"], "said once");
    let out = run(&browser, Script::new().then("logout")).await;
    assert!(out.sent().is_some_and(removes));
    assert_eq!(out.headers_named("Cache-Control"), ["no-store"]);
}

#[rocket::async_test]
async fn requests_on_one_connection_have_nothing_in_common() {
    let probe = Probe::start("life_connection", &[]).await;
    let cookie_of = async |n: i64| {
        let browser = probe.browser();
        run(&browser, Script::new().set("n", n)).await.cookie()
    };
    let (a, b) = (cookie_of(1).await, cookie_of(2).await);
    let mut connection = Connection::open(probe.app.addr()).await.expect("one");
    let plain = |cookie: Option<&str>| {
        let request: Request = Script::new().get("n").request();
        match cookie {
            Some(cookie) => request.header("Cookie", format!("session={cookie}")),
            None => request,
        }
    };
    for (cookie, n) in [
        (Some(&*a), json!(1)),
        (None, json!(null)),
        (Some(&*b), json!(2)),
    ] {
        let response = connection
            .exchange(&plain(cookie))
            .await
            .expect("a response");
        let results: Value = rocket::serde::json::from_slice(&response.body).expect("results");
        assert_eq!(results, json!([n]));
    }
}
