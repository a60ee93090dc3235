//! The end of a session, and those who come too late for it.

use mongodb::bson::Document;
use rocket::serde::json::json;
use std::time::Duration;

use super::{no_session, seen_with, sessions, visitor};
use crate::apps::probe::{Probe, Script, id_of, removes, run, run_with};

#[rocket::async_test]
async fn late_writes_to_a_session_that_a_login_ended_find_nothing() {
    for replaced in [json!(["login", "bob"]), json!(["logout"])] {
        let probe = Probe::start("identity_late", &[]).await;
        let (browser, old) = visitor(&probe).await;
        let other = browser.twin();
        let slow = Script::new()
            .get("n")
            .pause("slow")
            .set("n", 9)
            .call(json!(["increment", "m", 1]));
        let fast = async {
            probe.gates.reached("slow").await;
            run(&browser, Script::new().call(replaced.clone())).await;
            probe.gates.open("slow");
        };
        let (late, ()) = rocket::tokio::join!(run(&other, slow), fast);
        assert_eq!((late.status, late.sent()), (200, None), "{replaced}");
        assert_eq!(probe.document(&old).await, None, "{replaced}");
        assert_eq!(seen_with(&probe, &old).await, no_session(), "{replaced}");
        let told = Script::new().get("n").then("stats");
        let stats = run(&browser, told).await.results[1].to_string();
        assert!(stats.contains("gone: 1"), "{replaced}: {stats}");
    }
}

#[rocket::async_test]
async fn save_and_modify_say_that_the_session_ended() {
    for call in [
        json!(["save"]),
        json!(["modify", "n", 1]),
        json!(["queue_pop", "q"]),
    ] {
        let probe = Probe::start("identity_gone", &[]).await;
        let (browser, _) = visitor(&probe).await;
        run(&browser, Script::new().call(json!(["queue_push", "q", 1]))).await;
        let other = browser.twin();
        let slow = Script::new()
            .get("n")
            .pause("slow")
            .set("o", 9)
            .call(call.clone())
            .then("id");
        let fast = async {
            probe.gates.reached("slow").await;
            run(&browser, Script::new().then("logout")).await;
            probe.gates.open("slow");
        };
        let (late, ()) = rocket::tokio::join!(run(&other, slow), fast);
        assert_eq!(
            late.results[3],
            json!({"error": "Gone"}),
            "{call}: {late:?}"
        );
        assert_eq!(
            (late.status, sessions(&probe).await.len()),
            (200, 0),
            "{call}"
        );
        assert_eq!(late.sent(), None, "{call}");
    }
}

#[rocket::async_test]
async fn a_logout_forgets_everything() {
    let probe = Probe::start("identity_logout", &[]).await;
    for name in ["logout", "invalidate"] {
        let browser = probe.browser();
        let old = run(&browser, Script::new().login("bob").set("n", 1))
            .await
            .cookie();
        run(&browser, Script::new().call(json!(["flash", "m"]))).await;
        let script = Script::new()
            .then(name)
            .then(name)
            .get("n")
            .then("user")
            .then("len");
        let out = run(
            &browser,
            script.then("peek_flash").then("id").then("is_new"),
        )
        .await;
        let expected = [
            json!(null),
            json!(null),
            json!(0),
            json!([]),
            json!(null),
            json!(true),
        ];
        assert_eq!(out.results[2..], expected);
        assert!(out.sent().is_some_and(removes), "{out:?}");
        assert_eq!(browser.cookie("session"), None);
        assert_eq!(sessions(&probe).await, Vec::<Document>::new());
        assert_eq!(seen_with(&probe, &old).await, no_session(), "replayed");
    }
}

#[rocket::async_test]
async fn after_a_logout_the_same_request_may_start_anew() {
    let probe = Probe::start("identity_anew", &[]).await;
    let browser = probe.browser();
    let script = Script::new().login("bob").set("n", 1);
    let old = run(&browser, script.call(json!(["set_timeout", 77])))
        .await
        .cookie();
    let script = Script::new()
        .then("logout")
        .set("a", 1)
        .then("logout")
        .set("b", 2);
    let script = script.call(json!(["flash", "bye"]));
    let out = run(&browser, script.then("save").then("id")).await;
    let new = out.cookie();
    assert_eq!(out.last(), id_of(&new));
    assert_ne!(id_of(&new), id_of(&old));
    let seen = run(
        &browser,
        Script::new().then("keys").then("user").then("pop_flash"),
    )
    .await;
    assert_eq!(seen.results, [json!(["b"]), json!(null), json!(["bye"])]);
    let documents = sessions(&probe).await;
    assert_eq!(documents.len(), 1, "{documents:?}");
    assert!(
        !documents[0].contains_key("timeout"),
        "its own settings went with it"
    );
    assert_eq!(seen_with(&probe, &old).await, no_session());
}

#[rocket::async_test]
async fn a_logout_without_a_session_that_lives_removes_only_what_is_ours() {
    let keys = [("timeout", 10.into()), ("indexes", false.into())];
    let probe = Probe::start("identity_dead", &keys).await;
    let out = run(&probe.browser(), Script::new().then("logout")).await;
    assert_eq!(
        (out.status, out.sent()),
        (200, None),
        "no cookie, nothing to remove"
    );

    let (browser, cookie) = visitor(&probe).await;
    probe.clock.advance(Duration::from_secs(11));
    let out = run(&browser, Script::new().then("logout")).await;
    assert!(out.sent().is_some_and(removes), "expired, but its own");
    assert_eq!(probe.document(&cookie).await, None);

    let (browser, cookie) = visitor(&probe).await;
    let unknown = format!("{}.{}", id_of(&cookie), "A".repeat(43));
    let out = run_with(&probe.app, &unknown, Script::new().then("logout")).await;
    assert_eq!(out.status, 200);
    assert!(
        probe.document(&cookie).await.is_some(),
        "a wrong secret ends nothing"
    );
    assert_eq!(
        run(&browser, Script::new().get("n")).await.results,
        [json!(1)]
    );
}
