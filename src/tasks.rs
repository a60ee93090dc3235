//! Background tasks of the crate, counted so that shutdown can wait for them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rocket::tokio;
use rocket::tokio::sync::watch;
use rocket::tokio::task::JoinHandle;

/// The tasks that were spawned and have not ended.
#[derive(Clone)]
pub(crate) struct Tasks(Arc<watch::Sender<usize>>);

/// Counts one task, however it ends.
struct Running(Arc<watch::Sender<usize>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Tasks(Arc::new(watch::Sender::new(0)))
    }
}

impl Tasks {
    /// Spawns a task. It continues when the handle is dropped.
    ///
    /// Every caller runs on Rocket's runtime: in a handler, a guard, a fairing or another task.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.0.send_modify(|count| *count += 1);
        let running = Running(Arc::clone(&self.0));
        tokio::spawn(async move {
            let _running = running;
            future.await
        })
    }

    /// Waits until no task runs, for `limit` at most.
    pub(crate) async fn wait(&self, limit: Duration) {
        let mut count = self.0.subscribe();
        let idle = count.wait_for(|count| *count == 0);
        let _ = tokio::time::timeout(limit, idle).await;
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
        assert_eq!(*tasks.0.borrow(), 0);
    }

    #[rocket::async_test]
    async fn a_task_that_panics_is_counted_as_ended() {
        let tasks = Tasks::default();
        let task = tasks.spawn(async { panic!("for a test") });
        assert!(task.await.is_err());
        tasks.wait(Duration::from_secs(60)).await;
        assert_eq!(*tasks.0.borrow(), 0);
    }
}
