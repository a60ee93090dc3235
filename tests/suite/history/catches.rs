//! That the checker finds what it is there to find: histories that cannot be, one for each
//! invariant, beside one that can.

use std::collections::BTreeMap;
use std::time::Duration;

use mongodb::bson::{Binary, DateTime, Document, doc, spec::BinarySubtype};
use rocket::serde::json::{Value, json};

use super::{Event, History, Terms, Told, Work};
use crate::arena::View;

const TERMS: Terms = Terms {
    longest: Duration::from_secs(1),
    touches_may_be_lost: false,
};

/// A request of browser 1, with its session "s" whose mark is 7.
fn event(work: Work, from: u64, to: u64, values: Value) -> Event {
    let mut all: BTreeMap<String, Value> = BTreeMap::from([("mark".into(), json!(7))]);
    if let Value::Object(more) = values {
        all.extend(more);
    }
    let view = View {
        id: Some("s".into()),
        is_new: false,
        user: Some("user1".into()),
        created: 1,
        accessed: 1,
        expires: Some(2),
        values: all,
        flash: Vec::new(),
    };
    Event {
        invoked: from,
        returned: to,
        told: Told::Done,
        view: Some(view),
        ..Event::new(1, work, Some("s.secret".into()))
    }
}

fn planted() -> Event {
    Event {
        invoked: 0,
        returned: 1,
        told: Told::Done,
        given: Some("s.secret".into()),
        ..Event::new(1, Work::Plant(7), None)
    }
}

fn stored(id: &str, token: u8) -> Document {
    let token = Binary {
        subtype: BinarySubtype::Generic,
        bytes: vec![token; 32],
    };
    doc! { "_id": id, "token": token, "expires": DateTime::from_millis(0) }
}

fn violations(events: impl IntoIterator<Item = Event>, documents: &[Document]) -> Vec<String> {
    let history = History::new();
    history.record(planted());
    events.into_iter().for_each(|event| history.record(event));
    history.check(documents, TERMS).violations
}

fn finds(invariant: &str, events: impl IntoIterator<Item = Event>) {
    let found = violations(events, &[]);
    assert!(
        found
            .iter()
            .any(|violation| violation.starts_with(invariant)),
        "{invariant}: {found:#?}"
    );
}

fn open(event: Event) -> Event {
    Event {
        told: Told::Open,
        ..event
    }
}

#[test]
fn a_history_that_can_be_has_no_violation() {
    let events = [
        event(Work::Set(1), 10, 20, json!({})),
        event(Work::Increment(2), 12, 22, json!({ "r": 1 })),
        event(Work::Push(3), 14, 24, json!({})),
        open(event(
            Work::Increment(5),
            30,
            40,
            json!({ "r": 1, "n": 2, "log": [3] }),
        )),
        event(Work::Read, 50, 60, json!({ "r": 1, "n": 7, "log": [3] })),
        event(Work::Logout, 70, 80, json!({ "r": 1, "n": 7, "log": [3] })),
    ];
    assert_eq!(violations(events, &[]), Vec::<String>::new());
    let documents = [
        stored("s", 1),
        doc! { "_id": "~s", "expires": DateTime::from_millis(0) },
    ];
    assert_eq!(violations([], &documents), Vec::<String>::new());
}

/// What was sent before the deadline lands when it lands.
#[test]
fn an_open_change_that_lands_late_is_no_violation() {
    let events = [
        open(event(Work::Set(1), 10, 20, json!({}))),
        open(event(Work::Push(5), 10, 20, json!({}))),
        event(Work::Set(2), 30, 40, json!({})),
        event(Work::Push(6), 30, 40, json!({})),
        event(Work::Read, 50, 60, json!({ "r": 1, "log": [6, 5] })),
    ];
    assert_eq!(violations(events, &[]), Vec::<String>::new());
}

#[test]
fn a_lost_update_is_found() {
    finds(
        "I1",
        [
            event(Work::Set(1), 10, 20, json!({})),
            event(Work::Read, 30, 40, json!({})),
        ],
    );
    let overwritten = [
        event(Work::Set(1), 10, 20, json!({})),
        event(Work::Set(2), 30, 40, json!({})),
        event(Work::Read, 50, 60, json!({ "r": 1 })),
    ];
    finds("I1", overwritten);
    finds("I1", [event(Work::Read, 30, 40, json!({ "r": 5 }))]);
    finds(
        "I1",
        [
            event(Work::Push(1), 10, 20, json!({})),
            event(Work::Read, 30, 40, json!({})),
        ],
    );
    let twice = json!({ "mod": [1, 1] });
    finds(
        "I1",
        [
            event(Work::Append(1), 10, 20, json!({})),
            event(Work::Read, 30, 40, twice),
        ],
    );
    let turned = [
        event(Work::Push(1), 10, 20, json!({})),
        event(Work::Push(2), 30, 40, json!({})),
        event(Work::Read, 50, 60, json!({ "log": [2, 1] })),
    ];
    finds("I1", turned);
}

/// The same request in the session "t", which a login that keeps everything made of "s".
fn moved(mut event: Event) -> Event {
    event.cookie = Some("t.secret".into());
    event
        .view
        .iter_mut()
        .for_each(|view| view.id = Some("t".into()));
    event
}

fn keeps(from: u64, to: u64, given: &str) -> Event {
    Event {
        given: Some(given.into()),
        ..event(Work::Keep, from, to, json!({}))
    }
}

#[test]
fn an_update_that_a_login_loses_on_the_way_is_found() {
    let saved = || Event {
        told: Told::Saved,
        ..event(Work::Set(1), 12, 18, json!({}))
    };
    let read = || moved(event(Work::Read, 30, 40, json!({})));
    finds("I1", [keeps(10, 20, "t.secret"), saved(), read()]);
    // Of two logins from one session only one carries over what came after both had loaded it.
    let two = [
        keeps(10, 20, "t.secret"),
        keeps(11, 21, "u.secret"),
        saved(),
        read(),
    ];
    assert_eq!(violations(two, &[]), Vec::<String>::new());
}

#[test]
fn a_change_that_was_said_to_be_dropped_and_was_not_is_found() {
    let gone = |work, values| Event {
        told: Told::Gone,
        ..event(work, 10, 20, values)
    };
    let list = json!({ "log": [1] });
    finds(
        "I1",
        [
            gone(Work::Push(1), json!({})),
            event(Work::Read, 30, 40, list),
        ],
    );
    finds(
        "I2",
        [
            gone(Work::Increment(1), json!({})),
            event(Work::Read, 30, 40, json!({ "n": 1 })),
        ],
    );
}

#[test]
fn a_wrong_count_is_found() {
    let add = || event(Work::Increment(2), 10, 20, json!({}));
    finds("I2", [add(), event(Work::Read, 30, 40, json!({ "n": 1 }))]);
    finds("I2", [add(), event(Work::Read, 30, 40, json!({ "n": 4 }))]);
    finds(
        "I2",
        [
            open(add()),
            event(Work::Read, 30, 40, json!({ "n": 1, "r": null })),
        ]
        .map(|mut event| {
            event.view.iter_mut().for_each(|view| {
                view.values.entry("n".into()).and_modify(|n| *n = json!(3));
            });
            event
        }),
    );
}

#[test]
fn a_session_that_came_back_is_found() {
    let out = event(Work::Logout, 10, 20, json!({}));
    finds("I3", [out, event(Work::Read, 30, 40, json!({}))]);
    let revoked = Event {
        cookie: None,
        view: None,
        ..event(Work::Revoke, 10, 20, json!({}))
    };
    finds("I3", [revoked, event(Work::Read, 30, 40, json!({}))]);
    let given = |work| Event {
        given: Some("t.other".into()),
        ..event(work, 10, 20, json!({}))
    };
    for work in [Work::Login(8), Work::Keep, Work::Elevate, Work::Renew] {
        finds("I4", [given(work), event(Work::Read, 30, 40, json!({}))]);
    }
}

#[test]
fn a_session_that_was_lost_is_found() {
    let mut nothing = event(Work::Read, 10, 20, json!({}));
    nothing.view.iter_mut().for_each(|view| {
        view.is_new = true;
        view.values.clear();
    });
    finds("I1: a session was lost", [nothing]);
}

#[test]
fn half_of_a_pair_and_another_browsers_session_are_found() {
    let half = event(Work::Read, 10, 20, json!({ "a": 1 }));
    finds("I5", [event(Work::Pair(1), 2, 3, json!({})), half]);
    let other = Event {
        browser: 2,
        ..event(Work::Read, 10, 20, json!({}))
    };
    finds("I6", [other]);
}

#[test]
fn a_document_that_nobody_explains_is_found() {
    let starts = |found: Vec<String>| found.first().is_some_and(|text| text.starts_with("I7"));
    assert!(starts(violations([], &[stored("stranger", 1)])));
    assert!(starts(violations([], &[stored("s", 1), stored("s", 1)])));
    assert!(starts(violations(
        [],
        &[doc! { "_id": "s", "token": stored("s", 1).remove("token") }]
    )));
    // One request was not answered: one orphan is explained, two are not.
    let lost = || open(event(Work::Keep, 10, 20, json!({})));
    assert_eq!(
        violations([lost()], &[stored("orphan", 1)]),
        Vec::<String>::new()
    );
    assert!(starts(violations(
        [lost()],
        &[stored("orphan", 1), stored("another", 2)]
    )));
}

#[test]
fn time_that_runs_back_and_a_request_that_hangs_are_found() {
    let mut later = event(Work::Read, 30, 40, json!({}));
    later.view.iter_mut().for_each(|view| view.accessed = 0);
    finds("I8", [event(Work::Read, 10, 20, json!({})), later]);
    finds("I10", [event(Work::Read, 10, 2_000_000, json!({}))]);
}

#[test]
fn a_message_that_is_lost_or_comes_twice_is_found() {
    let pop = |from, popped: &[u64]| Event {
        popped: popped.to_vec(),
        ..event(Work::Pop, from, from + 5, json!({}))
    };
    let flash = || event(Work::Flash(1), 10, 20, json!({}));
    finds("I12", [flash(), pop(30, &[1]), pop(40, &[1])]);
    finds(
        "I12",
        [flash(), pop(30, &[]), event(Work::Read, 50, 60, json!({}))],
    );
}
