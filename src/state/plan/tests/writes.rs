//! Writes: new documents, and updates and their filters.

use indexmap::IndexSet;

use super::*;

// ---- new documents

#[test]
fn first_write_makes_a_document_with_all_that_there_is() {
    let mut state = fresh();
    state.change(name("a"), set(1)).unwrap();
    let plan = insert(&state, &config(), SECOND);
    let id = Id::draw().unwrap();
    let meta = plan.meta(id.clone(), None);
    assert_eq!(meta.id, id, "drawn for each attempt");
    assert_eq!(
        (meta.times.created, meta.times.accessed),
        (start(), start().plus(SECOND)),
        "as old as the handler was told"
    );
    assert_eq!(meta.times.expires, start().plus(SECOND + TIMEOUT));
    assert_eq!(plan.values, [(name("a"), RawBson::Int64(1))]);
    assert_eq!(meta.times.own, OwnTimes::default());
    assert_eq!((meta.sent, plan.cookie), (None, None));
    assert!(plan.login.is_none() && plan.dead.is_empty());
}

#[test]
fn new_session_has_the_times_that_it_set_for_itself() {
    let config = Config {
        lifetime: Some(DAY),
        max_age: Some(HOUR),
        ..config()
    };
    let mut state = fresh();
    state.settings.times.timeout = Some(Override::Set(None));
    state.settings.times.max_age = Some(own(MINUTE));
    let meta = |plan: &InsertPlan| plan.meta(Id::draw().unwrap(), None);
    let made = insert(&state, &config, SECOND);
    assert_eq!(meta(&made).times.expires, start().plus(DAY));
    assert_eq!(meta(&made).times.own.timeout, Override::Set(None));
    assert_eq!(meta(&made).times.own.max_age, own(MINUTE));
    assert_eq!(made.cookie, Some(MINUTE));
    assert_eq!(meta(&made).sent, Some(start().plus(SECOND)));
    state.settings.times.lifetime = Some(own(HOUR));
    let made = insert(&state, &config, SECOND);
    assert_eq!(meta(&made).times.expires, start().plus(HOUR));
    state.settings.times.max_age = Some(Override::Set(None));
    let made = insert(&state, &config, SECOND);
    assert_eq!((made.cookie, meta(&made).sent), (None, None));
}

#[test]
fn csrf_token_that_a_page_was_given_is_the_stored_one() {
    let mut state = fresh();
    let secret = state.csrf_or_draw().unwrap();
    assert!(insert(&state, &config(), SECOND).csrf.matches(&secret));
}

/// Several cookies may name one session, with different secrets.
#[test]
fn login_makes_one_tombstone_for_each_session_that_it_replaces() {
    let [one, other] = [(); 2].map(|()| Id::draw().unwrap());
    let mut state = begun(Loaded {
        other_sessions: vec![one.clone(), one.clone()],
        not_alive: vec![one.clone().into(), other.clone().into()],
        ..loaded(LoadOutcome::New(NewReason::Ambiguous))
    });
    state.login(RawBson::Int64(7), IndexSet::new());
    let login = insert(&state, &config(), SECOND).login.unwrap();
    assert!(login.replaces.is_none());
    assert_eq!(login.displaced, [one, other]);
}

/// That login has made one, with its proof.
#[test]
fn login_leaves_the_tombstone_of_a_login_that_it_joins() {
    let id = Id::draw().unwrap();
    let replaced = Replaced {
        id: id.clone(),
        proof: None,
    };
    let mut state = begun(Loaded {
        not_alive: vec![id.clone().into()],
        ..loaded(LoadOutcome::Replaced(Box::new(replaced)))
    });
    state.logout();
    state.login(RawBson::Int64(7), IndexSet::new());
    let login = insert(&state, &config(), SECOND).login.unwrap();
    assert!(login.replaces.is_none() && login.displaced.is_empty());
    assert_eq!(login.joins, Some(id));
}

#[test]
fn dead_cookie_is_looked_up_before_a_session_takes_its_place() {
    let id = Id::draw().unwrap();
    for reason in [NewReason::NotFound, NewReason::Expired] {
        let mut state = state(LoadOutcome::Dead(id.clone(), reason));
        state.change(name("a"), set(1)).unwrap();
        let made = insert(&state, &config(), SECOND);
        assert_eq!(made.dead, std::slice::from_ref(&id));
        // A login replaces it in the browser.
        state.login(RawBson::Int64(7), IndexSet::new());
        let made = insert(&state, &config(), SECOND);
        assert!(made.dead.is_empty());
        let login = made.login.unwrap();
        assert!(login.replaces.is_none());
        assert_eq!(login.displaced, std::slice::from_ref(&id));
    }
    // With another secret it may be another user's session.
    let mut state = state(LoadOutcome::Dead(id, NewReason::WrongSecret));
    state.login(RawBson::Int64(7), IndexSet::new());
    let made = insert(&state, &config(), SECOND);
    let login = made.login.unwrap();
    assert!(login.replaces.is_none() && login.displaced.is_empty());
}

#[test]
fn session_that_a_login_replaced_a_moment_ago_gets_no_successor_but_a_login() {
    let id = Id::draw().unwrap();
    let proof = Some(Proof {
        csrf: Secret::draw().unwrap(),
        kept: vec![(name("basket"), RawBson::Int64(3))],
    });
    let replaced = Replaced {
        id: id.clone(),
        proof,
    };
    let mut state = state(LoadOutcome::Replaced(Box::new(replaced)));
    assert!(matches!(write(&state, &config(), SECOND), Write::Nothing));
    state.change(name("a"), set(1)).unwrap();
    let dropped = write(&state, &config(), SECOND);
    assert!(matches!(dropped, Write::DropForReplaced));
    state.login(RawBson::Int64(7), IndexSet::from([name("basket")]));
    let made = insert(&state, &config(), SECOND);
    assert_eq!(made.values, [(name("basket"), RawBson::Int64(3))]);
    let login = made.login.unwrap();
    assert_eq!(login.joins, Some(id));
    assert!(login.replaces.is_none() && login.displaced.is_empty());
}

#[test]
fn login_is_a_new_document_that_replaces_the_old_one() {
    let mut state = one();
    let old = state.public_id().unwrap().clone();
    let (token, csrf) = {
        let record = &state.stored().unwrap().record;
        (record.token.clone(), record.csrf().clone())
    };
    state.change(name("a"), Change::Add(1)).unwrap();
    state.login(RawBson::Int64(7), IndexSet::from([name("a")]));
    state.change(name("a"), Change::Add(5)).unwrap();
    state.change(name("c"), set(3)).unwrap();
    let plan = insert(&state, &config(), MINUTE);
    let meta = plan.meta(Id::draw().unwrap(), None);
    assert_eq!(meta.times.created, start().plus(MINUTE));
    assert_eq!(meta.user, Some(RawBson::Int64(7)));
    let values = [
        (name("a"), RawBson::Int64(7)),
        (name("c"), RawBson::Int64(3)),
    ];
    assert_eq!(plan.values, values);
    let login = plan.login.unwrap();
    assert!(login.displaced.is_empty());
    let replaces = login.replaces.unwrap();
    assert_eq!(replaces.id(), &old);
    let Stored { record, token: own } = &*replaces.old;
    assert!(own.id == old && own.digest("session").matches(&token));
    assert!(record.csrf().matches(&csrf));
    assert_eq!(replaces.before.get(&name("a")), Some(&Change::Add(1)));
    assert_eq!(login.after.get(&name("a")), Some(&Change::Add(5)));
}

#[test]
fn logout_ends_the_session_whatever_comes_after_it() {
    let mut state = one();
    let old = state.public_id().unwrap().clone();
    state.logout();
    let made = plan(&state, &config(), start()).unwrap();
    assert!(made.delete.len() == 1 && made.delete[0].id == old);
    assert!(matches!(made.write, Write::Nothing));
    state.change(name("a"), set(1)).unwrap();
    let made = plan(&state, &config(), start()).unwrap();
    assert!(made.delete.len() == 1 && made.delete[0].id == old);
    assert!(matches!(made.write, Write::Insert(insert) if insert.login.is_none()));
}

// ---- updates

#[test]
fn write_names_the_changed_fields_and_can_share_a_command() {
    let values = [("a", 1), ("b", 2), ("n", 3)].map(|(n, v)| (name(n), RawBson::Int64(v)));
    let mut state = live(meta(), &values);
    state.change(name("a"), set(5)).unwrap();
    state.change(name("b"), Change::Unset).unwrap();
    state.change(name("n"), Change::Add(4)).unwrap();
    state
        .change(name("x.y"), Change::Append(vec![RawBson::Int64(6)]))
        .unwrap();
    let plan = update(&state, &config(), Duration::ZERO);
    let expected = doc! {
        "$set": { "value.a": 5_i64 },
        "$unset": { "value.b": true },
        "$inc": { "value.n": 4_i64 },
        "$push": { "value.x%2Ey": { "$each": [6_i64] } },
    };
    assert_eq!(read(plan.values.update.to_bson()), expected);
    assert_eq!(
        plan.values.alive().wanted_id(),
        state.public_id().map(Id::as_str)
    );
    assert!(plan.values.alive().may_share());
    assert!(plan.with_token.is_none() && !plan.values.needs_compare_and_set);
    assert_eq!(plan.values.durability, Durability::Data);
}

#[test]
fn a_write_notes_the_use_of_the_session_unless_it_did_just_now() {
    let mut state = one();
    state.change(name("a"), set(5)).unwrap();
    let early = update(&state, &config(), Duration::from_millis(999));
    assert_eq!(paths(&early.values.update), names(&["value.a"]));
    let plan = update(&state, &config(), SECOND);
    let rendered = read(plan.values.update.to_bson());
    let expires = date(start().plus(SECOND + TIMEOUT));
    let times = doc! { "accessed": start().plus(SECOND).seconds(), "expires": expires };
    assert_eq!(
        rendered.get_document("$max").unwrap(),
        &times,
        "and never back"
    );
    assert_eq!(
        paths(&plan.values.update),
        names(&["accessed", "expires", "value.a"])
    );
}

#[test]
fn write_asks_whether_the_session_is_still_alive() {
    let mut state = one();
    state.change(name("a"), set(5)).unwrap();
    for after in [Duration::ZERO, TIMEOUT, TIMEOUT + SECOND] {
        let filter = read(update(&state, &config(), after).values.alive().to_bson());
        let condition = doc! { "$not": { "$lt": date(start().plus(after)) } };
        assert_eq!(filter.get_document("expires").unwrap(), &condition);
        assert_eq!(filter.len(), 2);
    }
}

#[test]
fn the_sessions_own_timeout_moves_its_end_both_ways() {
    for (timeout, expected) in [
        (Some(MINUTE), start().plus(SECOND + MINUTE)),
        (Some(DAY), start().plus(SECOND + DAY)),
        (None, Moment::NEVER),
    ] {
        let mut state = one();
        state.settings.times.timeout = Some(Override::Set(timeout));
        let plan = update(&state, &config(), SECOND);
        let rendered = read(whole(&plan).to_bson());
        let set = rendered.get_document("$set").unwrap();
        assert_eq!(set.get_datetime("expires").unwrap(), &date(expected));
        assert!(set.contains_key("timeout"));
        assert_eq!(
            paths(&whole(&plan)),
            names(&["accessed", "expires", "timeout"])
        );
        assert!(cookie(&plan).is_none());
    }
}

#[test]
fn new_csrf_secret_is_a_write() {
    let mut state = one();
    state.settings.csrf = Some(Secret::draw().unwrap());
    let plan = update(&state, &config(), Duration::ZERO);
    assert_eq!(paths(&whole(&plan)), names(&["csrf"]));
    assert!(cookie(&plan).is_none());
}

#[test]
fn an_opaque_value_is_counted_in_by_compare_and_set() {
    let opaque = RawBson::Binary(bson::Binary {
        subtype: bson::spec::BinarySubtype::UserDefined(0x80),
        bytes: vec![b'c', 5], // CBOR's 5
    });
    let mut state = live(meta(), &[(name("a"), opaque)]);
    state.change(name("a"), Change::Add(1)).unwrap();
    let counted = update(&state, &config(), Duration::ZERO);
    assert!(counted.values.update.is_empty() && counted.values.needs_compare_and_set);
    assert_eq!(counted.values.compared, [(name("a"), Change::Add(1))]);
    state.change(name("a"), set(9)).unwrap();
    let replaced = update(&state, &config(), Duration::ZERO);
    assert!(
        !replaced.values.needs_compare_and_set
            && paths(&replaced.values.update) == names(&["value.a"])
    );
}

#[test]
fn an_update_says_whether_it_moves_the_time_of_expiry() {
    let mut state = one();
    state.change(name("a"), set(9)).unwrap();
    let plan = |after| update(&state, &config(), after);
    assert!(!plan(Duration::ZERO).values.may_move_expires());
    assert!(plan(MINUTE).values.may_move_expires(), "a use is recorded");
    let mut legacy = legacy();
    legacy.change(name("a"), set(9)).unwrap();
    let first = update(&legacy, &config(), Duration::ZERO);
    assert!(first.values.may_move_expires(), "it stores `expires`");
}

#[test]
fn token_that_was_handed_out_and_is_stored_changes_nothing() {
    let config = Config {
        transport: Transport::Bearer,
        ..config()
    };
    let mut state = one();
    state.settings.issued = state.stored().map(|stored| stored.token.clone());
    assert!(touched(&mut state, &config, Duration::ZERO).is_none());
}
