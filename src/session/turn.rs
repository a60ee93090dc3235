//! The writes of a request happen one at a time.

use std::sync::Arc;
use std::time::Duration;

use rocket::tokio::time::timeout;

use super::Shared;

/// The right to write. A write keeps it until it has ended, in a task of its own if its caller is gone.
pub(super) struct Turn(Arc<Shared>);

impl Shared {
    /// Waits until the earlier writes of the request have ended; `None` if they have not within `limit`.
    pub(super) async fn take_turn(self: &Arc<Self>, limit: Duration) -> Option<Turn> {
        let permit = match self.turn.try_acquire() {
            Ok(permit) => permit,
            // Boxed, so that a response that waits for nothing does not carry the room for it.
            Err(_) => {
                let waiting = Box::pin(timeout(limit, self.turn.acquire()));
                waiting.await.ok()?.ok()?
            }
        };
        permit.forget(); // the turn gives it back
        Some(Turn(Arc::clone(self)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.turn.add_permits(1);
    }
}
