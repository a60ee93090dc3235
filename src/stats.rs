//! What happened to sessions since the application started, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// What this process has counted since it started ([`Sessions::stats`](crate::Sessions::stats)).
///
/// Every number only grows. They are of this process alone: add up those of all processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Times that a session was loaded, for a request with a well-formed cookie.
    pub loads: u64,
    /// Loads that found a session alive.
    pub hits: u64,
    /// Loads that found none: the id is unknown, the session ended, its document is malformed, or the
    /// cookie's secret is wrong.
    pub misses: u64,
    /// Misses of a cookie that had the id of a session and not its secret: it is forged, or from before
    /// a [`renew`](crate::Session::renew).
    pub wrong_secrets: u64,
    /// Loads that found an expired session.
    pub expired: u64,
    /// Requests with several session cookies, none of which is believed: perhaps another host of the
    /// domain sets them.
    pub ambiguous: u64,
    /// New sessions that were dropped because a login of the same browser was faster, whose cookie
    /// they would have overwritten.
    pub overtaken: u64,
    /// Writes that were stored before a response.
    pub commits: u64,
    /// Writes that were dropped because the session had ended meanwhile.
    pub gone: u64,
    /// Attempts to change a value that came too late, because another request had changed it, and
    /// were made again.
    pub conflicts: u64,
    /// Notes that a session was used.
    pub touches: u64,
    /// Commands in which those notes were written.
    pub touch_batches: u64,
    /// Requests that `&Session` refused because they came from another site.
    pub refused: u64,
    /// Requests that [`CsrfForm`](crate::CsrfForm) or [`CsrfHeader`](crate::CsrfHeader) refused because
    /// of their token.
    pub csrf_refused: u64,
    /// Operations of the database that failed.
    pub failures: u64,
    /// Operations of the database that did not end by the `deadline` (they are failures, too).
    pub deadlines: u64,
}

/// One number that many requests add to.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

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
        }
    }
}
