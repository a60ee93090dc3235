//! The driver's sessions that our own commands are numbered in, so that the same one can be sent
//! again after a lost reply and take effect once.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mongodb::ClientSession;
use rocket::tokio::time::Instant;

use mongodb::error::Result;

use super::Inner;

/// How long a server_session rests whose last command had no definite end: the server lets the next one wait
/// until that one has ended.
const REST: Duration = Duration::from_secs(60);

/// The server_sessions of a store: as many as commands have ever been under way at once, those included of
/// which nobody has heard the end.
#[derive(Default)]
pub(super) struct ServerSessions {
    free: Mutex<Vec<(Instant, ServerSession)>>,
    /// The server takes no numbers.
    closed: AtomicBool,
}

/// A driver's session that the store keeps for its lifetime. It is never given back: the driver
/// would use it again with transaction numbers below ours, which the server refuses (error 225).
pub(super) struct ServerSession {
    pub(super) session: ManuallyDrop<Box<ClientSession>>,
    number: i64,
}

impl ServerSession {
    /// The number of the next command.
    pub(super) fn next(&mut self) -> i64 {
        self.number += 1;
        self.number
    }
}

impl ServerSessions {
    fn lock(&self) -> MutexGuard<'_, Vec<(Instant, ServerSession)>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server_session that is free, or a new one; none where the server takes no numbers.
    pub(super) async fn take(&self, store: &Inner) -> Result<Option<ServerSession>> {
        if self.closed.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let now = Instant::now();
        let rested = {
            let mut free = self.lock();
            let at = free
                .iter()
                .rposition(|(rests_until, _)| *rests_until <= now);
            at.map(|at| free.swap_remove(at).1)
        };
        if rested.is_some() {
            return Ok(rested);
        }
        let session = store.sessions.client().start_session().await?;
        Ok(Some(ServerSession {
            session: ManuallyDrop::new(Box::new(session)),
            // The driver may have used this session before, with small numbers of its own.
            number: 1 << 32,
        }))
    }

    pub(super) fn give(&self, server_session: ServerSession, in_doubt: bool) {
        let now = Instant::now();
        let rests_until = if in_doubt { now + REST } else { now };
        self.lock().push((rests_until, server_session));
    }

    /// No server_session is used from now on.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}
