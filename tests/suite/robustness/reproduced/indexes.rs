//! Cookies of expired sessions are normal, and no reason to make the indexes again.

use std::time::Duration;

use super::{Standalone, eventually, visitor};
use crate::apps::probe::{Script, run, run_with};

#[rocket::async_test]
async fn expired_cookies_make_no_indexes() {
    let standalone = Standalone::start(&[("timeout", 60.into())]).await;
    let (probe, proxy) = (&standalone.probe, &standalone.proxy);
    eventually("the indexes are made", async || {
        let names = probe.sessions().list_index_names().await;
        names.is_ok_and(|names| names.len() == 3)
    })
    .await;
    let expired = visitor(&probe.app).await.cookie("session");
    let expired = expired.expect("a cookie");
    probe.clock.advance(Duration::from_secs(61));
    let deleted = visitor(&probe.app).await.cookie("session");
    let deleted = deleted.expect("a cookie");
    let named = mongodb::bson::doc! { "_id": crate::apps::probe::id_of(&deleted) };
    let done = probe.sessions().delete_one(named).await;
    assert_eq!(done.expect("a delete").deleted_count, 1);
    let live = visitor(&probe.app).await;

    // What a call makes comes after all that was running, because one call makes indexes at a time.
    let made = async || {
        let done = run(&live, Script::new().then("ensure_indexes")).await;
        assert_eq!(done.status, 200);
        proxy.requests("createIndexes").len()
    };
    let (first, second) = (made().await, made().await);
    for _ in 0..10 {
        for cookie in [&expired, &deleted] {
            let read = run_with(&probe.app, cookie, Script::new().then("is_new")).await;
            assert_eq!(read.last(), &rocket::serde::json::json!(true));
        }
        run(&live, Script::new().get("n")).await;
    }
    assert_eq!(made().await - second, second - first, "only what was asked");
}
