//! Ends of sessions in another process than the one that follows them.

use std::time::Duration;

use rocket::http::Status;
use rocket_mongo_session::End;

use super::{Process, end_of, has_ended, id};
use crate::apps::database;
use crate::support::{FailPoint, Failure, Mode, Mongod, ReplicaSet};

/// Two processes of one application, on each topology.
async fn pairs(keys: &[(&str, rocket::figment::value::Value)]) -> Vec<(Process, Process)> {
    let mut pairs = Vec::new();
    for url in [
        Mongod::shared().await.url(&database()),
        ReplicaSet::shared().await.url(&database()),
    ] {
        let (here, there) = (
            Process::start(Some(&url), keys),
            Process::start(Some(&url), keys),
        );
        pairs.push((here.await, there.await));
    }
    pairs
}

#[rocket::async_test]
async fn every_end_is_told_to_another_process() {
    for (here, there) in pairs(&[]).await {
        let sessions = there.sessions();
        for (steps, expected) in [
            ("logout", End::Gone),
            ("login", End::Replaced),
            ("keep", End::Replaced),
        ] {
            let mut browser = here.browser("login").await;
            let ended = here.follow(&mut browser).await;
            for step in ["renew", "elevate"] {
                assert_eq!(there.ask(&mut browser, step).await, Status::Ok);
            }
            assert_eq!(there.ask(&mut browser, steps).await, Status::Ok);
            assert_eq!(end_of(ended).await, expected, "{steps}");
        }
        let mut browser = here.browser("login").await;
        let ended = here.follow(&mut browser).await;
        assert!(sessions.revoke(&id(&browser)).await.unwrap());
        assert_eq!(end_of(ended).await, End::Gone);
        let mut browser = here.browser("login").await;
        let ended = here.follow(&mut browser).await;
        sessions.of(7).revoke_all().await.unwrap();
        assert_eq!(end_of(ended).await, End::Gone);
        // Another user: a login right after a revocation is dropped.
        let mut browser = here.browser("bob").await;
        let ended = here.follow(&mut browser).await;
        sessions.revoke_all().await.unwrap();
        assert_eq!(end_of(ended).await, End::Gone);
    }
}

/// The database refuses to delete, so that the generation alone ends the session.
#[rocket::async_test]
async fn revoke_all_is_told_to_another_process_before_the_deletion() {
    let (mongod, db) = (Mongod::start().await, database());
    let url = format!("{}?appName=app", mongod.url(&db));
    let (here, there) = (
        Process::start(Some(&url), &[]).await,
        Process::start(Some(&url), &[]).await,
    );
    let tests = mongod.client().await;
    let failure = Failure::code(8000).app_name("app");
    let undeleted = FailPoint::on(&tests, &["delete"], Mode::Always, failure).await;
    let mut browser = here.browser("login").await;
    let ended = here.follow(&mut browser).await;
    there.sessions().revoke_all().await.unwrap();
    assert_eq!(end_of(ended).await, End::Gone);
    let mut browser = here.browser("login").await;
    let ended = here.follow(&mut browser).await;
    here.sessions().revoke_all().await.unwrap();
    assert_eq!(end_of(ended).await, End::Revoked);
    undeleted.clear().await;
}

#[rocket::async_test]
async fn use_in_another_process_puts_the_idle_timeout_off() {
    for (here, there) in pairs(&[("timeout", 600.into())]).await {
        let mut browser = here.browser("login").await;
        let ended = here.follow(&mut browser).await;
        for clock in [&here.clock, &there.clock] {
            clock.advance(Duration::from_secs(500));
        }
        assert_eq!(there.ask(&mut browser, "set").await, Status::Ok);
        for clock in [&here.clock, &there.clock] {
            clock.advance(Duration::from_secs(500));
        }
        // A poll after the advance has seen the use: another session's end is told by the same one.
        let mut other = here.browser("set").await;
        let others = here.follow(&mut other).await;
        assert_eq!(there.ask(&mut other, "logout").await, Status::Ok);
        assert_eq!(end_of(others).await, End::Gone);
        assert!(!has_ended(&ended));
        here.clock.advance(Duration::from_secs(101));
        assert_eq!(end_of(ended).await, End::Expired);
    }
}

/// A time that another process has set for the session counts, too.
#[rocket::async_test]
async fn a_timeout_that_another_process_has_shortened_ends_the_session() {
    for (here, there) in pairs(&[("timeout", 600.into())]).await {
        let mut browser = here.browser("login").await;
        let ended = here.follow(&mut browser).await;
        assert_eq!(there.ask(&mut browser, "short").await, Status::Ok);
        here.clock.advance(Duration::from_secs(61));
        assert_eq!(end_of(ended).await, End::Expired);
    }
}

/// Rocket lets an open stream run for `shutdown.grace`.
#[rocket::async_test]
async fn an_end_during_a_shutdown_is_told() {
    for (here, there) in pairs(&[("timeout", 600.into())]).await {
        let (mut browser, mut other) = (here.browser("login").await, here.browser("bob").await);
        let ended = here.follow(&mut browser).await;
        let others = here.follow(&mut other).await;
        here.client.terminate().await;
        assert!(!has_ended(&ended) && !has_ended(&others));
        assert!(there.sessions().revoke(&id(&browser)).await.unwrap());
        assert_eq!(end_of(ended).await, End::Gone);
        here.clock.advance(Duration::from_secs(601));
        assert_eq!(end_of(others).await, End::Expired);
    }
}

/// A session of the Python package, which has no `expires` yet.
#[rocket::async_test]
async fn sessions_of_the_python_package_are_followed() {
    use mongodb::bson::{Document, doc};
    let (mongod, db) = (Mongod::shared().await, database());
    let keys = [("legacy_ids", true.into()), ("timeout", 600.into())];
    let app = Process::start(Some(&mongod.url(&db)), &keys).await;
    let stored = mongod
        .client()
        .await
        .database(&db)
        .collection::<Document>("session");
    let now = app.clock.time().unix_timestamp() as f64;
    let plant = async |id: &str| {
        let document =
            doc! { "_id": id, "created": now, "accessed": now, "value": {}, "pickled": false };
        stored.insert_one(document).await.unwrap();
        Some(id.to_owned())
    };
    let mut browser = plant("0123456789abcdef0123456789abcdef").await;
    let ended = app.follow(&mut browser).await;
    let mut other = plant("1123456789abcdef0123456789abcdef").await;
    let others = app.follow(&mut other).await;
    stored.delete_one(doc! { "_id": &other }).await.unwrap();
    assert_eq!(end_of(others).await, End::Gone);
    assert!(!has_ended(&ended));
    app.clock.advance(Duration::from_secs(601));
    assert_eq!(end_of(ended).await, End::Expired);
}

#[rocket::async_test]
async fn dropped_subscriptions_are_forgotten() {
    let (mongod, db) = (Mongod::shared().await, database());
    let app = Process::start(Some(&mongod.url(&db)), &[]).await;
    let mut browser = app.browser("login").await;
    for _ in 0..100 {
        drop(app.follow(&mut browser).await);
    }
    let ended = app.follow(&mut browser).await;
    drop(ended.clone());
    assert_eq!(app.ask(&mut browser, "logout").await, Status::Ok);
    assert_eq!(end_of(ended).await, End::LoggedOut);
}
