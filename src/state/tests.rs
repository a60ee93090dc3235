//! What a request sees of its session, whatever it does to it.

use std::time::Duration;

use indexmap::IndexSet;

use super::*;
use crate::clock::Clock;
use crate::record::sealer::Contents;
use crate::record::token::Token;
use crate::record::{Meta, Override, Record, Times};

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

/// A stored session with these values.
fn stored(values: &[(Field, RawBson)], user: Option<RawBson>) -> Box<Stored> {
    let token = Token::new(Id::draw().unwrap(), Secret::draw().unwrap());
    let meta = Meta {
        id: token.id.clone(),
        times: Times {
            created: moment(),
            accessed: moment(),
            expires: moment().plus(Duration::from_secs(1200)),
            own: OwnTimes::default(),
        },
        user,
        sent: None,
        client: Client::default(),
        epoch: None,
    };
    let csrf = Secret::draw().unwrap();
    let document = meta.document(&Contents::plain(token.digest("session"), &csrf, values));
    let record = Record::from_own_form(document, None).unwrap();
    Box::new(Stored { record, token })
}

fn loaded(outcome: LoadOutcome) -> Loaded {
    let brought_cookie = !matches!(outcome, LoadOutcome::New(NewReason::NoCookie));
    Loaded {
        outcome,
        other_sessions: Vec::new(),
        not_alive: Vec::new(),
        brought_cookie,
        creation: Creation::Allowed,
        may_be_unseen: false,
    }
}

fn state(loaded: Loaded, max_bytes: usize) -> State {
    let started = Clock::new().started();
    State::new(loaded, Client::default(), started, max_bytes)
}

fn live(values: &[(Field, RawBson)], max_bytes: usize) -> State {
    let stored = stored(values, Some(int(7)));
    state(loaded(LoadOutcome::Live(stored)), max_bytes)
}

fn fresh() -> State {
    state(loaded(LoadOutcome::New(NewReason::NoCookie)), ROOM)
}

/// A live session with `a` and `b`, and what was done to `a`.
fn changed() -> (State, Id) {
    let mut state = live(&[(name("a"), int(1)), (name("b"), int(2))], ROOM);
    let id = state.public_id().unwrap().clone();
    state.change(name("a"), Change::Add(10)).unwrap();
    (state, id)
}

fn values(state: &State) -> Vec<(Field, RawBson)> {
    let fields = state.fields().into_iter();
    fields
        .map(|field| (field.clone(), state.get(&field).unwrap().unwrap()))
        .collect()
}

fn ended_ids(state: &State) -> Vec<Id> {
    state.ended.iter().map(|ended| ended.id.clone()).collect()
}

fn login(state: &State) -> &Login {
    match &state.base {
        Base::Login(login) => login,
        Base::Empty | Base::Stored(_) => panic!("it is not a login"),
    }
}

// ---- values

#[test]
fn setting_an_equal_value_changes_nothing() {
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
fn change_that_undoes_a_write_in_flight_is_written_after_it() {
    let mut state = live(&[(name("a"), int(1)), (name("n"), int(5))], ROOM);
    state.change(name("a"), set(2)).unwrap();
    state.change(name("n"), Change::Add(3)).unwrap();
    state.start_flush();
    state.change(name("a"), set(1)).unwrap();
    state.change(name("n"), Change::Add(-3)).unwrap();
    let written = stored(&[(name("a"), int(2)), (name("n"), int(8))], None);
    state.flush_succeeded(*written);
    assert_eq!(state.get(&name("a")).unwrap(), Some(int(1)));
    assert_eq!(state.changes.get(&name("a")), Some(&set(1)));
    assert_eq!(state.changes.get(&name("n")), Some(&Change::Add(-3)));
}

#[test]
fn what_is_done_during_a_write_is_counted_by_the_server() {
    let mut state = live(&[], ROOM);
    state.change(name("n"), set(5)).unwrap();
    state.start_flush();
    state.change(name("n"), Change::Add(1)).unwrap();
    // Another request adds as well, between the write and the next one.
    let written = stored(&[(name("n"), int(15))], None);
    state.flush_succeeded(*written);
    assert_eq!(state.changes.get(&name("n")), Some(&Change::Add(1)));
    assert_eq!(state.get(&name("n")).unwrap(), Some(int(16)));
}

#[test]
fn a_write_that_fails_takes_along_what_it_carried_and_nothing_else() {
    let mut state = live(&[(name("a"), int(1))], ROOM);
    state.change(name("a"), set(2)).unwrap();
    state.change(name("b"), set(2)).unwrap();
    state.start_flush();
    state.change(name("b"), Change::Add(1)).unwrap();
    state.change(name("c"), set(3)).unwrap();
    state.discard_in_flight();
    let expected = [("a", 1), ("b", 1), ("c", 3)].map(|(n, number)| (name(n), int(number)));
    assert_eq!(values(&state), expected);
}

#[test]
fn pending_changes_survive_what_others_made_of_the_session() {
    let text = |length: usize| RawBson::String("x".repeat(length));
    let mut state = live(&[(name("n"), int(1))], 300);
    state.change(name("a"), Change::Set(text(100))).unwrap();
    state.change(name("n"), Change::Add(1)).unwrap();
    assert_eq!(state.pending_growth(), 108);
    // The session is larger by now than it may be, and the number is a text.
    let others = [(name("b"), text(290)), (name("n"), text(5))];
    state.exchange_succeeded(*stored(&others, None));
    let pending: Vec<&Field> = state.changes.fields().collect();
    assert_eq!(
        pending,
        [&name("a"), &name("n")],
        "the commit says what is wrong"
    );
    assert_eq!(state.get(&name("a")).unwrap(), Some(text(100)));
    let mismatch = state.get(&name("n"));
    assert!(matches!(mismatch, Err(Error::Mismatch { key, .. }) if key == "n"));
    assert!(state.contains(&name("n")), "as `get` sees it");
    // What replaces the value whole fits.
    state.change(name("n"), set(5)).unwrap();
    assert_eq!(state.get(&name("n")).unwrap(), Some(int(5)));
}

#[test]
fn has_element_finds_nan() {
    let nan = RawBson::Double(f64::NAN);
    let mut state = live(&[], ROOM);
    state
        .change(name("a"), Change::Append(vec![nan.clone()]))
        .unwrap();
    assert!(state.has_element(&name("a"), &nan));
    let list = value::from_elements(std::slice::from_ref(&nan));
    let state = live(&[(name("a"), list)], ROOM);
    assert!(state.has_element(&name("a"), &nan));
    assert!(!state.has_element(&name("a"), &RawBson::Double(0.0)));
}

#[test]
fn every_change_raises_the_version() {
    let mut state = live(&[(name("a"), RawBson::Double(f64::NAN))], ROOM);
    let mut versions = vec![state.version];
    state.change(name("a"), set(1)).unwrap();
    versions.push(state.version);
    state.clear();
    versions.push(state.version);
    state.login(int(8), IndexSet::new());
    versions.push(state.version);
    state.discard();
    versions.push(state.version);
    state.logout();
    versions.push(state.version);
    state.change(name("a"), set(1)).unwrap();
    state.start_flush();
    versions.push(state.version);
    state.discard_in_flight();
    versions.push(state.version);
    state.flush_succeeded(*stored(&[], None));
    versions.push(state.version);
    state.exchange_succeeded(*stored(&[], None));
    versions.push(state.version);
    state.session_ended();
    versions.push(state.version);
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
}

#[test]
fn thousands_of_keys_and_elements_are_all_kept() {
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
    assert_eq!(
        state.get(&key(MANY - 1)).unwrap(),
        Some(int(MANY as i64 - 1))
    );
    state.clear();
    assert!(state.fields().is_empty());
}

#[test]
fn settings_stay_pending_until_they_are_written() {
    let own = |seconds| Override::Set(Some(Duration::from_secs(seconds)));
    let config = Config::default_for(&rocket::Config::DEBUG_PROFILE);
    let nothing = || stored(&[], None);
    let mut state = live(&[(name("a"), int(1))], ROOM);
    let secret = Secret::draw().unwrap();
    state.settings.times.timeout = Some(own(3600));
    state.settings.token = TokenChange::Renew;
    state.settings.csrf = Some(secret.clone());
    // A value that was exchanged at once took none of it along.
    state.exchange_succeeded(*nothing());
    assert_eq!(state.settings.times.timeout, Some(own(3600)));
    assert!(state.settings.token == TokenChange::Renew);
    assert!(state.csrf().unwrap().matches(&secret));
    // A save does, but not what came after it began.
    state.start_flush();
    let idle = |state: &State| state.expiry(&config).idle;
    assert_eq!(idle(&state), Some(Duration::from_secs(3600)));
    assert!(
        state.csrf().unwrap().matches(&secret),
        "as it is shown meanwhile"
    );
    state.settings.times.max_age = Some(own(86_400));
    state.settings.times.timeout = Some(Override::Set(None));
    state.settings.touch = true;
    state.flush_succeeded(*nothing());
    assert_eq!(idle(&state), None);
    assert_eq!(state.settings.times.max_age, Some(own(86_400)));
    assert!(state.settings.touch && state.settings.csrf.is_none());
    assert!(state.settings.token == TokenChange::Keep);
    state.start_flush();
    state.flush_succeeded(*nothing());
    assert!(state.settings.is_empty());
}

// ---- a session that is not stored

#[test]
fn id_is_none_until_the_session_is_stored() {
    let mut state = fresh();
    assert!(!state.is_wanted() && state.public_id().is_none() && state.is_new);
    state.settings.touch = true;
    state.settings.token = TokenChange::Renew;
    assert!(!state.is_wanted(), "touch and renew create none");
    state.change(name("a"), set(1)).unwrap();
    assert!(state.is_wanted() && state.public_id().is_none());
    state.change(name("a"), Change::Unset).unwrap();
    assert!(!state.is_wanted());
    state.change(name("a"), set(1)).unwrap();
    state.start_flush();
    let written = stored(&[(name("a"), int(1))], None);
    let id = written.record.meta.id.clone();
    state.flush_succeeded(*written);
    assert_eq!(state.public_id(), Some(&id));
}

#[test]
fn every_setting_that_must_be_kept_creates_a_session() {
    let creates = |set: fn(&mut State)| {
        let mut state = fresh();
        set(&mut state);
        state.is_wanted()
    };
    assert!(creates(
        |state| state.settings.times.timeout = Some(Override::Set(None))
    ));
    assert!(creates(
        |state| state.settings.times.lifetime = Some(Override::Set(None))
    ));
    assert!(creates(
        |state| state.settings.times.max_age = Some(Override::Set(None))
    ));
    assert!(creates(|state| drop(state.csrf_or_draw().unwrap())));
    assert!(creates(|state| state.login(int(1), IndexSet::new())));
    assert!(!creates(|state| state.logout()));
    assert!(!creates(|state| state.discard()));
}

#[test]
fn there_is_one_csrf_secret_until_another_takes_its_place() {
    for mut state in [fresh(), live(&[], ROOM)] {
        let first = state.csrf_or_draw().unwrap();
        assert!(state.csrf_or_draw().unwrap().matches(&first));
        let other = Secret::draw().unwrap();
        state.settings.csrf = Some(other.clone());
        assert!(state.csrf_or_draw().unwrap().matches(&other));
        state.login(int(1), IndexSet::new());
        let next = state.csrf_or_draw().unwrap();
        assert!(
            !next.matches(&other) && !next.matches(&first),
            "not after a login"
        );
    }
}

#[test]
fn writes_outside_of_the_path_and_cross_site_are_refused() {
    let no_cookie = || loaded(LoadOutcome::New(NewReason::NoCookie));
    let may_write = |creation, loaded: Loaded| {
        let loaded = Loaded { creation, ..loaded };
        state(loaded, ROOM).check_may_write()
    };
    let live = || loaded(LoadOutcome::Live(stored(&[], None)));
    assert!(may_write(Creation::Allowed, no_cookie()).is_ok());
    let refused = may_write(Creation::OnlyByLogin, no_cookie());
    assert!(matches!(refused, Err(Error::CrossSiteWrite)));
    assert!(may_write(Creation::OnlyByLogin, live()).is_ok());
    let mut cross_site = state(
        Loaded {
            creation: Creation::OnlyByLogin,
            ..no_cookie()
        },
        ROOM,
    );
    cross_site.login(int(7), IndexSet::new());
    assert!(cross_site.check_may_write().is_ok(), "it is a login by now");
    for loaded in [no_cookie(), live()] {
        let refused = may_write(Creation::Never, loaded);
        assert!(matches!(refused, Err(Error::OutsidePath)));
    }
}
