//! Sessions in MongoDB. This file and those below it are the only ones that name the driver's
//! operations.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mongodb::Collection;
use mongodb::bson::doc;
use rocket::tokio::time::timeout_at;
use rocket::{async_trait, tokio};

use crate::document::{Document, Filter, Update};
use crate::error::{Error, Operation, Result};
use crate::store::{
    Aged, Durability, Inserted, Order, Step, Store, TimeSource, Touch, Updated, Watch,
};

mod batch;
mod client;
mod command;
mod delete;
mod error;
mod index;
mod insert;
mod list;
mod load;
mod revocation;
mod server_session;
mod touch;
mod update;
mod watch;

use client::{Client, primary};
use error::failed;
use insert::Inserts;
use load::Loads;
use touch::Touches;
use update::Updates;
use watch::ChangeStreamWatch;

/// A [`Store`] in a MongoDB collection.
///
/// Reads go to the primary. On a replica set or a sharded cluster a write succeeds when the
/// majority has it, whatever the server's default. On a standalone server its own default decides,
/// and logins, renewals and ends of sessions wait for the journal. A write concern of the
/// collection's own (from the URL) has the last word on how many nodes a write waits for.
///
/// Its calls hold what others wait for (connections), so poll each to its end. Loads and updates may be
/// dropped: they run in tasks of the store.
pub struct MongoStore {
    client: Arc<Client>,
    touches: Arc<Touches>,
    loads: Loads,
    inserts: Inserts,
    updates: Updates,
    /// One call makes the indexes at a time: a build can take longer than the deadline, and those
    /// that wait for it in the server hold a connection each.
    indexing: tokio::sync::Mutex<()>,
}

impl MongoStore {
    /// Keeps sessions in a collection.
    ///
    /// Nothing is sent later than `deadline` after its call, and the server is asked to end within it.
    /// At most `connections` operations are in flight at once: the client's `maxPoolSize`. With `share`,
    /// loads, new sessions and commits of this process may share a command.
    #[cfg(feature = "unstable-store")]
    pub fn new<T: Send + Sync>(
        collection: &Collection<T>,
        deadline: Duration,
        connections: u32,
        share: bool,
    ) -> Self {
        MongoStore::of_kind(collection, deadline, connections, share, "main")
    }

    /// Keeps the sessions of a kind in a collection.
    pub(crate) fn of_kind<T: Send + Sync>(
        collection: &Collection<T>,
        deadline: Duration,
        connections: u32,
        share: bool,
        kind: &str,
    ) -> Self {
        let client = Arc::new(Client::new(collection, deadline, connections, kind));
        let touches = Arc::new(Touches::new(&client, kind));
        MongoStore {
            loads: Loads::new(&client, &touches, share),
            inserts: Inserts::new(&client, share),
            updates: Updates::new(&client, share),
            touches,
            client,
            indexing: tokio::sync::Mutex::default(),
        }
    }

    /// The indexes that [`ensure_indexes`](Store::ensure_indexes) makes, as `createIndexes` takes them.
    #[cfg(feature = "unstable-store")]
    #[must_use]
    pub fn index_definitions() -> [mongodb::bson::Document; 2] {
        index::definitions()
    }

    /// For an address that forbids to send a write again (`retryWrites=false`).
    pub(crate) fn without_repeats(self) -> Self {
        self.client.server_sessions.close();
        self
    }
}

/// Shows the collection's name.
impl fmt::Debug for MongoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MongoStore({})", self.client.sessions.namespace())
    }
}

#[async_trait]
impl Store for MongoStore {
    fn runs_in_own_tasks(&self) -> bool {
        true
    }

    async fn load_many(&self, ids: Vec<String>) -> Result<Vec<Document>> {
        self.loads.load_many(ids).await
    }

    async fn insert(&self, documents: Vec<Document>, durability: Durability) -> Result<Inserted> {
        self.inserts.insert(documents, durability).await
    }

    async fn update(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Updated> {
        let filter = self.touches.counted(filter);
        self.updates.update(filter, update, durability).await
    }

    async fn delete(&self, filter: Filter) -> Result<bool> {
        delete::delete(&self.client, &filter).await
    }

    async fn take(&self, filter: Filter) -> Result<Option<Document>> {
        delete::take(&self.client, &filter).await
    }

    async fn ages(&self, ids: Vec<String>) -> Result<Vec<Aged>> {
        list::ages(&self.client, ids).await
    }

    async fn put_revocation(&self, id: &str) -> Result<()> {
        revocation::put(&self.client, id).await
    }

    async fn times(&self, ids: Vec<String>, is_final: bool) -> Result<Vec<Document>> {
        let before = self.touches.pending(&ids);
        let found = list::times(&self.client, &ids, is_final).await?;
        Ok(self.touches.apply(&ids, &before, found))
    }

    fn watch(&self) -> Box<dyn Watch> {
        Box::new(ChangeStreamWatch::new(&self.client))
    }

    fn time_source(&self) -> TimeSource {
        TimeSource::Server
    }

    fn touch(&self, touch: Touch) {
        self.touches.add(touch);
    }

    async fn find(
        &self,
        filter: Filter,
        order: Order,
        skip: u64,
        limit: u32,
    ) -> Result<Vec<Document>> {
        list::find(&self.client, &filter, order, skip, limit).await
    }

    async fn estimated_count(&self) -> Result<u64> {
        list::estimated_count(&self.client).await
    }

    async fn count(&self, filter: Filter) -> Result<u64> {
        list::count(&self.client, &filter).await
    }

    async fn delete_all(&self, filter: Filter) -> Result<u64> {
        delete::delete_all(&self.client, &filter).await
    }

    async fn delete_some(&self, filter: Filter, limit: u32) -> Result<Step> {
        delete::delete_some(&self.client, &filter, limit).await
    }

    async fn ensure_indexes(&self) -> Result<()> {
        const OPERATION: Operation = Operation::MakeIndexes;
        let (client, until) = (&self.client, self.client.until());
        let indexing = || Error::store(OPERATION, error::INDEX_BUILD_IN_PROGRESS);
        let one = timeout_at(until, self.indexing.lock()).await;
        let _one = one.map_err(|_| indexing())?;
        client.topology(OPERATION, until).await?;
        let made = index::ensure(&client.database, client.sessions.name()).await;
        made.map_err(|error| match error::code(&error) {
            Some(code) if error::INDEXING.contains(&code) => indexing(),
            _ => failed(OPERATION, error),
        })
    }

    async fn ping(&self) -> Result<()> {
        const OPERATION: Operation = Operation::ReachStore;
        let (client, until) = (&self.client, self.client.until());
        client.topology(OPERATION, until).await?;
        let ping = client.database.run_command(doc! { "ping": 1 });
        let ping = ping.selection_criteria(primary()).await;
        ping.map(drop).map_err(|error| failed(OPERATION, error))
    }

    async fn flush(&self) {
        self.touches.flush().await;
        self.client.tasks.wait(self.client.deadline).await;
    }

    fn describe(&self) -> String {
        format!(
            "in MongoDB, collection `{}`",
            self.client.sessions.namespace()
        )
    }

    fn touch_batches(&self) -> u64 {
        self.touches.batches()
    }
}
