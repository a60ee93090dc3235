//! Stores that break one promise each, as stores in the wild do: what the conformance suite, and
//! every test that is given one, must find.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use mongodb::Collection;
use mongodb::bson::{Document as Query, doc};
use rocket::async_trait;
use rocket::tokio::sync::OnceCell;
use rocket::tokio::task::yield_now;
use rocket::tokio::time::sleep;
use rocket_mongo_session::store::{
    Aged, Document, Durability, Filter, Inserted, Order, TimeSource, Touch, Update, Updated, Watch,
};
use rocket_mongo_session::testing::Clock;
use rocket_mongo_session::{MemoryStore, MongoStore, Result, Store};

use crate::support::Mongod;

/// As long as the way to a database and back, for stores in memory.
const WAY: Duration = Duration::from_millis(1);

/// A store in this database of the shared mongod, and its collection, for what a driver can do and
/// a store cannot say.
pub async fn in_mongodb(db: &str) -> (MongoStore, Collection<Query>) {
    let client = Mongod::shared().await.client().await;
    let sessions = client.database(db).collection("session");
    let store = MongoStore::new(&sessions, Duration::from_secs(10), 10, true);
    (store, sessions)
}

/// What a store gets wrong: every call that is not written here goes to the store inside.
#[async_trait]
pub trait Fault: Send + Sync + 'static {
    fn inside(&self) -> &dyn Store;

    async fn load(&self, id: &str) -> Result<Option<Document>> {
        self.inside().load(id).await
    }

    /// By `load`, so that one with a fault shows it here, too.
    async fn load_many(&self, ids: Vec<String>) -> Result<Vec<Document>> {
        let mut found = Vec::new();
        for id in ids {
            found.extend(self.load(&id).await?);
        }
        Ok(found)
    }

    async fn times(&self, ids: Vec<String>, is_final: bool) -> Result<Vec<Document>> {
        self.inside().times(ids, is_final).await
    }

    async fn insert(&self, documents: Vec<Document>, durability: Durability) -> Result<Inserted> {
        self.inside().insert(documents, durability).await
    }

    async fn update(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Updated> {
        self.inside().update(filter, update, durability).await
    }

    async fn take(&self, filter: Filter) -> Result<Option<Document>> {
        self.inside().take(filter).await
    }

    fn touch(&self, touch: Touch) {
        self.inside().touch(touch);
    }

    async fn flush(&self) {
        self.inside().flush().await;
    }
}

/// A store with a fault.
#[derive(Default)]
pub struct Wrong<F>(pub F);

#[async_trait]
impl<F: Fault> Store for Wrong<F> {
    async fn insert(&self, documents: Vec<Document>, durability: Durability) -> Result<Inserted> {
        self.0.insert(documents, durability).await
    }

    async fn update(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Updated> {
        self.0.update(filter, update, durability).await
    }

    async fn delete(&self, filter: Filter) -> Result<bool> {
        self.0.inside().delete(filter).await
    }

    async fn take(&self, filter: Filter) -> Result<Option<Document>> {
        self.0.take(filter).await
    }

    async fn load_many(&self, ids: Vec<String>) -> Result<Vec<Document>> {
        self.0.load_many(ids).await
    }

    async fn ages(&self, ids: Vec<String>) -> Result<Vec<Aged>> {
        self.0.inside().ages(ids).await
    }

    async fn put_revocation(&self, id: &str) -> Result<()> {
        self.0.inside().put_revocation(id).await
    }

    async fn times(&self, ids: Vec<String>, is_final: bool) -> Result<Vec<Document>> {
        self.0.times(ids, is_final).await
    }

    fn watch(&self) -> Box<dyn Watch> {
        self.0.inside().watch()
    }

    fn time_source(&self) -> TimeSource {
        self.0.inside().time_source()
    }

    fn touch(&self, touch: Touch) {
        self.0.touch(touch);
    }

    async fn find(
        &self,
        filter: Filter,
        order: Order,
        skip: u64,
        limit: u32,
    ) -> Result<Vec<Document>> {
        self.0.inside().find(filter, order, skip, limit).await
    }

    async fn estimated_count(&self) -> Result<u64> {
        self.0.inside().estimated_count().await
    }

    async fn count(&self, filter: Filter) -> Result<u64> {
        self.0.inside().count(filter).await
    }

    async fn delete_all(&self, filter: Filter) -> Result<u64> {
        self.0.inside().delete_all(filter).await
    }

    async fn ensure_indexes(&self) -> Result<()> {
        self.0.inside().ensure_indexes().await
    }

    async fn ping(&self) -> Result<()> {
        self.0.inside().ping().await
    }

    async fn flush(&self) {
        self.0.flush().await;
    }

    fn describe(&self) -> String {
        format!("wrongly, {}", self.0.inside().describe())
    }
}

/// Nothing wrong: what is found with a fault is not the wrapper's.
#[derive(Default)]
pub struct Right<S> {
    pub inside: S,
}

#[async_trait]
impl<S: Store> Fault for Right<S> {
    fn inside(&self) -> &dyn Store {
        &self.inside
    }
}

/// Saves a session that is not there by writing it again, as it was last seen: what ended comes
/// back, and lets its browser in.
#[derive(Default)]
pub struct Saving<S> {
    pub inside: S,
    pub seen: Mutex<HashMap<String, Document>>,
}

impl<S> Saving<S> {
    fn see<'d>(&self, documents: impl IntoIterator<Item = &'d Document>) {
        let mut seen = self.seen.lock().expect("no panic");
        for document in documents {
            let id = document.id().unwrap_or_default().to_owned();
            seen.insert(id, document.clone());
        }
    }
}

#[async_trait]
impl<S: Store> Fault for Saving<S> {
    fn inside(&self) -> &dyn Store {
        &self.inside
    }

    async fn load(&self, id: &str) -> Result<Option<Document>> {
        let found = self.inside.load(id).await?;
        self.see(&found);
        Ok(found)
    }

    async fn insert(&self, documents: Vec<Document>, durability: Durability) -> Result<Inserted> {
        self.see(&documents);
        self.inside.insert(documents, durability).await
    }

    async fn update(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Updated> {
        let id = filter.wanted_id().map(str::to_owned);
        let updated = self.inside.update(filter, update.clone(), durability);
        if updated.await? == Updated::Applied {
            return Ok(Updated::Applied);
        }
        let seen = id.and_then(|id| self.seen.lock().expect("no panic").get(&id).cloned());
        let Some(seen) = seen else {
            return Ok(Updated::Gone);
        };
        let whole = update.apply_by(&seen, &Clock::default())?;
        self.inside.insert(vec![whole], durability).await?;
        Ok(Updated::Applied)
    }
}

/// Answers for the document that ends every session as it was when it was first asked for.
pub struct Lagging<S> {
    pub inside: S,
    pub epoch: OnceCell<Option<Document>>,
}

#[async_trait]
impl<S: Store> Fault for Lagging<S> {
    fn inside(&self) -> &dyn Store {
        &self.inside
    }

    async fn load(&self, id: &str) -> Result<Option<Document>> {
        let found = self.inside.load(id);
        match id {
            "~epoch" => self.epoch.get_or_try_init(|| found).await.cloned(),
            _ => found.await,
        }
    }
}

/// Remembers the sessions that it was asked about, and never hears of their ends.
pub struct Forgetful<S> {
    pub inside: S,
    pub seen: Mutex<HashMap<String, Document>>,
}

#[async_trait]
impl<S: Store> Fault for Forgetful<S> {
    fn inside(&self) -> &dyn Store {
        &self.inside
    }

    async fn times(&self, ids: Vec<String>, is_final: bool) -> Result<Vec<Document>> {
        let found = self.inside.times(ids.clone(), is_final).await?;
        let mut seen = self.seen.lock().expect("no panic");
        let found = found.into_iter();
        seen.extend(found.map(|document| (document.id().unwrap_or_default().to_owned(), document)));
        Ok(ids.iter().filter_map(|id| seen.get(id)).cloned().collect())
    }
}

/// Updates with MongoDB's `upsert`, as session stores that "save" do: what ended is stored again,
/// as far as an update says.
pub struct Upserting<S> {
    pub inside: S,
    pub sessions: Collection<Query>,
}

#[async_trait]
impl<S: Store> Fault for Upserting<S> {
    fn inside(&self) -> &dyn Store {
        &self.inside
    }

    async fn update(&self, filter: Filter, update: Update, _: Durability) -> Result<Updated> {
        let read = |bytes: Vec<u8>| Query::from_reader(bytes.as_slice()).expect("a document");
        let (filter, update) = (read(filter.to_bson()), read(update.to_bson()));
        let upsert = self.sessions.update_one(filter, update).upsert(true);
        match upsert.await {
            Ok(_) => Ok(Updated::Applied),
            Err(error) => Err(rocket_mongo_session::Error::store(
                rocket_mongo_session::Operation::ChangeSession,
                error,
            )),
        }
    }
}

/// Reads a document, changes it, and writes it back whole: the last writer wins.
#[derive(Default)]
pub struct Replacing<S = MemoryStore> {
    pub inside: S,
}

#[async_trait]
impl<S: Store> Fault for Replacing<S> {
    fn inside(&self) -> &dyn Store {
        &self.inside
    }

    async fn update(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Updated> {
        let id = filter.wanted_id().expect("an update is of one document");
        let Some(before) = self.inside.load(id).await? else {
            return Ok(Updated::Gone);
        };
        if !filter.matches(&before) {
            return Ok(Updated::Gone);
        }
        let after = update.apply_by(&before, &Clock::default())?;
        sleep(WAY).await;
        // Not by `Filter`s and `Update`s, which cannot say "replace".
        self.inside.take(filter.clone()).await?;
        self.inside.insert(vec![after], durability).await?;
        Ok(Updated::Applied)
    }
}

/// Writes a touch to a session that is not there.
#[derive(Default)]
pub struct Reviving {
    pub inside: MemoryStore,
    touched: Mutex<Vec<Touch>>,
}

#[async_trait]
impl Fault for Reviving {
    fn inside(&self) -> &dyn Store {
        &self.inside
    }

    fn touch(&self, touch: Touch) {
        self.touched.lock().expect("no panic").push(touch);
    }

    async fn flush(&self) {
        let touched = std::mem::take(&mut *self.touched.lock().expect("no panic"));
        for touch in touched {
            let empty = doc! { "_id": touch.id(), "value": {} };
            let mut bytes = Vec::new();
            empty.to_writer(&mut bytes).expect("a small document");
            let document = touch
                .update()
                .apply_by(&Document::from_bytes(bytes), &Clock::default());
            let document = document.expect("times only grow");
            let created = self.inside.insert(vec![document], Durability::Data).await;
            if created.expect("memory does not fail") == Inserted::Exists {
                self.inside.touch(touch);
            }
        }
    }
}

/// Takes in two steps: reads, then deletes.
#[derive(Default)]
pub struct TakingTwice {
    pub inside: MemoryStore,
}

#[async_trait]
impl Fault for TakingTwice {
    fn inside(&self) -> &dyn Store {
        &self.inside
    }

    async fn take(&self, filter: Filter) -> Result<Option<Document>> {
        let found = self
            .inside
            .find(filter.clone(), Order::OldestFirst, 0, 1)
            .await?
            .pop();
        yield_now().await;
        if found.is_some() {
            self.inside.delete(filter).await?;
        }
        Ok(found)
    }
}

/// Answers reads from what it saw before: a cache.
#[derive(Default)]
pub struct Caching {
    pub inside: MemoryStore,
    seen: Mutex<HashMap<String, Document>>,
}

#[async_trait]
impl Fault for Caching {
    fn inside(&self) -> &dyn Store {
        &self.inside
    }

    async fn load(&self, id: &str) -> Result<Option<Document>> {
        if let Some(seen) = self.seen.lock().expect("no panic").get(id) {
            return Ok(Some(seen.clone()));
        }
        let found = self.inside.load(id).await?;
        if let Some(found) = &found {
            let mut seen = self.seen.lock().expect("no panic");
            seen.insert(id.to_owned(), found.clone());
        }
        Ok(found)
    }
}
