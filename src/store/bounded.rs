//! The store as the rest of the crate sees it: every call ends by the deadline and is counted.

use std::future::Future;
use std::sync::Arc;

use rocket::tokio;
use rocket::tokio::sync::oneshot;
use std::time::Duration;

use crate::detach;
use crate::document::{Document, Filter, Update};
use crate::error::{Error, Result, cause};
use crate::stats::Counters;
use crate::store::{Aged, Durability, Inserted, Store, TimeSource, Touch, Updated};

#[derive(Clone)]
pub(crate) struct Bounded {
    store: Arc<dyn Store>,
    deadline: Duration,
    stats: Arc<Counters>,
}

/// Calls a store's method in a future of its own, which may outlive the deadline.
macro_rules! call {
    ($self:ident, $late:ident, $doing:literal, $method:ident($($argument:ident),*)) => {{
        let store = Arc::clone(&$self.store);
        let call = async move { store.$method($($argument),*).await };
        $self.run($doing, call, $late).await
    }};
}

/// The error of a call that did not end in time: of a read nothing is left to happen.
fn unread(doing: &'static str) -> Error {
    Error::store(doing, Late)
}

/// The same of a write, which may still take effect.
fn open(doing: &'static str) -> Error {
    let source = None;
    Error::Unknown { doing, source }
}

cause!(Late, "no answer came within `session.deadline`");

impl Bounded {
    pub(crate) fn new(store: Arc<dyn Store>, deadline: Duration, stats: Arc<Counters>) -> Self {
        Bounded {
            store,
            deadline,
            stats,
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        call: impl Future<Output = Result<T>> + Send + 'static,
        late: fn(&'static str) -> Error,
    ) -> Result<T> {
        let result = detach::within(self.deadline, call)
            .await
            .unwrap_or_else(|| {
                self.stats.deadlines.count();
                Err(late(doing))
            });
        if result
            .as_ref()
            .is_err_and(|error| !matches!(error, Error::Mismatch { .. }))
        {
            self.stats.failures.count();
        }
        result
    }

    pub(crate) async fn load(&self, id: &str) -> Result<Option<Document>> {
        let id = id.to_owned();
        let store = Arc::clone(&self.store);
        let call = async move { store.load(&id).await };
        self.run("loading a session", call, unread).await
    }

    pub(crate) async fn insert(
        &self,
        documents: Vec<Document>,
        durability: Durability,
    ) -> Result<Inserted> {
        call!(
            self,
            open,
            "creating a session",
            insert(documents, durability)
        )
    }

    /// Inserts; if that fails, or ends after the caller was told that it is late, `roll_back` runs
    /// after the attempt has ended, however late that is.
    pub(crate) async fn insert_or(
        &self,
        documents: Vec<Document>,
        durability: Durability,
        roll_back: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Inserted> {
        let store = Arc::clone(&self.store);
        let (reply, mut replied) = oneshot::channel();
        tokio::spawn(async move {
            let result = store.insert(documents, durability).await;
            let is_undone = matches!(result, Err(Error::Store { .. }) | Ok(Inserted::Exists));
            let is_settled = result.is_ok();
            let is_late = reply.send(result).is_err();
            if !is_undone && (is_late || !is_settled) {
                roll_back.await;
            }
        });
        let doing = "creating a session";
        let in_time = tokio::time::timeout(self.deadline, &mut replied).await;
        let result = in_time.ok().or_else(|| {
            // From here on the task is told that nobody waits. It may have ended just before.
            replied.close();
            replied.try_recv().ok().map(Ok)
        });
        self.counted(match result {
            Some(result) => result.unwrap_or_else(|_| Err(open(doing))), // its task panicked
            None => {
                self.stats.deadlines.count();
                Err(open(doing))
            }
        })
    }

    fn counted<T>(&self, result: Result<T>) -> Result<T> {
        if result
            .as_ref()
            .is_err_and(|error| !matches!(error, Error::Mismatch { .. }))
        {
            self.stats.failures.count();
        }
        result
    }

    pub(crate) async fn update(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Updated> {
        call!(
            self,
            open,
            "changing a session",
            update(filter, update, durability)
        )
    }

    pub(crate) async fn update_returning(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Option<Document>> {
        call!(
            self,
            open,
            "changing a session",
            update_returning(filter, update, durability)
        )
    }

    pub(crate) async fn delete(&self, filter: Filter) -> Result<bool> {
        call!(self, open, "ending a session", delete(filter))
    }

    pub(crate) async fn take(&self, filter: Filter) -> Result<Option<Document>> {
        call!(self, open, "ending a session", take(filter))
    }

    pub(crate) async fn load_many(&self, ids: Vec<String>) -> Result<Vec<Document>> {
        call!(self, unread, "loading a session", load_many(ids))
    }

    pub(crate) async fn ages(&self, ids: Vec<String>) -> Result<Vec<Aged>> {
        call!(self, unread, "finding sessions", ages(ids))
    }

    pub(crate) async fn put_revocation(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        let store = Arc::clone(&self.store);
        let call = async move { store.put_revocation(&id).await };
        self.run("revoking sessions", call, open).await
    }

    pub(crate) fn time_source(&self) -> TimeSource {
        self.store.time_source()
    }

    pub(crate) async fn find(
        &self,
        filter: Filter,
        skip: u64,
        limit: u32,
    ) -> Result<Vec<Document>> {
        call!(self, unread, "finding sessions", find(filter, skip, limit))
    }

    pub(crate) async fn count(&self, filter: Filter) -> Result<u64> {
        call!(self, unread, "counting sessions", count(filter))
    }

    pub(crate) async fn delete_all(&self, filter: Filter) -> Result<u64> {
        call!(self, open, "ending sessions", delete_all(filter))
    }

    pub(crate) async fn ensure_indexes(&self) -> Result<()> {
        call!(self, open, "making the session indexes", ensure_indexes())
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        call!(self, unread, "reaching the session store", ping())
    }

    pub(crate) async fn flush(&self, limit: Duration) {
        let store = Arc::clone(&self.store);
        let limit = limit.min(self.deadline);
        let _ = detach::within(limit, async move { store.flush().await }).await;
    }

    /// Never waits for anything, so it needs no deadline.
    pub(crate) fn touch(&self, touch: Touch) {
        self.stats.touches.count();
        self.store.touch(touch);
    }

    pub(crate) fn describe(&self) -> String {
        self.store.describe()
    }

    pub(crate) fn touch_batches(&self) -> u64 {
        self.store.touch_batches()
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }
}
