//! The life of a request, as browsers see it (DESIGN 4).

use rocket::serde::json::json;

use crate::probe::{Probe, Script, removes, run};

#[rocket::async_test]
async fn a_visitor_is_counted_from_visit_to_visit() {
    let probe = Probe::start("life_visits", &[]).await;
    let browser = probe.browser();
    let first = run(&browser, Script::new().then("is_new").set("n", 1)).await;
    assert_eq!(first.results, [json!(true), json!(null)]);
    let cookie = first.cookie();
    let second = run(&browser, Script::new().then("is_new").get("n").set("n", 2)).await;
    assert_eq!(second.results, [json!(false), json!(1), json!(null)]);
    assert_eq!(second.sent(), None, "nothing new to tell");
    assert_eq!(browser.cookie("session"), Some(cookie));
    assert_eq!(
        run(&browser, Script::new().get("n")).await.results,
        [json!(2)]
    );
    assert_eq!(probe.documents().await.len(), 1);
    let out = run(&browser, Script::new().then("logout")).await;
    assert!(out.sent().is_some_and(removes));
}
