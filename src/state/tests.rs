//! What a request sees of its session, whatever it does to it.

use super::*;
use crate::record::NewRecord;
use crate::record::Record;
use crate::record::token::Token;

mod model;
mod transitions;

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
    let token = Token::new(record.id.clone(), Secret::draw().unwrap());
    let record = Record::parse(record.document()).unwrap();
    Box::new(Stored { record, token })
}

fn live(values: &[(Field, RawBson)], max_bytes: usize) -> State {
    let stored = stored(&record(values, Some(int(7))));
    State::new(LoadOutcome::Live(stored), moment(), max_bytes)
}

fn fresh() -> State {
    State::new(
        LoadOutcome::New(crate::state::NewReason::NoCookie),
        moment(),
        ROOM,
    )
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
    state.begin();
    state.change(name("a"), set(1)).unwrap();
    state.change(name("n"), Change::Add(-3)).unwrap();
    let written = stored(&record(&[(name("a"), int(2)), (name("n"), int(8))], None));
    state.written(Base::Stored(written));
    assert_eq!(state.get(&name("a")), Some(int(1)));
    assert_eq!(state.changes.get(&name("a")), Some(&set(1)));
    assert_eq!(state.changes.get(&name("n")), Some(&Change::Add(-3)));
}

#[test]
fn what_is_done_during_a_write_is_counted_by_the_server() {
    let mut state = live(&[], ROOM);
    state.change(name("n"), set(5)).unwrap();
    state.begin();
    state.change(name("n"), Change::Add(1)).unwrap();
    // Somebody else adds as well, between the write and the next one.
    let written = stored(&record(&[(name("n"), int(15))], None));
    state.written(Base::Stored(written));
    assert_eq!(state.changes.get(&name("n")), Some(&Change::Add(1)));
    assert_eq!(state.get(&name("n")), Some(int(16)));
}

#[test]
fn a_write_that_fails_takes_along_what_it_carried_and_nothing_else() {
    let mut state = live(&[(name("a"), int(1))], ROOM);
    state.change(name("a"), set(2)).unwrap();
    state.change(name("b"), set(2)).unwrap();
    state.begin();
    state.change(name("b"), Change::Add(1)).unwrap();
    state.change(name("c"), set(3)).unwrap();
    state.fell();
    let expected = [("a", 1), ("b", 1), ("c", 3)].map(|(n, number)| (name(n), int(number)));
    assert_eq!(values(&state), expected);
}

#[test]
fn nothing_pending_is_dropped_by_what_others_made_of_the_session() {
    let text = |length: usize| RawBson::String("x".repeat(length));
    let mut state = live(&[(name("n"), int(1))], 300);
    state.change(name("a"), Change::Set(text(100))).unwrap();
    state.change(name("n"), Change::Add(1)).unwrap();
    assert_eq!(state.growth_beside(&name("b")), 108);
    state.begin_one(&name("b"));
    // The session is larger by now than it may be, and the number is a text.
    let others = [(name("b"), text(290)), (name("n"), text(5))];
    state.written(Base::Stored(stored(&record(&others, None))));
    let pending: Vec<&Field> = state.changes.fields().collect();
    assert_eq!(
        pending,
        [&name("a"), &name("n")],
        "the commit says what is wrong"
    );
    assert_eq!(state.get(&name("a")), Some(text(100)));
}

#[test]
fn a_write_that_changed_nothing_leaves_all_as_it_was() {
    let mut state = live(&[(name("a"), int(1))], ROOM);
    state.change(name("a"), Change::Add(10)).unwrap();
    state.change(name("b"), set(1)).unwrap();
    state.begin_one(&name("a"));
    assert_eq!(
        state.get(&name("a")),
        Some(int(11)),
        "and so it does meanwhile"
    );
    state.change(name("a"), Change::Add(5)).unwrap();
    state.put_back();
    assert_eq!(state.changes.get(&name("a")), Some(&Change::Add(15)));
    assert_eq!(state.changes.get(&name("b")), Some(&set(1)));
}

#[test]
fn thousands_of_keys_and_elements_take_no_square_of_their_number() {
    const MANY: usize = 20_000;
    let key = |at: usize| name(&format!("k{at}"));
    let stored: Vec<_> = (0..MANY).map(|at| (key(at), int(0))).collect();
    let mut state = live(&stored, ROOM);
    for at in 0..MANY {
        state.change(key(at), set(at as i64)).unwrap();
        let push = Change::Append(vec![int(at as i64)]);
        state.change(name("list"), push).unwrap();
    }
    assert_eq!(state.fields().len(), MANY + 1);
    assert_eq!(state.get(&key(MANY - 1)), Some(int(MANY as i64 - 1)));
    state.clear();
    assert!(state.fields().is_empty());
}

#[test]
fn what_is_set_on_the_session_itself_stays_pending_until_it_is_written() {
    let (hour, day) = (
        Some(Duration::from_secs(3600)),
        Some(Duration::from_secs(86_400)),
    );
    let nothing = || Base::Stored(stored(&record(&[], None)));
    let mut state = live(&[(name("a"), int(1))], ROOM);
    let secret = Secret::draw().unwrap();
    state.settings.timeout = Some(hour);
    state.settings.renew = true;
    state.set_csrf(secret.clone());
    // A value that was exchanged at once took none of it along.
    state.begin_one(&name("a"));
    state.written(nothing());
    assert_eq!(state.settings.timeout, Some(hour));
    assert!(state.settings.renew && state.csrf().unwrap().matches(&secret));
    // A save does, but not what came after it began.
    state.begin();
    assert_eq!(state.timeout(None), hour);
    assert!(
        state.csrf().unwrap().matches(&secret),
        "as it is shown meanwhile"
    );
    state.settings.max_age = Some(day);
    state.settings.timeout = Some(None);
    state.settings.touch = true;
    state.written(nothing());
    assert_eq!(
        (state.settings.timeout, state.settings.max_age),
        (Some(None), Some(day))
    );
    assert!(state.settings.touch && !state.settings.renew && state.settings.csrf.is_none());
    state.begin();
    state.written(nothing());
    assert!(!state.settings.are_some());
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
