//! Login, elevation and logout.

use indexmap::IndexSet;

use super::*;

#[test]
fn login_has_none_of_the_earlier_data() {
    let (mut state, old) = changed();
    state.settings.times.timeout = Some(Override::Set(None));
    state.login(int(8), IndexSet::new());
    assert!(values(&state).is_empty() && state.changes.is_empty() && state.is_new);
    assert_eq!(state.user(), Some(&int(8)));
    assert!(state.public_id().is_none() && state.csrf().is_none());
    assert!(state.settings.is_empty());
    assert_eq!(login(&state).replaces.as_ref().unwrap().id(), &old);
    assert!(state.ended.is_empty() && !state.removes_cookie);
}

#[test]
fn login_carries_the_named_keys_as_the_request_sees_them() {
    let (mut state, _) = changed();
    state.change(name("c"), set(3)).unwrap();
    let keep = IndexSet::from([name("a"), name("c"), name("none")]);
    state.login(int(8), keep);
    assert_eq!(values(&state), [(name("a"), int(11)), (name("c"), int(3))]);
    let replaces = login(&state).replaces.as_ref().unwrap();
    assert_eq!(replaces.before.get(&name("a")), Some(&Change::Add(10)));
    state.change(name("a"), Change::Add(1)).unwrap();
    assert_eq!(state.get(&name("a")).unwrap(), Some(int(12)));
    assert_eq!(state.changes.get(&name("a")), Some(&Change::Add(1)));
}

#[test]
fn second_login_replaces_the_stored_session_and_keeps_what_both_keep() {
    let (mut state, old) = changed();
    state.login(int(8), IndexSet::from([name("a"), name("b")]));
    state.change(name("a"), Change::Add(100)).unwrap();
    state.login(int(9), IndexSet::from([name("a"), name("c")]));
    assert_eq!(values(&state), [(name("a"), int(111))]);
    assert_eq!(state.user(), Some(&int(9)));
    let replaces = login(&state).replaces.as_ref().unwrap();
    assert_eq!(replaces.id(), &old);
    assert_eq!(replaces.before.get(&name("a")), Some(&Change::Add(110)));
    assert!(replaces.keep.contains(&name("a")));
    assert!(!replaces.keep.contains(&name("b")) && !replaces.keep.contains(&name("c")));
}

#[test]
fn login_without_a_stored_session_replaces_none() {
    let mut state = fresh();
    state.change(name("a"), set(1)).unwrap();
    state.login(int(8), IndexSet::from([name("a")]));
    assert!(login(&state).replaces.is_none());
    assert_eq!(values(&state), [(name("a"), int(1))]);
}

#[test]
fn second_login_of_a_browser_gets_the_kept_keys_and_proves_its_form() {
    let csrf = Secret::draw().unwrap();
    let kept = vec![(name("basket"), int(3)), (name("other"), int(4))];
    let replaced = |proof| {
        let id = Id::draw().unwrap();
        loaded(LoadOutcome::Replaced(Box::new(Replaced { id, proof })))
    };
    let proof = Proof {
        csrf: csrf.clone(),
        kept,
    };
    let mut proven = state(replaced(Some(proof)), ROOM);
    assert_eq!(proven.why_new, Some(NewReason::Replaced));
    assert!(proven.csrf().unwrap().matches(&csrf));
    let keep = || IndexSet::from([name("basket")]);
    proven.login(int(8), keep());
    assert_eq!(values(&proven), [(name("basket"), int(3))]);
    proven.logout();
    assert!(proven.csrf().is_none(), "a logout forgets the proof");
    proven.login(int(8), keep());
    assert!(values(&proven).is_empty());
    let mut unproven = state(replaced(None), ROOM);
    assert!(unproven.csrf().is_none());
    unproven.login(int(8), IndexSet::from([name("basket")]));
    assert!(values(&unproven).is_empty());
}

#[test]
fn elevation_keeps_user_data_and_id() {
    let (mut state, id) = changed();
    state.settings.token = TokenChange::Elevate;
    assert_eq!(state.user(), Some(&int(7)));
    assert_eq!(state.public_id(), Some(&id));
    assert!(!state.is_new && state.sets_times());
    let now = moment().plus(Duration::from_secs(60));
    assert_eq!(state.created(now), now, "the absolute timeout starts anew");
}

#[test]
fn logout_forgets_everything_and_ends_the_stored_session() {
    let (mut state, old) = changed();
    state.settings.times.max_age = Some(Override::Set(None));
    state.logout();
    assert_eq!(ended_ids(&state), std::slice::from_ref(&old));
    assert!(state.removes_cookie && state.is_new && !state.is_wanted());
    assert_eq!(state.why_new, Some(NewReason::Ended));
    assert!(values(&state).is_empty() && state.user().is_none());
    assert!(state.public_id().is_none() && state.settings.is_empty());
    state.change(name("a"), set(1)).unwrap();
    state.logout();
    assert_eq!(
        ended_ids(&state),
        [old],
        "what was never stored needs no end"
    );
}

#[test]
fn logout_after_a_login_ends_the_session_that_was_to_be_replaced() {
    let (mut state, old) = changed();
    state.login(int(8), IndexSet::new());
    state.logout();
    assert_eq!(ended_ids(&state), [old]);
    assert!(state.removes_cookie);
}

#[test]
fn logout_ends_every_session_that_the_request_proves() {
    let ids = [Id::draw().unwrap(), Id::draw().unwrap()];
    let mut several = state(
        Loaded {
            other_sessions: ids.to_vec(),
            ..loaded(LoadOutcome::New(NewReason::Ambiguous))
        },
        ROOM,
    );
    several.logout();
    assert_eq!(ended_ids(&several), ids);
}

/// A failover may bring back what was not found, and a slower clock what has expired.
#[test]
fn logout_ends_a_session_that_was_not_alive() {
    let id = Id::draw().unwrap();
    for reason in [NewReason::Expired, NewReason::NotFound] {
        let mut dead = state(
            Loaded {
                not_alive: vec![id.clone().into()],
                ..loaded(LoadOutcome::Dead(id.clone(), reason))
            },
            ROOM,
        );
        dead.logout();
        assert_eq!(ended_ids(&dead), std::slice::from_ref(&id), "{reason:?}");
        dead.logout();
        assert_eq!(dead.ended.len(), 1, "{reason:?}: once is enough");
    }
}

/// It may be another user's.
#[test]
fn logout_ends_no_session_with_another_secret() {
    let dead = LoadOutcome::Dead(Id::draw().unwrap(), NewReason::WrongSecret);
    let mut dead = state(loaded(dead), ROOM);
    dead.logout();
    assert!(dead.ended.is_empty() && dead.removes_cookie);
}

#[test]
fn every_session_that_several_cookies_name_is_a_dead_one() {
    let ids: Vec<Id> = (0..2).map(|_| Id::draw().unwrap()).collect();
    let several = state(
        Loaded {
            other_sessions: ids[..1].to_vec(),
            not_alive: vec![ids[1].clone().into()],
            ..loaded(LoadOutcome::New(NewReason::Ambiguous))
        },
        ROOM,
    );
    assert_eq!(several.dead, ids);
    assert!(!several.dead_is_looked_up);
}

#[test]
fn login_ends_every_session_that_the_request_proves() {
    let ids = vec![Id::draw().unwrap(), Id::draw().unwrap()];
    let several = || {
        let outcome = LoadOutcome::New(NewReason::Ambiguous);
        let other_sessions = ids.clone();
        let mut several = state(
            Loaded {
                other_sessions,
                ..loaded(outcome)
            },
            ROOM,
        );
        several.login(int(7), IndexSet::new());
        several
    };
    assert_eq!(login(&several()).other_sessions, ids);
    let mut again = several();
    again.login(int(8), IndexSet::new());
    assert_eq!(
        login(&again).other_sessions,
        ids,
        "a second login ends them, too"
    );
    let mut ended = several();
    ended.logout();
    assert_eq!(ended_ids(&ended), ids);
    let mut dropped = several();
    dropped.discard();
    assert!(
        dropped.ended.is_empty(),
        "a login that is dropped ends none"
    );
    dropped.logout();
    assert_eq!(ended_ids(&dropped), ids);
}

#[test]
fn logout_removes_a_cookie_only_if_one_was_brought() {
    let mut malformed = state(loaded(LoadOutcome::New(NewReason::Malformed)), ROOM);
    malformed.logout();
    assert!(malformed.removes_cookie);
    let mut visitor = fresh();
    visitor.logout();
    assert!(!visitor.removes_cookie);
}

#[test]
fn discard_drops_the_changes_and_not_a_logout() {
    let (mut state, old) = changed();
    state.settings.token = TokenChange::Renew;
    state.discard();
    assert!(state.changes.is_empty() && state.settings.is_empty());
    assert_eq!(state.get(&name("a")).unwrap(), Some(int(1)));
    state.login(int(8), IndexSet::new());
    state.discard();
    assert_eq!(state.public_id(), Some(&old), "the login did not happen");
    assert_eq!(state.user(), Some(&int(7)));
    assert!(!state.is_new);
    state.logout();
    state.change(name("a"), set(5)).unwrap();
    state.discard();
    assert!(values(&state).is_empty() && ended_ids(&state) == [old] && state.removes_cookie);
}

#[test]
fn lost_session_is_the_browsers_dead_one() {
    let (mut state, old) = changed();
    state.session_ended();
    assert_eq!(state.dead, [old]);
    assert!(!state.dead_is_looked_up, "it was alive when it was loaded");
    assert!(state.is_new && state.why_new == Some(NewReason::Ended));
    assert!(values(&state).is_empty() && !state.is_pending());
}
