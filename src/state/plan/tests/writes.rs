//! Writes: new documents, and updates and their filters.

use super::*;

// ---- new documents

#[test]
fn the_first_write_makes_a_document_with_all_that_there_is() {
    let mut state = fresh();
    state.change(name("a"), set(1)).unwrap();
    let create = create(&state, &config(), SECOND);
    let record = &create.record;
    assert_eq!(
        Some(&record.id),
        state.id(),
        "the name that the handler saw"
    );
    assert!(create.token.id == record.id);
    assert!(record.token.matches(&create.token.secret.digest("session")));
    assert_eq!(
        (record.created, record.accessed),
        (start(), start().plus(SECOND)),
        "as old as the handler was told"
    );
    assert_eq!(record.expires, start().plus(SECOND + TIMEOUT));
    assert_eq!(record.values, [(name("a"), RawBson::Int64(1))]);
    assert_eq!(
        (record.timeout, record.max_age, record.sent),
        (None, None, None)
    );
    assert!(create.cookie.is_none() && create.replaces.is_none());
    assert!(create.unless_overtaken.is_none() && create.marker_for.is_empty());
}

#[test]
fn a_new_session_has_the_times_that_it_set_for_itself() {
    let config = Config {
        lifetime: Some(DAY),
        max_age: Some(HOUR),
        ..config()
    };
    let mut state = fresh();
    state.settings.timeout = Some(None);
    state.settings.max_age = Some(Some(MINUTE));
    let made = create(&state, &config, SECOND);
    assert_eq!(made.record.expires, start().plus(DAY));
    assert_eq!(
        (made.record.timeout, made.record.max_age),
        (Some(None), Some(Some(MINUTE)))
    );
    assert_eq!(
        (made.cookie, made.record.sent),
        (Some(MINUTE), Some(start().plus(SECOND)))
    );
    state.settings.max_age = Some(None);
    let made = create(&state, &config, SECOND);
    assert_eq!(
        (made.cookie, made.record.sent),
        (None, None),
        "until the browser closes"
    );
}

#[test]
fn a_csrf_token_that_a_page_was_given_is_the_stored_one() {
    let mut state = fresh();
    let secret = state.csrf_or_draw().unwrap();
    assert!(
        create(&state, &config(), SECOND)
            .record
            .csrf
            .matches(&secret)
    );
}

#[test]
fn a_dead_cookies_session_is_looked_for_before_another_takes_its_place() {
    let id = Id::draw().unwrap();
    for arrival in [
        LoadOutcome::Dead(id.clone(), crate::state::NewReason::NotFound),
        LoadOutcome::Dead(id.clone(), crate::state::NewReason::Expired),
    ] {
        let mut state = State::new(arrival, start(), 1 << 20);
        state.change(name("a"), set(1)).unwrap();
        let made = create(&state, &config(), SECOND);
        assert_eq!(made.unless_overtaken.as_ref(), Some(&id));
        assert!(made.marker_for.is_empty());
        // A login is what overtakes.
        state.login(Some(RawBson::Int64(7)), Keep::Nothing);
        let made = create(&state, &config(), SECOND);
        assert!(made.unless_overtaken.is_none());
        assert_eq!(made.marker_for, std::slice::from_ref(&id));
    }
}

#[test]
fn a_login_is_a_new_document_that_replaces_the_old_one() {
    let mut state = one();
    let old = state.id().unwrap().clone();
    state.change(name("a"), Change::Add(1)).unwrap();
    state.login(Some(RawBson::Int64(7)), Keep::Fields(vec![name("a")]));
    state.change(name("a"), Change::Add(5)).unwrap();
    state.change(name("c"), set(3)).unwrap();
    let create = create(&state, &config(), MINUTE);
    assert!(create.record.id != old && create.token.id == create.record.id);
    assert_eq!(create.record.created, start().plus(MINUTE));
    assert_eq!(create.record.user, Some(RawBson::Int64(7)));
    let values = [
        (name("a"), RawBson::Int64(7)),
        (name("c"), RawBson::Int64(3)),
    ];
    assert_eq!(create.record.values, values);
    assert_eq!(create.marker_for, std::slice::from_ref(&old));
    let replaces = create.replaces.unwrap();
    assert!(replaces.old == old && !replaces.moves_ancestor);
    assert_eq!(replaces.before.get(&name("a")), Some(&Change::Add(1)));
    assert_eq!(replaces.after.get(&name("a")), Some(&Change::Add(5)));
}

#[test]
fn a_logout_ends_the_session_whatever_comes_after_it() {
    let mut state = one();
    let old = state.id().unwrap().clone();
    state.logout();
    let decision = decide(&state, &config(), start()).unwrap();
    assert_eq!(decision.end, std::slice::from_ref(&old));
    assert!(matches!(decision.write, Write::Nothing));
    state.change(name("a"), set(1)).unwrap();
    let decision = decide(&state, &config(), start()).unwrap();
    assert_eq!(decision.end, std::slice::from_ref(&old));
    let Write::Create(create) = decision.write else {
        panic!("{}", kind(&decision.write));
    };
    assert!(create.record.id != old && create.replaces.is_none());
}

// ---- updates

#[test]
fn a_write_names_the_fields_that_it_changed_and_asks_for_the_id_alone() {
    let mut state = live(&record(
        &[("a", 1), ("b", 2), ("n", 3)].map(|(n, v)| (name(n), RawBson::Int64(v))),
    ));
    state.change(name("a"), set(5)).unwrap();
    state.change(name("b"), Change::Unset).unwrap();
    state.change(name("n"), Change::Add(4)).unwrap();
    state
        .change(name("x.y"), Change::Append(vec![RawBson::Int64(6)]))
        .unwrap();
    let alter = alter(&state, &config(), Duration::ZERO);
    let expected = doc! {
        "$set": { "value.a": 5_i64 },
        "$unset": { "value.b": true },
        "$inc": { "value.n": 4_i64 },
        "$push": { "value.x%2Ey": { "$each": [6_i64] } },
    };
    assert_eq!(read(alter.update.to_bson()), expected);
    assert_eq!(
        alter.filter.only_id(),
        state.id().map(Id::as_str),
        "so that it can travel with others"
    );
    assert!(alter.cookie.is_none() && alter.without_token.is_none() && alter.relative.is_empty());
    assert_eq!(alter.durability, Durability::Data);
}

#[test]
fn a_write_notes_the_use_of_the_session_unless_it_did_just_now() {
    let mut state = one();
    state.change(name("a"), set(5)).unwrap();
    let early = alter(&state, &config(), Duration::from_millis(999));
    assert_eq!(paths(&early.update), names(&["value.a"]));
    let alter = alter(&state, &config(), SECOND);
    let rendered = read(alter.update.to_bson());
    let expires = date(start().plus(SECOND + TIMEOUT));
    let times = doc! { "accessed": start().plus(SECOND).seconds(), "expires": expires };
    assert_eq!(
        rendered.get_document("$max").unwrap(),
        &times,
        "and never back"
    );
    assert_eq!(
        paths(&alter.update),
        names(&["accessed", "expires", "value.a"])
    );
}

#[test]
fn a_write_after_the_loaded_expiry_asks_whether_the_session_still_lives() {
    let mut state = one();
    state.change(name("a"), set(5)).unwrap();
    let in_time = alter(&state, &config(), TIMEOUT);
    assert_eq!(conditions(&in_time.filter), names(&["_id"]));
    let late = TIMEOUT + Duration::from_millis(1);
    let late_one = alter(&state, &config(), late);
    let filter = read(late_one.filter.to_bson());
    let condition = doc! { "$gte": date(start().plus(late)) };
    assert_eq!(filter.get_document("expires").unwrap(), &condition);
    // The configuration of today counts, too.
    let config = Config {
        lifetime: Some(MINUTE),
        ..config()
    };
    let filter = alter(&state, &config, MINUTE + SECOND).filter;
    assert_eq!(conditions(&filter), names(&["_id", "expires"]));
}

#[test]
fn the_sessions_own_timeout_moves_its_end_both_ways() {
    for (timeout, expected) in [
        (Some(MINUTE), start().plus(SECOND + MINUTE)),
        (Some(DAY), start().plus(SECOND + DAY)),
        (None, Moment::NEVER),
    ] {
        let mut state = one();
        state.settings.timeout = Some(timeout);
        let alter = alter(&state, &config(), SECOND);
        let rendered = read(alter.update.to_bson());
        let set = rendered.get_document("$set").unwrap();
        assert_eq!(set.get_datetime("expires").unwrap(), &date(expected));
        assert!(set.contains_key("timeout"));
        assert_eq!(
            paths(&alter.update),
            names(&["accessed", "expires", "timeout"])
        );
        assert!(alter.cookie.is_none());
    }
}

#[test]
fn a_new_csrf_secret_is_a_write() {
    let mut state = one();
    state.set_csrf(Secret::draw().unwrap());
    let alter = alter(&state, &config(), Duration::ZERO);
    assert_eq!(paths(&alter.update), names(&["csrf"]));
    assert!(alter.cookie.is_none());
}

#[test]
fn an_opaque_value_is_counted_in_by_compare_and_set() {
    let opaque = RawBson::Binary(bson::Binary {
        subtype: bson::spec::BinarySubtype::UserDefined(0x80),
        bytes: vec![b'c', 5], // CBOR's 5
    });
    let mut state = live(&record(&[(name("a"), opaque)]));
    state.change(name("a"), Change::Add(1)).unwrap();
    let counted = alter(&state, &config(), Duration::ZERO);
    assert!(counted.update.is_empty());
    assert_eq!(counted.relative.get(&name("a")), Some(&Change::Add(1)));
    state.change(name("a"), set(9)).unwrap();
    let replaced = alter(&state, &config(), Duration::ZERO);
    assert!(replaced.relative.is_empty() && paths(&replaced.update) == names(&["value.a"]));
}
