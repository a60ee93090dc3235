//! What a request sees of its session, whatever it does to it.

use super::*;
use crate::record::NewRecord;
use crate::record::Record;
use crate::token::Token;

mod identity;
mod model;

const ROOM: usize = 1 << 20;

fn name(name: &str) -> Field {
    Field::of_key(name).unwrap()
}

fn int(number: i64) -> RawBson {
    RawBson::Int64(number)
}

fn set(number: i64) -> Change {
    Change::Set(int(number))
}

fn moment() -> Moment {
    Moment::from_millis(1_700_000_000_000)
}

fn record(values: &[(Field, RawBson)], user: Option<RawBson>) -> NewRecord {
    NewRecord {
        id: Id::draw().unwrap(),
        token: Secret::draw().unwrap().digest("session"),
        csrf: Secret::draw().unwrap(),
        created: moment(),
        accessed: moment(),
        expires: moment().plus(Duration::from_secs(1200)),
        values: values.to_vec(),
        user,
        timeout: None,
        max_age: None,
        sent: None,
        client: Client::default(),
    }
}

fn stored(record: &NewRecord) -> Box<Stored> {
    let token = Token {
        id: record.id.clone(),
        secret: Secret::draw().unwrap(),
    };
    let record = Record::parse(record.document()).unwrap();
    Box::new(Stored { record, token })
}

fn live(values: &[(Field, RawBson)], max_bytes: usize) -> State {
    let stored = stored(&record(values, Some(int(7))));
    State::new(Arrival::Live(stored), moment(), max_bytes)
}

fn fresh() -> State {
    State::new(Arrival::Nothing, moment(), ROOM)
}

/// A live session with `a` and `b`, and what was done to `a`.
fn changed() -> (State, Id) {
    let mut state = live(&[(name("a"), int(1)), (name("b"), int(2))], ROOM);
    let id = state.id().unwrap().clone();
    state.change(name("a"), Change::Add(10)).unwrap();
    (state, id)
}

fn values(state: &State) -> Vec<(Field, RawBson)> {
    let fields = state.fields().into_iter();
    fields
        .map(|field| (field.clone(), state.get(&field).unwrap()))
        .collect()
}

fn new(state: &State) -> &New {
    match &state.base {
        Base::New(new) => new,
        Base::Stored(_) => panic!("it is a stored session"),
    }
}

// ---- values

#[test]
fn setting_an_equal_value_is_no_change() {
    let mut state = live(&[(name("a"), int(1))], ROOM);
    state.change(name("a"), set(1)).unwrap();
    assert!(state.changes.is_empty());
    state.change(name("a"), set(2)).unwrap();
    state.change(name("a"), set(1)).unwrap();
    assert!(
        state.changes.is_empty(),
        "and so is going back to what is stored"
    );
    state.change(name("b"), Change::Unset).unwrap();
    assert!(state.changes.is_empty(), "and removing what is not there");
    state
        .change(name("a"), Change::Set(RawBson::Int32(1)))
        .unwrap();
    assert!(
        !state.changes.is_empty(),
        "but one is not one of another type"
    );
}

#[test]
fn fields_are_in_stored_order_and_new_ones_after_them() {
    let mut state = live(
        &[
            (name("z"), int(1)),
            (name("m"), int(2)),
            (name("a"), int(3)),
        ],
        ROOM,
    );
    for (field, change) in [
        ("q", set(1)),
        ("m", Change::Unset),
        ("b", set(2)),
        ("z", set(9)),
    ] {
        state.change(name(field), change).unwrap();
    }
    assert_eq!(state.fields(), ["z", "a", "q", "b"].map(name));
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let mut state = live(
        &[
            (name("text"), RawBson::String("x".into())),
            (name("n"), int(i64::MAX)),
        ],
        ROOM,
    );
    let push = || Change::Append(vec![int(1)]);
    for (field, change) in [
        ("text", Change::Add(1)),
        ("text", push()),
        ("n", Change::Add(1)),
        ("n", push()),
    ] {
        let refused = state.change(name(field), change);
        assert!(matches!(refused, Err(Error::Mismatch { key, .. }) if key == field));
    }
    assert!(state.changes.is_empty());
}

#[test]
fn data_never_grows_past_the_limit_and_what_is_too_large_may_shrink() {
    let text = |length: usize| RawBson::String("x".repeat(length));
    let mut state = live(&[(name("a"), text(200))], 100);
    assert!(matches!(
        state.change(name("b"), set(1)),
        Err(Error::TooLarge { limit: 100 })
    ));
    assert!(!state.contains(&name("b")) && state.changes.is_empty());
    state.change(name("a"), Change::Set(text(150))).unwrap();
    state.change(name("a"), Change::Set(text(50))).unwrap();
    state.change(name("b"), set(1)).unwrap();
    assert!(state.change(name("c"), Change::Set(text(40))).is_err());
}

#[test]
fn what_undoes_a_write_that_is_under_way_is_written_after_it() {
    let mut state = live(&[(name("a"), int(1)), (name("n"), int(5))], ROOM);
    state.change(name("a"), set(2)).unwrap();
    state.change(name("n"), Change::Add(3)).unwrap();
    let sent = state.begin();
    state.change(name("a"), set(1)).unwrap();
    state.change(name("n"), Change::Add(-3)).unwrap();
    let written = stored(&record(&[(name("a"), int(2)), (name("n"), int(8))], None));
    state.rebase(Base::Stored(written), &sent);
    assert_eq!(state.get(&name("a")), Some(int(1)));
    assert_eq!(state.changes.get(&name("a")), Some(&set(1)));
    assert_eq!(state.changes.get(&name("n")), Some(&Change::Add(-3)));
}

#[test]
fn what_is_set_on_the_session_itself_stays_pending_until_it_is_written() {
    let (hour, day) = (
        Some(Duration::from_secs(3600)),
        Some(Duration::from_secs(86_400)),
    );
    let mut state = live(&[(name("a"), int(1))], ROOM);
    let secret = Secret::draw().unwrap();
    state.settings.timeout = Some(hour);
    state.settings.renew = true;
    state.set_csrf(secret.clone());
    // A value that was exchanged at once took none of it along.
    state.rebase(Base::Stored(stored(&record(&[], None))), &Sent::default());
    assert_eq!(state.settings.timeout, Some(hour));
    assert!(state.settings.renew && state.csrf().unwrap().matches(&secret));
    // A save does, but not what came after it began.
    let sent = state.begin();
    state.settings.max_age = Some(day);
    state.settings.timeout = Some(None);
    state.settings.touch = true;
    state.rebase(Base::Stored(stored(&record(&[], None))), &sent);
    assert_eq!(
        (state.settings.timeout, state.settings.max_age),
        (Some(None), Some(day))
    );
    assert!(state.settings.touch && !state.settings.renew && state.settings.csrf.is_none());
    let sent = state.begin();
    state.rebase(Base::Stored(stored(&record(&[], None))), &sent);
    assert!(state.settings.timeout.is_none() && state.settings.max_age.is_none());
    assert!(!state.settings.touch);
}

// ---- a session that is not stored

#[test]
fn a_session_has_no_name_until_it_holds_something() {
    let mut state = fresh();
    assert!(!state.is_wanted() && state.id().is_none() && state.is_new);
    state.settings.touch = true;
    state.settings.renew = true;
    state.name_itself();
    assert!(
        !state.is_wanted() && state.id().is_none(),
        "touch and renew make none"
    );
    state.change(name("a"), set(1)).unwrap();
    let id = state.id().unwrap().clone();
    state.change(name("b"), set(1)).unwrap();
    assert_eq!(state.id(), Some(&id), "the name stays");
    state.change(name("a"), Change::Unset).unwrap();
    state.change(name("b"), Change::Unset).unwrap();
    assert!(!state.is_wanted() && state.id().is_none());
}

#[test]
fn every_setting_that_must_be_kept_makes_a_session() {
    let makes = |set: fn(&mut State)| {
        let mut state = fresh();
        set(&mut state);
        state.name_itself();
        state.is_wanted() && state.id().is_some()
    };
    assert!(makes(|state| state.settings.timeout = Some(None)));
    assert!(makes(|state| state.settings.max_age = Some(None)));
    assert!(makes(|state| drop(state.csrf_or_draw().unwrap())));
    assert!(makes(|state| state.login(Some(int(1)), Keep::Nothing)));
    assert!(!makes(|state| state.logout()));
    assert!(!makes(|state| state.discard()));
}

#[test]
fn there_is_one_csrf_secret_until_another_takes_its_place() {
    for mut state in [fresh(), live(&[], ROOM)] {
        let first = state.csrf_or_draw().unwrap();
        assert!(state.csrf_or_draw().unwrap().matches(&first));
        let other = Secret::draw().unwrap();
        state.set_csrf(other.clone());
        assert!(state.csrf_or_draw().unwrap().matches(&other));
        state.login(Some(int(1)), Keep::All);
        let next = state.csrf_or_draw().unwrap();
        assert!(
            !next.matches(&other) && !next.matches(&first),
            "not after a login"
        );
    }
}
