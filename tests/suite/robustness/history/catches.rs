//! That the checker finds what it is there to find: histories that cannot be, for each invariant,
//! beside some that can.

use std::collections::BTreeMap;
use std::time::Duration;

use mongodb::bson::{Binary, DateTime, Document, doc, spec::BinarySubtype};
use rocket::serde::json::{Value, json};

use super::{Event, History, Terms, Told, Verdict, Work};
use crate::apps::arena::View;

mod messages;
mod responses;
mod sessions;
mod values;

const TERMS: Terms = Terms {
    deadline: Duration::from_secs(1),
    failover: false,
    several_apps: false,
    sealing_starts: false,
    healed: None,
};

/// The login that every history here begins with: browser 1 has the session "s", with the mark 7.
fn login() -> Event {
    made(Work::Login(7), 0, 1, "s.secret")
}

/// A session that begins with nothing.
fn made(work: Work, from: u64, to: u64, given: &str) -> Event {
    Event {
        invoked: from,
        returned: to,
        told: Told::Done,
        given: Some(given.into()),
        ..Event::new(1, work, None)
    }
}

/// A request of browser 1 with its session "s".
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

fn read(from: u64, values: Value) -> Event {
    event(Work::Read, from, from + 5, values)
}

/// The same request, with something else about what it saw.
fn seeing(mut event: Event, change: impl FnOnce(&mut View)) -> Event {
    change(event.view.as_mut().expect("a view"));
    event
}

/// The same request with another token, of the same session or of another.
fn with(cookie: &str, event: Event) -> Event {
    let id = super::id_of(cookie).to_owned();
    Event {
        cookie: Some(cookie.into()),
        ..seeing(event, |view| view.id = Some(id))
    }
}

/// The same request, which got a token.
fn giving(cookie: &str, event: Event) -> Event {
    Event {
        given: Some(cookie.into()),
        ..event
    }
}

fn saved(event: Event) -> Event {
    Event {
        told: Told::Saved,
        ..event
    }
}

fn gone(event: Event) -> Event {
    Event {
        told: Told::Gone,
        ..event
    }
}

fn open(event: Event) -> Event {
    Event {
        told: Told::Open,
        ..event
    }
}

fn revocation(from: u64, to: u64) -> Event {
    Event {
        invoked: from,
        returned: to,
        told: Told::Done,
        ..Event::new(1, Work::Revoke, None)
    }
}

fn stored(id: &str, token: u8, mark: i64) -> Document {
    let token = Binary {
        subtype: BinarySubtype::Generic,
        bytes: vec![token; 32],
    };
    let expires = DateTime::from_millis(0);
    doc! { "_id": id, "token": token, "expires": expires, "value": { "mark": mark } }
}

/// What the checker says of a history that begins with the login.
fn checked(
    events: impl IntoIterator<Item = Event>,
    documents: &[Document],
    terms: Terms,
) -> Verdict {
    let history = History::new();
    history.record(login());
    events.into_iter().for_each(|event| history.record(event));
    history.check(documents, terms)
}

fn finds(invariant: &str, events: impl IntoIterator<Item = Event>) {
    finds_stored(invariant, events, &[]);
}

fn finds_stored(invariant: &str, events: impl IntoIterator<Item = Event>, documents: &[Document]) {
    let verdict = checked(events, documents, TERMS);
    assert!(verdict.breaks(invariant), "{invariant}: {verdict:#?}");
}

fn passes(events: impl IntoIterator<Item = Event>) {
    passes_stored(events, &[]);
}

fn passes_stored(events: impl IntoIterator<Item = Event>, documents: &[Document]) {
    let verdict = checked(events, documents, TERMS);
    assert_eq!(verdict.violations, Vec::<String>::new());
}

#[test]
fn a_history_that_can_be_has_no_violation() {
    let seen = || json!({ "r": 1, "n": 7, "log": [3] });
    let logout = event(Work::Logout, 70, 80, seen());
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
        read(50, seen()),
    ];
    passes(events.clone().into_iter().chain([logout]));
    let documents = [
        stored("s", 1, 7),
        doc! { "_id": "~s", "expires": DateTime::from_millis(0) },
    ];
    passes_stored(events, &documents);
}

/// What was sent before the deadline lands when it lands.
#[test]
fn late_write_of_an_unknown_outcome_is_not_a_violation() {
    passes([
        open(event(Work::Set(1), 10, 20, json!({}))),
        open(event(Work::Push(5), 10, 20, json!({}))),
        event(Work::Set(2), 30, 40, json!({})),
        event(Work::Push(6), 30, 40, json!({})),
        read(50, json!({ "r": 1, "log": [6, 5] })),
    ]);
}
