//! Every end of a session, in the process that follows it.

use std::time::Duration;

use futures::StreamExt;
use mongodb::bson::{Document, doc};
use rocket::http::Status;
use rocket_mongo_session::{End, Query};
use rstest::rstest;

use super::{Process, end_of, everywhere, has_ended, id};
use crate::apps::database;
use crate::support::{Mongod, in_time};

#[rocket::async_test]
async fn logout_ends_a_followed_session_at_once() {
    for url in everywhere().await {
        let app = Process::start(url.as_deref(), &[]).await;
        let mut browser = app.browser("login").await;
        let ended = app.follow(&mut browser).await;
        let clone = ended.clone();
        assert!(!has_ended(&ended));
        assert_eq!(app.ask(&mut browser, "logout").await, Status::Ok);
        // Without a poll: it is told before the response.
        assert!(has_ended(&ended) && has_ended(&clone));
        assert_eq!(
            (end_of(ended).await, end_of(clone).await),
            (End::LoggedOut, End::LoggedOut)
        );
    }
}

#[rocket::async_test]
async fn login_replaces_and_renewal_and_elevation_end_nothing() {
    for url in everywhere().await {
        let app = Process::start(url.as_deref(), &[]).await;
        for login in ["login", "keep"] {
            let mut browser = app.browser("set").await;
            let ended = app.follow(&mut browser).await;
            for step in ["renew", "elevate", "set"] {
                assert_eq!(app.ask(&mut browser, step).await, Status::Ok);
                assert!(!has_ended(&ended), "{step}");
            }
            assert_eq!(app.ask(&mut browser, login).await, Status::Ok);
            assert!(has_ended(&ended));
            assert_eq!(end_of(ended).await, End::Replaced);
        }
    }
}

#[rocket::async_test]
async fn before_a_login_it_is_the_old_session_and_after_it_the_new_one() {
    let app = Process::start(None, &[]).await;
    let mut browser = app.browser("set").await;
    assert_eq!(app.ask(&mut browser, "ended-login-ended").await, Status::Ok);
    let (new, old) = (app.kept(), app.kept());
    assert_eq!(end_of(old).await, End::Replaced);
    assert!(!has_ended(&new));
    assert_eq!(app.ask(&mut browser, "logout").await, Status::Ok);
    assert_eq!(end_of(new).await, End::LoggedOut);
}

#[rocket::async_test]
async fn every_revocation_ends_what_it_revokes_and_nothing_else() {
    for url in everywhere().await {
        let app = Process::start(url.as_deref(), &[]).await;
        let sessions = app.sessions();
        let (mut theirs, mut other) = (app.browser("login").await, app.browser("set-keep").await);
        let others = app.follow(&mut other).await;
        let ended = app.follow(&mut theirs).await;
        assert!(!sessions.of(9).revoke(&id(&theirs)).await.unwrap());
        assert!(!has_ended(&ended));
        assert!(sessions.of(7).revoke(&id(&theirs)).await.unwrap());
        assert!(has_ended(&ended));
        assert_eq!(end_of(ended).await, End::Revoked);

        let mut theirs = app.browser("login").await;
        let ended = app.follow(&mut theirs).await;
        assert!(sessions.revoke(&id(&theirs)).await.unwrap());
        assert!(has_ended(&ended));
        assert_eq!(end_of(ended).await, End::Revoked);

        let mut theirs = app.browser("login").await;
        let ended = app.follow(&mut theirs).await;
        assert_eq!(sessions.of(7_u8).revoke_all().await.unwrap(), 1);
        assert_eq!(end_of(ended).await, End::Revoked);

        assert!(!has_ended(&others));
        assert_eq!(sessions.revoke_all().await.unwrap(), 1);
        assert_eq!(end_of(others).await, End::Revoked);
    }
}

#[rocket::async_test]
async fn revoke_found_ends_what_it_finds_and_nothing_else() {
    for url in everywhere().await {
        let app = Process::start(url.as_deref(), &[]).await;
        let (mut theirs, mut other) = (app.browser("login").await, app.browser("bob").await);
        let others = app.follow(&mut other).await;
        let ended = app.follow(&mut theirs).await;
        let later = app.clock.time() + Duration::from_secs(60);
        let idle = Query::new().user(7).accessed_before(later);
        let page = app.sessions().revoke_found(&idle).await.unwrap();
        assert_eq!(page.ended, 1);
        assert_eq!(end_of(ended).await, End::Revoked);
        assert!(!has_ended(&others));
    }
}

#[rocket::async_test]
async fn max_per_user_ends_the_oldest() {
    for url in everywhere().await {
        let app = Process::start(url.as_deref(), &[("max_per_user", 1.into())]).await;
        let mut first = app.browser("login").await;
        let ended = app.follow(&mut first).await;
        app.browser("login").await;
        assert_eq!(end_of(ended).await, End::Revoked);
    }
}

#[rocket::async_test]
async fn the_clock_alone_ends_a_session() {
    for url in everywhere().await {
        let keys = [("timeout", 600.into()), ("lifetime", 3600.into())];
        let app = Process::start(url.as_deref(), &keys).await;
        let mut idle = app.browser("login").await;
        let ended = app.follow(&mut idle).await;
        app.clock.advance(Duration::from_secs(601));
        assert_eq!(end_of(ended).await, End::Expired);
        // The document is still there: the clock has ended it.
        let mut used = app.browser("login").await;
        let ended = app.follow(&mut used).await;
        for _ in 0..6 {
            app.clock.advance(Duration::from_secs(595));
            assert_eq!(app.ask(&mut used, "set").await, Status::Ok);
            assert!(!has_ended(&ended));
        }
        app.clock.advance(Duration::from_secs(31));
        assert_eq!(end_of(ended).await, End::Expired, "the absolute timeout");
    }
}

#[rocket::async_test]
async fn purge_of_an_expired_session_is_its_expiry() {
    for url in everywhere().await {
        let app = Process::start(url.as_deref(), &[("timeout", 600.into())]).await;
        let mut browser = app.browser("set").await;
        let ended = app.follow(&mut browser).await;
        app.clock.advance(Duration::from_secs(601));
        app.sessions().purge_expired().await.unwrap();
        assert_eq!(end_of(ended).await, End::Expired);
    }
}

#[rocket::async_test]
async fn touch_keeps_an_open_stream_alive_and_nothing_else_does() {
    for url in everywhere().await {
        let app = Process::start(url.as_deref(), &[("timeout", 600.into())]).await;
        let mut browser = app.browser("login").await;
        let touching = app.follow(&mut browser).await;
        for _ in 0..4 {
            app.clock.advance(Duration::from_secs(400));
            touching.touch();
            assert_eq!(app.ask(&mut browser, "ended").await, Status::Ok);
        }
        assert!(!has_ended(&touching));
        app.clock.advance(Duration::from_secs(601));
        touching.touch();
        assert_eq!(
            end_of(touching).await,
            End::Expired,
            "a touch revives nothing"
        );
    }
}

#[rocket::async_test]
async fn deletion_by_hand_and_a_dropped_collection_are_gone() {
    let mongod = Mongod::shared().await;
    let db = database();
    let app = Process::start(Some(&mongod.url(&db)), &[]).await;
    let stored = mongod
        .client()
        .await
        .database(&db)
        .collection::<Document>("session");
    let mut browser = app.browser("login").await;
    let ended = app.follow(&mut browser).await;
    stored
        .delete_one(doc! { "_id": id(&browser) })
        .await
        .unwrap();
    assert_eq!(end_of(ended).await, End::Gone);
    let mut browser = app.browser("login").await;
    let ended = app.follow(&mut browser).await;
    stored.drop().await.unwrap();
    assert_eq!(end_of(ended).await, End::Gone);
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case("ended-set")]
#[case("set-ended")]
#[case("ended-set-save")]
#[case("set-save-ended")]
#[case("ended-login")]
#[case("login-ended")]
#[case("set-ended-login")]
#[case("logout-ended-set")]
async fn a_new_session_is_followed_once_the_response_stores_it(#[case] steps: &str) {
    let app = Process::start(None, &[]).await;
    let mut browser = app.browser(steps).await;
    let ended = app.kept();
    assert!(!has_ended(&ended));
    assert_eq!(app.ask(&mut browser, "logout").await, Status::Ok);
    assert_eq!(end_of(ended).await, End::LoggedOut);
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case("ended")]
#[case("ended-set-fail")]
#[case("login-ended-logout")]
#[case("set-logout-ended")]
async fn a_session_that_is_never_stored_is_gone_with_the_response(#[case] steps: &str) {
    let keys = [("set_on_exception", false.into())];
    let app = Process::start(None, &keys).await;
    let mut browser = None;
    app.ask(&mut browser, steps).await;
    assert_eq!(browser, None);
    assert_eq!(end_of(app.kept()).await, End::Gone);
}

#[rocket::async_test]
async fn nothing_follows_a_logout() {
    let app = Process::start(None, &[]).await;
    let mut browser = app.browser("login").await;
    assert_eq!(app.ask(&mut browser, "logout-ended").await, Status::Ok);
    assert_eq!(end_of(app.kept()).await, End::Gone);
}

#[rocket::async_test]
async fn what_ended_before_it_was_followed_is_told_at_once() {
    for url in everywhere().await {
        let app = Process::start(url.as_deref(), &[]).await;
        let mut browser = app.browser("login").await;
        app.ask(&mut browser, "revoke-ended").await;
        let ended = app.kept();
        assert!(has_ended(&ended));
        assert_eq!(end_of(ended).await, End::Revoked);
    }
}

/// A stream that is dropped leaves nothing behind: no subscription, and so no command.
#[rocket::async_test]
async fn nothing_is_asked_while_no_session_is_followed() {
    let mongod = Mongod::start().await;
    let (db, client) = (database(), mongod.client().await);
    let app = Process::start(Some(&mongod.url(&db)), &[("indexes", false.into())]).await;
    let mut browser = app.browser("login").await;
    let ended = app.follow(&mut browser).await;
    let profile = crate::support::Profile::start(&client, &db).await;
    // It is asked for while it is followed, by one find.
    crate::support::eventually("a poll", async || {
        profile.names().await.iter().any(|name| name == "find")
    })
    .await;
    drop(ended);
    // The task ends with its next pause; the last poll may be in progress.
    rocket::tokio::time::sleep(Duration::from_millis(1200)).await;
    profile.restart().await;
    rocket::tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(profile.names().await, Vec::<String>::new());
    profile.stop().await;
}

#[rocket::async_test]
async fn subscribing_costs_no_round_trip() {
    let mongod = Mongod::start().await;
    let (db, client) = (database(), mongod.client().await);
    let app = Process::start(Some(&mongod.url(&db)), &[("indexes", false.into())]).await;
    let mut browser = app.browser("login").await;
    let profile = crate::support::Profile::start(&client, &db).await;
    assert_eq!(app.ask(&mut browser, "ended-ended-ended").await, Status::Ok);
    // The load of the request. What is dropped here starts no poll.
    let kept = [app.kept(), app.kept(), app.kept()];
    assert_eq!(profile.names().await, ["find"]);
    drop(kept);
    profile.stop().await;
}

#[rocket::async_test]
async fn shutdown_is_not_held_up_and_ends_no_session() {
    let mongod = Mongod::start().await;
    let url = crate::support::watchful(&mongod.url(&database()));
    let app = Process::start(Some(&url), &[]).await;
    let mut browser = app.browser("login").await;
    let ended = app.follow(&mut browser).await;
    let mut events = app.sessions().events();
    assert!(
        in_time("an error", events.next()).await.unwrap().is_err(),
        "a standalone"
    );
    mongod.pause().await;
    // A poll is in progress, and its server does not answer.
    rocket::tokio::time::sleep(Duration::from_millis(700)).await;
    let begun = std::time::Instant::now();
    app.client.terminate().await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    assert!(!has_ended(&ended));
    mongod.resume().await;
}
