//! Nested values: what is got is a copy.

use rocket::serde::json::json;

use crate::apps::calls::{ask, go, jobs, keys, now, probe, script, seconds, visitor};
use crate::apps::probe::{Probe, asked, caught, run};

#[rocket::async_test]
async fn a_nested_change_is_kept_exactly_when_it_is_set() {
    // 149: what is handed out is a copy, so that nothing depends on the clock.
    let (jobs, probe) = jobs(&[("reissue_time", 0.into())]).await;
    let browser = probe.browser();
    jobs.run(&browser, |s| s.set("list", &vec![1]).unwrap())
        .await;
    for offset in [0.0, 0.4, 1.0, 7.3] {
        probe.clock.advance(seconds(offset));
        let (seen, _) = jobs
            .run(&browser, |s| {
                let mut list: Vec<i32> = s.get("list").unwrap().unwrap();
                list.push(99);
                s.get::<Vec<i32>>("list").unwrap()
            })
            .await;
        assert_eq!(seen, Some(vec![1]), "a copy was changed");
    }
    for offset in [0.0, 0.4, 1.0] {
        probe.clock.advance(seconds(offset));
        let append = |list: Option<Vec<i32>>| {
            let mut list = list.unwrap_or_default();
            list.push(2);
            list
        };
        let (_, response) = jobs
            .run_async(&browser, move |s| {
                Box::pin(async move { s.modify("list", append).await.map(drop) })
            })
            .await;
        assert_eq!(response.status, 200);
    }
    assert_eq!(
        ask(&browser, json!(["get", "list"])).await,
        json!([1, 2, 2, 2])
    );
}

#[rocket::async_test]
async fn touch_writes_and_sends_the_cookie_again() {
    let probe = probe(&[]).await;
    let (browser, cookie) = visitor(&probe).await;
    probe.clock.advance(seconds(30.0));
    let profile = probe.profile().await;
    let touched = go(&browser, json!([["touch"]])).await;
    assert_eq!(touched.cookie(), cookie);
    assert_eq!(asked(&profile).await, ["find", "update"]);
    let stored = probe.document(&cookie).await.expect("a session");
    assert_eq!(stored.get_f64("accessed"), Ok(now(&probe)));
}

#[rocket::async_test]
async fn a_value_that_is_replaced_needs_no_touch() {
    let probe = probe(&[]).await;
    let browser = probe.browser();
    go(&browser, json!([["set", "k", { "a": { "b": 1 } }]])).await;
    go(&browser, json!([["set", "k", { "a": { "b": 2 } }]])).await;
    let read = ask(&browser, json!(["get", "k"])).await;
    assert_eq!(read, json!({ "a": { "b": 2 } }));
}

#[rocket::async_test]
async fn an_append_is_seen_at_once_and_dropped_with_a_failure() {
    let keys = keys(&[("set_on_exception", false.into())]);
    let add = |rocket: rocket::Rocket<rocket::Build>| rocket.register("/", caught());
    let probe = Probe::start_with("nested", &keys, add).await;
    let browser = probe.browser();
    go(&browser, json!([["set", "list", [1]]])).await;
    let seen = go(&browser, json!([["push", "list", 2], ["get", "list"]])).await;
    assert_eq!(seen.last(), &json!([1, 2]));
    let failing = script(json!([["push", "list", 3], ["get", "list"]])).fail(500);
    assert_eq!(run(&browser, failing).await.status, 500);
    assert_eq!(ask(&browser, json!(["get", "list"])).await, json!([1, 2]));
}
