//! The server sessions that our own commands are numbered in, so that the same one can be sent again
//! after a lost reply and take effect once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mongodb::ClientSession;
use mongodb::error::Result;
use rocket::tokio;
use rocket::tokio::time::Instant;

use crate::lock::Mutex;

/// How long a server session is not used whose last command had no definite end: the server lets the
/// next one wait until that one has ended.
const COOLDOWN: Duration = Duration::from_secs(60);

/// How long the server remembers a session that is not used (`localLogicalSessionTimeoutMinutes`).
const SESSION_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// The server sessions of a store.
#[derive(Default)]
pub(super) struct ServerSessions {
    idle: Mutex<Idle<ServerSession>>,
    /// The server takes no transaction numbers.
    closed: AtomicBool,
}

/// The server sessions that no command uses, each list in the order in which they were given back. The one
/// that was used last is used next, so that those which are not needed any more stay idle.
struct Idle<T> {
    free: VecDeque<(Instant, T)>,
    /// The last command of these had no definite end.
    in_doubt: VecDeque<(Instant, T)>,
}

impl<T> Default for Idle<T> {
    fn default() -> Self {
        Idle {
            free: VecDeque::new(),
            in_doubt: VecDeque::new(),
        }
    }
}

impl<T> Idle<T> {
    fn take(&mut self, now: Instant) -> Option<T> {
        if let Some((_, free)) = self.free.pop_back() {
            return Some(free);
        }
        let (since, _) = self.in_doubt.front()?;
        match *since + COOLDOWN <= now {
            true => self.in_doubt.pop_front().map(|(_, cooled)| cooled),
            false => None,
        }
    }

    /// Takes one back, and drops those that the server has forgotten: one of each list, because after
    /// an outage there may be many.
    fn give(&mut self, one: T, in_doubt: bool, now: Instant) {
        match in_doubt {
            true => self.in_doubt.push_back((now, one)),
            false => self.free.push_back((now, one)),
        }
        for list in [&mut self.free, &mut self.in_doubt] {
            let is_forgotten = |(since, _): &(Instant, T)| *since + SESSION_TIMEOUT <= now;
            if list.front().is_some_and(is_forgotten) {
                list.pop_front();
            }
        }
    }
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
    /// Returns a free server session, or a new one; none where the server takes no numbers.
    pub(super) async fn take(&self, client: &mongodb::Client) -> Result<Option<ServerSession>> {
        if self.closed.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let idle = self.idle.lock().take(Instant::now());
        if idle.is_some() {
            return Ok(idle);
        }
        Ok(Some(ServerSession {
            session: Box::new(client.start_session().await?),
            // The driver may have used this session before, with small numbers of its own.
            number: 1 << 32,
            is_proven: false,
        }))
    }

    pub(super) fn give(&self, server_session: ServerSession, in_doubt: bool) {
        self.idle
            .lock()
            .give(server_session, in_doubt, Instant::now());
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
        let idle = std::mem::take(&mut *self.idle.lock());
        let is_empty = idle.free.is_empty() && idle.in_doubt.is_empty();
        let runtime = tokio::runtime::Handle::try_current();
        if let (false, Ok(runtime)) = (is_empty, runtime) {
            runtime.spawn(async move {
                tokio::time::sleep(SESSION_TIMEOUT).await;
                drop(idle);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_in_doubt_is_used_after_its_cooldown() {
        let (mut idle, now) = (Idle::default(), Instant::now());
        idle.give("in doubt", true, now);
        assert_eq!(idle.take(now), None);
        idle.give("free", false, now);
        let later = now + COOLDOWN;
        assert_eq!(idle.take(later), Some("free"));
        assert_eq!(idle.take(later), Some("in doubt"));
        assert_eq!(idle.take(later), None);
    }

    #[test]
    fn sessions_that_the_server_has_forgotten_are_dropped() {
        let (mut idle, now) = (Idle::default(), Instant::now());
        for one in 0..100 {
            idle.give(one, one % 2 == 0, now);
        }
        // From here on one command at a time.
        let later = now + SESSION_TIMEOUT;
        for _ in 0..100 {
            let one = idle.take(later).expect("an idle session");
            idle.give(one, false, later);
        }
        assert_eq!((idle.free.len(), idle.in_doubt.len()), (1, 0));
    }
}
