//! I1, I2, I5 and I6, of what a session holds.

use rocket::serde::json::json;

use super::*;

#[test]
fn a_lost_update_is_found() {
    let set = || event(Work::Set(1), 10, 20, json!({}));
    finds("I1", [set(), read(30, json!({}))]);
    let overwritten = [
        set(),
        event(Work::Set(2), 30, 40, json!({ "r": 1 })),
        read(50, json!({ "r": 1 })),
    ];
    finds("I1", overwritten);
    finds("I1", [read(30, json!({ "r": 5 }))]);
    let pair = event(Work::Pair(1), 10, 20, json!({}));
    finds("I1", [pair, read(30, json!({}))]);
    let push = event(Work::Push(1), 10, 20, json!({}));
    finds("I1", [push, read(30, json!({}))]);
    let append = event(Work::Append(1), 10, 20, json!({}));
    finds("I1", [append, read(30, json!({ "mod": [1, 1] }))]);
    let turned = [
        event(Work::Push(1), 10, 20, json!({})),
        event(Work::Push(2), 30, 40, json!({ "log": [1] })),
        read(50, json!({ "log": [2, 1] })),
    ];
    finds("I1", turned);
}

/// A later end of the session does not excuse a lost value while the session exists.
#[test]
fn an_update_that_is_lost_before_its_session_ends_is_found() {
    let set = event(Work::Set(1), 10, 20, json!({}));
    let logout = open(event(Work::Logout, 12, 40, json!({})));
    finds("I1", [set, logout, read(30, json!({}))]);
}

/// A login that keeps everything makes the session "t" of "s".
fn keeps(from: u64, to: u64, given: &str) -> Event {
    giving(given, event(Work::Keep, from, to, json!({})))
}

#[test]
fn an_update_that_a_login_loses_on_the_way_is_found() {
    let set = || event(Work::Set(1), 12, 18, json!({}));
    let lost = || with("t.secret", read(30, json!({})));
    let keep = || keeps(10, 20, "t.secret");
    finds("I1", [keep(), saved(set()), lost()]);
    // What was done before the login began, it has loaded.
    let before = event(Work::Set(1), 2, 8, json!({}));
    finds("I1", [before, keeps(10, 20, "t.secret"), lost()]);
    // Without `save`, what was done meanwhile may have found its session ended.
    passes([keep(), set(), lost()]);
    // Of two logins from one session only one carries over what came after both had loaded it.
    passes([keep(), keeps(11, 21, "u.secret"), saved(set()), lost()]);
}

/// Two logins from one session are two sessions.
#[test]
fn a_value_of_a_sister_session_is_found() {
    let sisters = || [keeps(10, 20, "t.secret"), keeps(11, 21, "u.secret")];
    let push = with("u.secret", event(Work::Push(1), 30, 35, json!({})));
    let list = with("t.secret", read(40, json!({ "log": [1] })));
    finds("I1", sisters().into_iter().chain([push, list]));
    let add = with("u.secret", event(Work::Increment(2), 30, 35, json!({})));
    let count = with("t.secret", read(40, json!({ "n": 2 })));
    finds("I2", sisters().into_iter().chain([add, count]));
}

#[test]
fn a_change_that_was_said_to_be_dropped_and_was_not_is_found() {
    let push = gone(event(Work::Push(1), 10, 20, json!({})));
    finds("I1", [push, read(30, json!({ "log": [1] }))]);
    let add = gone(event(Work::Increment(1), 10, 20, json!({})));
    finds("I2", [add, read(30, json!({ "n": 1 }))]);
}

#[test]
fn a_wrong_count_is_found() {
    let add = || event(Work::Increment(2), 10, 20, json!({}));
    finds("I2", [add(), read(30, json!({ "n": 1 }))]);
    finds("I2", [add(), read(30, json!({ "n": 4 }))]);
    finds("I2", [open(add()), read(30, json!({ "n": 3 }))]);
}

/// With the primary that alone had it an open count may go, and with nothing else.
#[test]
fn a_count_that_goes_back_is_found_where_no_failover_explains_it() {
    let events = || {
        [
            open(event(Work::Increment(2), 10, 20, json!({}))),
            read(30, json!({ "n": 2 })),
            read(40, json!({})),
        ]
    };
    finds("I2", events());
    let failover = Terms {
        failover: true,
        ..TERMS
    };
    let verdict = checked(events(), &[], failover);
    assert_eq!(verdict.violations, Vec::<String>::new());
}

#[test]
fn half_of_a_pair_is_found() {
    let half = read(10, json!({ "a": 1 }));
    finds("I5", [event(Work::Pair(1), 2, 3, json!({})), half]);
}

#[test]
fn session_of_another_browser_is_found() {
    let read = || read(10, json!({}));
    let other = Event {
        browser: 2,
        ..read()
    };
    finds("I6", [other]);
    finds(
        "I6",
        [seeing(read(), |view| view.user = Some("user2".into()))],
    );
    finds("I6", [seeing(read(), |view| view.user = None)]);
    finds("I6", [super::read(10, json!({ "mark": 8 }))]);
    let unmarked = seeing(read(), |view| view.values.clear());
    finds("I6", [unmarked]);
    finds("I6", [seeing(read(), |view| view.id = Some("t".into()))]);
    let twice = giving("s.secret", event(Work::Renew, 10, 20, json!({})));
    finds("I6", [twice]);
}

/// While sealing is rolled out, a request may have no key for what it writes beside a renewal. It is told
/// by `save`.
#[test]
fn write_beside_a_renewal_is_kept_unless_sealing_starts() {
    let renews = || giving("s.second", event(Work::Renew, 12, 18, json!({})));
    let sets = || event(Work::Set(5), 10, 20, json!({}));
    let read_on = || with("s.second", read(30, json!({})));
    let starts = Terms {
        sealing_starts: true,
        ..TERMS
    };
    finds("I1", [sets(), renews(), read_on()]);
    let verdict = checked([sets(), renews(), read_on()], &[], starts);
    assert_eq!(verdict.violations, Vec::<String>::new());
    for events in [
        vec![saved(sets()), renews(), read_on()],
        vec![sets(), read(30, json!({}))],
    ] {
        assert!(checked(events, &[], starts).breaks("I1"));
    }
}
