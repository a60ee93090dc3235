//! Requests that a client holds open for as long as it likes: what has ended meanwhile stays ended,
//! and a login that fails is in the way of no other.

use std::time::Duration;

use mongodb::bson::doc;
use rocket::serde::json::{Value, json};
use rocket::tokio::join;
use rstest::rstest;

use super::{ask, call, forget_revocations, member, null, whoami};
use crate::apps::database;
use crate::apps::probe::{Probe, Ran, Script, id_of, run_with, value_of};

/// Runs a script that pauses at "held"; meanwhile, a moment later, something else happens.
async fn while_held(
    probe: &Probe,
    cookie: &str,
    script: Script,
    meanwhile: impl Future<Output = ()>,
) -> Ran {
    let held = run_with(&probe.app, cookie, script);
    let meanwhile = async {
        probe.gates.reached("held").await;
        probe.clock.advance(Duration::from_millis(1));
        meanwhile.await;
        probe.clock.advance(Duration::from_millis(1));
        probe.gates.open("held");
    };
    join!(held, meanwhile).0
}

fn gone() -> Value {
    json!({ "error": "Gone" })
}

/// CC-05: a thief who was thrown out while a form of his was in progress throws no other user out.
#[rstest]
#[test_attr(rocket::async_test)]
#[case(Script::new().pause("held"))]
#[case(Script::new().pause("held").then("elevate"))]
#[case(Script::new().then("elevate").pause("held"))]
#[case(Script::new().set("n", 1).then("save").pause("held"))]
#[case(Script::new().then("elevate").then("save").pause("held"))]
async fn a_session_that_has_ended_ends_no_others(#[case] script: Script) {
    let probe = Probe::start(&database(), &[]).await;
    let thief = member(&probe, "alice").await;
    let owner = member(&probe, "alice").await;
    let script = script.call(json!(["revoke_others"]));
    let end = async {
        let left = call(&probe.app, &owner, json!(["revoke_others"])).await;
        assert_eq!(left, json!(1));
    };
    let ran = while_held(&probe, &thief, script, end).await;
    assert_eq!(ran.last(), &gone());
    assert_eq!(whoami(&probe.app, &owner).await, json!("alice"));
    let count = ask(&probe.app, json!(["count_user", "alice"])).await;
    assert_eq!(count, json!(1));
}

/// A request that may end others because it has logged in by itself is asked for no older session.
#[rocket::async_test]
async fn who_has_just_logged_in_may_end_the_others_whatever_became_of_the_old_session() {
    let probe = Probe::start("sec_held_login", &[]).await;
    let old = member(&probe, "bob").await;
    let other = member(&probe, "alice").await;
    let script = Script::new().login("alice").pause("held");
    let script = script.call(json!(["revoke_others"]));
    let end = async {
        ask(&probe.app, json!(["revoke", id_of(&old)])).await;
    };
    let ran = while_held(&probe, &old, script, end).await;
    assert_eq!(ran.last(), &json!(1));
    assert_eq!(whoami(&probe.app, &other).await, null());
    assert_eq!(whoami(&probe.app, &ran.cookie()).await, json!("alice"));
}

/// RV-02: a revocation is remembered for an hour. A login that was held for longer may be
/// older than one that is forgotten.
#[rocket::async_test]
async fn a_login_that_was_held_longer_than_revocations_are_remembered_is_none() {
    let probe = Probe::start("sec_held_long", &[]).await;
    for (held, stands) in [(3598, true), (3601, false)] {
        let script = Script::new().pause("held").login("alice");
        let wait = async {
            probe.clock.advance(Duration::from_secs(held));
        };
        let ran = while_held(&probe, "", script, wait).await;
        assert_eq!(ran.sent().is_some(), stands, "{held} s");
    }
    let wait = async {
        probe.clock.advance(Duration::from_secs(3601));
    };
    let script = Script::new().pause("held").login("alice").then("save");
    let ran = while_held(&probe, "", script, wait).await;
    assert_eq!((ran.last(), ran.sent()), (&gone(), None));
    // What only continues an older login is that login.
    let own = member(&probe, "bob").await;
    let wait = async {
        // Not beyond its timeout.
        for _ in 0..4 {
            probe.clock.advance(Duration::from_secs(1000));
            run_with(&probe.app, &own, Script::new().then("touch")).await;
        }
    };
    let script = Script::new().pause("held").then("elevate");
    let ran = while_held(&probe, &own, script, wait).await;
    assert_eq!(whoami(&probe.app, &ran.cookie()).await, json!("bob"));
}

/// A login announces itself, so that no late answer of another tab overwrites its cookie. One that
/// fails sends no cookie: its browser, whose old session is gone, begins anew at once.
#[rocket::async_test]
async fn a_login_that_was_revoked_on_its_way_keeps_its_browser_out_of_nothing() {
    let probe = Probe::start("sec_held_anew", &[]).await;
    for before in [None, Some("alice")] {
        let old = match before {
            None => run_with(&probe.app, "", Script::new().set("n", 1))
                .await
                .cookie(),
            Some(user) => member(&probe, user).await,
        };
        let script = Script::new().pause("held").login("alice");
        let revoke = async {
            ask(&probe.app, json!(["revoke_user", "alice"])).await;
        };
        let ran = while_held(&probe, &old, script, revoke).await;
        assert_eq!(ran.sent(), None, "{before:?}");
        let tombstone = doc! { "_id": format!("~{}", id_of(&old)) };
        let tombstones = probe.sessions().count_documents(tombstone).await;
        assert_eq!(tombstones.expect("a count"), 0, "{before:?}");
        // The old session stays, unless it was one of those that were revoked.
        let anew = run_with(&probe.app, &old, Script::new().set("n", 2)).await;
        let cookie = anew.sent().map_or(&*old, value_of);
        assert_eq!(anew.sent().is_some(), before.is_some(), "{before:?}");
        let read = run_with(&probe.app, cookie, Script::new().get("n")).await;
        assert_eq!(read.last(), &json!(2), "{before:?}");
        forget_revocations(&probe).await;
    }
}

/// Of two logins of one browser, the one that fails does not withdraw the other's announcement.
#[rocket::async_test]
async fn a_login_that_fails_leaves_the_announcement_of_another() {
    let probe = Probe::start("sec_held_two", &[]).await;
    let old = run_with(&probe.app, "", Script::new().set("n", 1))
        .await
        .cookie();
    let script = Script::new().pause("held").login("alice");
    let meanwhile = async {
        ask(&probe.app, json!(["revoke_user", "alice"])).await;
        probe.clock.advance(Duration::from_millis(1));
        let other = run_with(&probe.app, &old, Script::new().login("bob")).await;
        assert!(other.sent().is_some());
    };
    let ran = while_held(&probe, &old, script, meanwhile).await;
    assert_eq!(ran.sent(), None);
    // A late request of the old page: bob's cookie is not overwritten.
    let late = run_with(&probe.app, &old, Script::new().set("n", 2)).await;
    assert_eq!(late.sent(), None);
}
