//! Which writes send a cookie, and what they ask for then.

use super::*;

#[test]
fn renew_is_one_update_of_the_token_that_was_loaded() {
    let mut state = one();
    state.change(name("a"), set(5)).unwrap();
    state.settings.token = TokenChange::Renew;
    let plan = update(&state, &config(), Duration::ZERO);
    let changed = ["accessed", "expires", "renewed", "token", "value.a"];
    assert_eq!(paths(&whole(&plan)), names(&changed));
    assert_eq!(plan.values.durability, Durability::Identity);
    let part = plan.with_token.as_ref().unwrap();
    assert!(part.is_required, "without the token nothing is written");
    let old = state.stored().unwrap();
    let (token, life) = part.cookie.as_ref().unwrap();
    assert!(token.id == old.token.id && !token.secret.matches(&old.token.secret));
    assert_eq!(*life, None);
    // What the browser gets is what is stored.
    let stored = old.record.after(&whole(&plan), start()).unwrap();
    assert!(stored.token.matches(&token.digest("session")));
    assert!(stored.csrf().matches(old.record.csrf()));
    assert_eq!(stored.meta.times.created, old.record.meta.times.created);
}

#[test]
fn elevate_is_a_renewal_that_counts_as_a_creation() {
    let config = Config {
        lifetime: Some(HOUR),
        ..config()
    };
    let mut state = one();
    let csrf = Secret::draw().unwrap();
    state.settings.csrf = Some(csrf.clone());
    state.settings.token = TokenChange::Elevate;
    let plan = update(&state, &config, MINUTE);
    let changed = ["accessed", "created", "csrf", "expires", "renewed", "token"];
    assert_eq!(paths(&whole(&plan)), names(&changed));
    assert!(plan.with_token.as_ref().unwrap().is_required);
    let old = state.stored().unwrap();
    let now = start().plus(MINUTE);
    let stored = old.record.after(&whole(&plan), now).unwrap();
    assert_eq!(stored.meta.id, old.record.meta.id);
    assert_eq!(stored.meta.times.created, now);
    assert_eq!(stored.meta.times.expires, now.plus(TIMEOUT));
    assert!(stored.csrf().matches(&csrf));
    assert!(
        stored
            .token
            .matches(&cookie(&plan).unwrap().0.digest("session"))
    );
    let rendered = read(whole(&plan).to_bson());
    let max = rendered.get_document("$max").unwrap();
    assert!(max.contains_key("expires"), "it is only raised");
    let by_server = rendered.get_document("$currentDate").unwrap();
    assert!(
        by_server.contains_key("renewed"),
        "no two clocks are compared"
    );
}

#[test]
fn touch_sends_the_cookie_that_the_browser_has() {
    let mut state = one();
    state.settings.touch = true;
    let plan = update(&state, &config(), Duration::ZERO);
    assert_eq!(paths(&whole(&plan)), names(&["accessed", "expires"]));
    let (token, _) = cookie(&plan).unwrap();
    assert!(token.secret.matches(&state.stored().unwrap().token.secret));
    assert!(!plan.with_token.as_ref().unwrap().is_required);
    assert_eq!(plan.values.durability, Durability::Data);
}

#[test]
fn set_max_age_sends_the_cookie_with_its_new_life() {
    for (max_age, sent) in [(Some(DAY), true), (None, false)] {
        let mut state = one();
        state.settings.times.max_age = Some(Override::Set(max_age));
        let plan = update(&state, &config(), Duration::ZERO);
        let paths = paths(&whole(&plan));
        assert!(paths.contains("max_age"));
        assert_eq!(
            paths.contains("sent"),
            sent,
            "stored for a cookie with a `Max-Age` alone"
        );
        assert_eq!(cookie(&plan).unwrap().1, max_age);
    }
}

#[test]
fn settings_are_written_only_while_the_token_is_the_loaded_one() {
    let mut state = one();
    state.change(name("a"), set(5)).unwrap();
    state.settings.times.timeout = Some(own(DAY));
    state.settings.times.lifetime = Some(own(DAY));
    state.settings.times.max_age = Some(own(DAY));
    state.settings.csrf = Some(Secret::draw().unwrap());
    let plan = update(&state, &config(), Duration::ZERO);
    // A request whose token was replaced meanwhile still stores its values.
    assert_eq!(
        paths(&plan.values.update),
        names(&["accessed", "expires", "value.a"])
    );
    let expires = read(plan.values.update.to_bson());
    let expires = expires.get_document("$max").unwrap().get("expires");
    let by_loaded_times = date(start().plus(TIMEOUT));
    assert_eq!(expires, Some(&by_loaded_times.into()));
    let part = plan.with_token.unwrap();
    let settings = ["csrf", "expires", "lifetime", "max_age", "sent", "timeout"];
    assert_eq!(paths(&part.update), names(&settings));
    assert!(!part.is_required);
}

/// A session whose cookie was sent at `start`.
fn sent(max_age: Override) -> State {
    let mut meta = meta();
    (meta.sent, meta.times.own.max_age) = (Some(start()), max_age);
    meta.times.expires = start().plus(DAY * 10);
    live(meta, &[(name("a"), RawBson::Int64(1))])
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
            let mut state = sent(Override::Inherit);
            if changes {
                state.change(name("a"), set(5)).unwrap();
                assert!(cookie(&update(&state, &config, early)).is_none());
            } else {
                // A touch, or nothing: not awaited, and without a cookie.
                touched(&mut state, &config, early);
            }
            let plan = update(&state, &config, pause);
            assert_eq!(cookie(&plan).unwrap().1, Some(HOUR * 10));
            assert!(paths(&whole(&plan)).contains("sent"));
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
    let mut state = sent(own(DAY));
    touched(&mut state, &config, HOUR); // not due, as it would be for a minute's life
    assert_eq!(
        cookie(&update(&state, &config, HOUR * 3)).unwrap().1,
        Some(DAY)
    );
    let mut state = sent(Override::Set(None));
    touched(&mut state, &config, DAY); // until the browser closes: nothing to tell it
}

#[test]
fn a_cookie_that_was_sent_without_a_life_is_given_the_one_that_is_configured_now() {
    let config = Config {
        max_age: Some(DAY),
        ..config()
    };
    assert_eq!(
        cookie(&update(&one(), &config, Duration::ZERO)).unwrap().1,
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
    let mut state = sent(Override::Inherit);
    assert!(touched(&mut state, &config, DAY).is_none());
    state.change(name("a"), set(5)).unwrap();
    assert!(cookie(&update(&state, &config, DAY)).is_some());
}

/// The browser has it, because another host has set it for all paths.
#[test]
fn a_cookie_that_is_due_is_not_sent_outside_of_its_path() {
    let config = Config {
        max_age: Some(HOUR),
        ..config()
    };
    let mut state = sent(Override::Inherit);
    state.creation = Creation::Never;
    let touch = touched(&mut state, &config, MINUTE * 10);
    assert!(touch.is_some(), "the session is in use");
}

#[test]
fn a_cookie_is_sent_for_a_session_that_lives_alone() {
    let mut state = one();
    state.settings.touch = true;
    let plan = update(&state, &config(), TIMEOUT + SECOND);
    assert_eq!(conditions(&plan.values.alive()), names(&["_id", "expires"]));
}
