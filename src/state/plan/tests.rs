//! From what a request did, what is written and which cookie is sent.

use std::collections::BTreeSet;

use bson::{Document, doc};
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::clock::Clock;
use crate::document::Filter;
use crate::record::OwnTimes;
use crate::record::sealer::Contents;
use crate::state::{LoadOutcome, Loaded, NewReason, Proof, Replaced};

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

/// What is stored of a session after a write at `start`.
fn meta() -> Meta {
    Meta {
        id: Id::draw().unwrap(),
        times: Times {
            created: start(),
            accessed: start(),
            expires: start().plus(TIMEOUT),
            own: OwnTimes::default(),
        },
        user: None,
        sent: None,
        client: Client::default(),
        epoch: None,
    }
}

fn own(time: Duration) -> Override {
    Override::Set(Some(time))
}

fn stored(meta: Meta, values: &[(Field, RawBson)]) -> Box<Stored> {
    let token = Token::new(meta.id.clone(), Secret::draw().unwrap());
    let csrf = Secret::draw().unwrap();
    let document = meta.document(&Contents::plain(token.digest("session"), &csrf, values));
    let record = Record::from_own_form(document, None).unwrap();
    Box::new(Stored { record, token })
}

/// The state of a request that began at `start`.
fn state(outcome: LoadOutcome) -> State {
    begun(loaded(outcome))
}

fn loaded(outcome: LoadOutcome) -> Loaded {
    Loaded {
        outcome,
        other_sessions: Vec::new(),
        not_alive: Vec::new(),
        brought_cookie: true,
        creation: Creation::Allowed,
        may_be_unseen: false,
    }
}

fn begun(loaded: Loaded) -> State {
    let clock = Clock::new();
    let mut started = clock.started();
    started.moment = start();
    State::new(loaded, Client::default(), started, 1 << 20)
}

fn live(meta: Meta, values: &[(Field, RawBson)]) -> State {
    state(LoadOutcome::Live(stored(meta, values)))
}

/// A live session with one value.
fn one() -> State {
    live(meta(), &[(name("a"), RawBson::Int64(1))])
}

fn fresh() -> State {
    state(LoadOutcome::New(NewReason::NoCookie))
}

fn write(state: &State, config: &Config, after: Duration) -> Write {
    plan(state, config, start().plus(after)).unwrap().write
}

#[track_caller]
fn update(state: &State, config: &Config, after: Duration) -> UpdatePlan {
    match write(state, config, after) {
        Write::Update(plan) => *plan,
        other => panic!("{} instead of an update", kind(&other)),
    }
}

/// The whole update, as it is written while the token is the one that was loaded.
fn whole(plan: &UpdatePlan) -> Update {
    let mut update = plan.values.update.clone();
    if let Some(part) = &plan.with_token {
        update.merge(&part.update);
    }
    update
}

fn cookie(plan: &UpdatePlan) -> Option<&(Token, CookieLife)> {
    plan.with_token.as_ref()?.cookie.as_ref()
}

#[track_caller]
fn insert(state: &State, config: &Config, after: Duration) -> InsertPlan {
    match write(state, config, after) {
        Write::Insert(plan) => *plan,
        other => panic!("{} instead of a new document", kind(&other)),
    }
}

#[track_caller]
/// Returns the touch by a read of a session that was loaded at this moment.
fn touched(state: &mut State, config: &Config, after: Duration) -> Option<Touch> {
    if let Base::Stored(stored) = &mut state.base {
        stored.record.read_at = start().plus(after);
    }
    match write(state, config, after) {
        Write::Touch(touch) => Some(touch),
        Write::Nothing => None,
        other => panic!("{} after a read", kind(&other)),
    }
}

fn kind(write: &Write) -> &'static str {
    match write {
        Write::Nothing => "nothing",
        Write::Touch(_) => "a touch",
        Write::DropForReplaced => "a dropped write",
        Write::Insert(_) => "a new document",
        Write::Update(_) => "an update",
        Write::Refuse(_) => "a refusal",
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
    assert!(matches!(write(&state, &config(), DAY), Write::Nothing));
    state.settings.touch = true;
    state.settings.token = TokenChange::Renew;
    assert!(matches!(write(&state, &config(), DAY), Write::Nothing));
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
        assert!(touched(&mut one(), &config, Duration::ZERO).is_none());
        assert!(touched(&mut one(), &config, early).is_none(), "{reissue:?}");
        let mut state = one();
        let touch = touched(&mut state, &config, due).unwrap();
        assert_eq!(touch.id, state.public_id().unwrap().as_str());
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
        assert!(touched(&mut one(), &config, after).is_none());
    }
}

#[test]
fn a_clock_that_went_back_writes_nothing() {
    let state = one();
    let plan = plan(&state, &config(), start().minus(HOUR)).unwrap();
    assert!(plan.is_nothing());
}

#[test]
fn a_touch_ends_with_the_lifetime_and_never_without_a_timeout() {
    let config = Config {
        timeout: None,
        ..config()
    };
    assert_eq!(
        touched(&mut one(), &config, MINUTE).unwrap().expires,
        Moment::NEVER
    );
    let config = Config {
        lifetime: Some(HOUR),
        ..config
    };
    assert_eq!(
        touched(&mut one(), &config, MINUTE).unwrap().expires,
        start().plus(HOUR)
    );
    let config = Config {
        timeout: Some(TIMEOUT),
        ..config
    };
    assert_eq!(
        touched(&mut one(), &config, MINUTE).unwrap().expires,
        start().plus(MINUTE + TIMEOUT)
    );
    let mut meta = meta();
    meta.times.own.timeout = own(MINUTE);
    let touch = touched(&mut live(meta, &[]), &config, SECOND).unwrap();
    assert_eq!(
        touch.expires,
        start().plus(SECOND + MINUTE),
        "its own timeout"
    );
}

#[test]
fn a_session_that_expired_while_the_request_ran_is_not_touched() {
    let mut state = one();
    let read_at = TIMEOUT - SECOND;
    assert!(touched(&mut state, &config(), read_at).is_some());
    let touch = |after| match write(&state, &config(), after) {
        Write::Touch(touch) => Some(touch.accessed),
        _ => None,
    };
    let used = Some(start().plus(read_at));
    assert_eq!(touch(TIMEOUT), used, "it counts when it was loaded");
    assert_eq!(touch(TIMEOUT + Duration::from_millis(1)), None);
}

// ---- expiry

#[rstest]
#[case(None, None, Moment::NEVER)]
#[case(Some(TIMEOUT), None, start().plus(HOUR + TIMEOUT))]
#[case(None, Some(DAY), start().plus(DAY))]
#[case(Some(TIMEOUT), Some(DAY), start().plus(HOUR + TIMEOUT))]
#[case(Some(DAY), Some(DAY), start().plus(DAY))]
#[case(Some(Duration::MAX), Some(Duration::MAX), Moment::NEVER)]
fn a_session_expires_with_the_earlier_of_idle_and_absolute_time(
    #[case] idle: Option<Duration>,
    #[case] absolute: Option<Duration>,
    #[case] expected: Moment,
) {
    let expiry = Expiry { idle, absolute };
    assert_eq!(expiry.expires_at(start(), start().plus(HOUR)), expected);
}

// ---- legacy documents

/// A session of the Python package, opened by its bare id.
fn legacy() -> State {
    let document = doc! {
        "_id": "0123456789abcdef0123456789abcdef",
        "created": start().seconds() - 60.0,
        "accessed": start().seconds(),
        "value": { "a": 1_i64, "50%": 2_i64 },
    };
    let document = crate::document::Document::from_bson(&document);
    let record = Record::read(document, &config(), start()).unwrap();
    let token = Token::parse("0123456789abcdef0123456789abcdef", true).unwrap();
    state(LoadOutcome::Live(Box::new(Stored { record, token })))
}

#[test]
fn read_of_a_legacy_session_is_a_touch_of_it() {
    assert!(touched(&mut legacy(), &config(), Duration::from_millis(999)).is_none());
    let touch = touched(&mut legacy(), &config(), SECOND).unwrap();
    assert_eq!(touch.id, "0123456789abcdef0123456789abcdef");
    assert_eq!(touch.expires, start().plus(SECOND + TIMEOUT));
}

#[test]
fn write_to_a_legacy_session_is_an_update_of_its_document() {
    let mut state = legacy();
    assert!(state.public_id().is_none(), "its id is its credential");
    state.change(name("b"), set(2)).unwrap();
    state.change(name("50%"), Change::Add(1)).unwrap();
    let plan = update(&state, &config(), MINUTE);
    assert_eq!(
        plan.values.alive().wanted_id(),
        Some("0123456789abcdef0123456789abcdef")
    );
    assert!(paths(&plan.values.update).contains("value.b"));
    assert!(
        plan.values.needs_compare_and_set && !paths(&plan.values.update).contains("value.50%25"),
        "the server would count under the new name from 0"
    );
}
