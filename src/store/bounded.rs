//! The store as the rest of the crate sees it: every call ends by the deadline and is counted.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::detach;
use crate::document::{Document, Filter, Update};
use crate::error::{Error, Result, cause};
use crate::stats::Counters;
use crate::store::{Created, Durability, Store, Touch, Updated};

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

    pub(crate) async fn load_many(&self, ids: Vec<String>) -> Result<Vec<Document>> {
        let mut found = Vec::new();
        for id in ids {
            found.extend(self.load(&id).await?);
        }
        Ok(found)
    }

    pub(crate) async fn create(
        &self,
        documents: Vec<Document>,
        durability: Durability,
    ) -> Result<Created> {
        call!(
            self,
            open,
            "creating a session",
            create(documents, durability)
        )
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
