//! The TTL monitor off and racing, indexes and collections that are dropped while the application
//! runs, clocks that jump.

use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use rocket::tokio::{spawn, time};
use rocket_mongo_session::testing::Clock;

use super::{serves, setting, view};
use crate::apps::arena::{Arena, Op, Setting, set};
use crate::apps::database;
use crate::support::{Mongod, eventually, in_time};

/// With a deadline that plays no part here.
fn ample(url: &str) -> Setting {
    setting(url, true).key("deadline", 30)
}

#[rocket::async_test]
async fn an_expired_session_is_dead_without_the_ttl_monitor() {
    let mongod = Mongod::builder()
        .arg("--setParameter=ttlMonitorEnabled=false")
        .start()
        .await;
    let clock = Clock::new();
    let arena = Arena::start(&ample(&mongod.url(&database())).clock(&clock)).await;
    let browsers: Vec<_> = (0..10).map(|_| arena.browser()).collect();
    for browser in &browsers {
        arena.run(browser, &[set("n", 1)]).await;
    }
    clock.advance(Duration::from_secs(1201));
    for browser in &browsers {
        assert!(view(&arena, browser).await.is_new);
    }
    assert_eq!(arena.sessions().count().await.expect("a count"), 0);
    assert_eq!(arena.sessions().purge_expired().await.expect("a purge"), 10);
}

/// The server deletes at the very moment at which sessions end, while they are written to.
#[rocket::async_test]
async fn a_session_that_the_server_deletes_under_a_commit_is_gone_whole() {
    let mongod = Mongod::start().await;
    let db = database();
    let setting = ample(&mongod.url(&db))
        .key("timeout", 1)
        .key("indexes", false);
    let arena = Arena::start(&setting).await;
    let client = mongod.client().await;
    let at_once = doc! { "key": { "expires": 1 }, "name": "at once", "expireAfterSeconds": 0 };
    let indexes = doc! { "createIndexes": "session", "indexes": [at_once] };
    client
        .database(&db)
        .run_command(indexes)
        .await
        .expect("an index");

    const BROWSERS: u64 = 100;
    let tabs = (0..BROWSERS).map(|browser| {
        let arena = Arc::clone(&arena);
        spawn(async move {
            let visitor = arena.browser();
            let (mut writes, mut ends) = (0, 0);
            for round in 0..11 {
                let program = [
                    Op::Increment("a".into(), 1),
                    Op::Increment("b".into(), 1),
                    Op::Save,
                ];
                // Loaded while it lives, written to at about its end.
                let mut tab = arena.poise(&visitor, &[Op::View], &program).await;
                let pause = 900 + (browser * 7 + round * 31) % 200;
                time::sleep(Duration::from_millis(pause)).await;
                tab.release();
                let response = tab.response().await;
                response.arrive(&visitor);
                let results = response.results();
                let (loaded, saved) = (results.view(0), results.is_saved());
                writes += 1;
                ends += u64::from(!saved);
                let view = view(&arena, &visitor).await;
                if !saved {
                    assert!(view.is_new, "what was not saved has ended: {view:?}");
                }
                let count = match (saved, view.is_new) {
                    (true, false) => loaded.int("a") + 1,
                    _ => 0, // perhaps it ended since
                };
                assert_eq!((view.int("a"), view.int("b")), (count, count), "{view:?}");
            }
            (writes, ends)
        })
    });
    let (mut writes, mut ends) = (0, 0);
    for tab in tabs.collect::<Vec<_>>() {
        let (more, ended) = in_time("a browser", tab).await.expect("no panic");
        writes += more;
        ends += ended;
    }
    println!("{writes} writes, {ends} of them to a session that had ended");
    assert!(writes >= 1000 && ends > 0);
    let sessions = client.database(&db).collection::<Document>("session");
    let broken =
        doc! { "$or": [{ "created": { "$exists": false } }, { "token": { "$exists": false } }] };
    assert_eq!(sessions.count_documents(broken).await.expect("a count"), 0);
}

async fn index_names(mongod: &Mongod, db: &str) -> Vec<String> {
    let client = mongod.client().await;
    let sessions = client.database(db).collection::<Document>("session");
    sessions.list_index_names().await.unwrap_or_default()
}

#[rocket::async_test]
async fn a_dropped_collection_is_a_mass_logout_and_its_indexes_come_back() {
    let mongod = Mongod::start().await;
    let db = database();
    let arena = Arena::start(&ample(&mongod.url(&db))).await;
    eventually("the indexes", async || {
        index_names(&mongod, &db).await.len() == 3
    })
    .await;
    let client = mongod.client().await;
    for whole in [false, true] {
        let browser = arena.browser();
        arena.run(&browser, &[Op::Login("me".into())]).await;
        let mut tab = arena
            .poise(&browser, &[Op::View], &[set("late", 1), Op::Save])
            .await;
        match whole {
            true => client.database(&db).drop().await.expect("a drop"),
            false => {
                let sessions = client.database(&db).collection::<Document>("session");
                sessions.drop().await.expect("a drop");
            }
        }
        tab.release();
        assert!(!tab.response().await.results().is_saved());
        assert!(view(&arena, &browser).await.is_new);
        serves(&arena).await;
    }
    eventually("the indexes again", async || {
        index_names(&mongod, &db).await.len() == 3
    })
    .await;
}

#[rocket::async_test]
async fn without_indexes_everything_works_and_they_can_be_made_again() {
    let mongod = Mongod::start().await;
    let db = database();
    let arena = Arena::start(&ample(&mongod.url(&db))).await;
    eventually("the indexes", async || {
        index_names(&mongod, &db).await.len() == 3
    })
    .await;
    let browser = arena.browser();
    arena.run(&browser, &[Op::Login("me".into())]).await;
    let client = mongod.client().await;
    let drop = doc! { "dropIndexes": "session", "index": "*" };
    client
        .database(&db)
        .run_command(drop)
        .await
        .expect("no index");
    serves(&arena).await;
    assert_eq!(view(&arena, &browser).await.user.as_deref(), Some("me"));
    assert_eq!(
        arena
            .sessions()
            .of("me")
            .revoke_all()
            .await
            .expect("a revocation"),
        1
    );
    arena.sessions().ensure_indexes().await.expect("indexes");
    assert_eq!(index_names(&mongod, &db).await.len(), 3);
}

/// Two servers of one application, of which one has a wrong clock.
#[rocket::async_test]
async fn a_clock_that_jumps_ends_no_session_for_good_and_revives_none() {
    let mongod = Mongod::shared().await;
    let url = mongod.url(&database());
    let (right, wrong) = (Clock::new(), Clock::new());
    // Longer than the wrong clock is ever behind: the server deletes by its own.
    const TIMEOUT: u64 = 2 * 3600;
    let of = |clock: &Clock| {
        Setting::in_memory()
            .url(url.clone())
            .key("timeout", TIMEOUT)
            .clock(clock)
    };
    let (here, there) = (
        Arena::start(&of(&right)).await,
        Arena::start(&of(&wrong)).await,
    );
    let browser = here.browser();
    here.run(&browser, &[Op::Login("me".into())]).await;

    // Ahead: it takes the session for expired, and takes nothing from it.
    wrong.advance(Duration::from_secs(TIMEOUT + 60));
    let seen = there
        .run(&browser.twin(), &[Op::View])
        .await
        .results()
        .view(0);
    assert!(seen.is_new);
    let end = view(&here, &browser).await.expires;
    assert!(end.is_some() && view(&here, &browser).await.user.is_some());

    // An hour behind: it writes, and the session's end does not come nearer.
    wrong.rewind(Duration::from_secs(TIMEOUT + 3660));
    let program = [set("n", 1), Op::Touch];
    assert_eq!(there.run(&browser.twin(), &program).await.status(), 200);
    let view_here = view(&here, &browser).await;
    assert_eq!((view_here.int("n"), view_here.expires), (1, end));

    // Expired here, while there it still lives: what it writes does not bring it back here.
    right.advance(Duration::from_secs(TIMEOUT + 1));
    there.run(&browser.twin(), &[set("n", 2), Op::Touch]).await;
    assert!(view(&here, &browser.twin()).await.is_new);

    // A clock that strobes under requests.
    let strobed = there.browser();
    for round in 0..50_u64 {
        let (forth, back) = (round * 7 % 400, round * 11 % 400);
        wrong.advance(Duration::from_millis(forth));
        there.run(&strobed, &[Op::Increment("n".into(), 1)]).await;
        wrong.rewind(Duration::from_millis(back));
    }
    assert_eq!(view(&there, &strobed).await.int("n"), 50);
}
