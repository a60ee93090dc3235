//! Flash messages. Concurrent pops are in `legacy/flash.rs`.

use mongodb::bson::doc;
use rocket::serde::json::json;

use crate::apps::calls;
use crate::apps::calls::{ask, go, keys, probe, script, value, visitor};
use crate::apps::probe::{Probe, asked, caught, run};

#[rocket::async_test]
async fn messages_are_appended_duplicates_too_unless_asked_not_to() {
    let probe = probe(&[]).await;
    let browser = probe.browser();
    go(&browser, json!([["flash", "m"], ["flash", "m"]])).await;
    let calls = json!([
        ["queue_push_unique", "", "m"],
        ["queue_push_unique", "", "n"],
        ["peek_flash"]
    ]);
    let pushed = go(&browser, calls).await;
    assert_eq!(pushed.last(), &json!(["m", "m", "n"]));
    let profile = probe.profile().await;
    go(&browser, json!([["queue_push_unique", "", "m"]])).await;
    assert_eq!(asked(&profile).await, ["find"], "nothing was added");
    assert_eq!(
        ask(&browser, json!(["pop_flash"])).await,
        json!(["m", "m", "n"])
    );
    assert_eq!(ask(&browser, json!(["pop_flash"])).await, json!([]));
}

#[rocket::async_test]
async fn queues_do_not_mix() {
    let probe = probe(&[]).await;
    let browser = probe.browser();
    let calls = json!([
        ["queue_push", "warn", "w1"],
        ["queue_push", "error", "e1"],
        ["queue_push", "warn", "w2"],
        ["flash", "d1"]
    ]);
    go(&browser, calls).await;
    go(&browser, json!([["queue_push", "error", "e2"]])).await;
    assert_eq!(
        ask(&browser, json!(["queue_pop", "warn"])).await,
        json!(["w1", "w2"])
    );
    assert_eq!(
        ask(&browser, json!(["queue_peek", "error"])).await,
        json!(["e1", "e2"])
    );
    assert_eq!(
        ask(&browser, json!(["queue_pop", "error"])).await,
        json!(["e1", "e2"])
    );
    assert_eq!(ask(&browser, json!(["queue_pop", "warn"])).await, json!([]));
    assert_eq!(ask(&browser, json!(["pop_flash"])).await, json!(["d1"]));
}

#[rocket::async_test]
async fn nothing_to_show_costs_no_trip_and_no_write() {
    let probe = probe(&[]).await;
    let (browser, cookie) = visitor(&probe).await;
    let before = probe.document(&cookie).await;
    let profile = probe.profile().await;
    let calls = json!([
        ["pop_flash"],
        ["peek_flash"],
        ["queue_pop", "x"],
        ["queue_peek", "x"]
    ]);
    let read = go(&browser, calls).await;
    assert_eq!(read.results, [json!([]), json!([]), json!([]), json!([])]);
    assert_eq!(asked(&profile).await, ["find"]);
    assert_eq!(probe.document(&cookie).await, before);
}

#[rocket::async_test]
async fn what_peek_returns_is_a_copy() {
    let (jobs, probe) = calls::jobs(&[]).await;
    let browser = probe.browser();
    go(&browser, json!([["flash", "m"]])).await;
    jobs.run(&browser, |s| {
        let mut messages: Vec<String> = s.peek_flash().unwrap();
        messages.push("not ours".into());
        s.set("other", &1).unwrap();
    })
    .await;
    assert_eq!(ask(&browser, json!(["pop_flash"])).await, json!(["m"]));
}

#[rocket::async_test]
async fn a_message_can_be_of_any_type() {
    let probe = probe(&[]).await;
    let browser = probe.browser();
    let messages = json!([
        { "level": "error", "text": "no", "at": [1, 2.5, null, { "deep": true }] },
        7,
        null,
        [1, [2]],
        "text",
        { "$set": { "a.b": 1 } }
    ]);
    for message in messages.as_array().unwrap() {
        go(&browser, json!([["flash", message]])).await;
    }
    // Equality is that of the stored value, in every part.
    for message in messages.as_array().unwrap() {
        go(&browser, json!([["queue_push_unique", "", message]])).await;
    }
    assert_eq!(ask(&browser, json!(["pop_flash"])).await, messages);
}

#[rocket::async_test]
async fn any_string_names_a_queue() {
    let probe = probe(&[]).await;
    let browser = probe.browser();
    let long = "q".repeat(1000);
    let names = [
        "", "a.b", "$set", "$", ".", "a b", "ключ", "%", "%2E", "_f_", "_csrft_", "0", &long,
    ];
    for name in names {
        go(&browser, json!([["queue_push", name, name]])).await;
    }
    assert_eq!(ask(&browser, json!(["peek_flash"])).await, json!([""]));
    for name in names {
        let popped = ask(&browser, json!(["queue_pop", name])).await;
        assert_eq!(popped, json!([name]), "{name:?}");
    }
    // NUL has no place in a field's name: said at once.
    for call in ["queue_push", "queue_push_unique", "queue_peek", "queue_pop"] {
        let refused = ask(&browser, json!([call, "a\0b", 1])).await;
        assert_eq!(refused, json!({ "error": "BadKey" }), "{call}");
    }
}

#[rocket::async_test]
async fn a_message_creates_a_session_that_stays_when_it_was_shown() {
    let probe = probe(&[]).await;
    let browser = probe.browser();
    let cookie = go(&browser, json!([["flash", "m"]])).await.cookie();
    let popped = go(&browser, json!([["pop_flash"]])).await;
    assert_eq!((popped.last(), popped.sent()), (&json!(["m"]), None));
    assert_eq!(value(&probe, &cookie).await, Some(doc! {}));
}

#[rocket::async_test]
async fn keys_and_queues_of_one_name_never_meet() {
    let probe = probe(&[]).await;
    let browser = probe.browser();
    let names = ["_f_", "_f_x", "x", "_csrft_", "%5Ff_", "_f_%5Ff_"];
    for name in names {
        go(&browser, json!([["set", name, 7]])).await;
    }
    let pushed = json!([["flash", "m"], ["queue_push", "x", "n"], ["csrf_token"]]);
    go(&browser, pushed).await;
    let read = go(
        &browser,
        json!([["keys"], ["len"], ["peek_flash"], ["queue_peek", "x"]]),
    )
    .await;
    let expected = [json!(names), json!(6), json!(["m"]), json!(["n"])];
    assert_eq!(read.results, expected);
    for name in names {
        assert_eq!(ask(&browser, json!(["get", name])).await, 7, "{name}");
    }
    // `clear` is for the application's keys; open forms still work.
    let token = ask(&browser, json!(["csrf_token"])).await;
    go(&browser, json!([["clear"]])).await;
    let left = go(
        &browser,
        json!([["keys"], ["peek_flash"], ["verify_csrf", token]]),
    )
    .await;
    assert_eq!(left.results, [json!([]), json!(["m"]), json!(true)]);
}

#[rocket::async_test]
async fn a_message_survives_a_failure() {
    let add = |rocket: rocket::Rocket<rocket::Build>| rocket.register("/", caught());
    let probe = Probe::start_with("case_170", &keys(&[]), add).await;
    let browser = probe.browser();
    let failing = script(json!([["flash", "m"]])).fail(500);
    assert_eq!(run(&browser, failing).await.status, 500);
    assert_eq!(ask(&browser, json!(["pop_flash"])).await, json!(["m"]));
}

#[rocket::async_test]
async fn two_requests_that_flash_at_once_both_keep_their_message() {
    let probe = probe(&[]).await;
    let (browser, _) = visitor(&probe).await;
    let one = run(&browser, script(json!([["flash", "a"], ["pause", "171"]])));
    let other = run(&browser, script(json!([["flash", "b"], ["pause", "171"]])));
    let both = async {
        probe.gates.reached("171").await;
        probe.gates.reached("171").await;
        probe.gates.open("171");
        probe.gates.open("171");
    };
    rocket::tokio::join!(one, other, both);
    let popped = ask(&browser, json!(["pop_flash"])).await;
    let mut popped: Vec<_> = popped.as_array().unwrap().clone();
    popped.sort_by_key(ToString::to_string);
    assert_eq!(popped, [json!("a"), json!("b")]);
}
