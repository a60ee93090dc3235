//! `invalidate`, `login` and `logout` within one request, and their cookies.

use mongodb::bson::doc;
use rocket::serde::json::{Value, json};

use crate::apps::calls::{ask, go, now, probe, script, seconds, told, value, visitor};
use crate::apps::probe::{Probe, id_of, removes, run_with};

/// A cookie that was good once opens nothing.
async fn is_dead(probe: &Probe, cookie: &str) {
    let calls = json!([["keys"], ["is_new"], ["user"]]);
    let read = run_with(&probe.app, cookie, script(calls)).await;
    assert_eq!(read.results, [json!([]), json!(true), json!(null)]);
    assert_eq!(probe.document(cookie).await, None);
}

#[rocket::async_test]
async fn invalidate_leaves_nothing_in_the_database_and_in_the_browser() {
    let probe = probe(&[]).await;
    for calls in [
        json!([["invalidate"], ["contains", "k"], ["len"]]),
        json!([["invalidate"], ["invalidate"], ["contains", "k"], ["len"]]),
    ] {
        let (browser, cookie) = visitor(&probe).await;
        let out = go(&browser, calls).await;
        assert!(out.results.ends_with(&[json!(false), json!(0)]));
        assert_eq!(out.set_cookies().len(), 1);
        assert!(out.sent().is_some_and(removes));
        assert!(probe.documents().await.is_empty());
        assert_eq!(browser.cookie("session"), None);
        is_dead(&probe, &cookie).await;
    }
}

#[rocket::async_test]
async fn a_session_that_never_was_can_be_invalidated() {
    let probe = probe(&[]).await;
    for calls in [
        json!([["set", "a", 1], ["invalidate"]]),
        json!([["invalidate"]]),
        json!([["invalidate"], ["invalidate"]]),
    ] {
        let out = go(&probe.browser(), calls).await;
        assert_eq!(out.sent(), None);
        assert!(probe.documents().await.is_empty());
    }
}

#[rocket::async_test]
async fn what_is_written_after_invalidate_is_another_session() {
    let probe = probe(&[]).await;
    let (browser, old) = visitor(&probe).await;
    probe.clock.advance(seconds(60.0));
    let calls = json!([
        ["invalidate"],
        ["set", "user", "bob"],
        ["is_new"],
        ["created"]
    ]);
    let written = go(&browser, calls).await;
    assert_eq!(written.results[2], json!(true));
    assert_eq!(told(written.last()), now(&probe));
    assert_eq!(written.set_cookies().len(), 1);
    let new = written.cookie();
    assert_ne!(id_of(&new), id_of(&old));
    assert_eq!(value(&probe, &new).await, Some(doc! { "user": "bob" }));
    assert_eq!(probe.documents().await.len(), 1);
    is_dead(&probe, &old).await;
}

#[rocket::async_test]
async fn the_last_of_several_invalidations_counts() {
    let probe = probe(&[]).await;
    let (browser, old) = visitor(&probe).await;
    let calls = json!([
        ["invalidate"],
        ["set", "a", 1],
        ["invalidate"],
        ["set", "b", 2]
    ]);
    let written = go(&browser, calls).await;
    assert_eq!(written.set_cookies().len(), 1);
    let new = written.cookie();
    assert_ne!(id_of(&new), id_of(&old));
    assert_eq!(value(&probe, &new).await, Some(doc! { "b": 2_i64 }));
    assert_eq!(probe.documents().await.len(), 1);
}

#[rocket::async_test]
async fn reading_after_invalidate_creates_nothing() {
    let probe = probe(&[]).await;
    let (browser, _) = visitor(&probe).await;
    let calls = json!([["invalidate"], ["get", "k"], ["is_new"], ["id"]]);
    let out = go(&browser, calls).await;
    assert_eq!(out.results[1..], [json!(null), json!(true), json!(null)]);
    assert!(out.sent().is_some_and(removes));
    assert!(probe.documents().await.is_empty());
}

#[rocket::async_test]
async fn invalidate_forgets_messages() {
    let probe = probe(&[]).await;
    let (browser, _) = visitor(&probe).await;
    go(&browser, json!([["flash", "m"]])).await;
    let out = go(&browser, json!([["invalidate"], ["peek_flash"]])).await;
    assert_eq!(out.last(), &json!([]));
}

#[rocket::async_test]
async fn a_goodbye_is_shown_after_the_logout() {
    let probe = probe(&[]).await;
    let (browser, old) = visitor(&probe).await;
    let out = go(&browser, json!([["invalidate"], ["flash", "bye"]])).await;
    let new = out.cookie();
    assert_ne!(id_of(&new), id_of(&old));
    assert_eq!(value(&probe, &new).await, Some(doc! { "_f_": ["bye"] }));
    assert_eq!(ask(&browser, json!(["pop_flash"])).await, json!(["bye"]));
}

#[rocket::async_test]
async fn a_stale_cookie_can_be_invalidated() {
    let probe = probe(&[]).await;
    let (browser, cookie) = visitor(&probe).await;
    let sessions = probe.sessions();
    let deleted = sessions.delete_one(doc! { "_id": id_of(&cookie) });
    deleted.await.unwrap();
    let out = go(&browser, json!([["invalidate"]])).await;
    assert!(out.sent().is_some_and(removes), "a cookie was brought");
    assert!(probe.documents().await.is_empty());
}

#[rocket::async_test]
async fn an_expired_session_is_removed_by_invalidate() {
    let probe = probe(&[]).await;
    let (browser, cookie) = visitor(&probe).await;
    probe.clock.advance(seconds(1201.0));
    assert!(probe.document(&cookie).await.is_some(), "not deleted yet");
    let out = go(&browser, json!([["invalidate"]])).await;
    assert!(out.sent().is_some_and(removes));
    assert_eq!(probe.document(&cookie).await, None);
}

#[rocket::async_test]
async fn a_new_secret_keeps_the_data_and_ends_the_old_cookie() {
    // 126. Both keep the id; an elevation also counts as a creation.
    let probe = probe(&[]).await;
    for (call, keeps_created) in [("renew", true), ("elevate", false)] {
        let (browser, old) = visitor(&probe).await;
        go(&browser, json!([["set", "cart", [1, 2]]])).await;
        let created = probe.document(&old).await.expect("a session");
        probe.clock.advance(seconds(5.0));
        let new = go(&browser, json!([[call]])).await.cookie();
        assert_ne!(new, old, "{call}");
        assert_eq!(id_of(&new), id_of(&old), "{call}");
        assert_eq!(ask(&browser, json!(["get", "cart"])).await, json!([1, 2]));
        let read = run_with(&probe.app, &old, script(json!([["get", "cart"]]))).await;
        assert_eq!(read.results, [Value::Null], "{call}");
        let stored = probe.document(&new).await.expect("a session");
        let same = stored.get("created") == created.get("created");
        assert_eq!(same, keeps_created, "{call}: created moves only at login");
    }
}

#[rocket::async_test]
async fn what_a_session_set_for_itself_ends_with_it() {
    let probe = probe(&[("timeout", 100.into())]).await;
    for call in [json!(["invalidate"]), json!(["login", "bob"])] {
        let (browser, _) = visitor(&probe).await;
        go(
            &browser,
            json!([["set_timeout", 555], ["set_max_age", 300]]),
        )
        .await;
        let calls = json!([call, ["set", "k", "v"]]);
        let written = go(&browser, calls).await;
        assert!(!written.sent().unwrap().contains("Max-Age"), "{call}");
        let stored = probe.document(&written.cookie()).await.expect("a session");
        assert!(!stored.contains_key("timeout") && !stored.contains_key("max_age"));
        probe.clock.advance(seconds(101.0));
        assert_eq!(ask(&browser, json!(["get", "k"])).await, json!(null));
    }
}
