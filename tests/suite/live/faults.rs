//! A database that cannot be reached: no session ends by it, and what ended meanwhile is told.

use rocket::http::Status;
use rocket_mongo_session::End;

use super::{Process, end_of, has_ended, id};
use crate::apps::database;
use crate::support::{Mongod, Proxy, ReplicaSet, Traffic, eventually, watchful};

/// Sends it again until the database takes it.
async fn insist(app: &Process, cookie: &mut Option<String>, steps: &str) {
    eventually(steps, async || app.ask(cookie, steps).await == Status::Ok).await;
}

/// An application that follows sessions through a network that is cut, and one beside it.
async fn cut(traffic: Traffic) {
    let (mongod, db) = (Mongod::start().await, database());
    let proxy = Proxy::start(mongod.port()).await;
    let keys = [("deadline", 3.into())];
    let here = Process::start(Some(&watchful(&proxy.url(&db))), &keys).await;
    let there = Process::start(Some(&mongod.url(&db)), &[]).await;
    let (mut ends, mut stays) = (here.browser("login").await, here.browser("set").await);
    let ended = here.follow(&mut ends).await;
    let lives = here.follow(&mut stays).await;
    let replaced = {
        let mut browser = here.browser("set").await;
        let ended = here.follow(&mut browser).await;
        (browser, ended)
    };
    proxy.set(traffic);
    // Polls fail, and a failure ends no session.
    let failures = here.sessions().stats().failures;
    eventually("polls fail", async || {
        here.sessions().stats().failures >= failures + 2
    })
    .await;
    assert!(there.sessions().revoke(&id(&ends)).await.unwrap());
    let (mut browser, told) = replaced;
    assert_eq!(there.ask(&mut browser, "login").await, Status::Ok);
    assert!(!has_ended(&ended) && !has_ended(&lives) && !has_ended(&told));
    proxy.set(Traffic::Pass);
    assert_eq!(end_of(ended).await, End::Gone);
    assert_eq!(end_of(told).await, End::Replaced);
    assert!(!has_ended(&lives));
}

#[rocket::async_test]
async fn a_partition_ends_no_session_and_what_ended_is_told() {
    cut(Traffic::Hold).await;
}

#[rocket::async_test]
async fn a_refused_connection_ends_no_session_and_what_ended_is_told() {
    cut(Traffic::Refuse).await;
}

/// The same over the expiry of the session: the clock ends no session whose use cannot be looked up.
#[rocket::async_test]
async fn expiry_during_an_outage_is_told_after_it() {
    let (mongod, db) = (Mongod::start().await, database());
    let proxy = Proxy::start(mongod.port()).await;
    let keys = [("deadline", 3.into()), ("timeout", 600.into())];
    let here = Process::start(Some(&watchful(&proxy.url(&db))), &keys).await;
    let there = Process::start(Some(&mongod.url(&db)), &keys).await;
    let (mut used, mut unused) = (here.browser("login").await, here.browser("login").await);
    let lives = here.follow(&mut used).await;
    let ended = here.follow(&mut unused).await;
    proxy.set(Traffic::Refuse);
    there.clock.advance(std::time::Duration::from_secs(500));
    assert_eq!(there.ask(&mut used, "set").await, Status::Ok);
    here.clock.advance(std::time::Duration::from_secs(700));
    let failures = here.sessions().stats().failures;
    eventually("polls fail", async || {
        here.sessions().stats().failures >= failures + 2
    })
    .await;
    assert!(!has_ended(&lives) && !has_ended(&ended));
    proxy.set(Traffic::Pass);
    assert_eq!(end_of(ended).await, End::Expired);
    assert!(!has_ended(&lives), "it was used by the other process");
}

/// A logout whose outcome the process never heard.
#[rocket::async_test]
async fn an_unknown_logout_is_told_once_it_is_known() {
    let (mongod, db) = (Mongod::start().await, database());
    let proxy = Proxy::start(mongod.port()).await;
    let app = Process::start(Some(&watchful(&proxy.url(&db))), &[("deadline", 3.into())]).await;
    let mut browser = app.browser("login").await;
    let ended = app.follow(&mut browser).await;
    proxy.set(Traffic::HoldReplies);
    let status = app.ask(&mut browser, "set-logout").await;
    assert_eq!(status, Status::ServiceUnavailable);
    assert!(!has_ended(&ended), "the outcome is unknown");
    proxy.set(Traffic::Pass);
    // The load above may not have come through either: then the session is as it was.
    insist(&app, &mut browser, "logout").await;
    assert_eq!(end_of(ended).await, End::LoggedOut);
}

/// Primaries that die, stand still and step down: late, and never missed.
#[rocket::async_test]
async fn a_failover_ends_no_session_and_what_ended_is_told() {
    let set = ReplicaSet::start().await;
    let url = watchful(&set.url(&database()));
    let keys = [("deadline", 3.into())];
    let (here, there) = (
        Process::start(Some(&url), &keys).await,
        Process::start(Some(&url), &keys).await,
    );
    let mut stays = here.browser("login").await;
    let lives = here.follow(&mut stays).await;
    for fault in ["step down", "stand still", "die"] {
        let mut browser = None;
        insist(&here, &mut browser, "login").await;
        insist(&here, &mut browser, "ended").await;
        let ended = here.kept();
        let primary = set.primary().await;
        match fault {
            "step down" => drop(set.step_down().await),
            "stand still" => set.pause(primary).await,
            _ => set.kill(primary).await,
        }
        insist(&there, &mut browser, "logout").await;
        assert_eq!(end_of(ended).await, End::Gone, "{fault}");
        match fault {
            "step down" => {}
            "stand still" => set.resume(primary).await,
            _ => set.restart(primary).await,
        }
        set.wait_for_primary().await;
        assert!(!has_ended(&lives), "{fault}");
    }
}

/// A primary that is cut off: the sessions of both processes live on, on the next one, and its old data
/// ends no session.
#[rocket::async_test]
async fn a_primary_that_is_cut_off_ends_no_session_and_what_ended_is_told() {
    let set = ReplicaSet::builder().behind_proxies().start().await;
    let url = watchful(&set.url(&database()));
    let keys = [("deadline", 3.into())];
    let here = Process::start(Some(&url), &keys).await;
    let there = Process::start(Some(&url), &keys).await;
    let (mut ends, mut stays) = (here.browser("login").await, here.browser("set").await);
    let (ended, lives) = (here.follow(&mut ends).await, here.follow(&mut stays).await);
    let primary = set.primary().await;
    set.proxy(primary).set(Traffic::Hold);
    // As soon as the others have elected one.
    insist(&there, &mut ends, "logout").await;
    insist(&there, &mut stays, "set").await;
    assert_eq!(end_of(ended).await, End::Gone);
    set.proxy(primary).set(Traffic::Pass);
    insist(&here, &mut stays, "ended").await;
    assert!(!has_ended(&lives) && !has_ended(&here.kept()));
}
