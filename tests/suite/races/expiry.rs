//! Expiry against commits: a session either was saved in time and lives, or has ended and stays
//! so.

use std::time::Duration;

use rocket_mongo_session::testing::Clock;

use super::{ROUNDS, Round, run};
use crate::arena::{Op, Setting, set};
use crate::support::Mongod;

/// One clock for all rounds, so they come one after the other; each has several sessions.
async fn at_the_edge(mut round: Round) {
    let clock = round.arena.clock().clone();
    const TIMEOUT: i64 = 10_000;
    let mut browsers = Vec::new();
    for _ in 0..3 {
        let browser = round.arena.browser();
        let timeout = Op::SetTimeout(TIMEOUT as u64);
        round.arena.run(&browser, &[timeout, set("n", 0)]).await;
        browsers.push(browser);
    }
    let mut tabs = Vec::new();
    for browser in &browsers {
        let program = [Op::Increment("n".into(), 1), Op::Save];
        tabs.push(round.arena.poise(browser, &[Op::View], &program).await);
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
    let past = round.some(0, 6);
    clock.advance(Duration::from_millis(past as u64));
    if round.flip() {
        let sessions = round.arena.sessions().clone();
        tabs.push(round.arena.poise_call(async move {
            sessions.purge_expired().await.expect("a purge");
        }));
    }
    let answers = round.let_go(tabs).await;
    let is_over = before + past > TIMEOUT;
    for ((browser, used), answer) in browsers.iter().zip(used).zip(answers) {
        let saved = answer.results().is_saved();
        let view = round.look(browser).await;
        assert_eq!(saved, used || !is_over, "{before} + {past}");
        assert_eq!(view.is_new, !saved, "{view:?}");
        if saved {
            assert_eq!(view.int("n"), 1);
        }
    }
    clock.advance(Duration::from_millis(TIMEOUT as u64 * 2));
    for browser in &browsers {
        assert!(round.look(browser).await.is_new);
    }
}

fn race(round: Round) -> futures::future::BoxFuture<'static, ()> {
    Box::pin(at_the_edge(round))
}

#[rocket::async_test]
async fn a_session_ends_on_time_whatever_is_under_way_on_mongodb() {
    let setting = Setting::on(Mongod::shared().await, true);
    run(setting.clock(&Clock::new()), race, ROUNDS, 1).await;
}

#[rocket::async_test]
async fn a_session_ends_on_time_whatever_is_under_way_on_mongodb_each_alone() {
    let setting = Setting::on(Mongod::shared().await, false);
    run(setting.clock(&Clock::new()), race, ROUNDS, 1).await;
}

#[rocket::async_test]
async fn a_session_ends_on_time_whatever_is_under_way_in_memory() {
    run(Setting::in_memory().clock(&Clock::new()), race, ROUNDS, 1).await;
}
