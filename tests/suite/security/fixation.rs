//! Fixation and privilege: no token that another person may know lets a user in.

use rocket::futures::future::join_all;
use rocket::serde::json::json;
use rstest::rstest;

use super::{call, guards, member, null, whoami};
use crate::apps::database;
use crate::apps::probe::{Probe, Script, id_of, run, run_with};
use crate::support::Request;

/// RG-01, RG-02, RG-03, RG-06: the classic, at each change of privilege.
#[rocket::async_test]
async fn a_planted_session_gives_no_access() {
    let probe = Probe::start("sec_fix_planted", &[]).await;
    for change in [
        Script::new().login("victim"),
        Script::new().call(json!(["login_keeping", "victim", ["basket"]])),
        Script::new().login("clerk").login("victim"),
    ] {
        // The attacker's own anonymous session, tossed into the victim's browser.
        let attacker = probe.browser();
        let planted = run(&attacker, Script::new().set("evil", 1).set("basket", 2)).await;
        let planted = planted.cookie();
        let victim = probe.browser();
        victim.set_cookie(&format!("session={planted}; Path=/"));
        let token = run(&victim, change.clone()).await.cookie();
        assert_ne!(id_of(&token), id_of(&planted));
        assert_eq!(whoami(&probe.app, &token).await, json!("victim"));
        let tries = (0..20).map(|_| whoami(&probe.app, &planted));
        for user in join_all(tries).await {
            assert_eq!(user, null());
        }
        assert_eq!(probe.document(&planted).await, None);
        // The new half of one and the old half of the other open nothing either.
        let secret = planted.split_once('.').expect("two halves").1;
        let mixed = format!("{}.{secret}", id_of(&token));
        assert_eq!(whoami(&probe.app, &mixed).await, null());
        let evil = call(&probe.app, &token, json!(["get", "evil"])).await;
        assert_eq!(evil, null(), "RG-04: nothing planted crosses a login");
    }
}

/// RG-02, RG-03: an elevation and a change of the user leave no old token.
#[rstest]
#[test_attr(rocket::async_test)]
#[case(Script::new().then("elevate").set("admin", true))]
#[case(Script::new().login("alice"))]
#[case(Script::new().login("root"))]
#[case(Script::new().then("elevate").then("renew").then("elevate"))]
async fn a_stolen_token_is_worth_nothing_after_a_change_of_privilege(#[case] change: Script) {
    let probe = Probe::start(&database(), &[]).await;
    let browser = probe.browser();
    let stolen = run(&browser, Script::new().login("alice")).await.cookie();
    let fresh = run(&browser, change).await.cookie();
    assert_ne!(fresh, stolen);
    assert_eq!(whoami(&probe.app, &stolen).await, null());
    assert_ne!(whoami(&probe.app, &fresh).await, null());
    // An elevation keeps the id, which is not a credential.
    let stays = id_of(&fresh) == id_of(&stolen);
    assert_eq!(probe.document(&stolen).await.is_some(), stays);
}

/// RG-05, CS-13: so is an old CSRF token.
#[rocket::async_test]
async fn a_csrf_token_of_before_is_none_after() {
    let probe = Probe::start_with("sec_fix_csrf", &[], guards).await;
    for change in ["login", "elevate", "logout"] {
        let browser = probe.browser();
        let first = Script::new().login("alice").then("csrf_token");
        let ran = run(&browser, first).await;
        let token = ran.last().as_str().expect("a token").to_owned();
        let post = || {
            let header = Request::post("/header").header("X-CSRF-Token", &token);
            browser.send(header)
        };
        assert_eq!(post().await.status, 200, "before {change}");
        let script = match change {
            "login" => Script::new().login("alice"),
            other => Script::new().then(other),
        };
        run(&browser, script).await;
        assert_eq!(post().await.status, 403, "after {change}");
    }
}

/// RG-14: what was ended while a request ran is not carried on under a new name.
#[rstest]
#[test_attr(rocket::async_test)]
#[case("logout")]
#[case("revoke")]
#[case("revoke_of")]
#[case("revoke_user")]
#[case("delete")]
async fn an_elevation_brings_no_ended_session_back(#[case] end: &str) {
    let probe = Probe::start(&database(), &[]).await;
    let cookie = member(&probe, "alice").await;
    let elevation = Script::new()
        .then("user")
        .pause("loaded")
        .then("elevate")
        .set("admin", true);
    let elevating = run_with(&probe.app, &cookie, elevation);
    let ending = async {
        probe.gates.reached("loaded").await;
        probe.clock.advance(std::time::Duration::from_millis(1));
        match end {
            "logout" => {
                run_with(&probe.app, &cookie, Script::new().then("logout")).await;
            }
            "delete" => {
                let id = mongodb::bson::doc! { "_id": id_of(&cookie) };
                probe.sessions().delete_one(id).await.expect("a delete");
            }
            "revoke" => {
                super::ask(&probe.app, json!(["revoke", id_of(&cookie)])).await;
            }
            "revoke_of" => {
                super::ask(&probe.app, json!(["revoke_of", "alice", id_of(&cookie)])).await;
            }
            _ => {
                super::ask(&probe.app, json!(["revoke_user", "alice"])).await;
            }
        }
        probe.gates.open("loaded");
    };
    let (elevated, ()) = rocket::tokio::join!(elevating, ending);
    assert_eq!((elevated.status, elevated.sent()), (200, None));
    let left = super::ask(&probe.app, json!(["count_user", "alice"])).await;
    assert_eq!(left, json!(0));
}

/// The same with `save`, which can say so.
#[rocket::async_test]
async fn an_elevation_that_is_saved_says_that_the_session_ended() {
    let probe = Probe::start("sec_fix_saved", &[]).await;
    let cookie = member(&probe, "alice").await;
    let elevation = Script::new().pause("loaded").then("elevate").then("save");
    let elevating = run_with(&probe.app, &cookie, elevation);
    let ending = async {
        probe.gates.reached("loaded").await;
        run_with(&probe.app, &cookie, Script::new().then("logout")).await;
        probe.gates.open("loaded");
    };
    let (elevated, ()) = rocket::tokio::join!(elevating, ending);
    assert_eq!(elevated.last(), &json!({ "error": "Gone" }));
    assert_eq!(elevated.sent(), None);
    let left = super::ask(&probe.app, json!(["count_user", "alice"])).await;
    assert_eq!(left, json!(0));
}

/// FX-01: an emptied session keeps its user, and a logout does more than empty it.
#[rocket::async_test]
async fn after_a_logout_the_next_session_has_another_name() {
    let probe = Probe::start("sec_fix_cleared", &[]).await;
    let browser = probe.browser();
    let first = run(&browser, Script::new().login("alice")).await.cookie();
    let again = Script::new().then("logout").set("n", 1);
    let second = run(&browser, again).await.cookie();
    assert_ne!(id_of(&first), id_of(&second));
    assert_eq!(whoami(&probe.app, &second).await, null());
    assert_eq!(whoami(&probe.app, &first).await, null());
    // `clear` keeps who it is, and so must the user.
    let cleared = member(&probe, "bob").await;
    run_with(
        &probe.app,
        &cleared,
        Script::new().set("n", 1).then("clear"),
    )
    .await;
    assert_eq!(whoami(&probe.app, &cleared).await, json!("bob"));
}

/// FX-03: a second cookie of the name, tossed in by a neighbour, denies and does not swap.
#[rocket::async_test]
async fn an_attackers_own_session_beside_the_victims_is_not_used() {
    let probe = Probe::start("sec_fix_tossed", &[]).await;
    let (victim, attacker) = (
        member(&probe, "victim").await,
        member(&probe, "attacker").await,
    );
    for line in [
        format!("session={attacker}; session={victim}"),
        format!("session={victim}; session={attacker}"),
    ] {
        let request = Script::new().then("user").request();
        let response = probe.app.send(request.header("Cookie", line)).await;
        assert_eq!(response.text(), "[null]");
        assert_eq!(response.set_cookies(), Vec::<&str>::new());
    }
}

/// Ids are public. Who knows one, and has an account of his own, cannot use it to leave a login's
/// mark for another's session: it would hide where an elevation takes that session.
#[rocket::async_test]
async fn a_stranger_who_knows_an_id_leaves_no_mark_for_its_session() {
    let probe = Probe::start("sec_fix_planted_mark", &[]).await;
    let own = member(&probe, "alice").await;
    let forged = format!("{}.{}", id_of(&own), "A".repeat(43));
    run_with(&probe.app, &forged, Script::new().login("mallory")).await;
    probe.clock.advance(std::time::Duration::from_secs(61));
    let elevated = run_with(&probe.app, &own, Script::new().then("elevate")).await;
    let elevated = elevated.cookie();
    // A request of the same browser that was slower than the elevation.
    let late = run_with(&probe.app, &own, Script::new().set("n", 1)).await;
    assert_eq!(late.sent(), None);
    // And an administrator whose list is a moment old.
    let ended = super::ask(&probe.app, json!(["revoke", id_of(&own)])).await;
    assert_eq!(ended, json!(true));
    assert_eq!(whoami(&probe.app, &elevated).await, null());
}
