//! Two requests of one session at the same time, interleaved by gates.

use std::collections::HashSet;

use mongodb::bson::{Document, doc};
use rocket::futures::future::join_all;
use rocket::serde::json::{Value, json};
use rstest::rstest;

use crate::apps::calls;
use crate::apps::calls::{ask, go, probe, script, value, visitor};
use crate::apps::probe::{Gates, Probe, Ran, id_of, run};
use crate::support::{App, Browser, Profile, ReplicaSet, figment};

/// A request that has loaded its session and done this, and is held; then `meanwhile`; then its
/// response.
async fn in_flight(
    probe: &Probe,
    browser: &Browser,
    calls: Value,
    meanwhile: impl AsyncFnOnce(),
) -> Ran {
    let held = script(calls).pause("held");
    let held = async { Ran::from(browser.send_undelivered(held.request()).await) };
    let meanwhile = async {
        probe.gates.reached("held").await;
        meanwhile().await;
        probe.gates.open("held");
    };
    rocket::tokio::join!(held, meanwhile).0
}

#[rocket::async_test]
async fn changes_of_different_keys_are_both_kept() {
    let probe = probe(&[]).await;
    let (browser, cookie) = visitor(&probe).await;
    in_flight(&probe, &browser, json!([["set", "a", 1]]), async || {
        go(&browser, json!([["set", "b", 2]])).await;
    })
    .await;
    let stored = value(&probe, &cookie).await.expect("data");
    assert_eq!(stored, doc! { "k": "v", "a": 1_i64, "b": 2_i64 });
}

#[rocket::async_test]
async fn of_two_values_for_one_key_the_last_stays() {
    let probe = probe(&[]).await;
    let (browser, cookie) = visitor(&probe).await;
    in_flight(
        &probe,
        &browser,
        json!([["set", "a", "first"]]),
        async || {
            go(&browser, json!([["set", "a", "second"], ["set", "b", 1]])).await;
        },
    )
    .await;
    let stored = value(&probe, &cookie).await.expect("data");
    assert_eq!(stored, doc! { "k": "v", "a": "first", "b": 1_i64 });
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(json!(["get", "k"]))]
#[case(json!(["set", "a", 1]))]
#[case(json!(["flash", "m"]))]
#[case(json!(["increment", "n", 1]))]
#[case(json!(["touch"]))]
#[case(json!(["renew"]))]
#[case(json!(["new_csrf_token"]))]
#[case(json!(["set_timeout", 9]))]
async fn a_session_that_was_logged_out_never_comes_back(#[case] call: Value) {
    let probe = probe(&[]).await;
    let (browser, cookie) = visitor(&probe).await;
    let twin = browser.twin();
    let response = in_flight(&probe, &twin, json!([call]), async || {
        go(&browser, json!([["invalidate"]])).await;
    })
    .await;
    assert_eq!(response.status, 200);
    assert_eq!(response.sent(), None);
    assert_eq!(probe.document(&cookie).await, None);
    assert!(probe.documents().await.is_empty());
}

#[rocket::async_test]
async fn a_mass_logout_is_not_undone_by_requests_in_progress() {
    for call in [json!(["get", "k"]), json!(["set", "a", 1])] {
        for how in ["revoke_all", "by hand", "drop"] {
            let probe = probe(&[("reissue_time", 0.into())]).await;
            let (browser, cookie) = visitor(&probe).await;
            probe.clock.advance(calls::seconds(5.0));
            let response = in_flight(&probe, &browser, json!([call]), async || match how {
                "by hand" => drop(probe.sessions().delete_many(doc! {}).await.unwrap()),
                "drop" => probe.sessions().drop().await.unwrap(),
                _ => drop(ask(&probe.browser(), json!(["revoke_all"])).await),
            })
            .await;
            assert_eq!((response.status, response.sent()), (200, None), "{how}");
            let Probe {
                app, client, db, ..
            } = probe;
            app.shutdown().await.expect("an end");
            let sessions = client
                .database(&db)
                .collection::<mongodb::bson::Document>("session");
            let there = sessions.find_one(doc! { "_id": id_of(&cookie) }).await;
            assert_eq!(there.unwrap(), None, "{how}");
            let left = sessions
                .count_documents(doc! { "_id": { "$lt": "~" } })
                .await;
            assert_eq!(left.unwrap(), 0, "{how}");
        }
    }
}

#[rocket::async_test]
async fn late_writes_to_a_deleted_session_do_not_collide() {
    let probe = probe(&[]).await;
    let (browser, _) = visitor(&probe).await;
    let write = |n: i64| run(&browser, script(json!([["set", "a", n], ["pause", "220"]])));
    let deleting = async {
        probe.gates.reached("220").await;
        probe.gates.reached("220").await;
        probe.sessions().delete_many(doc! {}).await.unwrap();
        probe.gates.open("220");
        probe.gates.open("220");
    };
    let (one, other, ()) = rocket::tokio::join!(write(1), write(2), deleting);
    assert_eq!((one.status, other.status), (200, 200));
    assert_eq!((one.sent(), other.sent()), (None, None));
    assert!(probe.documents().await.is_empty());
}

#[rocket::async_test]
async fn parallel_first_requests_get_a_session_each() {
    let probe = probe(&[]).await;
    let browser = probe.browser();
    let firsts = (0..10).map(|n| run(&browser, script(json!([["set", "n", n]]))));
    let responses = join_all(firsts).await;
    assert!(responses.iter().all(|response| response.status == 200));
    let cookies: HashSet<String> = responses.iter().map(Ran::cookie).collect();
    assert_eq!(cookies.len(), 10);
    let kept = browser.cookie("session").expect("a cookie");
    assert!(cookies.contains(&kept));
    let stored = probe.documents().await;
    assert_eq!(stored.len(), 10);
    // The nine that no browser has go by themselves.
    assert!(
        stored
            .iter()
            .all(|document| document.get_datetime("expires").is_ok())
    );
    probe.clock.advance(calls::seconds(1201.0));
    assert_eq!(ask(&probe.browser(), json!(["purge_expired"])).await, 10);
}

#[rocket::async_test]
async fn of_a_hundred_pops_one_gets_the_message() {
    let probe = probe(&[]).await;
    let browser = probe.browser();
    go(&browser, json!([["flash", "once"]])).await;
    let pop = || run(&browser, script(json!([["pause", "222"], ["pop_flash"]])));
    let pops = join_all((0..100).map(|_| pop()));
    let all_at_once = async {
        for _ in 0..100 {
            probe.gates.reached("222").await;
        }
        for _ in 0..100 {
            probe.gates.open("222");
        }
    };
    let (responses, ()) = rocket::tokio::join!(pops, all_at_once);
    assert!(responses.iter().all(|response| response.status == 200));
    let with_message = responses.iter().filter(|a| a.last() == &json!(["once"]));
    assert_eq!(with_message.count(), 1);
    let without = responses.iter().filter(|a| a.last() == &json!([]));
    assert_eq!(without.count(), 99);
    assert_eq!(ask(&browser, json!(["peek_flash"])).await, json!([]));
}

#[rocket::async_test]
async fn sessions_are_read_where_they_are_written() {
    let set = ReplicaSet::shared().await;
    let client = set.client().await;
    client.database("from_a_secondary").drop().await.unwrap();
    let primary = set.primary().await;
    let mut secondaries = Vec::new();
    for (_, node) in set
        .nodes()
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != primary)
    {
        let client = node.client().await;
        secondaries.push(Profile::start_on_a_secondary(&client, "from_a_secondary").await);
    }
    let url = set.url("from_a_secondary") + "&readPreference=secondary&appName=from_a_secondary";
    let figment = figment("debug", Some(&url), &calls::keys(&[]));
    let clock = rocket_mongo_session::testing::Clock::new();
    let app = App::launch(crate::apps::probe::rocket(
        figment,
        &clock,
        &Gates::default(),
    ))
    .await;
    let browser = app.browser();
    for n in 0..20 {
        go(&browser, json!([["login", n], ["set", "k", n]])).await;
        let read = go(&browser, json!([["user"], ["get", "k"]])).await;
        assert_eq!(read.results, [json!(n), json!(n)]);
    }
    // That a secondary is behind is nothing to count on; that it was not even asked shows. (What is
    // not the application's own comes from the primary, which keeps the others' caches warm.)
    let asked = async || {
        let mut names = Vec::new();
        for secondary in &secondaries {
            let seen = secondary.commands().await.into_iter();
            let ours = seen.filter(|seen| seen.entry.get_str("appName") == Ok("from_a_secondary"));
            names.extend(ours.map(|seen| seen.name));
        }
        names
    };
    assert_eq!(asked().await, [""; 0]);
    let other = mongodb::Client::with_uri_str(&url).await.unwrap();
    let sessions = other
        .database("from_a_secondary")
        .collection::<Document>("session");
    sessions.find_one(doc! {}).await.unwrap();
    assert_eq!(asked().await, ["find"], "what does ask a secondary is seen");
    for secondary in secondaries {
        secondary.stop().await;
    }
}
