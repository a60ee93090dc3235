//! Whose a session is: login, elevate, renew, logout, and what old cookies are worth afterwards.

use mongodb::bson::Document;
use rocket::serde::json::{Value, json};
use std::time::Duration;

use crate::apps::probe::{Probe, Script, id_of, run, run_with};
use crate::support::Browser;

mod administrator;
mod logout;
mod logout_and_login;
mod overtaken;
mod sending;

/// What a cookie is worth: `n`, and whose it is.
async fn seen_with(probe: &Probe, cookie: &str) -> Vec<Value> {
    let script = Script::new().get("n").then("user").then("is_new");
    run_with(&probe.app, cookie, script).await.results
}

fn no_session() -> [Value; 3] {
    [json!(null), json!(null), json!(true)]
}

/// The documents of sessions, without tombstones and revocations.
async fn sessions(probe: &Probe) -> Vec<Document> {
    let all = probe.documents().await.into_iter();
    all.filter(|one| !one.get_str("_id").is_ok_and(|id| id.starts_with('~')))
        .collect()
}

async fn visitor(probe: &Probe) -> (Browser, String) {
    let browser = probe.browser();
    let cookie = run(&browser, Script::new().set("n", 1).set("m", 2))
        .await
        .cookie();
    (browser, cookie)
}

#[rocket::async_test]
async fn a_login_starts_a_new_session_and_ends_the_old_one() {
    let probe = Probe::start("identity_login", &[]).await;
    let (browser, old) = visitor(&probe).await;
    let before = run(&browser, Script::new().then("csrf_token").then("created")).await;
    let token = before.results[0].as_str().expect("a token").to_owned();
    probe.clock.advance(Duration::from_secs(5));

    let script = Script::new()
        .login(json!({"id": 7}))
        .get("n")
        .then("user")
        .then("is_new")
        .then("id")
        .then("save")
        .then("id");
    let login = run(&browser, script).await;
    let new = login.cookie();
    assert_eq!(
        login.results[1..4],
        [json!(null), json!({"id": 7}), json!(true)]
    );
    assert_eq!(login.results[4], json!(null), "it is not stored yet");
    assert_eq!(login.results[6], id_of(&new), "it is stored by `save`");
    assert_ne!(id_of(&new), id_of(&old));
    assert_ne!(
        new.split_once('.').expect("two").1,
        old.split_once('.').expect("two").1
    );

    assert_eq!(
        seen_with(&probe, &old).await,
        no_session(),
        "the old cookie is dead"
    );
    assert_eq!(
        seen_with(&probe, &new).await,
        [json!(null), json!({"id": 7}), json!(false)]
    );
    let documents = sessions(&probe).await;
    assert_eq!(documents.len(), 1, "{documents:?}");
    let after = Script::new()
        .call(json!(["verify_csrf", token]))
        .then("created")
        .then("len");
    let after = run(&browser, after).await;
    assert_eq!(after.results[0], json!(false), "a new CSRF secret");
    let (was, is) = (&before.results[1], &after.results[1]);
    assert_eq!(
        is.as_f64().expect("a time") - was.as_f64().expect("a time"),
        5.0
    );
    assert_eq!(after.results[2], json!(0), "none of the earlier data");
}

#[rocket::async_test]
async fn a_login_without_a_session_makes_one() {
    let probe = Probe::start("identity_first", &[]).await;
    let browser = probe.browser();
    assert!(
        run(&browser, Script::new().login("bob").set("n", 1))
            .await
            .sent()
            .is_some()
    );
    let seen = run(&browser, Script::new().get("n").then("user")).await;
    assert_eq!(seen.results, [json!(1), json!("bob")]);
    assert_eq!(sessions(&probe).await.len(), 1);
}

#[rocket::async_test]
async fn a_null_or_endless_principal_is_refused_and_nothing_happens() {
    let probe = Probe::start("identity_bad_user", &[]).await;
    let (browser, cookie) = visitor(&probe).await;
    for user in [json!(null), json!("x".repeat(9000))] {
        let ran = run(&browser, Script::new().login(user.clone())).await;
        assert_eq!(ran.results, [json!({"error": "BadUser"})], "{user}");
        assert_eq!(ran.sent(), None);
    }
    assert_eq!(
        seen_with(&probe, &cookie).await,
        [json!(1), json!(null), json!(false)]
    );
}

#[rocket::async_test]
async fn two_logins_on_one_cookie_are_two_sessions() {
    let probe = Probe::start("identity_two", &[]).await;
    let (browser, old) = visitor(&probe).await;
    let other = browser.twin();
    let slow = Script::new().login("ann").pause("slow");
    let fast = async {
        probe.gates.reached("slow").await;
        let ran = run(&other, Script::new().login("bob")).await;
        probe.gates.open("slow");
        ran
    };
    let (ann, bob) = rocket::tokio::join!(run(&browser, slow), fast);
    for (login, user) in [(&ann, "ann"), (&bob, "bob")] {
        let seen = seen_with(&probe, &login.cookie()).await;
        assert_eq!(seen, [json!(null), json!(user), json!(false)]);
    }
    assert_eq!(seen_with(&probe, &old).await, no_session());
    assert_eq!(sessions(&probe).await.len(), 2);
}

#[rocket::async_test]
async fn two_logins_in_one_request_are_the_last_one() {
    let probe = Probe::start("identity_twice", &[]).await;
    let (browser, old) = visitor(&probe).await;
    let keys = json!(["login_keeping", "ann", ["n", "m"]]);
    let again = json!(["login_keeping", "bob", ["n"]]);
    let ran = run(&browser, Script::new().call(keys).set("m", 5).call(again)).await;
    assert!(ran.sent().is_some());
    let seen = run(&browser, Script::new().then("user").get("n").get("m")).await;
    assert_eq!(seen.results, [json!("bob"), json!(1), json!(null)]);
    assert_eq!(seen_with(&probe, &old).await, no_session());
    assert_eq!(sessions(&probe).await.len(), 1);
}

#[rocket::async_test]
async fn login_keeping_carries_the_named_keys_and_what_others_did_to_them() {
    let probe = Probe::start("identity_keeping", &[]).await;
    let (browser, old) = visitor(&probe).await;
    let other = browser.twin();
    let slow = json!(["login_keeping", "bob", ["n", "list", "away", "absent"]]);
    let more = Script::new().set("list", json!([1])).set("away", 1);
    run(&browser, more).await;
    let slow = Script::new()
        .get("n")
        .call(slow)
        .pause("slow")
        .call(json!(["push", "list", 9]));
    let fast = async {
        probe.gates.reached("slow").await;
        let script = Script::new()
            .set("n", 5)
            .set("m", 6)
            .call(json!(["push", "list", 2]));
        let ran = run(&other, script.call(json!(["remove", "away"]))).await;
        assert_eq!(ran.status, 200);
        probe.gates.open("slow");
    };
    let (login, ()) = rocket::tokio::join!(run(&browser, slow), fast);
    assert!(login.sent().is_some());
    let keys = ["n", "list", "m", "away", "absent"].iter();
    let seen = run(
        &browser,
        keys.fold(Script::new(), |script, key| script.get(key)),
    )
    .await;
    let expected = [
        json!(5),
        json!([1, 2, 9]),
        json!(null),
        json!(null),
        json!(null),
    ];
    assert_eq!(
        seen.results, expected,
        "what was kept is what was there at the end"
    );
    assert_eq!(seen_with(&probe, &old).await, no_session());
}

#[rocket::async_test]
async fn elevate_keeps_id_and_data_under_new_secrets() {
    let probe = Probe::start("identity_elevate", &[]).await;
    let browser = probe.browser();
    let script = Script::new().login("bob").set("n", 1).set("a.b", 2);
    let script = script.call(json!(["flash", "hello"])).then("csrf_token");
    let first = run(&browser, script).await;
    let (old, token) = (first.cookie(), first.last().clone());
    let elevated = run(
        &browser,
        Script::new().then("elevate").get("n").then("user"),
    )
    .await;
    let new = elevated.cookie();
    assert_eq!(elevated.results, [json!(null), json!(1), json!("bob")]);
    assert_eq!(id_of(&new), id_of(&old));
    assert_ne!(new, old);
    assert_eq!(seen_with(&probe, &old).await, no_session());
    let script = Script::new().then("keys").then("peek_flash").then("user");
    let seen = run(&browser, script.call(json!(["verify_csrf", token]))).await;
    let expected = [
        json!(["n", "a.b"]),
        json!(["hello"]),
        json!("bob"),
        json!(false),
    ];
    assert_eq!(seen.results, expected);
    assert_eq!(sessions(&probe).await.len(), 1);
}

#[rocket::async_test]
async fn a_renewal_changes_the_secret_and_nothing_else() {
    let probe = Probe::start("identity_renew", &[]).await;
    let browser = probe.browser();
    let script = Script::new()
        .login("bob")
        .set("n", 1)
        .then("csrf_token")
        .then("created");
    let first = run(&browser, script).await;
    let (old, token, created) = (first.cookie(), &first.results[2], &first.results[3]);
    probe.clock.advance(Duration::from_secs(5));
    let new = run(&browser, Script::new().then("renew").set("m", 2))
        .await
        .cookie();
    assert_eq!(id_of(&new), id_of(&old));
    assert_ne!(new, old);
    assert_eq!(seen_with(&probe, &old).await, no_session());
    let script = Script::new().get("n").get("m").then("user").then("created");
    let seen = run(&browser, script.call(json!(["verify_csrf", token]))).await;
    let expected = [
        json!(1),
        json!(2),
        json!("bob"),
        created.clone(),
        json!(true),
    ];
    assert_eq!(seen.results, expected);
}
