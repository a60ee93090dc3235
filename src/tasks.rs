//! Background tasks of the crate, counted so that shutdown can wait for them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rocket::futures::FutureExt;
use rocket::tokio;
use rocket::tokio::sync::Notify;
use rocket::tokio::task::JoinHandle;

use crate::error::{Error, Operation, Result};

/// The tasks that were spawned and have not ended.
#[derive(Clone, Default)]
pub(crate) struct Tasks(Arc<Count>);

#[derive(Default)]
struct Count {
    running: AtomicUsize,
    /// Notified when none runs any more.
    idle: Notify,
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
            self.0.idle.notify_waiters();
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
        // An async block would hold the future twice: as it was taken in, and where it is polled.
        tokio::spawn(future.map(move |output| {
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
            loop {
                // Created before the count is read: the end of a task in between is not missed.
                let notified = self.0.idle.notified();
                if self.running() == 0 {
                    return;
                }
                notified.await;
            }
        };
        let _ = tokio::time::timeout(limit, none_runs).await;
    }

    fn running(&self) -> usize {
        self.0.running.load(Ordering::SeqCst)
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
        let waiting = tasks.clone();
        let waits = tokio::spawn(async move { waiting.wait(Duration::from_secs(60)).await });
        end.send(()).unwrap();
        assert!(task.await.unwrap());
        waits.await.unwrap();
        assert_eq!(tasks.running(), 0);
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
        assert_eq!(tasks.running(), 0);
    }
}
