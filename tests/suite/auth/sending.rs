//! When a cookie is sent again, and for how long it is.

use rocket::serde::json::{Value, json};
use rstest::rstest;
use std::time::Duration;

use crate::apps::database;
use crate::apps::probe::{Probe, Ran, Script, run, run_with};

fn life(ran: &Ran) -> Option<&str> {
    let sent = ran
        .sent()
        .unwrap_or_else(|| panic!("a cookie in {:?}", ran.response));
    sent.split("; ")
        .find_map(|part| part.strip_prefix("Max-Age="))
}

fn second(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[rocket::async_test]
async fn without_max_age_a_cookie_is_sent_once() {
    let probe = Probe::start("sending_once", &[]).await;
    let browser = probe.browser();
    let first = run(&browser, Script::new().set("n", 1)).await;
    assert_eq!(life(&first), None, "until the browser closes");
    for at in 0..5 {
        probe.clock.advance(second(300));
        let ran = run(&browser, Script::new().set("n", at)).await;
        assert_eq!(ran.sent(), None);
        probe.clock.advance(second(300));
        assert_eq!(run(&browser, Script::new().get("n")).await.sent(), None);
    }
}

#[rocket::async_test]
async fn a_cookie_with_a_life_is_sent_again_after_a_tenth_of_it() {
    let keys = [("max_age", 100.into()), ("indexes", false.into())];
    let probe = Probe::start("sending_tenth", &keys).await;
    let browser = probe.browser();
    let first = run(&browser, Script::new().set("n", 1)).await;
    assert_eq!(life(&first), Some("100"));
    probe.clock.advance(Duration::from_millis(9_999));
    for script in [Script::new().get("n"), Script::new().set("n", 2)] {
        assert_eq!(run(&browser, script).await.sent(), None, "too early");
    }
    for script in [Script::new().get("n"), Script::new().set("n", 3)] {
        probe.clock.advance(second(10));
        let again = run(&browser, script).await;
        assert_eq!(
            (again.cookie(), life(&again)),
            (first.cookie(), Some("100")),
            "the same token"
        );
        assert_eq!(
            run(&browser, Script::new().get("n")).await.sent(),
            None,
            "told already"
        );
    }
}

#[rocket::async_test]
async fn reissue_time_can_make_it_less_often() {
    for (reissue, due_after) in [(json!(30), Some(30)), (json!(false), None)] {
        let setting = match reissue.as_i64() {
            Some(seconds) => seconds.into(),
            None => false.into(),
        };
        let keys = [("max_age", 100.into()), ("reissue_time", setting)];
        let probe = Probe::start("sending_reissue", &keys).await;
        let browser = probe.browser();
        run(&browser, Script::new().set("n", 1)).await;
        probe.clock.advance(second(29));
        assert_eq!(run(&browser, Script::new().get("n")).await.sent(), None);
        probe.clock.advance(second(1));
        let read = run(&browser, Script::new().get("n")).await;
        assert_eq!(read.sent().is_some(), due_after.is_some(), "{reissue}");
        if due_after.is_none() {
            let written = run(&browser, Script::new().set("n", 2)).await;
            assert_eq!(
                life(&written),
                Some("100"),
                "a write tells the browser anyway"
            );
        }
    }
}

#[rocket::async_test]
async fn touch_sends_the_cookie_again_at_once() {
    let probe = Probe::start("sending_touch", &[]).await;
    let browser = probe.browser();
    let first = run(&browser, Script::new().set("n", 1)).await.cookie();
    let before = probe.document(&first).await.expect("a session");
    probe.clock.advance(second(7));
    let again = run(&browser, Script::new().then("touch")).await;
    assert_eq!(again.cookie(), first);
    let after = probe.document(&first).await.expect("a session");
    let accessed = |of: &mongodb::bson::Document| of.get_f64("accessed").expect("a time");
    assert_eq!(accessed(&after) - accessed(&before), 7.0);
    assert_eq!(after.get("value"), before.get("value"));
}

#[rocket::async_test]
async fn remember_me_is_kept_in_the_session() {
    let probe = Probe::start("sending_remember", &[("timeout", 100.into())]).await;
    let browser = probe.browser();
    let script = Script::new().set("n", 1).call(json!(["set_max_age", 1000]));
    let first = run(&browser, script.call(json!(["set_timeout", 2000]))).await;
    assert_eq!(life(&first), Some("1000"));
    browser.restart();
    probe.clock.advance(second(500));
    let read = run(&browser, Script::new().get("n")).await;
    assert_eq!(
        (read.last(), life(&read)),
        (&json!(1), Some("1000")),
        "alive and sent again"
    );

    let told = run(&browser, Script::new().call(json!(["set_max_age", null]))).await;
    assert_eq!(life(&told), None, "from now on until the browser closes");
    probe.clock.advance(second(1999));
    assert_eq!(
        run(&browser, Script::new().get("n")).await.results,
        [json!(1)]
    );
    let script = Script::new()
        .call(json!(["set_timeout", null]))
        .then("expires");
    assert_eq!(run(&browser, script).await.last(), &json!(null));
    probe.clock.advance(second(10_000_000));
    assert_eq!(
        run(&browser, Script::new().get("n")).await.results,
        [json!(1)]
    );
    let script = Script::new()
        .call(json!(["set_timeout", 50]))
        .then("expires");
    run(&browser, script).await;
    probe.clock.advance(second(51));
    assert_eq!(
        run(&browser, Script::new().get("n")).await.results,
        [json!(null)]
    );
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(json!(["set_timeout", 0]))]
#[case(json!(["set_timeout", 1e12]))]
#[case(json!(["set_max_age", 0.5]))]
#[case(json!(["set_max_age", 1e9]))]
async fn durations_that_are_none_are_refused(#[case] call: Value) {
    let probe = Probe::start(&database(), &[]).await;
    let ran = run(&probe.browser(), Script::new().call(call)).await;
    assert_eq!(ran.results, [json!({"error": "BadDuration"})]);
    assert_eq!(ran.sent(), None);
}

#[rocket::async_test]
async fn a_response_that_sends_the_token_again_does_so_only_while_it_is_the_token() {
    let keys = [("max_age", 100.into()), ("indexes", false.into())];
    let probe = Probe::start("sending_late", &keys).await;
    for call in [
        json!(["get", "n"]),
        json!(["set", "m", 2]),
        json!(["touch"]),
    ] {
        let browser = probe.browser();
        run(&browser, Script::new().set("n", 1)).await;
        let other = browser.twin();
        probe.clock.advance(second(20));
        let slow = Script::new().get("n").pause("slow").call(call.clone());
        let fast = async {
            probe.gates.reached("slow").await;
            let renewed = run(&browser, Script::new().then("renew")).await;
            probe.gates.open("slow");
            renewed.cookie()
        };
        let (late, new) = rocket::tokio::join!(run(&other, slow), fast);
        assert_eq!((late.status, late.sent()), (200, None), "{call}");
        let seen = run_with(&probe.app, &new, Script::new().get("n").get("m")).await;
        let m = if call[0] == "set" {
            json!(2)
        } else {
            json!(null)
        };
        assert_eq!(seen.results, [json!(1), m], "{call}: its data stays");
    }
}

#[rocket::async_test]
async fn of_two_renewals_at_once_the_second_stores_nothing() {
    let probe = Probe::start("sending_renewals", &[]).await;
    let browser = probe.browser();
    run(&browser, Script::new().set("n", 1)).await;
    let other = browser.twin();
    let slow = Script::new().then("renew").pause("slow").set("slow", 1);
    let fast = async {
        probe.gates.reached("slow").await;
        let renewed = run(&browser, Script::new().then("renew").set("fast", 1)).await;
        probe.gates.open("slow");
        renewed
    };
    let (late, renewed) = rocket::tokio::join!(run(&other, slow), fast);
    assert_eq!(late.sent(), None);
    let new = renewed.cookie();
    let seen = run_with(&probe.app, &new, Script::new().then("keys")).await;
    assert_eq!(seen.results, [json!(["n", "fast"])]);
}
