//! The idle timeout.

use rocket::figment::value::Value as Setting;
use rocket::serde::json::json;

use crate::apps::calls;
use crate::apps::calls::{ask, go, now, probe, refusal, seconds, told, visitor};
use crate::apps::database;
use crate::apps::probe::{Probe, id_of};

async fn is_alive(browser: &crate::support::Browser) -> bool {
    ask(browser, json!(["get", "k"])).await == "v"
}

#[rocket::async_test]
async fn a_session_idles_out() {
    let probe = probe(&[("timeout", 1.into())]).await;
    let (browser, _) = visitor(&probe).await;
    probe.clock.advance(seconds(5.0));
    assert!(!is_alive(&browser).await);
}

#[rocket::async_test]
async fn a_session_without_a_timeout_never_idles_out() {
    let probe = probe(&[("timeout", false.into())]).await;
    let (browser, _) = visitor(&probe).await;
    let year = seconds(366.0 * 86_400.0);
    probe.clock.advance(year);
    assert!(is_alive(&browser).await);
    let read = go(&browser, json!([["set", "n", 1], ["expires"]])).await;
    assert_eq!(read.last(), &json!(null));
    probe.clock.rewind(year);
    assert!(is_alive(&browser).await, "last used in a year");
}

#[rocket::async_test]
async fn the_timeout_is_twenty_minutes_by_default() {
    let probe = Probe::start(&database(), &[("indexes", false.into())]).await;
    let (browser, _) = visitor(&probe).await;
    probe.clock.advance(seconds(1190.0));
    assert!(is_alive(&browser).await);
    let (browser, _) = visitor(&probe).await;
    probe.clock.advance(seconds(1202.0));
    assert!(!is_alive(&browser).await);
}

#[rocket::async_test]
async fn the_timeout_is_exact_to_the_millisecond() {
    let probe = probe(&[("timeout", 2.into())]).await;
    for offset in 0..20 {
        probe
            .clock
            .advance(seconds(0.05 + f64::from(offset) * 0.0317));
        let (browser, _) = visitor(&probe).await;
        probe.clock.advance(seconds(1.999));
        assert!(is_alive(&browser).await, "before the limit, {offset}");
        probe.clock.advance(seconds(0.001));
        assert!(is_alive(&browser).await, "at the limit, {offset}");
        probe.clock.advance(seconds(0.001));
        assert!(!is_alive(&browser).await, "after the limit, {offset}");
    }
    let half: Setting = 0.5.into();
    let probe = calls::probe(&[("timeout", half)]).await;
    let (browser, _) = visitor(&probe).await;
    probe.clock.advance(seconds(0.5));
    assert!(is_alive(&browser).await);
    probe.clock.advance(seconds(0.001));
    assert!(!is_alive(&browser).await);
}

#[rocket::async_test]
async fn what_follows_an_expired_session_is_new_in_everything() {
    let probe = probe(&[]).await;
    let (browser, cookie) = visitor(&probe).await;
    probe.clock.advance(seconds(1201.0));
    let read = go(&browser, json!([["keys"], ["is_new"], ["created"]])).await;
    assert_eq!(read.results[..2], [json!([]), json!(true)]);
    assert_eq!(told(read.last()), now(&probe));
    assert_eq!(read.sent(), None);
    let written = go(&browser, json!([["set", "k", "w"], ["created"]])).await;
    assert_eq!(told(written.last()), now(&probe));
    assert_ne!(id_of(&written.cookie()), id_of(&cookie));
}

#[rocket::async_test]
async fn reads_keep_a_session_alive() {
    let keys = [("timeout", 10.into()), ("reissue_time", 0.into())];
    let probe = probe(&keys).await;
    let (browser, cookie) = visitor(&probe).await;
    for _ in 0..5 {
        probe.clock.advance(seconds(6.0));
        assert!(is_alive(&browser).await);
        // Reads extend in the background.
        let now = now(&probe);
        crate::apps::probe::eventually("the touch", || async {
            let stored = probe.document(&cookie).await.expect("a session");
            stored.get_f64("accessed") == Ok(now)
        })
        .await;
    }
}

#[rocket::async_test]
async fn a_reissue_time_that_would_never_come_is_refused() {
    for reissue in [10, 20] {
        let keys = [("timeout", 10.into()), ("reissue_time", reissue.into())];
        let refused = refusal("debug", &keys).await;
        assert!(refused.contains("FailedFairings"), "{refused}");
    }
}

#[rocket::async_test]
async fn without_a_reissue_time_only_writes_extend() {
    let probe = probe(&[("timeout", 10.into())]).await;
    let (browser, _) = visitor(&probe).await;
    for _ in 0..3 {
        probe.clock.advance(seconds(3.0));
        assert!(is_alive(&browser).await);
    }
    probe.clock.advance(seconds(3.0));
    assert!(!is_alive(&browser).await);

    let (browser, _) = visitor(&probe).await;
    for n in 0..3 {
        probe.clock.advance(seconds(8.0));
        go(&browser, json!([["set", "n", n]])).await;
    }
    probe.clock.advance(seconds(6.0));
    assert!(is_alive(&browser).await);
}

#[rocket::async_test]
async fn a_timeout_of_its_own_stays_with_the_session() {
    let probe = probe(&[("timeout", 100.into())]).await;
    let (browser, cookie) = visitor(&probe).await;
    go(&browser, json!([["set_timeout", 555]])).await;
    let stored = probe.document(&cookie).await.expect("a session");
    assert_eq!(stored.get_f64("timeout"), Ok(555.0));
    probe.clock.advance(seconds(300.0));
    let read = go(&browser, json!([["get", "k"], ["set", "n", 1]])).await;
    assert_eq!(read.results[0], "v");
    probe.clock.advance(seconds(555.0));
    assert!(is_alive(&browser).await);
    probe.clock.advance(seconds(0.001));
    assert!(!is_alive(&browser).await);
}

#[rocket::async_test]
async fn the_time_of_creation_never_changes() {
    let probe = probe(&[]).await;
    let browser = probe.browser();
    let created = go(&browser, json!([["set", "n", 0], ["created"]])).await;
    for n in 1..=10 {
        probe.clock.advance(seconds(7.5));
        let again = go(&browser, json!([["set", "n", n], ["created"]])).await;
        assert_eq!(again.last(), created.last());
    }
}
