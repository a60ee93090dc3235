//! Login, elevation and logout.

use super::*;
use crate::document::Document;
use crate::record::legacy::LegacySession;

#[test]
fn a_login_has_none_of_the_earlier_data() {
    let (mut state, old) = changed();
    state.settings.timeout = Some(None);
    state.login(Some(int(8)), Keep::Nothing);
    assert!(values(&state).is_empty() && state.changes.is_empty() && state.is_new);
    assert_eq!(state.user(), Some(&int(8)));
    assert!(state.id().is_some_and(|id| *id != old));
    assert!(state.csrf().is_none() && state.settings.timeout.is_none());
    let replaces = new(&state).replaces.as_ref().unwrap();
    assert_eq!(replaces.old.id(), &old);
    assert!(state.ended.is_empty() && !state.removal);
}

#[test]
fn a_login_carries_the_named_keys_as_the_request_sees_them() {
    let (mut state, _) = changed();
    state.change(name("c"), set(3)).unwrap();
    state.login(
        Some(int(8)),
        Keep::Fields(vec![name("a"), name("c"), name("none")]),
    );
    assert_eq!(values(&state), [(name("a"), int(11)), (name("c"), int(3))]);
    let replaces = new(&state).replaces.as_ref().unwrap();
    assert_eq!(replaces.before.get(&name("a")), Some(&Change::Add(10)));
    state.change(name("a"), Change::Add(1)).unwrap();
    assert_eq!(state.get(&name("a")), Some(int(12)));
    assert_eq!(state.changes.get(&name("a")), Some(&Change::Add(1)));
}

#[test]
fn a_second_login_replaces_the_stored_session_and_keeps_what_both_keep() {
    let (mut state, old) = changed();
    state.login(Some(int(8)), Keep::Fields(vec![name("a"), name("b")]));
    let first = state.id().unwrap().clone();
    state.change(name("a"), Change::Add(100)).unwrap();
    state.login(Some(int(9)), Keep::Fields(vec![name("a"), name("c")]));
    assert!(state.id().is_some_and(|id| *id != first && *id != old));
    assert_eq!(values(&state), [(name("a"), int(111))]);
    assert_eq!(state.user(), Some(&int(9)));
    let replaces = new(&state).replaces.as_ref().unwrap();
    assert_eq!(replaces.old.id(), &old);
    assert_eq!(replaces.before.get(&name("a")), Some(&Change::Add(110)));
    assert!(replaces.keep.has(&name("a")));
    assert!(!replaces.keep.has(&name("b")) && !replaces.keep.has(&name("c")));
}

#[test]
fn a_login_without_a_stored_session_replaces_none() {
    let mut state = fresh();
    state.change(name("a"), set(1)).unwrap();
    state.login(Some(int(8)), Keep::All);
    assert!(new(&state).replaces.is_none());
    assert_eq!(values(&state), [(name("a"), int(1))]);
}

#[test]
fn elevation_keeps_the_principal_the_data_and_the_sessions_own_times() {
    let day = Some(Duration::from_secs(86_400));
    let mut record = record(&[(name("a"), int(1))], Some(int(7)));
    (record.timeout, record.max_age) = (Some(None), Some(day));
    let mut state = State::new(LoadOutcome::Live(stored(&record)), moment(), ROOM);
    state.settings.timeout = Some(day);
    state.login(None, Keep::All);
    assert_eq!(state.user(), Some(&int(7)));
    assert_eq!(values(&state), [(name("a"), int(1))]);
    assert_eq!(
        (state.settings.timeout, state.settings.max_age),
        (Some(day), Some(day))
    );
    assert!(state.csrf().is_none(), "but not the CSRF secret");
    state.login(Some(int(7)), Keep::All);
    assert!(state.settings.timeout.is_none() && state.settings.max_age.is_none());
}

#[test]
fn logout_forgets_everything_and_ends_the_stored_session() {
    let (mut state, old) = changed();
    state.settings.max_age = Some(None);
    state.logout();
    assert_eq!(state.ended, std::slice::from_ref(&old));
    assert!(state.removal && state.is_new && !state.is_wanted());
    assert!(values(&state).is_empty() && state.user().is_none() && state.id().is_none());
    assert!(state.settings.max_age.is_none());
    state.change(name("a"), set(1)).unwrap();
    assert!(
        state.id().is_some_and(|id| *id != old),
        "later use has another id"
    );
    state.logout();
    assert_eq!(state.ended, [old], "what was never stored needs no end");
}

#[test]
fn logout_after_a_login_ends_the_session_that_was_to_be_replaced() {
    let (mut state, old) = changed();
    state.login(Some(int(8)), Keep::All);
    state.logout();
    assert_eq!(state.ended, [old]);
    assert!(state.removal);
}

#[test]
fn logout_ends_an_expired_session_but_nobody_elses() {
    let id = Id::draw().unwrap();
    let mut state = State::new(
        LoadOutcome::Dead(id.clone(), crate::state::NewReason::Expired),
        moment(),
        ROOM,
    );
    state.logout();
    assert_eq!(state.ended, std::slice::from_ref(&id));
    assert!(state.removal && state.dead.is_none());
    // A cookie with a wrong secret names a session that is not this browser's.
    let mut state = State::new(
        LoadOutcome::Dead(id, crate::state::NewReason::NotFound),
        moment(),
        ROOM,
    );
    state.logout();
    assert!(state.ended.is_empty() && !state.removal);
}

#[test]
fn an_answer_that_is_not_sent_drops_the_changes_and_no_logout() {
    let (mut state, old) = changed();
    state.settings.renew = true;
    state.discard();
    assert!(state.changes.is_empty() && !state.settings.renew);
    assert_eq!(state.get(&name("a")), Some(int(1)));
    state.login(Some(int(8)), Keep::Nothing);
    state.discard();
    assert_eq!(
        state.id(),
        Some(&old),
        "a login that is not answered did not happen"
    );
    assert_eq!(state.user(), Some(&int(7)));
    assert!(!state.is_new);
    state.logout();
    state.change(name("a"), set(5)).unwrap();
    state.discard();
    assert!(values(&state).is_empty() && state.ended == [old] && state.removal);
}

// ---- the ancestor's

fn ancestor() -> State {
    let document = bson::doc! {
        "_id": "0123456789abcdef0123456789abcdef",
        "created": 5.0,
        "accessed": 6.0,
        "value": { "a": 1_i64 },
    };
    let ancestor = LegacySession::parse(&Document::from_bson(&document)).unwrap();
    State::new(LoadOutcome::Legacy(Box::new(ancestor)), moment(), ROOM)
}

#[test]
fn an_ancestors_session_is_read_as_it_is_and_moves_when_it_changes() {
    let mut state = ancestor();
    assert!(!state.is_wanted() && !state.is_new && state.id().is_none());
    assert_eq!(values(&state), [(name("a"), int(1))]);
    state.change(name("a"), Change::Add(1)).unwrap();
    assert!(state.is_wanted() && state.id().is_some());
    assert!(new(&state).ancestor().is_some());
    state.discard();
    assert!(!state.is_wanted(), "and not without a reason");
    state.settings.renew = true;
    assert!(state.is_wanted());
}

#[test]
fn a_login_replaces_an_ancestors_session_and_a_logout_ends_it() {
    let mut state = ancestor();
    state.login(Some(int(8)), Keep::Fields(vec![name("a")]));
    assert!(new(&state).ancestor().is_none(), "it does not go on");
    assert!(new(&state).replaces.is_some());
    assert_eq!(values(&state), [(name("a"), int(1))]);
    state.logout();
    assert_eq!(state.ended[0].as_str(), "0123456789abcdef0123456789abcdef");
    assert!(state.removal);
}
