//! A session whose life another request shortened stays ended beside slow requests, which have loaded the
//! times of before.

use rocket::serde::json::{Value, json};
use rocket::tokio::join;
use rstest::rstest;
use std::time::Duration;

use crate::apps::calls::script;
use crate::apps::database;
use crate::apps::probe::{Probe, Script, run, run_with, value_of};
use crate::support::App;

/// After the shortening the session lives as long, at least.
const ALIVE: Duration = Duration::from_secs(3);

/// Whether a cookie opens no session.
pub(super) async fn has_ended(app: &App, cookie: &str) -> bool {
    let seen = run_with(app, cookie, Script::new().then("is_new")).await;
    seen.last() == &json!(true)
}

/// How a session begins whose life is shortened, what shortens it, and the time after which it has ended: less
/// than what it was to live before.
fn shortening(by: &str) -> (Value, Value, Duration) {
    let (read, month) = (json!(["get", "n"]), json!(["remember_for", 30 * 86_400]));
    // Before a second factor, as the guide has it: slow requests have the cookie of before.
    let elevate = json!([["set_timeout", 300.0], ["elevate"]]);
    let (begin, shorten, seconds) = match by {
        "reset_times" => (month, json!([["reset_times"]]), 3600),
        "elevate" => (read, elevate, 600),
        call => (read, json!([[call, 5.0]]), 60),
    };
    let begin = json!([begin, ["set", "n", 1], ["flash", "hello"]]);
    (begin, shorten, Duration::from_secs(seconds))
}

/// Two requests have loaded the session. One ends while it is alive, the other one after its end.
#[rstest]
#[test_attr(rocket::async_test)]
#[case::reads(json!(["get", "n"]), json!(["get", "n"]))]
#[case::read(json!(["set", "a", 1]), json!(["get", "n"]))]
#[case::set(json!(["set", "a", 1]), json!(["set", "b", 1]))]
#[case::modify(json!(["set", "a", 1]), json!(["modify", "n", 1]))]
#[case::renew(json!(["set", "a", 1]), json!(["renew"]))]
#[case::elevate(json!(["set", "a", 1]), json!(["elevate"]))]
#[case::pop(json!(["set", "a", 1]), json!(["pop_flash"]))]
#[case::touch(json!(["set", "a", 1]), json!(["touch"]))]
async fn session_that_was_shortened_stays_ended_beside_late_requests(
    #[case] early: Value,
    #[case] late: Value,
    #[values("set_timeout", "set_lifetime", "reset_times")] by: &str,
) {
    let (begin, shorten, life) = shortening(by);
    let probe = Probe::start(&database(), &[]).await;
    let cookie = run(&probe.browser(), script(begin)).await.cookie();
    let slow = |gate: &str, call: &Value| script(json!([["get", "n"], ["pause", gate], call]));
    let early = run_with(&probe.app, &cookie, slow("early", &early));
    let late = run_with(&probe.app, &cookie, slow("late", &late));
    let shortened = async {
        probe.gates.reached("early").await;
        probe.gates.reached("late").await;
        let ran = run_with(&probe.app, &cookie, script(shorten)).await;
        assert_eq!(ran.results, [json!(null)], "the shortening: {ran:?}");
        probe.clock.advance(ALIVE);
        probe.gates.open("early");
    };
    let ended = async {
        let (early, ()) = join!(early, shortened);
        assert_eq!(early.status, 200, "the early request: {early:?}");
        probe.clock.advance(life);
        assert!(has_ended(&probe.app, &cookie).await, "it outlived its time");
        probe.gates.open("late");
    };
    let (late, ()) = join!(late, ended);
    let cookie = late.sent().map_or(cookie.as_str(), value_of);
    let is_over = has_ended(&probe.app, cookie).await;
    assert!(is_over, "the late request revived it: {late:?}");
}

/// One request writes before the end and after it.
#[rstest]
#[test_attr(rocket::async_test)]
#[case::save("reset_times", json!(["increment", "a", 1]))]
#[case::modify("reset_times", json!(["modify", "n", 1]))]
#[case::elevation("elevate", json!(["increment", "a", 1]))]
async fn session_that_was_shortened_stays_ended_beside_a_long_request(
    #[case] by: &str,
    #[case] write: Value,
) {
    let (begin, shorten, life) = shortening(by);
    let probe = Probe::start(&database(), &[]).await;
    let old = run(&probe.browser(), script(begin)).await.cookie();
    let long = script(json!([["get", "n"], ["pause", "early"], write, ["save"]]));
    let long = run_with(&probe.app, &old, long.pause("late").call(write));
    let ended = async {
        probe.gates.reached("early").await;
        let shortened = run_with(&probe.app, &old, script(shorten)).await;
        assert_eq!(shortened.status, 200, "the shortening: {shortened:?}");
        let cookie = shortened.sent().map_or(old.as_str(), value_of).to_owned();
        probe.clock.advance(ALIVE);
        probe.gates.open("early");
        probe.gates.reached("late").await;
        probe.clock.advance(life);
        assert!(has_ended(&probe.app, &cookie).await, "it outlived its time");
        probe.gates.open("late");
        cookie
    };
    let (long, cookie) = join!(long, ended);
    assert_eq!(long.results[3], json!(null), "saved in time: {long:?}");
    let is_over = has_ended(&probe.app, &cookie).await;
    assert!(is_over, "the long request revived it: {long:?}");
}
