//! What is read is what is so, whatever the address says of where to read.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, Database};
use rocket::serde::json::json;
use rocket_mongo_session::Sessions;

use super::{ask, member, whoami};
use crate::apps::probe::{Gates, Probe, Script, bare, id_of, run_with};
use crate::support::{App, Mongod, ReplicaSet, figment};

/// Keeps the secondaries as they are: what the primary gets from now on does not reach them.
async fn hold_replication(node: &Mongod, held: bool) {
    let mode = if held { "alwaysOn" } else { "off" };
    let admin: Database = node.client().await.database("admin");
    let order = doc! { "configureFailPoint": "stopReplProducer", "mode": mode };
    admin.run_command(order).await.expect("a fail point");
}

/// DB-02: a login is known at once, and a logout too, though the address asks for the secondaries
/// and those know of neither.
#[rocket::async_test]
async fn a_login_is_known_at_once_whatever_the_read_preference_says() {
    let set = ReplicaSet::start().await;
    let client = set.client().await;
    // `w=1`, since no majority gets anything while the secondaries stand still.
    let url = set.url("reading") + "&w=1&readPreference=secondary";
    let keys = [("max_per_user", 3.into()), ("indexes", false.into())];
    let probe = Probe::start_at(client, &url, "reading", &keys, |rocket| rocket).await;
    let options = ClientOptions::parse(&url).await.expect("an address");
    let own = Client::with_options(options).expect("a client");
    let own = own.database("reading").collection::<Document>("session");
    let figment = figment("debug", None, &keys);
    let in_collection = bare(figment, &Gates::default())
        .attach(Sessions::in_collection(own.clone()).with_clock(&probe.clock));
    let in_collection = App::launch(in_collection).await;

    let old = member(&probe, "alice").await;
    crate::apps::probe::eventually("the secondaries have it", async || {
        let id = doc! { "_id": id_of(&old) };
        own.find_one(id).await.expect("a find").is_some()
    })
    .await;
    let primary = set.primary().await;
    for node in (0..3).filter(|node| *node != primary) {
        hold_replication(&set.nodes()[node], true).await;
    }
    for app in [&probe.app, &in_collection] {
        // The list is by the time of the login.
        probe.clock.advance(Duration::from_millis(1));
        let cookie = member(&probe, "alice").await;
        let id = doc! { "_id": id_of(&cookie) };
        assert_eq!(
            own.find_one(id).await.expect("a find"),
            None,
            "they stand still"
        );
        assert_eq!(whoami(app, &cookie).await, json!("alice"));
        assert_eq!(ask(app, json!(["count_user", "alice"])).await, json!(2));
        let listed = ask(app, json!(["list", "alice"])).await;
        assert_eq!(listed[0]["id"], json!(id_of(&cookie)));
        run_with(app, &cookie, Script::new().then("logout")).await;
        assert_eq!(whoami(app, &cookie).await, json!(null));
    }
    // Of which the secondaries still say otherwise.
    run_with(&probe.app, &old, Script::new().then("logout")).await;
    let id = doc! { "_id": id_of(&old) };
    assert!(own.find_one(id).await.expect("a find").is_some());
    for app in [&probe.app, &in_collection] {
        assert_eq!(whoami(app, &old).await, json!(null));
    }
    for node in (0..3).filter(|node| *node != primary) {
        hold_replication(&set.nodes()[node], false).await;
    }
}

/// DB-17: a health route says what is so, in bounded time.
#[rocket::async_test]
async fn an_outage_is_not_healthy() {
    let mongod = Mongod::start().await;
    let url = mongod.url("health") + "?heartbeatFrequencyMS=500&serverMonitoringMode=poll";
    let keys = [("deadline", 1.into()), ("indexes", false.into())];
    let client = mongod.client().await;
    let probe = Probe::start_at(client, &url, "health", &keys, |rocket| rocket).await;
    let ping = async || ask(&probe.app, json!(["ping"])).await;
    assert_eq!(ping().await, json!(null));
    // The deadline reports a server that stands still; the driver, that no server is left.
    mongod.pause().await;
    assert_eq!(ping().await, json!({ "error": "Store" }));
    mongod.resume().await;
    mongod.stop().await;
    assert_eq!(ping().await, json!({ "error": "Store" }));
    mongod.restart().await;
    crate::apps::probe::eventually("health", async || ping().await.is_null()).await;
}
