//! One way for all writes of the store: sent again where that is safe, and its outcome is that of every attempt.

use std::time::Duration;

use mongodb::bson::{Document as Query, doc};
use mongodb::{Client, Collection};
use rocket_mongo_session::store::{Document, Durability, Filter, Inserted, Order};
use rocket_mongo_session::{Error, MongoStore, Store};

use crate::support::{FailPoint, Failure, Fate, Mode, Mongod, ReplicaSet};

const DEADLINE: Duration = Duration::from_secs(60);

fn document(id: &str) -> Document {
    Document::from_bytes(mongodb::bson::to_vec(&doc! { "_id": id, "n": 1 }).expect("a document"))
}

fn store(sessions: &Collection<Query>) -> MongoStore {
    MongoStore::new(sessions, DEADLINE, 10, true)
}

/// A collection on a server of its own, and a client for fail points.
struct Bench {
    _set: ReplicaSet,
    tests: Client,
    sessions: Collection<Query>,
}

impl Bench {
    async fn new() -> Bench {
        let set = ReplicaSet::builder().members(1).start().await;
        let client = Client::with_uri_str(format!("{}&appName=app", set.url("writes"))).await;
        let client = client.expect("a client");
        Bench {
            tests: set.nodes()[0].client().await,
            sessions: client.database("writes").collection("session"),
            _set: set,
        }
    }

    async fn fails(&self, command: &str, mode: Mode, failure: Failure) -> FailPoint {
        FailPoint::on(&self.tests, &[command], mode, failure.app_name("app")).await
    }

    /// The collection, past the fail points.
    fn seen(&self) -> Collection<Query> {
        self.tests.database("writes").collection("session")
    }

    /// Fills the collection with one document.
    async fn one(&self) {
        self.seen().delete_many(doc! {}).await.expect("no document");
        let one = doc! { "_id": "one" };
        self.seen().insert_one(one).await.expect("a document");
    }

    async fn count(&self) -> u64 {
        let sessions = self.seen();
        let count = sessions.count_documents(doc! {});
        count.await.expect("a count")
    }

    /// Carries out the write that goes by this command.
    async fn write(&self, store: &MongoStore, command: &str) -> Result<(), Error> {
        self.one().await;
        match command {
            "insert" => {
                let both = vec![document("new"), document("~old")];
                let inserted = store.insert(both, Durability::Identity).await?;
                assert_eq!((inserted, self.count().await), (Inserted::Stored, 3));
            }
            "update" => {
                store.put_revocation("~all").await?;
                assert_eq!(self.count().await, 2);
            }
            "delete" => {
                assert!(store.delete(Filter::default()).await?);
                assert_eq!(self.count().await, 0);
            }
            _ => {
                let taken = store.take(Filter::default()).await?;
                let taken = taken.expect("a document");
                assert_eq!((taken.id(), self.count().await), (Some("one"), 0));
            }
        }
        Ok(())
    }
}

const COMMANDS: [&str; 4] = ["insert", "update", "delete", "findAndModify"];

#[rocket::async_test]
async fn a_server_without_transaction_numbers_takes_every_write() {
    let bench = Bench::new().await;
    for code in [20, 263, 301] {
        for command in COMMANDS {
            let store = store(&bench.sessions);
            let point = bench
                .fails(command, Mode::Times(1), Failure::code(code))
                .await;
            let written = bench.write(&store, command).await;
            point.clear().await;
            written.unwrap_or_else(|error| panic!("{command} after {code}: {error:?}"));
        }
    }
}

/// After a success with a number such an error means something else.
#[rocket::async_test]
async fn a_server_that_took_a_number_is_not_asked_without() {
    let bench = Bench::new().await;
    let store = store(&bench.sessions);
    bench.write(&store, "delete").await.expect("a write");
    let point = bench
        .fails("delete", Mode::Times(1), Failure::code(20))
        .await;
    let refused = bench.write(&store, "delete").await;
    point.clear().await;
    assert!(matches!(refused, Err(Error::Store { .. })), "{refused:?}");
    assert_eq!(bench.count().await, 1);
}

#[rocket::async_test]
async fn a_request_rate_that_is_exceeded_is_waited_for() {
    let bench = Bench::new().await;
    let store = store(&bench.sessions);
    for command in COMMANDS {
        let point = bench
            .fails(command, Mode::Times(2), Failure::code(16500))
            .await;
        let written = bench.write(&store, command).await;
        point.clear().await;
        written.unwrap_or_else(|error| panic!("{command}: {error:?}"));
    }
    bench.one().await;
    let point = bench
        .fails("find", Mode::Times(2), Failure::code(16500))
        .await;
    let loaded = store.load("one").await;
    let found = store
        .find(Filter::default(), Order::OldestFirst, u64::MAX, u32::MAX)
        .await;
    point.clear().await;
    assert!(loaded.expect("a load").is_some() && found.expect("a page").is_empty());
}

/// The server did what it was asked, and its reply is lost; what it says later is of no weight.
#[rocket::async_test]
async fn a_write_that_was_done_is_unknown_whatever_a_later_attempt_says() {
    let set = ReplicaSet::builder()
        .members(1)
        .behind_proxies()
        .start()
        .await;
    let client = Client::with_uri_str(set.url("writes"))
        .await
        .expect("a client");
    let sessions = client.database("writes").collection::<Query>("session");
    let store = store(&sessions);
    store.ping().await.expect("a server");
    for command in COMMANDS {
        for id in ["one", "two"] {
            let new = sessions.insert_one(doc! { "_id": id, "of": command });
            let _ = new.await; // it may be there already
        }
        set.proxy(0)
            .plan(command, [Fate::LoseReply, Fate::Refuse(8000)]);
        let result = match command {
            "insert" => {
                let both = vec![document("new"), document("~old")];
                store.insert(both, Durability::Identity).await.map(drop)
            }
            "update" => store.put_revocation("~all").await,
            "delete" => store.delete(Filter::default()).await.map(drop),
            _ => store.take(Filter::default()).await.map(drop),
        };
        assert!(
            matches!(result, Err(Error::Unknown { .. })),
            "{command}: {result:?}"
        );
    }
}

#[rocket::async_test]
async fn unknown_codes_leave_the_outcome_of_a_write_unknown() {
    let bench = Bench::new().await;
    let store = store(&bench.sessions);
    for (code, is_unknown) in [(13, false), (2, false), (50, true), (4242, true)] {
        for command in COMMANDS {
            let point = bench
                .fails(command, Mode::Times(1), Failure::code(code))
                .await;
            let result = bench.write(&store, command).await;
            point.clear().await;
            match result {
                Err(Error::Unknown { .. }) if is_unknown => {}
                Err(Error::Store { .. }) if !is_unknown => {}
                other => panic!("{command} with {code}: {other:?}"),
            }
        }
    }
}

#[rocket::async_test]
async fn an_endless_deadline_does_not_panic() {
    let mongod = Mongod::shared().await;
    let sessions = mongod
        .client()
        .await
        .database("writes_endless")
        .collection::<Query>("session");
    let store = MongoStore::new(&sessions, Duration::MAX, 10, true);
    let inserted = store.insert(vec![document("one")], Durability::Data).await;
    assert!(inserted.is_ok(), "{inserted:?}");
    assert!(store.load("one").await.expect("a load").is_some());
    assert!(store.delete(Filter::default()).await.expect("a delete"));
    store.flush().await;
}

/// As on a server without partial indexes, which refuses both for the sake of one.
#[rocket::async_test]
async fn an_index_that_cannot_be_made_keeps_no_other_from_being_made() {
    let bench = Bench::new().await;
    bench.one().await;
    let store = store(&bench.sessions);
    // Both at once, and the first by itself.
    let point = bench
        .fails("createIndexes", Mode::Times(2), Failure::code(67))
        .await;
    let made = store.ensure_indexes().await;
    point.clear().await;
    assert!(matches!(made, Err(Error::Store { .. })), "{made:?}");
    let names = bench.sessions.list_index_names().await.expect("indexes");
    assert_eq!(names, ["_id_", "session_user"]);
}
