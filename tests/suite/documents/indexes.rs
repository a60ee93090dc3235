//! The indexes of the collection: created, repaired, and what they delete.

use mongodb::bson::{Bson, DateTime, Document, doc};
use rocket::futures::TryStreamExt;
use rocket::serde::json::json;
use rstest::rstest;

use crate::apps::database;
use crate::apps::probe::{Probe, Script, eventually, id_of, run};
use crate::support::{FailPoint, Failure, Mode, Mongod};

/// The indexes but the server's own, by name.
async fn indexes(probe: &Probe) -> Vec<Document> {
    let list = doc! { "listIndexes": "session" };
    let Ok(cursor) = probe
        .client
        .database(&probe.db)
        .run_cursor_command(list)
        .await
    else {
        return Vec::new(); // no collection yet
    };
    let all: Vec<Document> = cursor.try_collect().await.expect("indexes");
    let ours = all
        .into_iter()
        .filter(|index| index.get_str("name") != Ok("_id_"));
    ours.collect()
}

fn is_right(indexes: &[Document]) -> bool {
    let on = |keys: Document| {
        let found = indexes
            .iter()
            .find(|index| index.get_document("key") == Ok(&keys));
        found.cloned().unwrap_or_default()
    };
    let seconds = on(doc! { "expires": 1 }).get("expireAfterSeconds").cloned();
    let seconds = seconds.and_then(|seconds| match seconds {
        Bson::Int32(seconds) => Some(i64::from(seconds)),
        Bson::Int64(seconds) => Some(seconds),
        Bson::Double(seconds) => Some(seconds as i64),
        _ => None,
    });
    let some_user = doc! { "user": { "$exists": true } };
    let user = on(doc! { "user": 1, "created": 1, "_id": 1 });
    let partial = user.get_document("partialFilterExpression");
    let covers_all = |index: &Document| {
        ["sparse", "unique"]
            .iter()
            .all(|one| !index.contains_key(one))
    };
    indexes.len() == 2
        && indexes.iter().all(covers_all)
        && seconds == Some(300)
        && partial == Ok(&some_user)
}

async fn become_right(probe: &Probe, what: &str) {
    eventually(what, async || is_right(&indexes(probe).await)).await;
}

#[rocket::async_test]
async fn the_indexes_are_made_after_liftoff() {
    let probe = Probe::start("stored_indexes", &[]).await;
    become_right(&probe, "the indexes").await;
    let url = Mongod::shared().await.url(&probe.db);
    let again = probe.again(&url, &[]).await;
    let done = Script::new().then("ensure_indexes").request();
    assert_eq!(
        again.send(done).await.text(),
        "[null]",
        "a second time is not an error"
    );
    assert!(is_right(&indexes(&probe).await));
}

#[rocket::async_test]
async fn with_indexes_off_none_is_made() {
    let probe = Probe::start("stored_no_indexes", &[("indexes", false.into())]).await;
    let browser = probe.browser();
    run(&browser, Script::new().login("bob")).await;
    let profile = probe.profile().await;
    run(&browser, Script::new().set("n", 1).then("ping")).await;
    let names = profile.names().await;
    assert!(
        !names.iter().any(|name| name == "createIndexes"),
        "{names:?}"
    );
    assert_eq!(indexes(&probe).await, []);
}

/// A TTL index with this name and grace.
fn ttl(name: &str, seconds: i32) -> Document {
    doc! { "key": { "expires": 1 }, "name": name, "expireAfterSeconds": seconds }
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case::another_grace(ttl("session_expires", 5))]
#[case::another_grace_and_name(ttl("expires_1", 5))]
#[case::another_name(ttl("expires_1", 300))]
#[case::no_ttl(doc! { "key": { "expires": 1 }, "name": "expires_1" })]
#[case::no_ttl_under_our_name(doc! { "key": { "expires": 1 }, "name": "session_expires" })]
#[case::other_keys_under_our_name(doc! { "key": { "value.n": 1 }, "name": "session_expires" })]
#[case::sparse_and_unique(doc! {
    "key": { "expires": 1 }, "name": "session_expires", "expireAfterSeconds": 300,
    "sparse": true, "unique": true,
})]
#[case::a_whole_user_index(doc! { "key": { "user": 1, "created": 1 }, "name": "session_user" })]
#[case::other_user_keys(doc! { "key": { "user": 1 }, "name": "session_user" })]
async fn indexes_with_other_options_are_repaired(#[case] found: Document) {
    let mongod = Mongod::shared().await;
    let (db, client) = (database(), mongod.client().await);
    let make = doc! { "createIndexes": "session", "indexes": [found] };
    let made = client.database(&db).run_command(make).await;
    made.expect("an index");
    let url = mongod.url(&db);
    let probe = Probe::start_at(client, &url, &db, &[], |rocket| rocket).await;
    become_right(&probe, "the repair").await;
    probe.app.shutdown().await.expect("a clean end");
}

/// `collMod` takes the collection's exclusive lock, which would be once a minute and process.
#[rocket::async_test]
async fn index_with_a_name_of_the_operator_is_left_alone() {
    let mongod = Mongod::shared().await;
    let (db, client) = (database(), mongod.client().await);
    let indexes = vec![ttl("expires_1", 300)];
    let make = doc! { "createIndexes": "session", "indexes": indexes };
    let made = client.database(&db).run_command(make).await;
    made.expect("an index");
    let url = mongod.url(&db);
    let probe = Probe::start_at(client, &url, &db, &[], |rocket| rocket).await;
    become_right(&probe, "the user's index").await;
    let profile = probe.profile().await;
    let done = run(&probe.browser(), Script::new().then("ensure_indexes")).await;
    assert_eq!(done.results, [json!(null)]);
    let names = profile.names().await;
    assert!(!names.iter().any(|name| name == "collMod"), "{names:?}");
    assert!(is_right(&self::indexes(&probe).await));
}

#[rocket::async_test]
async fn missing_rights_to_make_indexes_stop_no_request() {
    let mongod = Mongod::start().await;
    let client = mongod.client().await;
    let unauthorized = Failure::code(13);
    let point = FailPoint::on(
        &client,
        &["createIndexes", "collMod"],
        Mode::Always,
        unauthorized,
    )
    .await;
    let url = mongod.url("rights");
    let probe = Probe::start_at(client, &url, "rights", &[], |rocket| rocket).await;
    let browser = probe.browser();
    run(&browser, Script::new().set("n", 1)).await;
    let seen = run(&browser, Script::new().get("n").then("ensure_indexes")).await;
    assert_eq!(seen.results, [json!(1), json!({"error": "Store"})]);
    assert_eq!(indexes(&probe).await, []);
    point.clear().await;
    become_right(&probe, "as soon as it may").await;
}

#[rocket::async_test]
async fn a_dropped_collection_is_a_mass_logout_and_its_indexes_come_back() {
    let probe = Probe::start("stored_dropped", &[]).await;
    let browser = probe.browser();
    let old = run(&browser, Script::new().login("bob")).await.cookie();
    become_right(&probe, "the indexes").await;
    probe.sessions().drop().await.expect("no collection");

    let seen = run(&browser, Script::new().then("user").then("is_new")).await;
    assert_eq!((seen.status, seen.sent()), (200, None));
    assert_eq!(seen.results, [json!(null), json!(true)]);
    become_right(&probe, "the indexes once more").await;
    let new = run(&browser, Script::new().set("n", 1)).await.cookie();
    assert_ne!(id_of(&new), id_of(&old));
}

#[rocket::async_test]
async fn what_expired_long_ago_is_deleted_by_the_server_itself() {
    let probe = Probe::start("stored_ttl", &[]).await;
    become_right(&probe, "the indexes").await;
    let mut cookies = Vec::new();
    for age in [0, 290, 400] {
        let browser = probe.browser();
        let cookie = run(&browser, Script::new().set("n", 1)).await.cookie();
        let past = DateTime::from_millis(DateTime::now().timestamp_millis() - age * 1000);
        let id = doc! { "_id": id_of(&cookie) };
        let set = doc! { "$set": { "expires": past } };
        probe
            .sessions()
            .update_one(id, set)
            .await
            .expect("another time");
        cookies.push(cookie);
    }
    eventually("the oldest is gone", async || {
        probe.document(&cookies[2]).await.is_none()
    })
    .await;
    assert!(probe.document(&cookies[0]).await.is_some());
}
