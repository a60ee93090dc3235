//! The server sessions that our own commands are numbered in, so that the same one can be sent again
//! after a lost reply and take effect once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mongodb::ClientSession;
use mongodb::error::Result;
use rocket::tokio;
use rocket::tokio::time::Instant;

/// How long a server session is not used whose last command had no definite end: the server lets the
/// next one wait until that one has ended.
const COOLDOWN: Duration = Duration::from_secs(60);

/// How long the server remembers a session that is not used (`localLogicalSessionTimeoutMinutes`).
const SESSION_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// The server sessions of a store: as many as commands have ever been in flight at once, and those
/// whose last command is in doubt.
#[derive(Default)]
pub(super) struct ServerSessions {
    free: Mutex<Vec<(Instant, ServerSession)>>,
    /// The server takes no transaction numbers.
    closed: AtomicBool,
}

/// A driver's session that is ours alone.
pub(super) struct ServerSession {
    pub(super) session: Box<ClientSession>,
    number: i64,
    /// The server has carried out a command with a number of this session.
    pub(super) is_proven: bool,
}

impl ServerSession {
    /// Returns the transaction number of the next command.
    pub(super) fn next(&mut self) -> i64 {
        self.number += 1;
        self.number
    }
}

impl ServerSessions {
    fn lock(&self) -> MutexGuard<'_, Vec<(Instant, ServerSession)>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a free server session, or a new one; none where the server takes no numbers.
    pub(super) async fn take(&self, client: &mongodb::Client) -> Result<Option<ServerSession>> {
        if self.closed.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let now = Instant::now();
        let free = {
            let mut free = self.lock();
            let at = free.iter().rposition(|(free_from, _)| *free_from <= now);
            at.map(|at| free.swap_remove(at).1)
        };
        if free.is_some() {
            return Ok(free);
        }
        Ok(Some(ServerSession {
            session: Box::new(client.start_session().await?),
            // The driver may have used this session before, with small numbers of its own.
            number: 1 << 32,
            is_proven: false,
        }))
    }

    pub(super) fn give(&self, server_session: ServerSession, in_doubt: bool) {
        let now = Instant::now();
        let free_from = if in_doubt { now + COOLDOWN } else { now };
        self.lock().push((free_from, server_session));
    }

    /// Numbers no command from now on.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

/// The driver would use a session that it gets back with numbers below ours, which the server refuses
/// (error 225), also for the application's own writes. It drops one that the server has forgotten, so
/// that is when it gets them: each keeps the driver's client until then, or until the runtime ends.
impl Drop for ServerSessions {
    fn drop(&mut self) {
        let sessions = std::mem::take(&mut *self.lock());
        let runtime = tokio::runtime::Handle::try_current();
        if let (false, Ok(runtime)) = (sessions.is_empty(), runtime) {
            runtime.spawn(async move {
                tokio::time::sleep(SESSION_TIMEOUT).await;
                drop(sessions);
            });
        }
    }
}
