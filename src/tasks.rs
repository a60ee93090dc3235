//! Background tasks of the crate, counted so that shutdown can wait for them.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rocket::futures::FutureExt;
use rocket::tokio;
use rocket::tokio::sync::Notify;
use rocket::tokio::task::JoinHandle;

use crate::error::{Error, Operation, Result};

/// The background tasks that were spawned through one handle or its clones.
#[derive(Clone, Default)]
pub(crate) struct Tasks(Arc<Count>);

/// The number of tasks that have not ended. Only zero is notified.
#[derive(Default)]
struct Count {
    running: AtomicUsize,
    none_runs: Notify,
}

/// Counts one task, however it ends.
struct Running(Arc<Count>);

impl Running {
    fn new(count: &Arc<Count>) -> Self {
        count.running.fetch_add(1, Ordering::SeqCst);
        Running(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.none_runs.notify_waiters();
        }
    }
}

const LOST: &str = "the task panicked, or the runtime is shutting down";

impl Tasks {
    /// Spawns a task. It continues when the handle is dropped.
    ///
    /// Every caller runs on Rocket's runtime: in a handler, a guard, a fairing or another task.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let running = Running::new(&self.0);
        // Boxed, because the runtime moves a task's future several times. An async block would hold it
        // twice: as it was taken in, and where it is polled.
        tokio::spawn(Box::pin(future).map(move |output| {
            drop(running);
            output
        }))
    }

    /// Runs a future in a task, so that it ends even if its caller stops polling.
    ///
    /// It starts at once: await it immediately. It is not an `async fn`, whose future would also have
    /// room for `future`.
    pub(crate) fn run<T, F>(
        &self,
        operation: Operation,
        future: F,
    ) -> impl Future<Output = Result<T>> + use<T, F>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let task = self.spawn(future);
        task.map(move |ended| ended.unwrap_or_else(|_| Err(Error::without_result(operation, LOST))))
    }

    /// Waits until no task runs, for `limit` at most.
    pub(crate) async fn wait(&self, limit: Duration) {
        let none_runs = async {
            // Made before the number is read: it is notified of a zero from then on.
            let mut notified = self.0.none_runs.notified();
            while self.0.running.load(Ordering::SeqCst) > 0 {
                notified.await;
                notified = self.0.none_runs.notified();
            }
        };
        let _ = tokio::time::timeout(limit, none_runs).await;
    }
}

/// Tells the owner of a background task that the task has ended, also by a panic or with its runtime.
///
/// The task takes it as an argument, so that it is dropped even if the task never runs.
pub(crate) struct TaskGuard<T> {
    /// What the task works for. The task does not keep it alive.
    pub(crate) owner: Weak<T>,
    ended: fn(&T),
}

impl<T> TaskGuard<T> {
    pub(crate) fn new(owner: &Arc<T>, ended: fn(&T)) -> Self {
        let owner = Arc::downgrade(owner);
        TaskGuard { owner, ended }
    }

    /// The owner knows already that the task ends.
    pub(crate) fn disarm(&mut self) {
        self.owner = Weak::new();
    }
}

impl<T> Drop for TaskGuard<T> {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.upgrade() {
            (self.ended)(&owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use rocket::tokio::sync::oneshot;

    use super::*;

    #[rocket::async_test]
    async fn wait_ends_with_the_last_task() {
        let tasks = Tasks::default();
        let (end, ended) = oneshot::channel::<()>();
        let task = tasks.spawn(async move { ended.await.is_ok() });
        let mut waits = Box::pin(tasks.wait(Duration::from_secs(60)));
        assert!((&mut waits).now_or_never().is_none());
        end.send(()).unwrap();
        assert!(task.await.unwrap());
        assert!(waits.now_or_never().is_some());
        assert_eq!(tasks.0.running.load(Ordering::SeqCst), 0);
    }

    #[rocket::async_test]
    async fn run_returns_the_result_or_the_error_of_a_lost_task() {
        fn panics() -> Result<()> {
            panic!("for a test")
        }
        let tasks = Tasks::default();
        let (read, write) = (Operation::LoadSession, Operation::ChangeSession);
        assert!(tasks.run(write, async { Ok(()) }).await.is_ok());
        let ended = tasks.run(read, async { panics() }).await;
        assert!(matches!(ended, Err(Error::Store { .. })), "{ended:?}");
        let ended = tasks.run(write, async { panics() }).await;
        assert!(matches!(ended, Err(Error::Unknown { .. })), "{ended:?}");
    }

    #[rocket::async_test]
    async fn a_task_that_panics_is_counted_as_ended() {
        let tasks = Tasks::default();
        let task = tasks.spawn(async { panic!("for a test") });
        assert!(task.await.is_err());
        tasks.wait(Duration::from_secs(60)).await;
        assert_eq!(tasks.0.running.load(Ordering::SeqCst), 0);
    }
}
