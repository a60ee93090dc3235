//! Shutdown with commits in flight: they finish, touches are written, nothing hangs.

use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use rocket_mongo_session::testing::Clock;

use super::{APP, both_ways, setting};
use crate::arena::{Answer, Op, Setting, database, request, set};
use crate::support::{App, FailPoint, Failure, Mode, Mongod, Proxy, Traffic};

both_ways! {
    commits_in_flight_finish_before_the_end => in_flight;
    a_silent_database_does_not_hold_the_end_up => silent;
}

fn rocket(setting: &Setting) -> rocket::Rocket<rocket::Build> {
    let rocket = setting.rocket();
    let figment = rocket.figment().clone();
    rocket.configure(
        figment
            .merge(("shutdown.grace", 4))
            .merge(("shutdown.mercy", 1)),
    )
}

async fn in_flight(share: bool) {
    let mongod = Mongod::start().await;
    let (db, clock) = (database(), Clock::new());
    let setting = setting(&mongod.url(&db), share).clock(&clock);
    let app = App::launch(rocket(&setting)).await;
    let browser = app.browser();
    let planted = request(&browser, &[set("n", 0)]);
    Answer(app.send(planted).await).arrive(&browser);
    let reader = app.browser();
    Answer(app.send(request(&reader, &[set("n", 0)])).await).arrive(&reader);

    let tests = mongod.client().await;
    let sessions = tests.database(&db).collection::<Document>("session");
    let slow = Failure::block(Duration::from_millis(800)).app_name(APP);
    let point = FailPoint::on(&tests, &["update"], Mode::Always, slow).await;
    let addr = app.addr();
    let mut tabs = Vec::new();
    for _ in 0..12 {
        let request = request(&browser, &[Op::Increment("n".into(), 1)]);
        tabs.push(rocket::tokio::spawn(request.try_send(addr)));
    }
    // A read whose touch is put off.
    clock.advance(Duration::from_secs(5));
    assert_eq!(request(&reader, &[Op::View]).send(addr).await.status, 200);
    // All of them have loaded and write now.
    super::eventually("the commits", async || {
        let current = doc! { "currentOp": 1, "command.update": "session" };
        let current = tests
            .database("admin")
            .run_command(current)
            .await
            .expect("operations");
        !current.get_array("inprog").expect("a list").is_empty()
    })
    .await;
    app.shutdown().await.expect("a clean end");
    let mut done = 0;
    for tab in tabs {
        // Who was not let in any more has no answer; who has one was not lied to.
        if let Ok(answer) = tab.await.expect("no panic") {
            assert_eq!(answer.status, 200);
            done += 1;
        }
    }
    point.clear().await;
    assert!(done > 0);
    let id = browser.cookie("session").expect("a cookie");
    let id = id.split('.').next().unwrap_or_default();
    let stored = sessions
        .find_one(doc! { "_id": id })
        .await
        .expect("a find")
        .expect("a session");
    let count = stored
        .get_document("value")
        .and_then(|value| value.get_i64("n"));
    assert!(count.expect("a count") >= done, "{stored}");
    // The touch was written, not lost.
    let id = reader.cookie("session").expect("a cookie");
    let id = id.split('.').next().unwrap_or_default();
    let read = sessions
        .find_one(doc! { "_id": id })
        .await
        .expect("a find")
        .expect("a session");
    let (created, accessed) = (read.get_f64("created"), read.get_f64("accessed"));
    assert!(
        accessed.expect("a time") >= created.expect("a time") + 5.0,
        "{read}"
    );
}

async fn silent(share: bool) {
    let mongod = Mongod::start().await;
    let proxy = Proxy::start(mongod.port()).await;
    let clock = Clock::new();
    let setting = setting(&proxy.url(&database()), share).clock(&clock);
    let app = App::launch(rocket(&setting)).await;
    let browser = app.browser();
    Answer(app.send(request(&browser, &[set("n", 0)])).await).arrive(&browser);
    clock.advance(Duration::from_secs(5));
    app.send(request(&browser, &[Op::View])).await; // a touch waits to be written
    proxy.set(Traffic::Hold);
    let addr = app.addr();
    let tabs: Vec<_> = (0..8)
        .map(|_| rocket::tokio::spawn(request(&browser, &[set("n", 1)]).try_send(addr)))
        .collect();
    let began = Instant::now();
    // However it ends: it must.
    let _ = app
        .shutdown()
        .await
        .map(drop)
        .map_err(|error| error.to_string());
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    for tab in tabs {
        if let Ok(answer) = tab.await.expect("no panic") {
            assert_eq!(answer.status, 503);
        }
    }
}
