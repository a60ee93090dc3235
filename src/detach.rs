//! The end of patience: every database operation ends by its deadline, whatever the driver or the
//! network does, and none is dropped half-way.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rocket::tokio;

/// Runs an operation for at most `limit`; `None` when it has not ended by then.
///
/// The operation is polled in place, which costs no hop. When the limit passes, or the caller is
/// dropped, what is left of it is finished in a task of its own: a driver's future that is dropped
/// half-way can leave its connection in an unknown state.
pub(crate) async fn within<T>(
    limit: Duration,
    operation: impl Future<Output = T> + Send + 'static,
) -> Option<T>
where
    T: Send + 'static,
{
    tokio::time::timeout(limit, to_its_end(operation))
        .await
        .ok()
}

/// Runs an operation that is not left half done when its caller goes: what is left of it is
/// finished in a task of its own.
pub(crate) fn to_its_end<T: Send + 'static>(
    operation: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = T> + Send {
    Unbroken(Some(Box::pin(operation)))
}

struct Unbroken<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: Send + 'static> Future for Unbroken<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(operation) = self.0.as_mut() else {
            return Poll::Pending; // polled again after its end, which `timeout` never does
        };
        let output = std::task::ready!(operation.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(output)
    }
}

impl<T: Send + 'static> Drop for Unbroken<T> {
    fn drop(&mut self) {
        if let Some(rest) = self.0.take() {
            // Without a runtime (it is shutting down) nothing can be finished any more.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rocket::tokio::sync::oneshot;

    use super::*;

    #[rocket::async_test]
    async fn what_ends_in_time_is_answered() {
        assert_eq!(within(Duration::from_secs(60), async { 7 }).await, Some(7));
    }

    #[rocket::async_test]
    async fn what_does_not_end_in_time_is_finished_all_the_same() {
        let (begin, began) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        let late = within(Duration::from_millis(1), async move {
            began.await.ok();
            end.send("finished").ok();
        });
        assert_eq!(late.await, None);
        begin.send(()).unwrap();
        assert_eq!(ended.await, Ok("finished"));
    }

    #[rocket::async_test]
    async fn what_is_dropped_half_way_is_finished_all_the_same() {
        let (begin, began) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        let operation = within(Duration::from_secs(60), async move {
            began.await.ok();
            end.send("finished").ok();
        });
        let mut operation = Box::pin(operation);
        let mut nobody = Context::from_waker(std::task::Waker::noop());
        assert!(operation.as_mut().poll(&mut nobody).is_pending());
        drop(operation);
        begin.send(()).unwrap();
        assert_eq!(ended.await, Ok("finished"));
    }
}
