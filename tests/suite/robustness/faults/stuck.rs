//! A command that hangs, on a connection that is dead or a server that stands still for one alone.

use std::time::Duration;

use mongodb::bson::doc;
use rocket_mongo_session::testing::Clock;

use super::{APP, DEADLINE, setting};
use crate::apps::arena::{Arena, Op, Setting, set};
use crate::apps::database;
use crate::support::{FailPoint, Failure, Mode, Mongod};

/// One command of each kind hangs for longer than its deadline; other requests are served
/// meanwhile.
async fn one_hangs(command: &str, times: i32) {
    let mongod = Mongod::start().await;
    let clock = Clock::new();
    let arena = Arena::start(&setting(&mongod.url(&database()), true).clock(&clock)).await;
    let mut browsers = Vec::new();
    for _ in 0..4 {
        let browser = arena.browser();
        assert_eq!(arena.run(&browser, &[set("n", 0)]).await.status(), 200);
        browsers.push(browser);
    }
    let hangs = Failure::block(Duration::from_secs(DEADLINE * 2)).app_name(APP);
    let client = mongod.client().await;
    let point = FailPoint::on(&client, &[command], Mode::Times(times), hangs).await;
    let stuck = browsers.iter().take(times as usize).map(|browser| {
        let add = [Op::Increment("n".into(), 1)];
        arena.poise_outside(browser, &add)
    });
    let mut stuck: Vec<_> = stuck.collect();
    for tab in &stuck {
        tab.release();
    }
    super::eventually("the command hangs", async || {
        let query = doc! { "currentOp": 1, format!("command.{command}"): "session" };
        let current = client.database("admin").run_command(query).await;
        let current = current.expect("operations");
        current.get_array("inprog").expect("a list").len() == times as usize
    })
    .await;
    for browser in &browsers[times as usize..] {
        let response = arena.run(browser, &[Op::Increment("n".into(), 1)]).await;
        assert_eq!(response.status(), 200, "{:?}", response.0);
    }
    for tab in &stuck {
        assert!(!tab.is_over(), "it was to hang still");
    }
    for tab in &mut stuck {
        assert_eq!(tab.response().await.status(), 503);
    }
    point.clear().await;
}

#[rocket::async_test]
async fn a_commit_that_hangs_holds_up_no_other() {
    one_hangs("update", 1).await;
}

#[rocket::async_test]
async fn loads_that_hang_hold_up_no_other() {
    one_hangs("find", 2).await;
}

/// The monitor finds out that the server is silent, and ends what waits for its reply: whether that
/// was carried out is not known by it.
#[rocket::async_test]
async fn what_a_silent_server_was_asked_is_open() {
    let mongod = Mongod::start().await;
    let url = mongod.url(&database());
    let url = format!("{url}?heartbeatFrequencyMS=500&serverMonitoringMode=poll");
    // Longer than the monitor waits, which is as long as a connection may take: five seconds.
    let setting = Setting::in_memory().url(url).key("deadline", 30);
    let arena = Arena::start(&setting).await;
    let browser = arena.browser();
    assert_eq!(arena.run(&browser, &[set("n", 0)]).await.status(), 200);
    let add = [Op::Increment("n".into(), 1), Op::Save];
    let mut tab = arena.poise(&browser, &[Op::View], &add).await;
    mongod.pause().await;
    tab.release();
    let response = tab.response().await;
    mongod.resume().await;
    let results = response.results();
    let told = results.get(results.len() - 1);
    assert!(
        matches!(told, Err(error) if error.starts_with("Unknown")),
        "{told:?}"
    );
}
