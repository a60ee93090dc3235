//! Counters of what this process did since it started.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Counters of this process since it started ([`Sessions::stats`](crate::Sessions::stats)).
///
/// A counter never decreases. Each process has its own: add them up for the whole application.
#[doc(alias("metrics", "prometheus", "monitoring"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Loads of a session, each for a request with a well-formed cookie.
    pub loads: u64,
    /// Loads that found a live session.
    pub hits: u64,
    /// Loads that found no live session: the id is unknown, the session ended, its document is
    /// malformed, or the cookie's secret is wrong.
    pub misses: u64,
    /// Misses because the cookie has a session's id with a wrong secret: it is forged, or older than a
    /// [`renew`](crate::Session::renew).
    pub wrong_secrets: u64,
    /// Loads that found an expired session.
    pub expired: u64,
    /// Requests with more than one session cookie, all of which were ignored. Another host of the
    /// domain may have set one.
    pub ambiguous: u64,
    /// New sessions that were discarded because a login of the same browser came first: their cookie
    /// would have replaced the login's.
    pub overtaken: u64,
    /// Commits of changes before a response.
    pub commits: u64,
    /// Commits that were discarded because the session had ended meanwhile.
    pub gone: u64,
    /// Compare-and-set attempts that were repeated because another request had changed the value.
    pub conflicts: u64,
    /// Touches: records that a session was used.
    pub touches: u64,
    /// Commands that wrote those touches.
    pub touch_batches: u64,
    /// Requests from another site that the `&Session` guard refused.
    pub refused: u64,
    /// Requests that [`CsrfForm`](crate::CsrfForm) or [`CsrfHeader`](crate::CsrfHeader) refused because
    /// the token was missing or wrong.
    pub csrf_refused: u64,
    /// Database operations that failed, timeouts included.
    pub failures: u64,
    /// Database operations that did not end within the `deadline`.
    pub deadlines: u64,
    /// Connections to the database that were lost: they failed in use, or were closed because their
    /// server could not be reached. Always 0 with [`Sessions::in_collection`](crate::Sessions::in_collection).
    pub connections_lost: u64,
    /// Connections to the database that could not be opened: the server is down, refuses the
    /// connection, or refuses the credentials. Always 0 with
    /// [`Sessions::in_collection`](crate::Sessions::in_collection).
    pub connections_refused: u64,
}

/// A counter that requests increment concurrently.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters of a connection pool, which several kinds of sessions may share.
#[derive(Default)]
pub(crate) struct ConnectionCounters {
    pub(crate) lost: Counter,
    pub(crate) refused: Counter,
}

/// The counters behind [`Stats`].
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) wrong_secrets: Counter,
    pub(crate) expired: Counter,
    pub(crate) ambiguous: Counter,
    pub(crate) overtaken: Counter,
    pub(crate) commits: Counter,
    pub(crate) gone: Counter,
    pub(crate) conflicts: Counter,
    pub(crate) touches: Counter,
    pub(crate) refused: Counter,
    pub(crate) csrf_refused: Counter,
    pub(crate) failures: Counter,
    pub(crate) deadlines: Counter,
    pub(crate) loads: Counter,
    pub(crate) connections: Arc<ConnectionCounters>,
}

impl Counters {
    pub(crate) fn read(&self, touch_batches: u64) -> Stats {
        Stats {
            loads: self.loads.get(),
            hits: self.hits.get(),
            misses: self.misses.get(),
            wrong_secrets: self.wrong_secrets.get(),
            expired: self.expired.get(),
            ambiguous: self.ambiguous.get(),
            overtaken: self.overtaken.get(),
            commits: self.commits.get(),
            gone: self.gone.get(),
            conflicts: self.conflicts.get(),
            touches: self.touches.get(),
            touch_batches,
            refused: self.refused.get(),
            csrf_refused: self.csrf_refused.get(),
            failures: self.failures.get(),
            deadlines: self.deadlines.get(),
            connections_lost: self.connections.lost.get(),
            connections_refused: self.connections.refused.get(),
        }
    }
}
