//! Every store keeps the promises of `Store`; stores that do not are found out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mongodb::bson::Document;
use mongodb::{Client, Collection};
use rocket_mongo_session::testing::conformance;
use rocket_mongo_session::{MemoryStore, MongoStore, Store};

use crate::support::{FailPoint, Failure, Mode, Mongod, ReplicaSet};
use crate::wrong_stores::{Caching, Replacing, Reviving, TakingTwice, Upserting, Wrong};

mod shape;

/// A collection that nobody has used.
fn fresh(client: &Client) -> Collection<Document> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    client
        .database("conformance")
        .collection(&format!("s{number}"))
}

fn store(sessions: &Collection<Document>) -> MongoStore {
    sharing(sessions, true)
}

fn sharing(sessions: &Collection<Document>, share: bool) -> MongoStore {
    MongoStore::new(sessions, Duration::from_secs(60), 10, share)
}

/// On a store that knows what deployment it is on, and has its indexes; whether its operations
/// travel together or alone.
async fn conforms(client: &Client) {
    for share in [true, false] {
        conformance::run(async || {
            let store = sharing(&fresh(client), share);
            store.ensure_indexes().await.expect("indexes");
            store
        })
        .await;
    }
}

/// The names of the promises that a store breaks.
async fn broken<S: Store>(make: impl AsyncFn() -> S) -> Vec<&'static str> {
    let broken = conformance::check(make).await;
    broken.into_iter().map(|one| one.promise).collect()
}

#[track_caller]
fn assert_finds(broken: &[&str], promises: &[&str]) {
    for promise in promises {
        assert!(broken.contains(promise), "{promise} is not in {broken:?}");
    }
}

#[rocket::async_test]
async fn the_memory_store_keeps_every_promise() {
    conformance::run(async || MemoryStore::new()).await;
}

#[rocket::async_test]
async fn the_mongo_store_keeps_every_promise_on_6_0() {
    conforms(&Mongod::shared().await.client().await).await;
}

#[rocket::async_test]
async fn the_mongo_store_keeps_every_promise_before_it_knows_the_server() {
    let client = Mongod::shared().await.client().await;
    conformance::run(async || store(&fresh(&client))).await;
}

#[rocket::async_test]
async fn the_mongo_store_keeps_every_promise_on_5_0() {
    let mongod = Mongod::builder().series("5.0").start().await;
    conforms(&mongod.client().await).await;
}

#[rocket::async_test]
async fn the_mongo_store_keeps_every_promise_on_4_4() {
    let mongod = Mongod::builder().series("4.4").start().await;
    conforms(&mongod.client().await).await;
}

#[rocket::async_test]
async fn the_mongo_store_keeps_every_promise_on_a_replica_set() {
    let set = ReplicaSet::shared().await;
    conforms(&set.client().await).await;
}

#[rocket::async_test]
async fn a_flush_waits_for_touches_that_are_on_their_way() {
    let mongod = Mongod::start().await;
    let client = mongod.client().await;
    let slow = Failure::block(Duration::from_millis(50));
    let point = FailPoint::on(&client, &["update"], Mode::Always, slow).await;
    let store = Arc::new(store(&fresh(&client)));
    conformance::touch_moves_times_forward(store).await.unwrap();
    point.clear().await;
}

#[rocket::async_test]
async fn a_store_that_upserts_is_found_out() {
    let client = Mongod::shared().await.client().await;
    let broken = broken(async || {
        let sessions = fresh(&client);
        let inside = store(&sessions);
        Wrong(Upserting { inside, sessions })
    })
    .await;
    assert_finds(
        &broken,
        &[
            "update_never_creates",
            "nothing_brings_a_deleted_document_back",
        ],
    );
}

#[rocket::async_test]
async fn a_store_that_replaces_whole_documents_is_found_out() {
    let broken = broken(async || Wrong::<Replacing>::default()).await;
    assert_finds(
        &broken,
        &[
            "of_many_that_compare_and_set_one_wins",
            "no_increment_is_lost",
            "no_push_is_lost",
            "writes_to_different_fields_never_meet",
            "nothing_brings_a_deleted_document_back",
        ],
    );
}

#[rocket::async_test]
async fn a_store_whose_touch_creates_is_found_out() {
    let broken = broken(async || Wrong::<Reviving>::default()).await;
    assert_finds(
        &broken,
        &[
            "touch_never_creates",
            "nothing_brings_a_deleted_document_back",
        ],
    );
}

#[rocket::async_test]
async fn a_store_whose_take_is_not_atomic_is_found_out() {
    let broken = broken(async || Wrong::<TakingTwice>::default()).await;
    assert_finds(&broken, &["of_many_that_take_one_gets_the_document"]);
}

#[rocket::async_test]
async fn a_store_that_answers_from_a_cache_is_found_out() {
    let broken = broken(async || Wrong::<Caching>::default()).await;
    assert_finds(&broken, &["reads_see_every_completed_write"]);
}

#[rocket::async_test]
#[should_panic(expected = "touch_never_creates")]
async fn a_failure_names_the_promise() {
    conformance::run(async || Wrong::<Reviving>::default()).await;
}
