//! Shutdown with commits in flight: they finish, touches are written, nothing hangs.

use std::time::Duration;

use mongodb::Client;
use mongodb::bson::{Document, doc};
use rocket_mongo_session::testing::Clock;

use super::{APP, both_ways, setting};
use crate::apps::arena::{ArenaResponse, Gate, Gates, Op, Setting, request, set};
use crate::apps::database;
use crate::apps::probe::id_of;
use crate::support::{
    App, Browser, FailPoint, Failure, Mode, Mongod, Proxy, Traffic, eventually, in_time, watchful,
};

both_ways! {
    commits_in_flight_finish_before_the_end => in_flight;
    a_silent_database_does_not_hold_the_end_up => silent;
}

/// An application that gives requests this number of seconds to end, and this number of its gates.
fn rocket(
    setting: &Setting,
    grace: u32,
    gates: usize,
) -> (rocket::Rocket<rocket::Build>, Vec<Gate>) {
    let rocket = setting.rocket();
    let all: &Gates = rocket.state().expect("gates");
    let gates = (0..gates).map(|_| all.make()).collect();
    let figment = rocket.figment().clone();
    let figment = figment
        .merge(("shutdown.grace", grace))
        .merge(("shutdown.mercy", 1));
    (rocket.configure(figment), gates)
}

/// A browser whose session is stored.
async fn visitor(app: &App) -> Browser {
    let mut stored = None;
    eventually("a session is stored", async || {
        let browser = app.browser();
        let response = ArenaResponse(app.send(request(&browser, &[set("n", 0)])).await);
        response.arrive(&browser);
        stored = response.sends_cookie().then_some(browser);
        stored.is_some()
    })
    .await;
    stored.expect("it was there")
}

async fn in_flight(share: bool) {
    const TABS: usize = 12;
    let mongod = Mongod::start().await;
    let (db, clock) = (database(), Clock::new());
    let setting = setting(&watchful(&mongod.url(&db)), share)
        .clock(&clock)
        .key("deadline", 30);
    // Rocket waits for all of it where connections are open when it is told to stop.
    let (rocket, gates) = rocket(&setting, 5, TABS);
    let app = App::launch(rocket).await;
    let (browser, reader) = (visitor(&app).await, visitor(&app).await);

    let mut tabs = Vec::new();
    for gate in &gates {
        let program = [
            Op::View,
            Op::Gate(gate.number()),
            Op::Increment("n".into(), 1),
        ];
        let sent = request(&browser, &program).try_send(app.addr());
        tabs.push(rocket::tokio::spawn(sent));
    }
    for gate in &gates {
        in_time("a request that has loaded", gate.arrived()).await;
    }
    // Commits, and the touch of a read, that take their time.
    let tests = mongod.client().await;
    let slow = Failure::block(Duration::from_millis(300)).app_name(APP);
    let point = FailPoint::on(&tests, &["update"], Mode::Always, slow).await;
    clock.advance(Duration::from_secs(5));
    let read = app.send(request(&reader, &[Op::View])).await;
    assert_eq!(read.status, 200);

    // All of them were let in, so all of them are served, and have written when it has ended.
    let shutdown = app.when_told_to_stop();
    let ended = rocket::tokio::spawn(app.shutdown());
    in_time("the order to stop", shutdown).await;
    gates.iter().for_each(Gate::open);
    for tab in tabs {
        let response = in_time("a response", tab).await.expect("no panic");
        assert_eq!(response.expect("a response").status, 200);
    }
    let ended = in_time("the end", ended).await.expect("no panic");
    ended.expect("a clean end");
    point.clear().await;

    let counted = stored(&tests, &db, &browser).await;
    let count = counted
        .get_document("value")
        .and_then(|value| value.get_i64("n"));
    assert_eq!(count, Ok(TABS as i64), "{counted}");
    let read = stored(&tests, &db, &reader).await;
    assert!(was_touched(&read), "{read}");
}

#[rocket::async_test]
async fn a_touch_that_is_on_its_way_is_written_before_the_end() {
    let mongod = Mongod::start().await;
    let (db, clock) = (database(), Clock::new());
    let setting = setting(&mongod.url(&db), true).clock(&clock);
    let app = App::launch(rocket(&setting, 5, 0).0).await;
    let reader = visitor(&app).await;
    let tests = mongod.client().await;
    let slow = Failure::block(Duration::from_secs(1)).app_name(APP);
    let point = FailPoint::on(&tests, &["update"], Mode::Always, slow).await;
    clock.advance(Duration::from_secs(5));
    let read = app.send(request(&reader, &[Op::View])).await;
    assert_eq!(read.status, 200);
    in_time("the end", app.shutdown())
        .await
        .expect("a clean end");
    let read = stored(&tests, &db, &reader).await;
    point.clear().await;
    assert!(was_touched(&read), "{read}");
}

async fn stored(tests: &Client, db: &str, browser: &Browser) -> Document {
    let cookie = browser.cookie("session").expect("a cookie");
    let sessions = tests.database(db).collection::<Document>("session");
    let found = sessions.find_one(doc! { "_id": id_of(&cookie) }).await;
    found.expect("a find").expect("a session")
}

/// Whether its use five seconds after its creation was noted.
fn was_touched(document: &Document) -> bool {
    let time = |field| document.get_f64(field).expect("a time");
    time("accessed") >= time("created") + 5.0
}

async fn silent(share: bool) {
    let mongod = Mongod::start().await;
    let proxy = Proxy::start(mongod.port()).await;
    let clock = Clock::new();
    let setting = setting(&watchful(&proxy.url(&database())), share).clock(&clock);
    let (rocket, _) = rocket(&setting, 4, 0);
    let app = App::launch(rocket).await;
    let browser = visitor(&app).await;
    clock.advance(Duration::from_secs(5));
    app.send(request(&browser, &[Op::View])).await; // a touch waits to be written
    proxy.set(Traffic::Hold);
    let addr = app.addr();
    let tabs: Vec<_> = (0..8)
        .map(|_| rocket::tokio::spawn(request(&browser, &[set("n", 1)]).try_send(addr)))
        .collect();
    // However it ends: it must. Rocket panics where its error is not looked at.
    if let Err(error) = in_time("the end", app.shutdown()).await {
        println!("{}", error.kind());
    }
    for tab in tabs {
        if let Ok(response) = tab.await.expect("no panic") {
            assert_eq!(response.status, 503);
        }
    }
}
