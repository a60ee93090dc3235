//! Cookies of expired sessions are normal, and no reason to make the indexes again.

use rocket::tokio::time::sleep;
use std::time::{Duration, Instant};

use super::{Standalone, soon, visitor};
use crate::probe::{Script, run, run_with};

#[rocket::async_test]
async fn expired_cookies_make_no_indexes() {
    let standalone = Standalone::start(&[("timeout", 60.into())]).await;
    let (probe, proxy) = (&standalone.probe, &standalone.proxy);
    soon("the indexes are made", async || {
        let names = probe.sessions().list_index_names().await;
        names.is_ok_and(|names| names.len() == 3)
    })
    .await;
    let expired = visitor(&probe.app).await.cookie("session");
    let expired = expired.expect("a cookie");
    probe.clock.advance(Duration::from_secs(61));
    let deleted = visitor(&probe.app).await.cookie("session");
    let deleted = deleted.expect("a cookie");
    let named = mongodb::bson::doc! { "_id": crate::probe::id_of(&deleted) };
    let done = probe.sessions().delete_one(named).await;
    assert_eq!(done.expect("a delete").deleted_count, 1);
    let live = visitor(&probe.app).await;

    let before = proxy.requests("createIndexes").len();
    // Nothing tells that no command follows: for as long as two of them used to take.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        for cookie in [&expired, &deleted] {
            let read = run_with(&probe.app, cookie, Script::new().then("is_new")).await;
            assert_eq!(read.last(), &rocket::serde::json::json!(true));
        }
        run(&live, Script::new().get("n")).await;
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(proxy.requests("createIndexes").len(), before);
}
