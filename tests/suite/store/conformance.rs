//! Every store keeps the promises of `Store`; stores that do not are found out.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mongodb::bson::Document;
use mongodb::{Client, Collection};
use rocket_mongo_session::testing::conformance;
use rocket_mongo_session::{MemoryStore, MongoStore, Store};

use crate::store::wrong_stores::{Caching, Replacing, Reviving, TakingTwice, Upserting, Wrong};
use crate::support::{FailPoint, Failure, Mode, Mongod, ReplicaSet};

mod faulty;
mod filter_grammar;

use faulty::{Call, FAULTS, Fault, Faulty};

/// A collection that is unused.
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

/// On a store that knows what deployment it is on, and has its indexes; with its operations
/// batched and alone.
async fn conforms(client: &Client) {
    for share in [true, false] {
        conforms_with(client, share).await;
    }
}

pub async fn conforms_with(client: &Client, share: bool) {
    conformance::run(async || {
        let store = sharing(&fresh(client), share);
        store.ensure_indexes().await.expect("indexes");
        store
    })
    .await;
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

#[rocket::async_test]
async fn the_store_of_the_faults_keeps_every_promise_without_one() {
    conformance::run(async || Faulty::new(Fault::None)).await;
}

#[rocket::async_test]
async fn each_fault_is_found_by_the_promise_that_it_breaks() {
    let faults: Vec<Fault> = FAULTS.iter().map(|(fault, _)| *fault).collect();
    for (at, fault) in faults.iter().enumerate() {
        if faults[..at].contains(fault) {
            continue; // it breaks several, and was tried
        }
        let broken = broken(async || Faulty::new(*fault)).await;
        let its = FAULTS.iter().filter(|(other, _)| other == fault);
        for (_, promise) in its {
            assert!(
                broken.contains(promise),
                "{fault:?} breaks {broken:?}, and not {promise}"
            );
        }
    }
}

#[test]
fn every_promise_has_a_fault_that_breaks_it() {
    let broken: BTreeSet<&str> = FAULTS.iter().map(|(_, promise)| *promise).collect();
    assert_eq!(broken, conformance::promises().collect());
}

#[rocket::async_test]
async fn a_store_that_is_not_empty_is_said_to_be_that() {
    let make = async || {
        let store = MemoryStore::new();
        let promise = conformance::insert_never_replaces_a_document;
        let store = Arc::new(store);
        promise(Arc::clone(&store) as Arc<dyn Store>).await.unwrap();
        Arc::into_inner(store).expect("the only one")
    };
    let broken = conformance::check(make).await;
    assert_eq!(broken.len(), conformance::promises().count());
    for one in broken {
        let failure = one.failure.to_string();
        assert_eq!(failure, "the store that `make` gave is not empty");
    }
}

#[rocket::async_test]
async fn a_panic_of_a_store_is_told_in_its_words() {
    let broken = conformance::check(async || Faulty::new(Fault::Panics)).await;
    // In the task of the trial, and in one of many.
    for promise in [
        "update_never_creates",
        "of_many_that_create_one_document_one_does",
    ] {
        let one = broken.iter().find(|one| one.promise == promise);
        let failure = one.expect(promise).failure.to_string();
        assert!(
            failure.starts_with("the store panicked: no document of session-"),
            "{failure}"
        );
    }
}

#[rocket::async_test]
async fn a_store_that_never_answers_breaks_every_promise_when_patience_ends() {
    let make = async || Faulty::new(Fault::NeverAnswers);
    let broken = conformance::check_within(Duration::from_millis(2), make).await;
    let names: Vec<&str> = broken.iter().map(|one| one.promise).collect();
    assert_eq!(names, conformance::promises().collect::<Vec<_>>());
    for one in broken {
        let failure = one.failure.to_string();
        assert_eq!(failure, "the store did not answer in 0.002 s");
    }
}

#[rocket::async_test]
async fn what_was_acknowledged_survives_a_kill_of_the_server() {
    // What no call waited for stays off the disk for half a second, and is lost.
    let mongod = Mongod::builder()
        .arg("--journalCommitInterval=500")
        .start()
        .await;
    for is_known in [true, false] {
        let client = mongod.client().await;
        let collection = RefCell::new(fresh(&client));
        let make = async || {
            *collection.borrow_mut() = fresh(&client);
            let store = store(&collection.borrow());
            if is_known {
                store.ensure_indexes().await.expect("indexes");
            }
            store
        };
        let reopen = async |old: MongoStore| {
            mongod.kill().await;
            drop(old);
            mongod.restart().await;
            let name = collection.borrow().name().to_owned();
            let database = mongod.client().await.database("conformance");
            store(&database.collection(&name))
        };
        conformance::survives_a_restart(make, reopen).await.unwrap();
    }
}

#[rocket::async_test]
async fn a_store_that_answers_before_the_disk_has_it_is_found_out() {
    let survives = async |fault: Fault| {
        let reopen = async |store: Faulty| store.crashed();
        conformance::survives_a_restart(async || Faulty::new(fault), reopen).await
    };
    survives(Fault::None).await.unwrap();
    for call in [
        Call::Insert,
        Call::Update,
        Call::Delete,
        Call::Take,
        Call::DeleteAll,
        Call::PutRevocation,
    ] {
        let kept = survives(Fault::AnswersBeforeTheDisk(call)).await;
        let failure = kept.expect_err("a lost write").to_string();
        let wanted = format!("after {call:?} and a restart: ");
        assert!(failure.starts_with(&wanted), "{failure}");
    }
}
