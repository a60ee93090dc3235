//! What an administrator does to other people's sessions.

use mongodb::bson::{Bson, Document, doc};
use rocket::serde::json::{Value, json};
use std::time::Duration;

use super::{no_session, seen_with, sessions, visitor};
use crate::apps::probe::{Probe, Script, id_of, run, run_with};

#[rocket::async_test]
async fn administrators_count_list_and_end_sessions() {
    let probe = Probe::start("identity_admin", &[("timeout", 100.into())]).await;
    let (anonymous, _) = visitor(&probe).await;
    let (one, two, other) = (probe.browser(), probe.browser(), probe.browser());
    let mut cookies = Vec::new();
    for (browser, user) in [(&one, "bob"), (&two, "bob"), (&other, "ann")] {
        run(browser, Script::new().set("n", 1)).await; // so that the logins leave tombstones
        cookies.push(run(browser, Script::new().login(user)).await.cookie());
        probe.clock.advance(Duration::from_secs(1));
    }
    let ask = async |call: Value| {
        run(&anonymous, Script::new().call(call))
            .await
            .last()
            .clone()
    };
    assert_eq!(ask(json!(["count"])).await, 4, "tombstones are not counted");
    assert_eq!(ask(json!(["count_user", "bob"])).await, 2);
    let listed = ask(json!(["list", "bob", 0])).await;
    let ids: Vec<&str> = (0..2).filter_map(|at| listed[at]["id"].as_str()).collect();
    assert_eq!(
        ids,
        [id_of(&cookies[1]), id_of(&cookies[0])],
        "the newest first"
    );
    let shown = listed.to_string();
    for cookie in &cookies {
        assert!(!shown.contains(cookie.split_once('.').expect("two").1));
    }

    assert_eq!(
        ask(json!(["revoke_of", "ann", ids[0]])).await,
        false,
        "not hers"
    );
    assert_eq!(ask(json!(["revoke_of", "bob", ids[0]])).await, true);
    assert_eq!(ask(json!(["revoke_of", "bob", ids[0]])).await, false);
    assert_eq!(seen_with(&probe, &cookies[1]).await, no_session());
    assert_eq!(ask(json!(["revoke", id_of(&cookies[2])])).await, true);
    for nonsense in ["~all", "", "$ne", "abc"] {
        assert_eq!(ask(json!(["revoke", nonsense])).await, false);
    }
    assert_eq!(ask(json!(["revoke_all"])).await, 2);
    assert_eq!(ask(json!(["count"])).await, 0);
    assert_eq!(sessions(&probe).await, Vec::<Document>::new());
    assert_eq!(seen_with(&probe, &cookies[0]).await, no_session());
}

#[rocket::async_test]
async fn what_expired_is_purged_and_nothing_else() {
    let probe = Probe::start("identity_purge", &[("timeout", 100.into())]).await;
    let (_, old) = visitor(&probe).await;
    let (_, forever) = visitor(&probe).await;
    run_with(
        &probe.app,
        &forever,
        Script::new().call(json!(["set_timeout", null])),
    )
    .await;
    probe.clock.advance(Duration::from_secs(101));
    let (browser, fresh) = visitor(&probe).await;
    let script = Script::new()
        .then("count")
        .then("purge_expired")
        .then("purge_expired");
    let ran = run(&browser, script.then("count")).await;
    assert_eq!(ran.results, [json!(2), json!(1), json!(0), json!(2)]);
    assert_eq!(probe.document(&old).await, None);
    for cookie in [forever, fresh] {
        let id = doc! { "_id": id_of(&cookie) };
        assert_eq!(
            probe.sessions().count_documents(id).await.expect("a count"),
            1
        );
    }
}

#[rocket::async_test]
async fn documents_without_a_date_are_purged() {
    let probe = Probe::start("identity_purge_dateless", &[("timeout", 100.into())]).await;
    let (_, alive) = visitor(&probe).await;
    let good = probe.document(&alive).await.expect("a document");
    let now = good.get_f64("accessed").expect("a time");
    // What MongoDB's own index never deletes, since it goes by dates alone.
    let dateless = [
        None,
        Some(Bson::Null),
        Some(Bson::String("2100-01-01".into())),
        Some(Bson::Double(now)),
        Some(Bson::Int64(i64::MAX)),
    ];
    let plant = async |name: &str, accessed: f64| {
        for (at, expires) in dateless.iter().enumerate() {
            let mut copy = good.clone();
            copy.insert("_id", format!("{name}{at}"));
            copy.insert("accessed", accessed);
            match expires {
                Some(expires) => drop(copy.insert("expires", expires.clone())),
                None => drop(copy.remove("expires")),
            }
            probe.sessions().insert_one(copy).await.expect("an insert");
        }
    };
    plant("old", now - 101.0).await;
    // An ancestor's may be in use.
    plant("new", now - 99.0).await;
    let purge = Script::new().then("purge_expired").then("purge_expired");
    let ran = run(&probe.browser(), purge).await;
    assert_eq!(ran.results, [json!(5), json!(0)]);
    let left = doc! { "_id": { "$regex": "^old" } };
    let left = probe.sessions().count_documents(left).await;
    assert_eq!(left.expect("a count"), 0);
    assert_eq!(probe.documents().await.len(), 1 + 5);
    assert!(probe.document(&alive).await.is_some());
}

#[rocket::async_test]
async fn a_purge_counts_sessions_and_not_tombstones() {
    let probe = Probe::start("identity_purge_tombstones", &[("timeout", 100.into())]).await;
    for _ in 0..3 {
        let browser = probe.browser();
        run(&browser, Script::new().set("n", 1)).await;
        run(&browser, Script::new().login("bob")).await; // leaves a tombstone of the visitor's
    }
    let anonymous = probe.browser();
    run(
        &anonymous,
        Script::new().call(json!(["revoke_user", "ann"])),
    )
    .await;
    assert_eq!(probe.documents().await.len(), 3 + 3 + 1);
    probe.clock.advance(Duration::from_secs(3700));
    let purge = Script::new().then("purge_expired").then("purge_expired");
    let ran = run(&anonymous, purge).await;
    assert_eq!(ran.results, [json!(3), json!(0)]);
    assert_eq!(
        probe.documents().await,
        Vec::<Document>::new(),
        "they go as well"
    );
}
