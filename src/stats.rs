//! Counters of what this process did since it started.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::metrics;

/// Counters of this process since it started ([`Sessions::stats`](crate::Sessions::stats)).
///
/// A counter never decreases. Each process has its own: add them up for the whole application. With the
/// feature `metrics` each is also exported, as `rocket_mongo_session_<name>_total`.
#[doc(alias("metrics", "prometheus", "monitoring"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Loads of a session, each for a request with a well-formed cookie.
    pub loads: u64,
    /// Loads that found a live session.
    pub hits: u64,
    /// Loads that found no live session: the id is unknown, the session ended, its document is
    /// malformed, the cookie's secret is wrong, or several cookies were [`ambiguous`](Stats::ambiguous).
    pub misses: u64,
    /// Cookies with a session's id and a wrong secret: forged, or older than a
    /// [`renew`](crate::Session::renew).
    pub wrong_secrets: u64,
    /// Loads that found an expired session.
    pub expired: u64,
    /// Requests with several session cookies, of which not exactly one named a live session: all were
    /// ignored. Another host of the domain may have set one. For sessions by bearer token, requests with
    /// several `Authorization` headers.
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
pub(crate) struct Counter {
    count: AtomicU64,
    exported: metrics::Counter,
}

impl Counter {
    fn new(name: &'static str, text: &'static str, labels: &[(&'static str, &str)]) -> Self {
        Counter {
            count: AtomicU64::new(0),
            exported: metrics::counter(name, text, labels),
        }
    }

    pub(crate) fn count(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.exported.increment(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// Makes the counters behind [`Stats`] and their metrics. Each is in one list, by who counts, with the
/// text of its metric. `read` names every field of `Stats`, so that none can be left out.
macro_rules! counters {
    (
        core { $($core:ident: $core_text:literal,)* }
        store { $($store:ident: $store_text:literal,)* }
        pool { $($pool:ident as $event:ident: $pool_text:literal,)* }
    ) => {
        /// The counters of the crate's core, for one kind of session.
        pub(crate) struct Counters {
            $(pub(crate) $core: Counter,)*
            pub(crate) connections: Arc<ConnectionCounters>,
        }

        /// The counters of a store, for one kind of session.
        pub(crate) struct StoreCounters {
            $(pub(crate) $store: Counter,)*
        }

        /// Counters of a connection pool, which several kinds of sessions may share.
        pub(crate) struct ConnectionCounters {
            $(pub(crate) $event: Counter,)*
        }

        impl Counters {
            pub(crate) fn of_kind(kind: &str, connections: Arc<ConnectionCounters>) -> Self {
                let labels = [("kind", kind)];
                Counters {
                    $($core: Counter::new(metric_name!($core), $core_text, &labels),)*
                    connections,
                }
            }

            pub(crate) fn read(&self, $($store: u64),*) -> Stats {
                Stats {
                    $($core: self.$core.get(),)*
                    $($store,)*
                    $($pool: self.connections.$event.get(),)*
                }
            }
        }

        impl StoreCounters {
            pub(crate) fn of_kind(kind: &str) -> Self {
                let labels = [("kind", kind)];
                StoreCounters {
                    $($store: Counter::new(metric_name!($store), $store_text, &labels),)*
                }
            }
        }

        impl Default for ConnectionCounters {
            fn default() -> Self {
                ConnectionCounters {
                    $($event: Counter::new(metric_name!($pool), $pool_text, &[]),)*
                }
            }
        }
    };
}

macro_rules! metric_name {
    ($name:ident) => {
        concat!("rocket_mongo_session_", stringify!($name), "_total")
    };
}

counters! {
    core {
        loads: "Loads of a session.",
        hits: "Loads that found a live session.",
        misses: "Loads that found no live session.",
        wrong_secrets: "Cookies with a wrong secret.",
        expired: "Loads that found an expired session.",
        ambiguous: "Requests whose several cookies do not name exactly one live session.",
        overtaken: "New sessions discarded because a login came first.",
        commits: "Commits of changes before a response.",
        gone: "Commits discarded because the session had ended.",
        conflicts: "Compare-and-set attempts that were repeated.",
        touches: "Recorded uses of a session.",
        refused: "Requests from another site that were refused.",
        csrf_refused: "Requests refused for a missing or wrong CSRF token.",
        failures: "Database operations that failed.",
        deadlines: "Database operations that did not end within the deadline.",
    }
    store {
        touch_batches: "Commands that wrote recorded uses.",
    }
    pool {
        connections_lost as lost: "Connections to the database that were lost.",
        connections_refused as refused: "Connections to the database that could not be opened.",
    }
}
