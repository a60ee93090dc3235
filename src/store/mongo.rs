//! Sessions in MongoDB. This file and those below it are the only ones that name the driver's
//! operations.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use mongodb::bson::{Document as Query, RawDocumentBuf, doc};
use mongodb::options::{Acknowledgment, ReadPreference, SelectionCriteria, WriteConcern};
use mongodb::{Collection, Database};
use rocket::futures::TryStreamExt;
use rocket::tokio::sync::{Semaphore, SemaphorePermit};
use rocket::tokio::time::{Instant, timeout_at};
use rocket::{async_trait, tokio};

use crate::document::{Document, Filter, Update};
use crate::error::{Error, Result};
use crate::store::{Aged, Durability, Inserted, Store, TimeSource, Touch, Updated};

mod age;
mod batch;
mod batched_write;
mod command;
mod error;
mod index;
mod insert;
mod load;
mod server_session;
mod touch;
mod update;

use batch::Together;
use batched_write::Batched;
use error::{Failure, reading, writing};
use insert::Creation;
use load::{Load, Sizes};
use server_session::ServerSessions;
use touch::Touches;
use update::Commit;

/// A [`Store`] in a MongoDB collection.
///
/// [`Sessions::fairing`](crate::Sessions::fairing) makes one from Rocket.toml. Make one by hand to put
/// a store of your own around it.
///
/// Reads go to the primary. On a replica set or a sharded cluster a write succeeds when the
/// majority has it, whatever the server's default. On a standalone server its own default decides,
/// and logins, renewals and ends of sessions wait for the journal. A write concern of the
/// collection's own (from the URL) has the last word on how many nodes a write waits for.
#[derive(Clone)]
pub struct MongoStore(Arc<Inner>);

pub(crate) struct Inner {
    sessions: Collection<RawDocumentBuf>,
    database: Database,
    deadline: Duration,
    topology: AtomicU8,
    /// Places in the driver's pool. Who finds none waits here, where the deadline can end the
    /// wait, and not in the driver's queue, where it could not.
    places: Semaphore,
    touches: Touches,
    /// Whether loads, commits and new sessions may travel together.
    share: bool,
    loads: Together<Load>,
    sizes: Sizes,
    commits: Together<Batched<Commit>>,
    creations: Together<Batched<Creation>>,
    server_sessions: ServerSessions,
    /// One call makes the indexes at a time: a build can take longer than the deadline, and those
    /// that wait for it in the server hold a connection each.
    indexing: tokio::sync::Mutex<()>,
}

/// What kind of deployment answers, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topology {
    Unknown,
    Standalone,
    ReplicaSet,
    Sharded,
}

impl MongoStore {
    /// Keeps sessions in a collection.
    ///
    /// Every operation ends within `deadline`. At most `connections` are under way at once: let that
    /// be the client's `maxPoolSize`, which is 10 where the URL says nothing. With `share`, loads, new sessions and
    /// commits of this process may travel together in one command.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use rocket::launch;
    /// use rocket_mongo_session::mongodb::{Client, bson::Document};
    /// use rocket_mongo_session::{MongoStore, Sessions};
    ///
    /// #[launch]
    /// async fn rocket() -> _ {
    ///     let url = "mongodb://localhost:27017/?maxPoolSize=32&serverSelectionTimeoutMS=5000";
    ///     let client = Client::with_uri_str(url).await.expect("a URL of MongoDB");
    ///     let collection = client.database("my_app").collection::<Document>("session");
    ///     let store = MongoStore::new(&collection, Duration::from_secs(10), 32, true);
    ///     rocket::build().attach(Sessions::with_store(store))
    /// }
    /// ```
    pub fn new<T: Send + Sync>(
        collection: &Collection<T>,
        deadline: Duration,
        connections: u32,
        share: bool,
    ) -> Self {
        let sessions = collection.clone_with_type::<RawDocumentBuf>();
        let database = sessions.client().database(&sessions.namespace().db);
        MongoStore(Arc::new(Inner {
            sessions,
            database,
            deadline,
            topology: AtomicU8::new(Topology::Unknown as u8),
            places: Semaphore::new(connections.max(1) as usize),
            touches: Touches::default(),
            share,
            loads: Together::new(load::FEW),
            sizes: Sizes::default(),
            commits: Together::new(update::FEW),
            creations: Together::new(insert::FEW),
            server_sessions: ServerSessions::default(),
            indexing: tokio::sync::Mutex::default(),
        }))
    }

    /// For an address that forbids to send a write again (`retryWrites=false`).
    pub(crate) fn without_repeats(self) -> Self {
        self.0.server_sessions.close();
        self
    }
}

/// Shows the collection's name.
impl fmt::Debug for MongoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MongoStore({})", self.0.sessions.namespace())
    }
}

impl Inner {
    /// Until when what begins now may take.
    fn until(&self) -> Instant {
        Instant::now() + self.deadline
    }

    /// Takes a place in the pool, or gives up at the deadline: nothing starts after it.
    async fn place(&self, doing: &'static str, until: Instant) -> Result<SemaphorePermit<'_>> {
        let exhausted = || Error::store(doing, Failure::PoolExhausted);
        let place = match self.places.try_acquire() {
            Ok(place) => place,
            Err(_) => match timeout_at(until, self.places.acquire()).await {
                Ok(Ok(place)) => place,
                _ => return Err(exhausted()),
            },
        };
        if Instant::now() >= until {
            return Err(exhausted());
        }
        Ok(place)
    }

    fn topology(&self) -> Topology {
        match self.topology.load(Ordering::Relaxed) {
            1 => Topology::Standalone,
            2 => Topology::ReplicaSet,
            3 => Topology::Sharded,
            _ => Topology::Unknown,
        }
    }

    /// Asks the server once what it is part of. Until the answer is known, every write waits for
    /// the majority, which is right everywhere.
    async fn learn_topology(&self) -> mongodb::error::Result<()> {
        if self.topology() != Topology::Unknown {
            return Ok(());
        }
        let hello = self.database.run_command(doc! { "hello": 1 }).await?;
        let topology = if hello.contains_key("setName") {
            Topology::ReplicaSet
        } else if hello.get_bool("isreplicaset").is_ok_and(|is| is) {
            return Ok(()); // a member of a set that is yet to be
        } else if hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") {
            Topology::Sharded
        } else {
            Topology::Standalone
        };
        self.topology.store(topology as u8, Ordering::Relaxed);
        Ok(())
    }

    fn write_concern(&self, durability: Durability) -> Option<WriteConcern> {
        let mut concern = self.sessions.write_concern().cloned();
        if self.topology() == Topology::Standalone {
            if durability == Durability::Identity {
                concern.get_or_insert_default().journal = Some(true);
            }
            return concern;
        }
        let concern = concern.get_or_insert_default();
        concern.w.get_or_insert(Acknowledgment::Majority);
        concern.w_timeout.get_or_insert(self.deadline);
        Some(concern.clone())
    }

    async fn update_returning(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Option<Document>> {
        const OPERATION: &str = "changing a session";
        let until = self.until();
        let _place = self.place(OPERATION, until).await?;
        let (filter, update) = (query(&filter, OPERATION)?, changes(&update, OPERATION)?);
        let before = self
            .sessions
            .find_one_and_update(filter, update)
            .max_time(left(until))
            .optional(self.write_concern(durability), |u, c| u.write_concern(c))
            .await
            .map_err(|error| writing(OPERATION, error))?;
        Ok(before.map(bytes_out))
    }

    async fn delete(&self, filter: Filter) -> Result<bool> {
        const OPERATION: &str = "ending a session";
        let _place = self.place(OPERATION, self.until()).await?;
        let concern = self.write_concern(Durability::Identity);
        let result = self
            .sessions
            .delete_one(query(&filter, OPERATION)?)
            .optional(concern, |d, c| d.write_concern(c))
            .await
            .map_err(|error| writing(OPERATION, error))?;
        Ok(result.deleted_count > 0)
    }

    async fn take(&self, filter: Filter) -> Result<Option<Document>> {
        const OPERATION: &str = "ending a session";
        let until = self.until();
        let _place = self.place(OPERATION, until).await?;
        let concern = self.write_concern(Durability::Identity);
        let last = self
            .sessions
            .find_one_and_delete(query(&filter, OPERATION)?)
            .max_time(left(until))
            .optional(concern, |d, c| d.write_concern(c))
            .await
            .map_err(|error| writing(OPERATION, error))?;
        Ok(last.map(bytes_out))
    }

    async fn find(&self, filter: Filter, skip: u64, limit: u32) -> Result<Vec<Document>> {
        const OPERATION: &str = "finding sessions";
        if limit == 0 {
            return Ok(Vec::new()); // which the server would take for "no limit"
        }
        let skip = skip.min(i64::MAX.unsigned_abs()); // all that it can be told
        let until = self.until();
        let _place = self.place(OPERATION, until).await?;
        let found = self
            .sessions
            .find(query(&filter, OPERATION)?)
            // What a list does not show can be a megabyte a session.
            .projection(doc! { "value": 0, "token": 0, "csrf": 0 })
            .sort(doc! { "created": 1, "_id": 1 })
            .skip(skip)
            .limit(limit.into())
            .max_time(left(until))
            .selection_criteria(primary())
            .await
            .map_err(|error| reading(OPERATION, error))?;
        let found: Vec<RawDocumentBuf> = found
            .try_collect()
            .await
            .map_err(|error| reading(OPERATION, error))?;
        Ok(found.into_iter().map(bytes_out).collect())
    }

    async fn count(&self, filter: Filter) -> Result<u64> {
        const OPERATION: &str = "counting sessions";
        let until = self.until();
        let _place = self.place(OPERATION, until).await?;
        self.sessions
            .count_documents(query(&filter, OPERATION)?)
            .max_time(left(until))
            .selection_criteria(primary())
            .await
            .map_err(|error| reading(OPERATION, error))
    }

    async fn delete_all(&self, filter: Filter) -> Result<u64> {
        const OPERATION: &str = "ending sessions";
        let _place = self.place(OPERATION, self.until()).await?;
        let concern = self.write_concern(Durability::Identity);
        let result = self
            .sessions
            .delete_many(query(&filter, OPERATION)?)
            .optional(concern, |d, c| d.write_concern(c))
            .await
            .map_err(|error| writing(OPERATION, error))?;
        Ok(result.deleted_count)
    }
}

#[async_trait]
impl Store for MongoStore {
    async fn load(&self, id: &str) -> Result<Option<Document>> {
        load::load(&self.0, id).await
    }

    async fn load_many(&self, ids: Vec<String>) -> Result<Vec<Document>> {
        load::load_many(&self.0, ids).await
    }

    async fn insert(&self, documents: Vec<Document>, durability: Durability) -> Result<Inserted> {
        insert::insert(&self.0, documents, durability).await
    }

    async fn update(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Updated> {
        update::update(&self.0, filter, update, durability).await
    }

    async fn update_returning(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Option<Document>> {
        self.0.update_returning(filter, update, durability).await
    }

    async fn delete(&self, filter: Filter) -> Result<bool> {
        self.0.delete(filter).await
    }

    async fn take(&self, filter: Filter) -> Result<Option<Document>> {
        self.0.take(filter).await
    }

    async fn ages(&self, ids: Vec<String>) -> Result<Vec<Aged>> {
        age::ages(&self.0, ids).await
    }

    async fn put_revocation(&self, id: &str) -> Result<()> {
        age::put_revocation(&self.0, id).await
    }

    fn time_source(&self) -> TimeSource {
        TimeSource::Server
    }

    fn touch(&self, touch: Touch) {
        touch::add(&self.0, touch);
    }

    async fn find(&self, filter: Filter, skip: u64, limit: u32) -> Result<Vec<Document>> {
        self.0.find(filter, skip, limit).await
    }

    async fn count(&self, filter: Filter) -> Result<u64> {
        self.0.count(filter).await
    }

    async fn delete_all(&self, filter: Filter) -> Result<u64> {
        self.0.delete_all(filter).await
    }

    async fn ensure_indexes(&self) -> Result<()> {
        let doing = "making the session indexes";
        let one = timeout_at(self.0.until(), self.0.indexing.lock()).await;
        let Ok(_one) = one else {
            return Err(Error::store(doing, Failure::Indexing));
        };
        self.0
            .learn_topology()
            .await
            .map_err(|error| reading(doing, error))?;
        index::ensure(&self.0.database, self.0.sessions.name())
            .await
            .map_err(|error| reading(doing, error))
    }

    async fn ping(&self) -> Result<()> {
        let doing = "reaching MongoDB";
        self.0
            .learn_topology()
            .await
            .map_err(|error| reading(doing, error))?;
        let ping = self.0.database.run_command(doc! { "ping": 1 });
        ping.selection_criteria(primary())
            .await
            .map(drop)
            .map_err(|error| reading(doing, error))
    }

    async fn flush(&self) {
        touch::flush(&self.0).await;
    }

    fn describe(&self) -> String {
        format!("in MongoDB, collection `{}`", self.0.sessions.namespace())
    }

    fn touch_batches(&self) -> u64 {
        self.0.touches.batches()
    }
}

/// The time that is left, and a moment where there is none: zero would be no limit.
fn left(until: Instant) -> Duration {
    let left = until.saturating_duration_since(Instant::now());
    left.max(Duration::from_millis(1))
}

fn primary() -> SelectionCriteria {
    SelectionCriteria::ReadPreference(ReadPreference::Primary)
}

/// Our bytes as the driver's document. They cross as bytes because the application may have
/// switched the driver to another version of the bson crate than ours.
fn bytes_in(document: Document, doing: &'static str) -> Result<RawDocumentBuf> {
    RawDocumentBuf::from_bytes(document.into_bytes())
        .map_err(|error| Error::store(doing, Failure::Bson(error.to_string())))
}

fn bytes_out(document: RawDocumentBuf) -> Document {
    Document::from_bytes(document.into_bytes())
}

fn query(filter: &Filter, doing: &'static str) -> Result<Query> {
    parse(&filter.to_bson(), doing)
}

fn changes(update: &Update, doing: &'static str) -> Result<Query> {
    parse(&update.to_bson(), doing)
}

fn parse(bytes: &[u8], doing: &'static str) -> Result<Query> {
    Query::from_reader(bytes).map_err(|error| Error::store(doing, Failure::Bson(error.to_string())))
}

/// The driver's actions take an option by value only; this leaves one out that is not there.
trait Optional: Sized {
    fn optional<T>(self, value: Option<T>, set: impl FnOnce(Self, T) -> Self) -> Self {
        match value {
            Some(value) => set(self, value),
            None => self,
        }
    }
}

impl<A: std::future::IntoFuture> Optional for A {}
