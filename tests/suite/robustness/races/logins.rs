//! Login, elevation and renewal: the old token dies, nothing kept is lost, and no race logs a
//! browser out, in whatever order the answers reach it.

use super::race;
use crate::apps::arena::{Op, set};

/// What another tab may be doing with the old cookie while this one logs in.
fn late(kind: i64) -> Vec<Op> {
    match kind {
        0 => vec![set("late", 1)],
        1 => vec![Op::Flash("late".into())],
        2 => vec![Op::Add("n".into(), 1)],
        3 => vec![Op::Increment("n".into(), 1), Op::Save],
        4 => vec![Op::Csrf],
        5 => vec![Op::SetTimeout(86_400_000)],
        // The session turns out to be gone, and something is stored nevertheless.
        6 => vec![Op::Increment("n".into(), 1), Op::Save, set("later", 1)],
        _ => vec![Op::View],
    }
}

/// Three ways to get a new token, with and without a login.
fn change(kind: i64) -> Vec<Op> {
    match kind {
        0 => vec![Op::Login("me".into())],
        1 => vec![Op::LoginKeeping("me".into(), vec!["planted".into()])],
        2 => vec![Op::Elevate],
        _ => vec![Op::Renew],
    }
}

race! {
    no_late_answer_of_another_tab_logs_a_browser_out(round) {
        let browser = round.member("me").await;
        let thief = browser.twin();
        let kind = round.some(0, 3);
        let mut tabs = vec![round.arena.poise(&browser, &[Op::View], &change(kind)).await];
        for _ in 0..4 {
            let late = late(round.some(0, 7));
            tabs.push(match round.flip() {
                // Loaded before, written after; or sent before, and not even loaded.
                true => round.arena.poise(&browser, &[Op::View], &late).await,
                false => round.arena.poise_outside(&browser, &late),
            });
        }
        let responses = round.let_go(tabs).await;
        assert!(responses[0].sends_cookie());
        for response in &responses[1..] {
            assert_eq!(response.status(), 200);
            assert_eq!(response.0.set_cookies(), Vec::<&str>::new());
        }
        round.deliver(&responses, &browser);
        let view = round.look(&browser).await;
        assert_eq!(view.user.as_deref(), Some("me"), "{view:?}");
        round.assert_dead(&thief, "the old token").await;
    }

    a_kept_key_has_every_change_that_was_saved(round) {
        let browser = round.visitor().await;
        let keeps = match round.flip() {
            true => Op::LoginKeeping("me".into(), vec!["n".into(), "list".into()]),
            false => Op::Elevate,
        };
        let program = [Op::Increment("n".into(), 100), keeps, Op::Increment("n".into(), 1000)];
        let mut tabs = vec![round.arena.poise(&browser, &[Op::View], &program).await];
        for tab in 0..4 {
            let program = match tab % 2 {
                0 => [Op::Increment("n".into(), 1), Op::Push("list".into(), tab.into()), Op::Save],
                _ => [Op::Push("list".into(), tab.into()), Op::Increment("n".into(), 1), Op::Save],
            };
            tabs.push(round.arena.poise(&browser, &[Op::View], &program).await);
        }
        let responses = round.let_go(tabs).await;
        let (mut saved, mut pushed) = (0, Vec::new());
        for (tab, response) in responses[1..].iter().enumerate() {
            if response.results().is_saved() {
                saved += 1;
                pushed.push(tab as i64);
            }
        }
        responses[0].arrive(&browser);
        let view = round.look(&browser).await;
        assert_eq!(view.int("n"), 1100 + saved, "{view:?}");
        let list = view.list("list");
        let mut list: Vec<_> = list.iter().filter_map(|item| item.as_i64()).collect();
        list.sort_unstable();
        assert_eq!(list, pushed);
    }

    what_is_not_kept_does_not_cross_into_the_login(round) {
        let browser = round.visitor().await;
        let login = [Op::LoginKeeping("me".into(), vec!["kept".into()])];
        let mut tabs = vec![round.arena.poise(&browser, &[Op::View], &login).await];
        for _ in 0..3 {
            let program = [set("kept", 1), set("dropped", 1), Op::Flash("dropped".into()), Op::Save];
            tabs.push(round.arena.poise(&browser, &[Op::View], &program).await);
        }
        let responses = round.let_go(tabs).await;
        let saved = responses[1..].iter().any(|response| response.results().is_saved());
        responses[0].arrive(&browser);
        let view = round.look(&browser).await;
        assert_eq!(view.values.contains_key("kept"), saved, "{view:?}");
        assert!(view.values.len() <= 1 && view.flash.is_empty(), "{view:?}");
    }

    two_logins_on_one_cookie_are_two_sessions(round) {
        let browser = round.visitor().await;
        let thief = browser.twin();
        let (mut tabs, users) = (Vec::new(), ["a", "b", "c"]);
        for user in users {
            let login = match round.flip() {
                true => Op::Login(user.into()),
                false => Op::LoginKeeping(user.into(), vec!["planted".into()]),
            };
            let program = [login, set("whose", user)];
            tabs.push(round.arena.poise(&browser, &[Op::View], &program).await);
        }
        let responses = round.let_go(tabs).await;
        for (user, response) in users.iter().zip(&responses) {
            assert_eq!(response.status(), 200);
            let own = round.arena.browser();
            response.arrive(&own);
            let view = round.look(&own).await;
            assert_eq!(view.user.as_deref(), Some(*user), "{view:?}");
            assert_eq!(view.values["whose"], *user);
        }
        round.deliver(&responses, &browser);
        let view = round.look(&browser).await;
        assert!(view.user.is_some(), "{view:?}");
        assert_eq!(view.values["whose"], view.user.expect("a user"));
        round.assert_dead(&thief, "the token before the logins").await;
    }

    two_elevations_keep_the_browser_in(round) {
        // Beside a login the elevated session ends: the response that arrives last decides.
        let browser = round.member("me").await;
        let thief = browser.twin();
        let second = change(round.some(2, 3));
        let tabs = vec![
            round.arena.poise(&browser, &[Op::View], &[Op::Elevate]).await,
            round.arena.poise(&browser, &[Op::View], &second).await,
        ];
        let responses = round.let_go(tabs).await;
        round.deliver(&responses, &browser);
        assert_eq!(round.look(&browser).await.user.as_deref(), Some("me"));
        round.assert_dead(&thief, "the token before the elevation").await;
    }

    of_several_renewals_one_stands_with_its_changes(round) {
        let browser = round.member("me").await;
        let thief = browser.twin();
        let mut tabs = Vec::new();
        for tab in 0..3 {
            let program = [Op::Renew, set(&format!("key{tab}"), tab)];
            tabs.push(round.arena.poise(&browser, &[Op::View], &program).await);
        }
        let responses = round.let_go(tabs).await;
        let tokens = responses.iter().filter(|response| response.sends_cookie()).count();
        assert_eq!(tokens, 1, "one token of one session");
        round.deliver(&responses, &browser);
        let view = round.look(&browser).await;
        // What was planted, and what the renewal that stands has set.
        assert_eq!(view.values.len(), 2, "{view:?}");
        assert_eq!(view.user.as_deref(), Some("me"));
        round.assert_dead(&thief, "the token before the renewal").await;
    }

    a_renewal_beside_a_login_leaves_no_old_token(round) {
        let browser = round.member("me").await;
        let thief = browser.twin();
        let kind = round.some(0, 1);
        let tabs = vec![
            round.arena.poise(&browser, &[Op::View], &change(kind)).await,
            round.arena.poise(&browser, &[Op::View], &[Op::Renew]).await,
        ];
        let responses = round.let_go(tabs).await;
        round.assert_dead(&thief, "the token before both").await;
        // The renewed one belongs to the session that the login ended.
        let renewed = round.arena.browser();
        responses[1].arrive(&renewed);
        round.assert_dead(&renewed, "the renewed token of the old session").await;
        let own = round.arena.browser();
        responses[0].arrive(&own);
        assert_eq!(round.look(&own).await.user.as_deref(), Some("me"));
    }

    a_planted_cookie_never_becomes_the_victims_session(round) {
        let attacker = round.visitor().await;
        let victim = attacker.twin();
        let tabs = vec![
            round.arena.poise(&victim, &[Op::View], &[Op::Login("victim".into())]).await,
            round.arena.poise(&attacker, &[Op::View], &[set("evil", 1)]).await,
            round.arena.poise(&attacker, &[Op::View], &[Op::Renew]).await,
            round.arena.poise_outside(&attacker, &[set("evil", 2)]),
        ];
        let responses = round.let_go(tabs).await;
        for response in &responses[1..] {
            let own = attacker.twin();
            response.arrive(&own);
            assert_eq!(round.look(&own).await.user, None);
        }
        responses[0].arrive(&victim);
        let view = round.look(&victim).await;
        assert_eq!(view.user.as_deref(), Some("victim"));
        assert!(!view.values.contains_key("evil"), "{view:?}");
    }
}

/// Cookies with a life of their own are sent again now and then, with the token that they had. One
/// clock for all rounds, so they come one after the other.
mod a_cookie_is_sent_again_before_a_change_or_not_at_all {
    use std::time::Duration;

    use rocket_mongo_session::testing::Clock;

    use super::*;
    use crate::apps::arena::{Arena, ArenaResponse, Poised, Setting};
    use crate::robustness::races::{Round, everywhere, run_apart};
    use crate::support::Browser;

    const ROUNDS: u64 = 200;

    /// A browser that is logged in and remembered, whose cookie is due to be sent again.
    async fn remembered(arena: &Arena) -> Browser {
        let browser = arena.browser();
        let program = [Op::Login("me".into()), Op::SetMaxAge(100), set("n", 1)];
        let response = arena.run(&browser, &program).await;
        assert!(response.sends_cookie(), "{:?}", response.0);
        arena.clock().advance(Duration::from_secs(20));
        browser
    }

    /// Another tab, that has loaded the session or has not even arrived.
    async fn other_tab(round: &mut Round, browser: &Browser) -> Poised {
        let late = match round.some(0, 2) {
            0 => vec![Op::View],
            1 => vec![set("late", 1)],
            _ => vec![Op::Touch],
        };
        match round.flip() {
            true => round.arena.poise(browser, &[Op::View], &late).await,
            false => round.arena.poise_outside(browser, &late),
        }
    }

    async fn beside_a_change(mut round: Round) {
        let browser = remembered(&round.arena).await;
        let (old, thief) = (browser.cookie("session"), browser.twin());
        let kind = round.some(0, 4);
        let (change, user) = match kind {
            4 => (vec![Op::Logout], None),
            _ => (change(kind), Some("me")),
        };
        let changing = round.arena.poise(&browser, &[Op::View], &change).await;
        // Some are over when the change begins, some go with it, some when it is over.
        let (mut before, mut with, mut after) = (Vec::new(), vec![changing], Vec::new());
        for _ in 0..4 {
            let tab = other_tab(&mut round, &browser).await;
            match round.some(0, 3) {
                0 => before.push(tab),
                1 => after.push(tab),
                _ => with.push(tab),
            }
        }
        let before = round.let_go(before).await;
        let mut with = round.let_go(with).await;
        let changed = with.remove(0);
        let after = round.let_go(after).await;
        let token = |response: &ArenaResponse| {
            let own = round.arena.browser();
            response.arrive(&own);
            own.cookie("session")
        };
        for response in &after {
            let again = token(response).is_some_and(|token| Some(token) == old);
            assert!(!again, "sent again after {change:?}: {:?}", response.0);
        }
        // What is sent again beside the change is of the time before it, and arrives before it;
        // everything else may come at any time. (A write after the logout begins a new session.)
        let (again, mut rest): (Vec<ArenaResponse>, Vec<ArenaResponse>) = with
            .into_iter()
            .partition(|response| token(response) == old);
        for response in before.iter().chain(&again).chain(&rest).chain(&after) {
            assert_eq!(response.status(), 200, "{:?}", response.0);
            let is_known = [None, old.clone()].contains(&token(response));
            assert!(
                is_known || user.is_none(),
                "beside {change:?}: {:?}",
                response.0
            );
        }
        rest.extend(after);
        rest.push(changed);
        round.deliver(&before, &browser);
        round.deliver(&again, &browser);
        round.deliver(&rest, &browser);
        let view = round.look(&browser).await;
        assert_eq!(view.user.as_deref(), user, "{change:?}: {view:?}");
        round.assert_dead(&thief, "the old token").await;
    }

    /// What no server can mend: HTTP has no conditional cookie. One that was sent again before a
    /// login, and reaches the browser after the login's own, is the old one; it lets no user in.
    #[rocket::async_test]
    async fn and_if_it_arrives_after_the_changes_own_it_is_a_dead_one() {
        let arena = Arena::start(&Setting::in_memory().clock(&Clock::new())).await;
        let browser = remembered(&arena).await;
        let mut login = arena
            .poise(&browser, &[Op::View], &[Op::Login("me".into())])
            .await;
        let mut read = arena.poise(&browser, &[], &[Op::View]).await;
        read.release();
        let read = read.response().await;
        assert!(read.sends_cookie(), "it was due");
        login.release();
        login.response().await.arrive(&browser);
        read.arrive(&browser);
        let view = arena.run(&browser, &[Op::View]).await.results().view(0);
        assert!(view.is_new && view.user.is_none(), "{view:?}");
    }

    fn race(round: Round) -> futures::future::BoxFuture<'static, ()> {
        Box::pin(beside_a_change(round))
    }

    everywhere!(|place| { run_apart(place, race, ROUNDS, |setting| setting.clock(&Clock::new())) });
}
