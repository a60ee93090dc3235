//! A store that is opened by the first operation that can: for a database whose host name cannot be
//! resolved at launch.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rocket::async_trait;
use rocket::tokio::sync::Mutex;
use rocket::tokio::time::{Instant, sleep};

use crate::clock::Clock;
use crate::document::{Document, Filter, Update};
use crate::error::{Error, Operation, Result, cause};
use crate::store::{
    Aged, Change, ChangeKind, Durability, Inserted, Order, Step, Store, TimeSource, Touch, Updated,
    Watch,
};

/// The pause after a failed attempt. Operations fail meanwhile without an attempt of their own.
const RETRY_DELAY: Duration = Duration::from_secs(1);

type Opening = Pin<Box<dyn Future<Output = Option<Arc<dyn Store>>> + Send>>;

/// Attempts to open the store; `None`: not yet.
type Open = Box<dyn Fn() -> Opening + Send + Sync>;

pub(crate) struct Deferred {
    opened: Arc<OnceLock<Arc<dyn Store>>>,
    open: Open,
    /// When an attempt failed last. One attempt runs at a time, and the others wait for its result.
    failed: Mutex<Instant>,
    retry_delay: Duration,
    description: String,
}

cause!(
    Unresolved,
    "the host name in the database's URL could not be resolved"
);

impl Deferred {
    pub(crate) fn new<F>(
        open: impl Fn() -> F + Send + Sync + 'static,
        description: String,
    ) -> Deferred
    where
        F: Future<Output = Option<Arc<dyn Store>>> + Send + 'static,
    {
        Deferred {
            opened: Arc::default(),
            open: Box::new(move || Box::pin(open())),
            failed: Mutex::new(Instant::now()),
            retry_delay: RETRY_DELAY,
            description,
        }
    }

    async fn store(&self, operation: Operation) -> Result<&dyn Store> {
        if let Some(store) = self.opened.get() {
            return Ok(store.as_ref());
        }
        let mut failed = self.failed.lock().await;
        if let Some(store) = self.opened.get() {
            return Ok(store.as_ref());
        }
        if failed.elapsed() >= self.retry_delay {
            if let Some(store) = (self.open)().await {
                return Ok(self.opened.get_or_init(|| store).as_ref());
            }
            *failed = Instant::now();
        }
        Err(Error::store(operation, Unresolved))
    }
}

/// What happens in a store that was not open when that was asked for.
struct DeferredWatch(Arc<OnceLock<Arc<dyn Store>>>, Option<Box<dyn Watch>>);

#[async_trait]
impl Watch for DeferredWatch {
    async fn next(&mut self) -> Result<Option<Change>> {
        if let Some(watch) = &mut self.1 {
            return watch.next().await;
        }
        match self.0.get() {
            Some(store) => {
                self.1 = Some(store.watch());
                // Other processes may have reached the database before.
                let now = Clock::system().now();
                Ok(Some(Change::at("", ChangeKind::Missed, now)))
            }
            None => {
                sleep(RETRY_DELAY).await;
                Ok(None)
            }
        }
    }
}

#[async_trait]
impl Store for Deferred {
    async fn load(&self, id: &str) -> Result<Option<Document>> {
        self.store(Operation::LoadSession).await?.load(id).await
    }

    fn load_now(&self, id: &str) -> Option<Option<Document>> {
        self.opened.get()?.load_now(id)
    }

    async fn load_many(&self, ids: Vec<String>) -> Result<Vec<Document>> {
        let store = self.store(Operation::LoadSession).await?;
        store.load_many(ids).await
    }

    async fn insert(&self, documents: Vec<Document>, durability: Durability) -> Result<Inserted> {
        let store = self.store(Operation::CreateSession).await?;
        store.insert(documents, durability).await
    }

    async fn update(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Updated> {
        let store = self.store(Operation::ChangeSession).await?;
        store.update(filter, update, durability).await
    }

    async fn update_returning(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Option<Document>> {
        let store = self.store(Operation::ChangeSession).await?;
        store.update_returning(filter, update, durability).await
    }

    async fn delete(&self, filter: Filter) -> Result<bool> {
        self.store(Operation::EndSession)
            .await?
            .delete(filter)
            .await
    }

    async fn take(&self, filter: Filter) -> Result<Option<Document>> {
        self.store(Operation::EndSession).await?.take(filter).await
    }

    async fn ages(&self, ids: Vec<String>) -> Result<Vec<Aged>> {
        self.store(Operation::FindSessions).await?.ages(ids).await
    }

    async fn put_revocation(&self, id: &str) -> Result<()> {
        let store = self.store(Operation::RevokeSessions).await?;
        store.put_revocation(id).await
    }

    async fn times(&self, ids: Vec<String>, is_final: bool) -> Result<Vec<Document>> {
        let store = self.store(Operation::FollowSessions).await?;
        store.times(ids, is_final).await
    }

    fn watch(&self) -> Box<dyn Watch> {
        match self.opened.get() {
            Some(store) => store.watch(),
            None => Box::new(DeferredWatch(Arc::clone(&self.opened), None)),
        }
    }

    fn time_source(&self) -> TimeSource {
        TimeSource::Server
    }

    /// A touch before the store is open is lost: no session was loaded from it.
    fn touch(&self, touch: Touch) {
        if let Some(store) = self.opened.get() {
            store.touch(touch);
        }
    }

    async fn find(
        &self,
        filter: Filter,
        order: Order,
        skip: u64,
        limit: u32,
    ) -> Result<Vec<Document>> {
        let store = self.store(Operation::FindSessions).await?;
        store.find(filter, order, skip, limit).await
    }

    async fn estimated_count(&self) -> Result<u64> {
        self.store(Operation::CountSessions)
            .await?
            .estimated_count()
            .await
    }

    async fn count(&self, filter: Filter) -> Result<u64> {
        self.store(Operation::CountSessions)
            .await?
            .count(filter)
            .await
    }

    async fn delete_all(&self, filter: Filter) -> Result<u64> {
        let store = self.store(Operation::EndSessions).await?;
        store.delete_all(filter).await
    }

    async fn delete_some(&self, filter: Filter, limit: u32) -> Result<Step> {
        let store = self.store(Operation::EndSessions).await?;
        store.delete_some(filter, limit).await
    }

    async fn ensure_indexes(&self) -> Result<()> {
        let store = self.store(Operation::MakeIndexes).await?;
        store.ensure_indexes().await
    }

    async fn ping(&self) -> Result<()> {
        self.store(Operation::ReachStore).await?.ping().await
    }

    async fn flush(&self) {
        if let Some(store) = self.opened.get() {
            store.flush().await;
        }
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn touch_batches(&self) -> u64 {
        self.opened.get().map_or(0, |store| store.touch_batches())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::store::memory::MemoryStore;

    #[rocket::async_test]
    async fn the_store_opens_as_soon_as_an_attempt_succeeds() {
        let attempts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&attempts);
        let open = move || {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            async move { (number == 1).then(|| Arc::new(MemoryStore::new()) as Arc<dyn Store>) }
        };
        let mut store = Deferred::new(open, "somewhere".to_owned());
        let tried = || attempts.load(Ordering::Relaxed);
        store.retry_delay = Duration::MAX;
        assert!(store.ping().await.is_err());
        assert_eq!(tried(), 0, "the attempt at launch has just failed");
        store.retry_delay = Duration::ZERO;
        let error = store.load("a").await.unwrap_err();
        let source = std::error::Error::source(&error).expect("a cause");
        assert!(source.to_string().contains("host name"), "{source}");
        assert_eq!(tried(), 1);
        assert!(store.load("a").await.is_ok_and(|found| found.is_none()));
        assert!(store.ping().await.is_ok());
        assert_eq!(tried(), 2);
    }
}
