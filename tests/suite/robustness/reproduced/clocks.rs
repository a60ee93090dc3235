//! Revocations by a server whose clock is wrong: clocks of two processes are never compared.

use log::Level;
use mongodb::bson::{Bson, DateTime, Document, doc};
use rocket::futures::TryStreamExt;
use rocket::serde::json::json;
use rocket_mongo_session::testing::Clock;
use std::time::Duration;

use super::InMemory;
use crate::apps::probe::{Gates, Probe, Script, run};
use crate::support::alone::{alone, lines};
use crate::support::{App, Mongod, eventually, figment};

/// How wrong a clock is.
const WRONG: Duration = Duration::from_secs(600);

/// One more application on the probe's database, with a clock of its own.
async fn beside(probe: &Probe, clock: &Clock) -> App {
    let url = Mongod::shared().await.url(&probe.db);
    let figment = figment("debug", Some(&url), &[]);
    App::launch(crate::apps::probe::rocket(
        figment,
        clock,
        &Gates::default(),
    ))
    .await
}

/// Every call that ends logins of alice's.
fn revocations() -> [Script; 2] {
    let call = |call| Script::new().call(call);
    [
        call(json!(["revoke_user", "alice"])),
        call(json!(["revoke_all"])),
    ]
}

/// Lets time pass for the revocations that the server has dated: a login that begins within a
/// second after one is ended, too.
async fn revocations_age(probe: &Probe, by: Duration) {
    let dated = doc! { "_id": { "$regex": "^~" }, "at": { "$type": "date" } };
    let found = probe.sessions().find(dated).await.expect("a find");
    let found: Vec<Document> = found.try_collect().await.expect("revocations");
    for revocation in found {
        let at = revocation.get_datetime("at").expect("a date");
        let earlier = at.timestamp_millis() - by.as_millis() as i64;
        let id: &Bson = revocation.get("_id").expect("an id");
        let set = doc! { "$set": { "at": DateTime::from_millis(earlier) } };
        let aged = probe.sessions().update_one(doc! { "_id": id }, set).await;
        aged.expect("an update");
    }
}

#[rocket::async_test]
async fn revocation_by_a_fast_clock_ends_no_later_login() {
    for revoke in revocations() {
        let probe = Probe::start("clocks_fast", &[]).await;
        let clock = Clock::new();
        clock.advance(WRONG);
        let fast = beside(&probe, &clock).await;
        let revoked = run(&fast.browser(), revoke.clone()).await;
        assert_eq!(revoked.results, [json!(0)]);
        revocations_age(&probe, Duration::from_secs(3)).await;

        let browser = probe.browser();
        let login = run(&browser, Script::new().login("alice")).await;
        assert!(login.sent().is_some(), "{revoke:?}: {login:?}");
        let seen = run(&browser, Script::new().then("user")).await;
        assert_eq!(seen.results, [json!("alice")], "{revoke:?}");
    }
}

#[rocket::async_test]
async fn revocation_by_any_clock_ends_a_login_in_progress() {
    let clock = Clock::new;
    let (slow, right, fast) = (clock(), clock(), clock());
    slow.rewind(WRONG);
    fast.advance(WRONG);
    for (name, clock) in [("slow", slow), ("right", right), ("fast", fast)] {
        for revoke in revocations() {
            let probe = Probe::start("clocks_in_progress", &[]).await;
            let other = beside(&probe, &clock).await;
            let browser = probe.browser();
            let login = Script::new().pause("checked").login("alice");
            let revocation = async {
                probe.gates.reached("checked").await;
                clock.advance(Duration::from_millis(10));
                run(&other.browser(), revoke.clone()).await;
                probe.gates.open("checked");
            };
            let (login, ()) = rocket::tokio::join!(run(&browser, login), revocation);
            assert_eq!(login.sent(), None, "{name}, {revoke:?}: {login:?}");
            let seen = run(&browser, Script::new().then("user")).await;
            assert_eq!(seen.results, [json!(null)], "{name}, {revoke:?}");
            assert_eq!(super::stored_of(&probe, "alice").await, 0);
        }
    }
}

/// The order of logins is that of the database: `created` is by the clock of the process.
#[rocket::async_test]
async fn limit_of_sessions_ends_the_earlier_login_whatever_the_clocks_show() {
    let clock = Clock::new();
    clock.advance(WRONG);
    let probe = Probe::start("clocks_limit", &[("max_per_user", 1.into())]).await;
    let url = Mongod::shared().await.url(&probe.db);
    let figment = figment("debug", Some(&url), &[("max_per_user", 1.into())]);
    let fast = App::launch(crate::apps::probe::rocket(
        figment,
        &clock,
        &Gates::default(),
    ))
    .await;
    let earlier = fast.browser();
    run(&earlier, Script::new().login("alice")).await.cookie();
    let later = probe.browser();
    run(&later, Script::new().login("alice")).await.cookie();
    eventually("one session", async || {
        super::stored_of(&probe, "alice").await == 1
    })
    .await;
    let seen = run(&later, Script::new().then("user")).await;
    assert_eq!(seen.results, [json!("alice")]);
}

/// As a password reset does it that revokes before it signs in: the handler knows of no failure.
#[test]
fn a_login_that_a_revocation_ends_is_logged_with_its_user() {
    let test =
        "robustness::reproduced::clocks::a_login_that_a_revocation_ends_is_logged_with_its_user";
    alone(test, async {
        let memory = InMemory::start(|rocket| rocket).await;
        let browser = memory.app.browser();
        let user = "alice-the-user-9";
        let script = Script::new()
            .pause("later")
            .call(json!(["revoke_user", user]))
            .login(user);
        let later = async {
            memory.gates.reached("later").await;
            memory.clock.advance(Duration::from_millis(10));
            memory.gates.open("later");
        };
        let (login, ()) = rocket::tokio::join!(run(&browser, script), later);
        assert_eq!(login.sent(), None, "{login:?}");
        let lines = lines();
        let is_said = lines
            .iter()
            .any(|line| line.level <= Level::Warn && line.text.contains(user));
        assert!(is_said, "{lines:?}");
    });
}
