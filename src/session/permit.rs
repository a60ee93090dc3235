//! The writes of a request happen one at a time.

use std::sync::Arc;
use std::time::Duration;

use rocket::tokio::time::timeout;

use super::Shared;

/// The right to write. A write keeps it until it has ended, in a task of its own if its caller is gone.
pub(super) struct WritePermit(Arc<Shared>);

impl Shared {
    /// Waits until the earlier writes of the request have ended; `None` if they have not within `limit`.
    pub(super) async fn acquire_permit(self: &Arc<Self>, limit: Duration) -> Option<WritePermit> {
        let permit = match self.writes.try_acquire() {
            Ok(permit) => permit,
            // Boxed, so that a response that waits for nothing does not carry the room for it.
            Err(_) => {
                let waiting = Box::pin(timeout(limit, self.writes.acquire()));
                waiting.await.ok()?.ok()?
            }
        };
        permit.forget(); // the value that is returned gives it back
        Some(WritePermit(Arc::clone(self)))
    }
}

impl Drop for WritePermit {
    fn drop(&mut self) {
        self.0.writes.add_permits(1);
    }
}
