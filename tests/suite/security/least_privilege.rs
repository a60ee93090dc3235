//! What the crate asks of MongoDB: find, insert, update and remove in the one collection, and no
//! JavaScript.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use rocket::serde::json::{Value, json};
use rocket_mongo_session::testing::conformance;
use rocket_mongo_session::{MongoStore, Store};

use super::{ask, call, member, null, whoami};
use crate::apps::probe::{Probe, Script, run, run_with};
use crate::support::{Mongod, Proxy, users};

/// TL-08, DB-17, LG-03: everything works without `indexes`; what the role forbids says so.
#[rocket::async_test]
async fn a_user_who_may_only_read_and_write_the_sessions_is_enough() {
    let actions = ["find", "insert", "update", "remove"];
    let (mongod, client) = users::server(&actions, &[]).await;
    let url = users::url(mongod.port());
    let keys = [
        ("indexes", false.into()),
        ("max_per_user", 5.into()),
        ("max_age", 600.into()),
    ];
    let probe = Probe::start_at(client, &url, "shop", &keys, super::guards).await;
    assert_eq!(ask(&probe.app, json!(["ping"])).await, null());

    let browser = probe.browser();
    let everything = Script::new()
        .set("n", 1)
        .call(json!(["increment", "count", 2]))
        .call(json!(["push", "list", 1]))
        .call(json!(["flash", "hello"]));
    assert_eq!(run(&browser, everything).await.status, 200);
    let first: Vec<Value> = vec![json!(3), json!(["hello"]), json!(1)];
    let script = Script::new()
        .call(json!(["modify", "count", 1]))
        .then("pop_flash")
        .get("n");
    assert_eq!(run(&browser, script).await.results, first);
    let keeping = json!(["login_keeping", "alice", ["count"]]);
    let script = Script::new().call(keeping).set("n", 2).then("save");
    assert_eq!(run(&browser, script).await.status, 200);
    for script in [
        Script::new().then("elevate"),
        Script::new().then("renew"),
        Script::new().then("touch"),
        Script::new().call(json!(["increment", "count", 1])),
    ] {
        assert_eq!(
            run(&browser, script.clone()).await.status,
            200,
            "{script:?}"
        );
    }
    let count = run(&browser, Script::new().get("count").then("user")).await;
    assert_eq!(count.results, [json!(4), json!("alice")]);
    probe.clock.advance(Duration::from_secs(5));
    run(&browser, Script::new().get("n")).await; // a touch, with others

    let other = member(&probe, "alice").await;
    for (order, expected) in [
        (json!(["count"]), json!(2)),
        (json!(["count_user", "alice"]), json!(2)),
        (
            json!(["revoke_of", "bob", crate::apps::probe::id_of(&other)]),
            json!(false),
        ),
        (json!(["purge_expired"]), json!(0)),
        (
            json!(["revoke", crate::apps::probe::id_of(&other)]),
            json!(true),
        ),
    ] {
        assert_eq!(ask(&probe.app, order.clone()).await, expected, "{order}");
    }
    assert_eq!(whoami(&probe.app, &other).await, null());
    assert_eq!(
        ask(&probe.app, json!(["list", "alice"]))
            .await
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    let third = member(&probe, "alice").await;
    assert_eq!(
        call(&probe.app, &third, json!(["revoke_others"])).await,
        json!(1)
    );
    probe.clock.advance(Duration::from_millis(1));
    assert_eq!(
        ask(&probe.app, json!(["revoke_user", "alice"])).await,
        json!(1)
    );
    assert_eq!(ask(&probe.app, json!(["revoke_all"])).await, json!(0));
    run_with(&probe.app, &third, Script::new().then("logout")).await;

    let refused = ask(&probe.app, json!(["ensure_indexes"])).await;
    assert_eq!(
        refused,
        json!({ "error": "Store" }),
        "the role has no createIndex"
    );
}

/// The rows of the guide with built-in roles: an index that differs is changed in place with `collMod`,
/// which needs `dbAdmin`, and dropped and created again without.
#[rocket::async_test]
async fn built_in_roles_create_and_repair_the_indexes() {
    for (roles, is_in_place) in [
        (&["readWrite"][..], false),
        (&["readWrite", "dbAdmin"], true),
    ] {
        let (mongod, client) = users::server(&[], roles).await;
        let proxy = Proxy::start(mongod.port()).await;
        let database = client.database("shop");
        let index =
            doc! { "key": { "expires": 1 }, "name": "session_expires", "expireAfterSeconds": 60 };
        let wrong = doc! { "createIndexes": "session", "indexes": [index] };
        database.run_command(wrong).await.expect("an index");
        let keys = [("indexes", false.into())];
        let url = users::url(proxy.port());
        let probe = Probe::start_at(client, &url, "shop", &keys, |rocket| rocket).await;
        let cookie = member(&probe, "alice").await;
        assert_eq!(whoami(&probe.app, &cookie).await, json!("alice"));
        assert_eq!(ask(&probe.app, json!(["ensure_indexes"])).await, null());
        let list = doc! { "listIndexes": "session" };
        let listed = database.run_command(list).await.expect("a list");
        let listed = listed.get_document("cursor").expect("a cursor");
        let listed = listed.get_array("firstBatch").expect("a batch");
        let grace = listed.iter().filter_map(|index| {
            let index = index.as_document()?;
            Some(index.get("expireAfterSeconds")?.to_string())
        });
        assert_eq!(grace.collect::<Vec<_>>(), ["300"], "{roles:?}");
        assert_eq!(listed.len(), 3, "{roles:?}");
        let dropped = proxy.requests("dropIndexes");
        assert_eq!(dropped.is_empty(), is_in_place, "{roles:?}: {dropped:?}");
    }
}

/// NJ-07: all of the store's promises, on a server that runs no JavaScript.
#[rocket::async_test]
async fn a_server_without_javascript_is_enough() {
    let mongod = Mongod::builder().arg("--noscripting").start().await;
    let client = mongod.client().await;
    let database = client.database("plain");
    let script = doc! { "find": "any", "filter": { "$where": "true" } };
    assert!(database.run_command(script).await.is_err(), "it runs none");
    let next = AtomicU32::new(0);
    for share in [true, false] {
        conformance::run(async || {
            let name = format!("s{}", next.fetch_add(1, Ordering::Relaxed));
            let sessions = database.collection::<Document>(&name);
            let store = MongoStore::new(&sessions, Duration::from_secs(60), 10, share);
            store.ensure_indexes().await.expect("indexes");
            store
        })
        .await;
    }
}
