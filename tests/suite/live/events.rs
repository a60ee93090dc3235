//! The stream of what happens to sessions, in every process.

use futures::StreamExt;
use mongodb::bson::Document;
use rocket::http::Status;
use rocket_mongo_session::{Event, EventKind, Events, Query};
use rstest::rstest;

use super::{Process, id};
use crate::apps::database;
use crate::support::{Commands, Fate, Mongod, ReplicaSet, eventually, in_time, watchful};

async fn next(events: &mut Events) -> Event {
    let next = in_time("an event", events.next()).await;
    next.expect("the stream continues").expect("an event")
}

fn told(event: &Event) -> (EventKind, &str, Option<i64>) {
    (event.kind, &event.id, event.user().expect("a number"))
}

/// Memory, and a replica set.
async fn places() -> Vec<Option<String>> {
    let set = ReplicaSet::shared().await.url(&database());
    [None, Some(set)].to_vec()
}

#[rocket::async_test]
async fn every_kind_is_told_by_the_process_that_did_it() {
    for url in places().await {
        let app = Process::start(url.as_deref(), &[("timeout", 600.into())]).await;
        let mut events = app.sessions().events();

        let mut browser = app.browser("set").await;
        let old = id(&browser);
        assert_eq!(
            told(&next(&mut events).await),
            (EventKind::Created, &*old, None)
        );
        app.ask(&mut browser, "login").await;
        let new = id(&browser);
        assert_eq!(
            told(&next(&mut events).await),
            (EventKind::LoggedIn, &*new, Some(7))
        );
        assert_eq!(
            told(&next(&mut events).await),
            (EventKind::Deleted, &*old, Some(7))
        );
        for (step, kind) in [
            ("renew", EventKind::Renewed),
            ("elevate", EventKind::Elevated),
        ] {
            app.ask(&mut browser, step).await;
            assert_eq!(told(&next(&mut events).await), (kind, &*new, Some(7)));
        }
        app.ask(&mut browser, "set").await; // a value is not told
        app.ask(&mut browser, "logout").await;
        assert_eq!(
            told(&next(&mut events).await),
            (EventKind::LoggedOut, &*new, Some(7))
        );

        // The last two by other users, since a login right after a revocation is dropped.
        for (revoke, login) in [
            ("one", "login"),
            ("of", "login"),
            ("found", "login"),
            ("user", "login"),
            ("all", "bob"),
        ] {
            let browser = app.browser(login).await;
            let id = id(&browser);
            assert_eq!(next(&mut events).await.kind, EventKind::LoggedIn);
            let sessions = app.sessions();
            match revoke {
                "one" => assert!(sessions.revoke(&id).await.unwrap()),
                "of" => assert!(sessions.of(7).revoke(&id).await.unwrap()),
                "found" => {
                    let found = sessions.revoke_found(&Query::new().user(7)).await;
                    assert_eq!(found.unwrap().ended, 1);
                }
                "user" => assert_eq!(sessions.of(7).revoke_all().await.unwrap(), 1),
                _ => assert_eq!(sessions.revoke_all().await.unwrap(), 1),
            }
            let event = next(&mut events).await;
            assert_eq!(
                (event.kind, &event.id),
                (EventKind::Revoked, &id),
                "{revoke}"
            );
            match revoke {
                "one" => assert_eq!(event.user::<i64>().unwrap(), None),
                "all" => assert_eq!(event.user::<String>().unwrap().as_deref(), Some("bob")),
                _ => assert_eq!(event.user().unwrap(), Some(7)),
            }
        }

        let browser = app.browser("set").await;
        assert_eq!(next(&mut events).await.kind, EventKind::Created);
        app.clock.advance(std::time::Duration::from_secs(700));
        assert_eq!(app.sessions().purge_expired().await.unwrap(), 1);
        assert_eq!(
            told(&next(&mut events).await),
            (EventKind::Expired, &*id(&browser), None)
        );
    }
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case("logout")]
#[case("leave")]
#[case("set-leave")]
#[case("bob-logout")]
#[case("bob-leave")]
async fn logout_names_the_user_whose_session_ends(#[case] steps: &str) {
    let app = Process::start(None, &[]).await;
    let mut browser = app.browser("login").await;
    let ended = id(&browser);
    let mut events = app.sessions().events();
    assert_eq!(app.ask(&mut browser, steps).await, Status::Ok);
    assert_eq!(
        told(&next(&mut events).await),
        (EventKind::LoggedOut, &*ended, Some(7))
    );
}

#[rocket::async_test]
async fn another_process_is_told_what_can_be_known() {
    let url = ReplicaSet::shared().await.url(&database());
    let (here, there) = (
        Process::start(Some(&url), &[]).await,
        Process::start(Some(&url), &[]).await,
    );
    let mut events = here.sessions().events();
    let mut browser = there.browser("login").await;
    let first = id(&browser);
    assert_eq!(
        told(&next(&mut events).await),
        (EventKind::LoggedIn, &*first, Some(7))
    );
    there.ask(&mut browser, "elevate").await;
    assert_eq!(
        told(&next(&mut events).await),
        (EventKind::Elevated, &*first, Some(7))
    );
    there.ask(&mut browser, "keep").await;
    let second = id(&browser);
    assert_eq!(
        told(&next(&mut events).await),
        (EventKind::LoggedIn, &*second, Some(8))
    );
    assert_eq!(
        told(&next(&mut events).await),
        (EventKind::Deleted, &*first, Some(8)),
        "a login"
    );
    there.ask(&mut browser, "logout").await;
    assert_eq!(
        told(&next(&mut events).await),
        (EventKind::Deleted, &*second, None)
    );
}

/// No value, no secret, neither of a session nor of its tombstone.
#[rocket::async_test]
async fn no_event_has_a_secret_or_a_value() {
    for url in places().await {
        let app = Process::start(url.as_deref(), &[]).await;
        let mut events = app.sessions().events();
        let mut secrets = Vec::new();
        let mut browser = app.browser("set").await;
        for steps in ["keep", "renew", "elevate", "set", "keep", "logout"] {
            let cookie = browser.clone().expect("a cookie");
            secrets.push(cookie.split_once('.').expect("a secret").1.to_owned());
            assert_eq!(app.ask(&mut browser, steps).await, Status::Ok);
        }
        let mut text = String::new();
        loop {
            let event = next(&mut events).await;
            text += &format!("{event:?}\n");
            if event.kind == EventKind::LoggedOut {
                break;
            }
        }
        assert!(
            secrets.iter().all(|secret| !text.contains(secret)),
            "{text}"
        );
        assert!(!text.contains("token") && !text.contains("csrf"), "{text}");
    }
}

#[rocket::async_test]
async fn a_slow_reader_is_told_that_it_missed_something() {
    let app = Process::start(None, &[]).await;
    let mut slow = app.sessions().events();
    let mut fast = app.sessions().events();
    let (mut last, mut is_missed) = (String::new(), false);
    for _ in 0..1100 {
        last = id(&app.browser("set").await);
        let event = next(&mut fast).await;
        is_missed |= event.kind == EventKind::Missed;
        assert_eq!(event.id, last);
    }
    assert!(!is_missed, "a reader that reads misses nothing");
    let first = next(&mut slow).await;
    assert_eq!((first.kind, &*first.id), (EventKind::Missed, ""));
    // What follows has no gap.
    let mut count = 0;
    while next(&mut slow).await.id != last {
        count += 1;
    }
    assert_eq!(count, 1023);
}

#[rocket::async_test]
async fn one_stream_serves_all_readers_and_ends_with_the_last() {
    let set = ReplicaSet::builder().members(1).start().await;
    let client = set.client().await;
    let keys = [("indexes", false.into())];
    let app = Process::start(Some(&set.url(&database())), &keys).await;
    let before = Commands::now(&client).await;
    let mut readers: Vec<Events> = (0..10).map(|_| app.sessions().events()).collect();
    app.browser("set").await;
    for reader in &mut readers {
        assert_eq!(next(reader).await.kind, EventKind::Created);
    }
    let sent = async |name| Commands::now(&client).await.since(&before).get(name);
    assert_eq!(sent("aggregate").await, 1);
    drop(readers);
    eventually("the stream ends", async || sent("killCursors").await == 1).await;
    // And another one begins anew.
    let mut events = app.sessions().events();
    app.browser("set").await;
    assert_eq!(next(&mut events).await.kind, EventKind::Created);
}

#[rocket::async_test]
async fn a_standalone_server_is_a_clear_error() {
    let url = Mongod::shared().await.url(&database());
    let app = Process::start(Some(&url), &[]).await;
    let mut events = app.sessions().events();
    let error = in_time("an error", events.next())
        .await
        .unwrap()
        .unwrap_err();
    let cause = std::error::Error::source(&error)
        .expect("a cause")
        .to_string();
    assert!(
        cause.contains("replica set") && cause.contains("standalone"),
        "{cause}"
    );
    assert!(in_time("the end", events.next()).await.is_none());
}

/// A set of one behind a proxy, and an application on it.
async fn proxied() -> (ReplicaSet, Process) {
    let set = ReplicaSet::builder()
        .members(1)
        .behind_proxies()
        .start()
        .await;
    let app = Process::start(Some(&watchful(&set.url(&database()))), &[]).await;
    (set, app)
}

#[rocket::async_test]
async fn without_the_privilege_it_is_a_clear_error() {
    let (set, app) = proxied().await;
    set.proxy(0).plan("aggregate", [Fate::Refuse(13)]);
    let mut events = app.sessions().events();
    let error = in_time("an error", events.next())
        .await
        .unwrap()
        .unwrap_err();
    let cause = std::error::Error::source(&error)
        .expect("a cause")
        .to_string();
    assert!(cause.contains("changeStream"), "{cause}");
    assert!(in_time("the end", events.next()).await.is_none());
    // A later one asks again.
    let mut events = app.sessions().events();
    app.browser("set").await;
    assert_eq!(next(&mut events).await.kind, EventKind::Created);
}

#[rocket::async_test]
async fn a_lost_position_is_told_and_the_stream_continues() {
    let (set, app) = proxied().await;
    let mut events = app.sessions().events();
    app.browser("set").await;
    assert_eq!(next(&mut events).await.kind, EventKind::Created);
    // ChangeStreamHistoryLost.
    set.proxy(0).plan("getMore", [Fate::Refuse(286)]);
    assert_eq!(next(&mut events).await.kind, EventKind::Missed);
    let browser = app.browser("login").await;
    assert_eq!(
        told(&next(&mut events).await),
        (EventKind::LoggedIn, &*id(&browser), Some(7))
    );
}

#[rocket::async_test]
async fn a_dropped_collection_is_told_and_the_stream_continues() {
    let (set, db) = (ReplicaSet::shared().await, database());
    let app = Process::start(Some(&set.url(&db)), &[]).await;
    let mut events = app.sessions().events();
    app.browser("set").await;
    assert_eq!(next(&mut events).await.kind, EventKind::Created);
    set.client()
        .await
        .database(&db)
        .collection::<Document>("session")
        .drop()
        .await
        .unwrap();
    assert_eq!(next(&mut events).await.kind, EventKind::Missed);
    let browser = app.browser("login").await;
    assert_eq!(
        told(&next(&mut events).await),
        (EventKind::LoggedIn, &*id(&browser), Some(7))
    );
}

#[rocket::async_test]
async fn a_failover_loses_no_event() {
    let set = ReplicaSet::start().await;
    let app = Process::start(Some(&watchful(&set.url(&database()))), &[]).await;
    let mut events = app.sessions().events();
    for round in 0..4 {
        match round {
            1 | 2 => drop(set.step_down().await),
            3 => {
                let primary = set.primary().await;
                set.kill(primary).await;
                set.wait_for_primary().await;
            }
            _ => {}
        }
        let mut browser = None;
        eventually("a session is stored", async || {
            app.ask(&mut browser, "login").await == Status::Ok && browser.is_some()
        })
        .await;
        // An attempt that failed may have been stored, and rolled back.
        let wanted = id(&browser);
        loop {
            let event = next(&mut events).await;
            assert_ne!(event.kind, EventKind::Missed, "round {round}");
            if event.id == wanted {
                assert_eq!(event.kind, EventKind::LoggedIn);
                break;
            }
        }
    }
}

#[rocket::async_test]
async fn a_restarted_server_loses_no_event() {
    let set = ReplicaSet::builder().members(1).start().await;
    let (url, db) = (watchful(&set.url("live")), "live");
    let app = Process::start(Some(&url), &[]).await;
    let mut events = app.sessions().events();
    app.browser("set").await;
    assert_eq!(next(&mut events).await.kind, EventKind::Created);
    set.restart(0).await;
    set.wait_for_primary().await;
    // Before the application has noticed.
    let stored = set
        .client()
        .await
        .database(db)
        .collection::<Document>("session");
    stored.delete_many(mongodb::bson::doc! {}).await.unwrap();
    assert_eq!(next(&mut events).await.kind, EventKind::Deleted);
}
