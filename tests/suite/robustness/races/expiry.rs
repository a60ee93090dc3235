//! Expiry against commits: a session either was saved in time and lives, or has ended and stays
//! so.

use std::time::Duration;

use rocket_mongo_session::testing::Clock;

use super::{ROUNDS, Round, everywhere, run_apart};
use crate::apps::arena::{Op, set};

/// What a request may be in the middle of when its session ends.
fn busy(kind: i64) -> Vec<Op> {
    let add = || Op::Increment("n".into(), 1);
    match kind {
        0 => vec![add(), Op::Save],
        1 => vec![Op::Renew, add(), Op::Save],
        2 => vec![Op::Touch, Op::Save],
        3 => vec![Op::Add("n".into(), 1)],
        4 => vec![Op::Pop],
        // A login needs no session that lives.
        _ => vec![
            Op::LoginKeeping("me".into(), vec!["n".into()]),
            add(),
            Op::Save,
        ],
    }
}

const LOGIN: i64 = 5;

/// One clock for all rounds, so they come one after the other; each has several sessions.
async fn at_the_edge(mut round: Round) {
    let clock = round.arena.clock().clone();
    const TIMEOUT: i64 = 10_000;
    let (mut browsers, mut kinds) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let browser = round.arena.browser();
        let timeout = Op::SetTimeout(TIMEOUT as u64);
        let program = [timeout, set("n", 0), Op::Flash("hello".into())];
        round.arena.run(&browser, &program).await;
        browsers.push(browser);
        kinds.push(round.some(0, LOGIN));
    }
    let mut tabs = Vec::new();
    for (browser, kind) in browsers.iter().zip(&kinds) {
        tabs.push(round.arena.poise(browser, &[Op::View], &busy(*kind)).await);
    }
    // Some are used once more before, which keeps them alive.
    let before = TIMEOUT - round.some(1, 3);
    clock.advance(Duration::from_millis(before as u64));
    let used: Vec<bool> = browsers.iter().map(|_| round.flip()).collect();
    for (browser, used) in browsers.iter().zip(&used) {
        if *used {
            round.arena.run(browser, &[set("used", true)]).await;
        }
    }
    // The rest of the time passes before they continue, or while they do.
    let past = round.some(0, 6);
    let rest = Duration::from_millis(past as u64);
    let meanwhile = round.flip();
    if meanwhile {
        let clock = clock.clone();
        tabs.push(round.arena.poise_call(async move { clock.advance(rest) }));
    } else {
        clock.advance(rest);
    }
    if round.flip() {
        let sessions = round.arena.sessions().clone();
        tabs.push(round.arena.poise_call(async move {
            sessions.purge_expired().await.expect("a purge");
        }));
    }
    let thieves: Vec<_> = browsers.iter().map(|browser| browser.twin()).collect();
    let responses = round.let_go(tabs).await;
    let is_over = before + past > TIMEOUT;
    for (at, browser) in browsers.iter().enumerate() {
        let (kind, response) = (kinds[at], &responses[at]);
        let what = format!("{:?}, {before} + {past} ms, used: {}", busy(kind), used[at]);
        let saved = response.results().is_saved();
        response.arrive(browser);
        let view = round.look(browser).await;
        if kind == LOGIN {
            assert!(
                saved && view.user.as_deref() == Some("me"),
                "{what}: {view:?}"
            );
            assert_eq!(view.int("n"), 1, "{what}");
        } else {
            if !meanwhile {
                assert_eq!(saved, used[at] || !is_over, "{what}");
            }
            // Saved in time, it lives; otherwise it has ended for good.
            assert_eq!(view.is_new, !saved, "{what}: {view:?}");
        }
        if saved {
            let counts = !matches!(kind, 2 | 4);
            assert_eq!(view.int("n"), i64::from(counts), "{what}");
            let waits = !matches!(kind, 4 | LOGIN);
            assert_eq!(view.flash.len(), usize::from(waits), "{what}");
        }
        if response.sends_cookie() && kind != 2 {
            round.assert_dead(&thieves[at], &what).await;
        }
    }
    clock.advance(Duration::from_millis(TIMEOUT as u64 * 2));
    for (browser, kind) in browsers.iter().zip(kinds) {
        assert_eq!(round.look(browser).await.is_new, kind != LOGIN);
    }
}

fn race(round: Round) -> futures::future::BoxFuture<'static, ()> {
    Box::pin(at_the_edge(round))
}

mod a_session_ends_on_time_whatever_is_in_progress {
    use super::*;

    everywhere!(|place| { run_apart(place, race, ROUNDS, |setting| setting.clock(&Clock::new())) });
}
