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
use crate::error::{Error, Operation, Result};
use crate::store::{Change, ChangeKind, Store, Watch};

/// The pause after a failed attempt. Operations fail meanwhile without an attempt of their own.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A store that is open, or is opened by the first operation that can.
#[derive(Clone)]
pub(crate) enum Source {
    Open(Arc<dyn Store>),
    Deferred(Arc<Deferred>),
}

impl<S: Store> From<Arc<S>> for Source {
    fn from(store: Arc<S>) -> Self {
        Source::Open(store)
    }
}

impl Source {
    /// Returns the store, if it is open.
    pub(crate) fn opened(&self) -> Option<&Arc<dyn Store>> {
        match self {
            Source::Open(store) => Some(store),
            Source::Deferred(deferred) => deferred.opened.get(),
        }
    }

    /// Returns the store. Tries to open it, if it is not open yet.
    pub(crate) async fn store(&self, operation: Operation) -> Result<&Arc<dyn Store>> {
        match self {
            Source::Open(store) => Ok(store),
            // Boxed, because it is rare, and every operation allocates this future.
            Source::Deferred(deferred) => Box::pin(deferred.store(operation)).await,
        }
    }

    pub(crate) fn watch(&self) -> Box<dyn Watch> {
        match self.opened() {
            Some(store) => store.watch(),
            None => Box::new(DeferredWatch(self.clone(), None)),
        }
    }

    pub(crate) fn describe(&self) -> String {
        match self {
            Source::Open(store) => store.describe(),
            Source::Deferred(deferred) => deferred.description.clone(),
        }
    }
}

type Opening = Pin<Box<dyn Future<Output = Option<Arc<dyn Store>>> + Send>>;

/// Attempts to open the store; `None`: not yet.
type Open = Box<dyn Fn() -> Opening + Send + Sync>;

/// A store that is not open at launch.
pub(crate) struct Deferred {
    opened: OnceLock<Arc<dyn Store>>,
    open: Open,
    /// When an attempt failed last. One attempt runs at a time, and the others wait for its result.
    failed: Mutex<Instant>,
    retry_delay: Duration,
    description: String,
}

const UNRESOLVED: &str = "the host name in the database's URL could not be resolved";

impl Deferred {
    pub(crate) fn new<F>(
        open: impl Fn() -> F + Send + Sync + 'static,
        description: String,
    ) -> Deferred
    where
        F: Future<Output = Option<Arc<dyn Store>>> + Send + 'static,
    {
        Deferred {
            opened: OnceLock::new(),
            open: Box::new(move || Box::pin(open())),
            failed: Mutex::new(Instant::now()),
            retry_delay: RETRY_DELAY,
            description,
        }
    }

    async fn store(&self, operation: Operation) -> Result<&Arc<dyn Store>> {
        if let Some(store) = self.opened.get() {
            return Ok(store);
        }
        let mut failed = self.failed.lock().await;
        if let Some(store) = self.opened.get() {
            return Ok(store);
        }
        if failed.elapsed() >= self.retry_delay {
            if let Some(store) = (self.open)().await {
                return Ok(self.opened.get_or_init(|| store));
            }
            *failed = Instant::now();
        }
        Err(Error::store(operation, UNRESOLVED))
    }
}

/// The changes of a store that was not open when they were asked for.
struct DeferredWatch(Source, Option<Box<dyn Watch>>);

#[async_trait]
impl Watch for DeferredWatch {
    async fn next(&mut self) -> Result<Option<Change>> {
        if let Some(watch) = &mut self.1 {
            return watch.next().await;
        }
        match self.0.opened() {
            Some(store) => {
                self.1 = Some(store.watch());
                // Other processes may have reached the database before.
                let now = Clock::default().now();
                Ok(Some(Change::at("", ChangeKind::Missed, now)))
            }
            None => {
                sleep(RETRY_DELAY).await;
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use rocket::futures::future::poll_immediate;

    use super::*;
    use crate::stats::Counters;
    use crate::store::bounded::Bounded;
    use crate::store::memory::MemoryStore;

    #[rocket::async_test]
    async fn the_store_opens_as_soon_as_an_attempt_succeeds() {
        let attempts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&attempts);
        let open = move || {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            async move { (number == 1).then(|| Arc::new(MemoryStore::new()) as Arc<dyn Store>) }
        };
        let mut deferred = Deferred::new(open, "somewhere".to_owned());
        let tried = || attempts.load(Ordering::Relaxed);
        deferred.retry_delay = Duration::MAX;
        assert!(deferred.store(Operation::ReachStore).await.is_err());
        assert_eq!(tried(), 0, "the attempt at launch has just failed");
        deferred.retry_delay = Duration::ZERO;
        let store = bounded(deferred);
        let error = store.load("a").await.unwrap_err();
        let source = std::error::Error::source(&error).expect("a cause");
        assert!(source.to_string().contains("host name"), "{source}");
        assert_eq!(tried(), 1);
        assert!(store.load("a").await.is_ok_and(|found| found.is_none()));
        assert!(store.ping().await.is_ok());
        assert_eq!(tried(), 2);
    }

    #[rocket::async_test]
    async fn a_store_that_was_opened_late_runs_its_calls_in_its_own_tasks() {
        let open = || async { Some(Arc::new(MemoryStore::new()) as Arc<dyn Store>) };
        let mut deferred = Deferred::new(open, "somewhere".to_owned());
        deferred.retry_delay = Duration::ZERO;
        let store = bounded(deferred);
        assert!(store.ping().await.is_ok());
        let load = poll_immediate(store.load("a"));
        assert!(load.await.is_some(), "a task has to be waited for");
    }

    fn bounded(deferred: Deferred) -> Bounded {
        let stats = Arc::new(Counters::of_kind("main", Arc::default()));
        let source = Source::Deferred(Arc::new(deferred));
        Bounded::new(source, Duration::from_secs(10), stats)
    }
}
