//! From what a request did, what is written and which cookie is sent.

use std::collections::BTreeSet;

use bson::{Document, doc};
use proptest::prelude::*;

use super::*;
use crate::record::Client;
use crate::record::legacy::LegacySession;
use crate::state::LoadOutcome;

mod cookies;
mod late;
mod properties;
mod writes;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// The configured idle time, unless a test says otherwise.
const TIMEOUT: Duration = Duration::from_secs(1200);

fn start() -> Moment {
    Moment::from_millis(1_700_000_000_000)
}

fn config() -> Config {
    Config::default_for(&rocket::Config::DEBUG_PROFILE)
}

fn name(name: &str) -> Field {
    Field::of_key(name).unwrap()
}

fn set(number: i64) -> Change {
    Change::Set(RawBson::Int64(number))
}

/// A session as it is stored after a write at `start`.
fn record(values: &[(Field, RawBson)]) -> NewRecord {
    NewRecord {
        id: Id::draw().unwrap(),
        token: Secret::draw().unwrap().digest("session"),
        csrf: Secret::draw().unwrap(),
        created: start(),
        accessed: start(),
        expires: start().plus(TIMEOUT),
        values: values.to_vec(),
        user: None,
        timeout: None,
        max_age: None,
        sent: None,
        client: Client::default(),
    }
}

fn stored(record: &NewRecord) -> Box<Stored> {
    let token = Token::new(record.id.clone(), Secret::draw().unwrap());
    let record = Record::parse(record.document()).unwrap();
    Box::new(Stored { record, token })
}

fn live(record: &NewRecord) -> State {
    State::new(LoadOutcome::Live(stored(record)), start(), 1 << 20)
}

/// A live session with one value.
fn one() -> State {
    live(&record(&[(name("a"), RawBson::Int64(1))]))
}

fn fresh() -> State {
    State::new(
        LoadOutcome::New(crate::state::NewReason::NoCookie),
        start(),
        1 << 20,
    )
}

fn decided(state: &State, config: &Config, after: Duration) -> Write {
    decide(state, config, start().plus(after)).unwrap().write
}

#[track_caller]
fn alter(state: &State, config: &Config, after: Duration) -> Alter {
    match decided(state, config, after) {
        Write::Update(alter) => *alter,
        other => panic!("{} instead of an update", kind(&other)),
    }
}

#[track_caller]
fn create(state: &State, config: &Config, after: Duration) -> Create {
    match decided(state, config, after) {
        Write::Create(create) => *create,
        other => panic!("{} instead of a new document", kind(&other)),
    }
}

#[track_caller]
fn touched(state: &State, config: &Config, after: Duration) -> Option<Touch> {
    match decided(state, config, after) {
        Write::Touch(touch) => Some(touch),
        Write::Nothing => None,
        other => panic!("{} after a read", kind(&other)),
    }
}

fn kind(write: &Write) -> &'static str {
    match write {
        Write::Nothing => "nothing",
        Write::Touch(_) => "a touch",
        Write::Create(_) => "a new document",
        Write::Update(_) => "an update",
    }
}

fn read(bytes: Vec<u8>) -> Document {
    bson::from_slice(&bytes).unwrap()
}

/// Every path of an update, checked to occur once.
#[track_caller]
fn paths(update: &Update) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (operator, fields) in read(update.to_bson()) {
        for path in fields.as_document().unwrap().keys() {
            assert!(all.insert(path.clone()), "{path} again in {operator}");
        }
    }
    all
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The conditions of a filter, by the fields that they are about.
fn conditions(filter: &Filter) -> BTreeSet<String> {
    read(filter.to_bson()).keys().cloned().collect()
}

// ---- reads

#[test]
fn without_a_session_nothing_is_written() {
    let mut state = fresh();
    assert!(matches!(decided(&state, &config(), DAY), Write::Nothing));
    state.settings.touch = true;
    state.settings.renew = true;
    assert!(matches!(decided(&state, &config(), DAY), Write::Nothing));
}

#[test]
fn a_read_is_a_touch_once_reissue_time_has_passed_and_at_most_once_a_second() {
    let millis = Duration::from_millis;
    for (reissue, early, due) in [
        (Some(Duration::ZERO), millis(999), millis(1000)),
        (Some(millis(500)), millis(999), millis(1000)),
        (Some(MINUTE), millis(59_999), MINUTE),
    ] {
        let config = Config {
            reissue_time: reissue,
            ..config()
        };
        assert!(touched(&one(), &config, Duration::ZERO).is_none());
        assert!(touched(&one(), &config, early).is_none(), "{reissue:?}");
        let state = one();
        let touch = touched(&state, &config, due).unwrap();
        assert_eq!(touch.id(), state.id().unwrap().as_str());
        assert_eq!(touch.accessed, start().plus(due));
        assert_eq!(touch.expires, start().plus(due).plus(TIMEOUT));
    }
}

#[test]
fn reads_extend_nothing_when_reissue_time_is_false() {
    let config = Config {
        reissue_time: None,
        max_age: Some(DAY),
        ..config()
    };
    for after in [SECOND, MINUTE, TIMEOUT] {
        assert!(touched(&one(), &config, after).is_none());
    }
}

#[test]
fn a_clock_that_went_back_writes_nothing() {
    let state = one();
    let write = decide(&state, &config(), start().minus(HOUR))
        .unwrap()
        .write;
    assert!(matches!(write, Write::Nothing));
}

#[test]
fn a_touch_ends_with_the_lifetime_and_never_without_a_timeout() {
    let config = Config {
        timeout: None,
        ..config()
    };
    assert_eq!(
        touched(&one(), &config, MINUTE).unwrap().expires,
        Moment::NEVER
    );
    let config = Config {
        lifetime: Some(HOUR),
        ..config
    };
    assert_eq!(
        touched(&one(), &config, MINUTE).unwrap().expires,
        start().plus(HOUR)
    );
    let config = Config {
        timeout: Some(TIMEOUT),
        ..config
    };
    assert_eq!(
        touched(&one(), &config, MINUTE).unwrap().expires,
        start().plus(MINUTE + TIMEOUT)
    );
    let mut own = record(&[]);
    own.timeout = Some(Some(MINUTE));
    let touch = touched(&live(&own), &config, SECOND).unwrap();
    assert_eq!(
        touch.expires,
        start().plus(SECOND + MINUTE),
        "its own timeout"
    );
}

#[test]
fn a_session_that_expired_while_the_request_ran_is_not_touched() {
    let state = one();
    assert!(
        touched(&state, &config(), TIMEOUT).is_some(),
        "alive at its last moment"
    );
    assert!(touched(&state, &config(), TIMEOUT + Duration::from_millis(1)).is_none());
}

// ---- expiry

#[test]
fn a_session_expires_with_the_earlier_of_idle_and_absolute_time() {
    let (accessed, never) = (start().plus(HOUR), Moment::NEVER);
    for (timeout, lifetime, expected) in [
        (None, None, never),
        (Some(TIMEOUT), None, accessed.plus(TIMEOUT)),
        (None, Some(DAY), start().plus(DAY)),
        (Some(TIMEOUT), Some(DAY), accessed.plus(TIMEOUT)),
        (Some(DAY), Some(DAY), start().plus(DAY)),
        (Some(Duration::MAX), Some(Duration::MAX), never),
    ] {
        assert_eq!(expiry(start(), accessed, timeout, lifetime), expected);
    }
}

// ---- the ancestor's

fn ancestor() -> State {
    let document = doc! {
        "_id": "0123456789abcdef0123456789abcdef",
        "created": start().seconds() - 60.0,
        "accessed": start().seconds(),
        "value": { "a": 1_i64, "_csrft_": "token" },
    };
    let ancestor = LegacySession::parse(&crate::document::Document::from_bson(&document)).unwrap();
    State::new(LoadOutcome::Legacy(Box::new(ancestor)), start(), 1 << 20)
}

#[test]
fn a_read_of_an_ancestors_session_is_a_touch_of_it() {
    assert!(touched(&ancestor(), &config(), Duration::from_millis(999)).is_none());
    let touch = touched(&ancestor(), &config(), SECOND).unwrap();
    assert_eq!(touch.id(), "0123456789abcdef0123456789abcdef");
    assert_eq!(touch.expires, start().plus(SECOND + TIMEOUT));
}

#[test]
fn the_first_write_moves_an_ancestors_session_and_it_stays_as_old_as_it_was() {
    let mut state = ancestor();
    state.change(name("b"), set(2)).unwrap();
    let create = create(&state, &config(), MINUTE);
    assert_eq!(create.record.created, start().minus(MINUTE));
    assert_eq!(create.record.accessed, start().plus(MINUTE));
    let stored: Vec<_> = create
        .record
        .values
        .iter()
        .map(|(field, _)| field.as_str())
        .collect();
    assert_eq!(stored, ["a", "b"]);
    assert!(
        create
            .record
            .csrf
            .matches(&crate::record::legacy::csrf_secret("token"))
    );
    let replaces = create.replaces.unwrap();
    assert!(replaces.moves_ancestor && replaces.keep.has(&name("whatever")));
    assert_eq!(replaces.old.as_str(), "0123456789abcdef0123456789abcdef");
    assert_eq!(replaces.after.get(&name("b")), Some(&set(2)));
    // The new cookie must not be overwritten by a request that still has the old one.
    assert!(!create.marker_for.is_empty() && create.record.user.is_none());
}

#[test]
fn a_login_from_an_ancestors_session_is_a_new_one() {
    let mut state = ancestor();
    state.login(Some(RawBson::Int64(7)), Keep::Nothing);
    let create = create(&state, &config(), MINUTE);
    assert_eq!(create.record.created, start().plus(MINUTE));
    assert!(
        !create
            .record
            .csrf
            .matches(&crate::record::legacy::csrf_secret("token"))
    );
    assert!(create.record.values.is_empty() && !create.marker_for.is_empty());
    // A login proves who it is by itself: two on one cookie are two sessions.
    assert!(!create.replaces.unwrap().moves_ancestor);
}
