//! A store in memory with one fault, when a test asks for it.

use std::future::Future;
use std::sync::{Arc, Mutex};

use rocket::async_trait;
use rocket::tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::error::{Error, Operation, Result};
use crate::store::memory::MemoryStore;
use crate::store::{
    Aged, Document, Durability, Filter, Inserted, Order, Store, TimeSource, Touch, Update, Updated,
    Watch,
};

/// What happens to the next call of a kind.
pub(crate) enum Fault {
    /// It is carried out, and its reply is lost.
    LosesReply,
    /// It is not carried out.
    Fails,
    /// An update finds nothing, though what it looks for is there.
    Misses,
    /// It waits until it may continue, and then fails or not. The first semaphore says that it has
    /// come.
    Waits(Arc<Semaphore>, Arc<Semaphore>, bool),
}

#[derive(Clone, Default)]
pub(crate) struct FaultyStore {
    pub(crate) inner: Arc<MemoryStore>,
    next: Arc<Mutex<Option<(&'static str, Fault)>>>,
    inserted: Arc<Mutex<Vec<String>>>,
    /// It does not answer at once, as one in another process.
    pub(crate) is_remote: bool,
}

impl FaultyStore {
    /// An empty store by this clock.
    pub(crate) fn with_clock(clock: &Clock) -> Self {
        FaultyStore {
            inner: Arc::new(MemoryStore::with_clock(clock)),
            ..FaultyStore::default()
        }
    }

    /// The ids of all documents that were to be inserted, in their order.
    pub(crate) fn inserted(&self) -> Vec<String> {
        self.inserted.lock().unwrap().clone()
    }

    pub(crate) fn next(&self, call: &'static str, fault: Fault) {
        *self.next.lock().unwrap() = Some((call, fault));
    }

    /// Lets the next call of this kind wait.
    pub(crate) fn hold(&self, call: &'static str) -> Held {
        self.wait(call, false)
    }

    /// Lets the next call of this kind wait, and then fail.
    pub(crate) fn hold_to_fail(&self, call: &'static str) -> Held {
        self.wait(call, true)
    }

    fn wait(&self, call: &'static str, fails: bool) -> Held {
        let (come, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        self.next(
            call,
            Fault::Waits(Arc::clone(&come), Arc::clone(&go), fails),
        );
        Held { come, go }
    }

    async fn fault(&self, call: &'static str) -> Option<Fault> {
        let fault = {
            let mut next = self.next.lock().unwrap();
            next.take_if(|(its, _)| *its == call)
                .map(|(_, fault)| fault)
        };
        if let Some(Fault::Waits(come, go, fails)) = &fault {
            come.add_permits(1);
            go.acquire().await.unwrap().forget();
            return fails.then_some(Fault::Fails);
        }
        fault
    }

    /// Carries a call out, unless a test has made it fail.
    async fn run<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        match self.fault(name).await {
            Some(Fault::Fails) => Err(failed()),
            Some(Fault::LosesReply) => {
                call.await?;
                Err(unknown())
            }
            _ => call.await,
        }
    }
}

/// A call that waits.
pub(crate) struct Held {
    come: Arc<Semaphore>,
    go: Arc<Semaphore>,
}

impl Held {
    pub(crate) async fn has_come(&self) {
        self.come.acquire().await.unwrap().forget();
    }

    pub(crate) fn release(&self) {
        self.go.add_permits(1);
    }
}

fn unknown() -> Error {
    let (operation, source) = (Operation::ChangeSession, None);
    Error::Unknown { operation, source }
}

fn failed() -> Error {
    Error::store(Operation::ChangeSession, std::io::Error::other("told to"))
}

#[async_trait]
impl Store for FaultyStore {
    fn load_now(&self, id: &str) -> Option<Option<Document>> {
        match self.is_remote {
            true => None,
            false => self.inner.load_now(id),
        }
    }

    async fn insert(&self, documents: Vec<Document>, durability: Durability) -> Result<Inserted> {
        let ids = documents
            .iter()
            .filter_map(|one| one.id().map(str::to_owned));
        self.inserted.lock().unwrap().extend(ids);
        let call = self.inner.insert(documents, durability);
        self.run("insert", call).await
    }

    async fn update(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Updated> {
        let misses =
            |(call, fault): &mut (&str, Fault)| *call == "update" && matches!(fault, Fault::Misses);
        if self.next.lock().unwrap().take_if(misses).is_some() {
            return Ok(Updated::Gone);
        }
        let call = self.inner.update(filter, update, durability);
        self.run("update", call).await
    }

    async fn delete(&self, filter: Filter) -> Result<bool> {
        self.run("delete", self.inner.delete(filter)).await
    }

    async fn take(&self, filter: Filter) -> Result<Option<Document>> {
        self.run("take", self.inner.take(filter)).await
    }

    /// `load` of one document, `load_many` of several.
    async fn load_many(&self, ids: Vec<String>) -> Result<Vec<Document>> {
        let name = if ids.len() == 1 { "load" } else { "load_many" };
        self.run(name, self.inner.load_many(ids)).await
    }

    async fn ages(&self, ids: Vec<String>) -> Result<Vec<Aged>> {
        self.run("ages", self.inner.ages(ids)).await
    }

    async fn put_revocation(&self, id: &str) -> Result<()> {
        self.inner.put_revocation(id).await
    }

    async fn times(&self, ids: Vec<String>, is_final: bool) -> Result<Vec<Document>> {
        self.run("times", self.inner.times(ids, is_final)).await
    }

    fn watch(&self) -> Box<dyn Watch> {
        self.inner.watch()
    }

    fn time_source(&self) -> TimeSource {
        self.inner.time_source()
    }

    fn touch(&self, touch: Touch) {
        self.inner.touch(touch);
    }

    async fn find(
        &self,
        filter: Filter,
        order: Order,
        skip: u64,
        limit: u32,
    ) -> Result<Vec<Document>> {
        self.run("find", self.inner.find(filter, order, skip, limit))
            .await
    }

    async fn estimated_count(&self) -> Result<u64> {
        self.inner.estimated_count().await
    }

    async fn count(&self, filter: Filter) -> Result<u64> {
        self.inner.count(filter).await
    }

    /// Never ends: a test comes in as often as all are sent away.
    async fn delete_all(&self, filter: Filter) -> Result<u64> {
        Ok(self.inner.delete_all(filter).await?.max(1))
    }

    async fn ensure_indexes(&self) -> Result<()> {
        Ok(())
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn flush(&self) {}

    fn describe(&self) -> String {
        "a faulty store".into()
    }
}
