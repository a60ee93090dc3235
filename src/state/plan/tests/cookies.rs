//! Which writes send a cookie, and what they ask for then.

use super::*;

#[test]
fn a_renewal_is_one_update_of_the_token_that_was_loaded() {
    let before = record(&[(name("a"), RawBson::Int64(1))]);
    let mut state = live(&before);
    state.change(name("a"), set(5)).unwrap();
    state.settings.renew = true;
    let alter = alter(&state, &config(), Duration::ZERO);
    let changed = ["accessed", "expires", "renewed", "token", "value.a"];
    assert_eq!(paths(&alter.update), names(&changed));
    assert_eq!(conditions(&alter.filter), names(&["_id", "token"]));
    assert_eq!(alter.durability, Durability::Identity);
    let Base::Stored(old) = &state.base else {
        panic!("it stays the same session")
    };
    let (token, life) = alter.cookie.as_ref().unwrap();
    assert!(token.id == old.token.id && !token.secret.matches(&old.token.secret));
    assert_eq!(*life, None);
    // What the browser gets is what is stored.
    let stored = old.record.after(&alter.update).unwrap();
    assert!(stored.token.matches(&token.secret.digest("session")));
    assert!(stored.csrf.matches(&old.record.csrf));
    assert!(alter.filter.matches(&before.document()));
    // Overtaken by another renewal, the data goes alone.
    let (filter, update) = alter.without_token.as_ref().unwrap();
    assert_eq!(conditions(filter), names(&["_id"]));
    assert_eq!(paths(update), names(&["accessed", "expires", "value.a"]));
}

#[test]
fn touch_sends_the_cookie_that_the_browser_has() {
    let mut state = one();
    state.settings.touch = true;
    let alter = alter(&state, &config(), Duration::ZERO);
    assert_eq!(paths(&alter.update), names(&["accessed", "expires"]));
    assert_eq!(conditions(&alter.filter), names(&["_id", "token"]));
    let Base::Stored(old) = &state.base else {
        panic!("it stays the same session")
    };
    let (token, _) = alter.cookie.unwrap();
    assert!(token.secret.matches(&old.token.secret));
    assert_eq!(alter.durability, Durability::Data);
}

#[test]
fn set_max_age_sends_the_cookie_with_its_new_life() {
    for (max_age, sent) in [(Some(DAY), true), (None, false)] {
        let mut state = one();
        state.settings.max_age = Some(max_age);
        let alter = alter(&state, &config(), Duration::ZERO);
        let paths = paths(&alter.update);
        assert!(paths.contains("max_age"));
        assert_eq!(
            paths.contains("sent"),
            sent,
            "noted for a cookie with a life alone"
        );
        assert_eq!(alter.cookie.unwrap().1, max_age);
    }
}

/// A session whose cookie was sent at `start`.
fn sent(own: record::Own) -> State {
    let mut record = record(&[(name("a"), RawBson::Int64(1))]);
    (record.sent, record.max_age) = (Some(start()), own);
    record.expires = start().plus(DAY * 10);
    live(&record)
}

#[test]
fn a_cookie_with_a_life_is_sent_again_once_a_tenth_of_it_or_reissue_time_has_passed() {
    let base = Config {
        timeout: None,
        max_age: Some(HOUR * 10),
        ..config()
    };
    for (reissue, pause) in [(Duration::ZERO, HOUR), (HOUR * 2, HOUR * 2)] {
        let config = Config {
            reissue_time: Some(reissue),
            ..base.clone()
        };
        let early = pause - Duration::from_millis(1);
        for changes in [false, true] {
            let mut state = sent(None);
            if changes {
                state.change(name("a"), set(5)).unwrap();
                assert!(alter(&state, &config, early).cookie.is_none());
            } else {
                // A touch, or nothing: not awaited, and without a cookie.
                touched(&state, &config, early);
            }
            let alter = alter(&state, &config, pause);
            assert_eq!(alter.cookie.as_ref().unwrap().1, Some(HOUR * 10));
            assert!(paths(&alter.update).contains("sent"));
            assert_eq!(conditions(&alter.filter), names(&["_id", "token"]));
        }
    }
}

#[test]
fn a_cookies_own_life_takes_the_place_of_the_configured_one() {
    let config = Config {
        timeout: None,
        max_age: Some(MINUTE),
        ..config()
    };
    let state = sent(Some(Some(DAY)));
    touched(&state, &config, HOUR); // not due, as it would be for a minute's life
    assert_eq!(
        alter(&state, &config, HOUR * 3).cookie.unwrap().1,
        Some(DAY)
    );
    let state = sent(Some(None));
    touched(&state, &config, DAY); // until the browser closes: nothing to tell it
}

#[test]
fn a_cookie_that_was_sent_without_a_life_is_given_the_one_that_is_configured_now() {
    let config = Config {
        max_age: Some(DAY),
        ..config()
    };
    assert_eq!(
        alter(&one(), &config, Duration::ZERO).cookie.unwrap().1,
        Some(DAY)
    );
}

#[test]
fn when_reads_extend_nothing_only_writes_send_the_cookie_again() {
    let config = Config {
        timeout: None,
        reissue_time: None,
        max_age: Some(HOUR),
        ..config()
    };
    let mut state = sent(None);
    assert!(touched(&state, &config, DAY).is_none());
    state.change(name("a"), set(5)).unwrap();
    assert!(alter(&state, &config, DAY).cookie.is_some());
}

#[test]
fn a_cookie_is_sent_for_a_session_that_lives_alone() {
    let mut state = one();
    state.settings.touch = true;
    let alter = alter(&state, &config(), TIMEOUT + SECOND);
    assert_eq!(
        conditions(&alter.filter),
        names(&["_id", "expires", "token"])
    );
    assert_eq!(
        conditions(&alter.without_token.unwrap().0),
        names(&["_id", "expires"])
    );
}
