//! The store as the rest of the crate sees it: every call ends by the deadline, and is counted.
//!
//! A call may hold what others wait for (a connection, a place in a batch), and a caller may stop
//! polling its future, or drop it. So no caller owns one: it runs in a task, here or, where the store
//! says so ([`Store::runs_in_own_tasks`](super::Store::runs_in_own_tasks)), in the store's. A late
//! call continues there, and a driver's future is never dropped before its end.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rocket::futures::FutureExt;
use rocket::tokio;
use rocket::tokio::sync::oneshot;
use rocket::tokio::time::timeout;

use crate::document::{Document, Filter, Update};
use crate::error::{Error, Operation, Result};
use crate::spans::carried;
use crate::stats::Counters;
use crate::store::deferred::Source;
use crate::store::{Aged, Durability, Inserted, Order, Step, TimeSource, Touch, Updated, Watch};
use crate::tasks::Tasks;

#[derive(Clone)]
pub(crate) struct Bounded {
    source: Source,
    deadline: Duration,
    stats: Arc<Counters>,
    tasks: Tasks,
    /// Whether a call has ever succeeded.
    has_answered: Arc<AtomicBool>,
}

/// Calls a store's method that the store may run in tasks of its own: the calls of most requests, which
/// cost a task less then.
macro_rules! call_or_spawn {
    ($self:ident, $operation:ident, $method:ident($($argument:expr),*)) => {
        match $self.source.opened() {
            Some(store) if store.runs_in_own_tasks() => {
                let call = store.$method($($argument),*);
                $self.ended(Operation::$operation, AssertUnwindSafe(call).catch_unwind()).await
            }
            _ => call!($self, $operation, $method($($argument),*)),
        }
    };
}

/// Calls a store's method in a task.
macro_rules! call {
    ($self:ident, $operation:ident, $method:ident($($argument:expr),*)) => {{
        let source = $self.source.clone();
        let call = async move {
            let store = source.store(Operation::$operation).await?;
            store.$method($($argument),*).await
        };
        $self.ended(Operation::$operation, $self.tasks.spawn(carried(call))).await
    }};
}

const LATE: &str = "no response arrived within `session.deadline`";
const PANICKED: &str = "the store's task panicked, or the runtime is shutting down";

impl Bounded {
    pub(crate) fn new(source: impl Into<Source>, deadline: Duration, stats: Arc<Counters>) -> Self {
        Bounded {
            source: source.into(),
            deadline,
            stats,
            tasks: Tasks::default(),
            has_answered: Arc::default(),
        }
    }

    /// Waits for the end of a call, until the deadline.
    async fn ended<T, E>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<Result<T>, E>>,
    ) -> Result<T> {
        let result = match timeout(self.deadline, call).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::without_result(operation, PANICKED)),
            Err(_) => Err(self.late(operation)),
        };
        self.counted(result)
    }

    fn late(&self, operation: Operation) -> Error {
        self.stats.deadlines.count();
        match operation.only_reads() {
            true => Error::store(operation, LATE),
            // Its text says that it is late.
            false => Error::Unknown {
                operation,
                source: None,
            },
        }
    }

    fn counted<T>(&self, result: Result<T>) -> Result<T> {
        let fails = |error: &Error| !matches!(error, Error::Mismatch { .. });
        if result.as_ref().is_err_and(fails) {
            self.stats.failures.count();
        }
        if result.is_ok() && !self.has_answered() {
            self.has_answered.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Never waits for anything, so it needs no deadline.
    pub(crate) fn load_now(&self, id: &str) -> Option<Option<Document>> {
        self.source.opened()?.load_now(id)
    }

    pub(crate) async fn load(&self, id: &str) -> Result<Option<Document>> {
        let id = id.to_owned();
        call_or_spawn!(self, LoadSession, load(&id))
    }

    /// Inserts documents. If the outcome is unknown, or comes after the caller got the error that it is late,
    /// `roll_back` runs after the attempt has ended, however late that is.
    ///
    /// It starts at once: await it immediately. It is not an `async fn`, whose future would also have
    /// room for that of the task.
    pub(crate) fn insert_or<R, F>(
        &self,
        documents: Vec<Document>,
        durability: Durability,
        roll_back: R,
    ) -> impl Future<Output = Result<Inserted>> + use<'_, R, F>
    where
        R: FnOnce() -> F + Send + 'static,
        F: Future<Output = ()> + Send,
    {
        const OPERATION: Operation = Operation::CreateSession;
        let source = self.source.clone();
        let (reply, mut replied) = oneshot::channel();
        self.tasks.spawn(carried(async move {
            let result = match source.store(OPERATION).await {
                Ok(store) => store.insert(documents, durability).await,
                Err(error) => Err(error),
            };
            let stored_nothing = matches!(result, Err(Error::Store { .. }) | Ok(Inserted::Exists));
            let is_settled = result.is_ok();
            let is_late = reply.send(result).is_err();
            if !stored_nothing && (is_late || !is_settled) {
                Box::pin(roll_back()).await;
            }
        }));
        async move {
            let in_time = timeout(self.deadline, &mut replied).await;
            let result = in_time.ok().or_else(|| {
                // From here on the task cannot send its result, and rolls back. It may have sent it
                // just before.
                replied.close();
                replied.try_recv().ok().map(Ok)
            });
            let late = || Err(self.late(OPERATION));
            let panicked = |_| Err(Error::without_result(OPERATION, PANICKED));
            self.counted(result.map_or_else(late, |result| result.unwrap_or_else(panicked)))
        }
    }

    pub(crate) async fn update(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Updated> {
        call_or_spawn!(self, ChangeSession, update(filter, update, durability))
    }

    pub(crate) async fn delete(&self, filter: Filter) -> Result<bool> {
        call!(self, EndSession, delete(filter))
    }

    pub(crate) async fn take(&self, filter: Filter) -> Result<Option<Document>> {
        call!(self, EndSession, take(filter))
    }

    pub(crate) async fn load_many(&self, ids: Vec<String>) -> Result<Vec<Document>> {
        call_or_spawn!(self, LoadSession, load_many(ids))
    }

    pub(crate) async fn ages(&self, ids: Vec<String>) -> Result<Vec<Aged>> {
        call!(self, FindSessions, ages(ids))
    }

    pub(crate) async fn put_revocation(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        call!(self, RevokeSessions, put_revocation(&id))
    }

    pub(crate) fn time_source(&self) -> TimeSource {
        let store = self.source.opened();
        store.map_or(TimeSource::Server, |store| store.time_source())
    }

    pub(crate) async fn find(
        &self,
        filter: Filter,
        order: Order,
        skip: u64,
        limit: u32,
    ) -> Result<Vec<Document>> {
        call!(self, FindSessions, find(filter, order, skip, limit))
    }

    pub(crate) async fn estimated_count(&self) -> Result<u64> {
        call!(self, CountSessions, estimated_count())
    }

    pub(crate) async fn count(&self, filter: Filter) -> Result<u64> {
        call!(self, CountSessions, count(filter))
    }

    pub(crate) async fn delete_all(&self, filter: Filter) -> Result<u64> {
        call!(self, EndSessions, delete_all(filter))
    }

    pub(crate) async fn delete_some(&self, filter: Filter, limit: u32) -> Result<Step> {
        call!(self, EndSessions, delete_some(filter, limit))
    }

    pub(crate) async fn ensure_indexes(&self) -> Result<()> {
        call!(self, MakeIndexes, ensure_indexes())
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        call!(self, ReachStore, ping())
    }

    pub(crate) fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }

    /// Reads the times of sessions ([`Store::times`](super::Store::times)). Shutdown does not wait
    /// for it.
    pub(crate) async fn times(&self, ids: Vec<String>, is_final: bool) -> Result<Vec<Document>> {
        const OPERATION: Operation = Operation::FollowSessions;
        let source = self.source.clone();
        let call = tokio::spawn(async move {
            let store = source.store(OPERATION).await?;
            store.times(ids, is_final).await
        });
        self.ended(OPERATION, call).await
    }

    /// Sends nothing, so it needs no deadline. The watch that it returns has its own.
    pub(crate) fn watch(&self) -> Box<dyn Watch> {
        self.source.watch()
    }

    /// Waits for the calls that run, and for the writes that the store has put off.
    pub(crate) async fn flush(&self, limit: Duration) {
        let source = self.source.clone();
        self.tasks.spawn(async move {
            if let Some(store) = source.opened() {
                store.flush().await;
            }
        });
        self.tasks.wait(limit.min(self.deadline)).await;
    }

    /// Never waits for anything, so it needs no deadline. A touch before the store is open is lost: no
    /// session was loaded from it.
    pub(crate) fn touch(&self, touch: Touch) {
        self.stats.touches.count();
        if let Some(store) = self.source.opened() {
            store.touch(touch);
        }
    }

    pub(crate) fn describe(&self) -> String {
        self.source.describe()
    }

    pub(crate) fn touch_batches(&self) -> u64 {
        let store = self.source.opened();
        store.map_or(0, |store| store.touch_batches())
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }
}
