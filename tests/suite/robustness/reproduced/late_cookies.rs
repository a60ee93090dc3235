//! Cookies that are late: one that an earlier save has produced, when another request has replaced the session
//! meanwhile; and one whose session has expired by the clock of one process alone.

use rocket::figment::value::Value as Setting;
use rocket::serde::json::{Value, json};
use rocket::tokio::join;
use rocket_mongo_session::testing::Clock;
use rstest::rstest;
use std::time::Duration;

use super::shortened::has_ended;
use crate::apps::calls::{script, visitor};
use crate::apps::database;
use crate::apps::probe::{Gates, Probe, Ran, Script, rocket as application, run, run_with};
use crate::support::{App, Mongod, figment};

/// It would overwrite the new cookie of the browser's other tab.
#[rstest]
#[test_attr(rocket::async_test)]
#[case::login(json!(["login", "alice"]), json!(["alice", null, false]))]
#[case::login_keeping(json!(["login_keeping", "alice", ["k"]]), json!(["alice", "v", false]))]
#[case::renew(json!(["renew"]), json!([null, "v", false]))]
#[case::elevate(json!(["elevate"]), json!([null, "v", false]))]
#[case::logout(json!(["logout"]), json!([null, null, true]))]
async fn cookie_of_a_save_is_not_sent_after_the_session_was_replaced(
    #[case] change: Value,
    #[case] seen_then: Value,
    #[values("touch", "max_age", "due")] why: &str,
) {
    let keys = [("max_age", Setting::from(1000))];
    let (keys, sends) = match why {
        "touch" => (&keys[..0], json!(["touch"])),
        "max_age" => (&keys[..0], json!(["set_max_age", 1000.0])),
        // After a tenth of its life.
        _ => (&keys[..], json!(["set", "paying", 1])),
    };
    let probe = Probe::start(&database(), keys).await;
    let (browser, _) = visitor(&probe).await;
    probe.clock.advance(Duration::from_secs(200));
    let slow = script(json!([sends, ["save"], ["pause", "late"]]));
    let slow = browser.send_undelivered(slow.request());
    let changed = async {
        probe.gates.reached("late").await;
        let changed = run(&browser, script(json!([change]))).await;
        probe.gates.open("late");
        changed
    };
    let (slow, changed) = join!(slow, changed);
    assert_eq!(changed.status, 200, "{changed:?}");
    browser.deliver(&slow, "/run");
    let slow = Ran::from(slow);
    assert_eq!((slow.status, slow.sent()), (200, None), "{slow:?}");
    assert_eq!(slow.results[1], json!(null), "saved before: {slow:?}");
    let look = script(json!([["user"], ["get", "k"], ["is_new"]]));
    let seen = run(&browser, look).await;
    assert_eq!(json!(seen.results), seen_then, "{changed:?}");
}

/// The clock of one process is three minutes ahead. A logout there ends a session that has expired by that
/// clock alone.
#[rocket::async_test]
async fn logout_ends_a_session_that_expired_by_one_clock_for_the_other_process() {
    let keys = [("timeout", Setting::from(120))];
    let probe = Probe::start(&database(), &keys).await;
    let clock = Clock::new();
    clock.advance(Duration::from_secs(180));
    let url = Mongod::shared().await.url(&probe.db);
    let figment = figment("debug", Some(&url), &keys);
    let fast = App::launch(application(figment, &clock, &Gates::default())).await;

    let login = run(&probe.browser(), Script::new().login("alice")).await;
    let cookie = login.cookie();
    assert!(!has_ended(&probe.app, &cookie).await, "ended by both");
    let ended = run_with(&fast, &cookie, script(json!([["is_new"], ["logout"]]))).await;
    assert_eq!(ended.results[0], json!(true), "not by this one: {ended:?}");
    assert!(has_ended(&probe.app, &cookie).await, "it still opens it");
}
