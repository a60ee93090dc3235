//! What a process exports through the `metrics` facade: counters, latencies, waits and connections in
//! use.
//!
//! Handles are made once, when the store is opened, from the recorder that is installed then. Without
//! the feature `metrics` all types here are empty, and their functions do nothing.

#[cfg(not(feature = "metrics"))]
use disabled as facade;
#[cfg(feature = "metrics")]
use enabled as facade;

pub(crate) use facade::{Counter, counter};
use facade::{Gauge, Histogram, Stopwatch};

/// The latencies of one kind of session.
pub(crate) struct Latencies {
    load: Histogram,
    commit: Histogram,
}

impl Latencies {
    pub(crate) fn of_kind(kind: &str) -> Self {
        let histogram = |name, text| facade::histogram(name, text, &[("kind", kind)]);
        Latencies {
            load: histogram(
                "rocket_mongo_session_load_seconds",
                "Time that a request waited for its session to be loaded.",
            ),
            commit: histogram(
                "rocket_mongo_session_commit_seconds",
                "Time that a response, `save`, `modify` or pop waited for the session to be written.",
            ),
        }
    }

    /// Measures a load until the guard is dropped.
    pub(crate) fn time_load(&self) -> Timer<'_> {
        Timer(&self.load, Stopwatch::start())
    }

    /// Measures a commit until the guard is dropped.
    pub(crate) fn time_commit(&self) -> Timer<'_> {
        Timer(&self.commit, Stopwatch::start())
    }
}

pub(crate) struct Timer<'a>(&'a Histogram, Stopwatch);

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        self.1.record(self.0);
    }
}

/// Where operations on the store of one kind of session wait, and the connections that they hold.
pub(crate) struct Usage {
    pub(crate) batch: Queue,
    pub(crate) connection: Queue,
    connections_in_use: Gauge,
}

impl Usage {
    pub(crate) fn of_kind(kind: &str) -> Self {
        Usage {
            batch: Queue::new(kind, "batch"),
            connection: Queue::new(kind, "connection"),
            connections_in_use: facade::gauge(
                "rocket_mongo_session_connections_in_use",
                "Connections that operations on sessions hold.",
                &[("kind", kind)],
            ),
        }
    }

    /// Counts a connection as in use until the guard is dropped.
    pub(crate) fn connection_in_use(&self) -> InUse<'_> {
        self.connections_in_use.increment(1.0);
        InUse(&self.connections_in_use)
    }
}

pub(crate) struct InUse<'a>(&'a Gauge);

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// What operations wait for: a batch, or a connection.
#[derive(Clone)]
pub(crate) struct Queue {
    waiting: Gauge,
    wait: Histogram,
}

impl Queue {
    fn new(kind: &str, awaited: &str) -> Self {
        let labels = [("kind", kind), ("for", awaited)];
        Queue {
            waiting: facade::gauge(
                "rocket_mongo_session_waiting_requests",
                "Operations of requests that wait for a batch or for a connection.",
                &labels,
            ),
            wait: facade::histogram(
                "rocket_mongo_session_wait_seconds",
                "Time that an operation waited for a batch or for a connection.",
                &labels,
            ),
        }
    }

    /// Records a wait of zero: what the operation needs was free.
    pub(crate) fn did_not_wait(&self) {
        self.wait.record(0.0);
    }

    /// Counts an operation as waiting until the guard is dropped.
    pub(crate) fn wait(&self) -> Wait {
        self.waiting.increment(1.0);
        Wait {
            queue: self.clone(),
            started: Stopwatch::start(),
        }
    }
}

pub(crate) struct Wait {
    queue: Queue,
    started: Stopwatch,
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.queue.waiting.decrement(1.0);
        self.started.record(&self.queue.wait);
    }
}

#[cfg(feature = "metrics")]
mod enabled {
    use std::time::Instant;

    pub(crate) use ::metrics::{Counter, Gauge, Histogram};
    use ::metrics::{Label, Unit};

    type Labels<'a> = &'a [(&'static str, &'a str)];

    fn owned(labels: Labels<'_>) -> Vec<Label> {
        let labels = labels.iter();
        let labels = labels.map(|(name, value)| Label::new(*name, (*value).to_owned()));
        labels.collect()
    }

    pub(crate) fn counter(name: &'static str, text: &'static str, labels: Labels<'_>) -> Counter {
        ::metrics::describe_counter!(name, Unit::Count, text);
        ::metrics::counter!(name, owned(labels))
    }

    pub(super) fn gauge(name: &'static str, text: &'static str, labels: Labels<'_>) -> Gauge {
        ::metrics::describe_gauge!(name, Unit::Count, text);
        let gauge = ::metrics::gauge!(name, owned(labels));
        gauge.increment(0.0); // recorders show it from the beginning
        gauge
    }

    pub(super) fn histogram(
        name: &'static str,
        text: &'static str,
        labels: Labels<'_>,
    ) -> Histogram {
        ::metrics::describe_histogram!(name, Unit::Seconds, text);
        ::metrics::histogram!(name, owned(labels))
    }

    pub(super) struct Stopwatch(Instant);

    impl Stopwatch {
        pub(super) fn start() -> Self {
            Stopwatch(Instant::now())
        }

        pub(super) fn record(&self, histogram: &Histogram) {
            histogram.record(self.0.elapsed());
        }
    }
}

#[cfg(not(feature = "metrics"))]
mod disabled {
    pub(crate) struct Counter;
    #[derive(Clone)]
    pub(super) struct Gauge;
    #[derive(Clone)]
    pub(super) struct Histogram;
    pub(super) struct Stopwatch;

    type Labels<'a> = &'a [(&'static str, &'a str)];

    pub(crate) fn counter(_: &'static str, _: &'static str, _: Labels<'_>) -> Counter {
        Counter
    }

    pub(super) fn gauge(_: &'static str, _: &'static str, _: Labels<'_>) -> Gauge {
        Gauge
    }

    pub(super) fn histogram(_: &'static str, _: &'static str, _: Labels<'_>) -> Histogram {
        Histogram
    }

    impl Counter {
        pub(crate) fn increment(&self, _: u64) {}
    }

    impl Gauge {
        pub(super) fn increment(&self, _: f64) {}
        pub(super) fn decrement(&self, _: f64) {}
    }

    impl Histogram {
        pub(super) fn record(&self, _: f64) {}
    }

    impl Stopwatch {
        pub(super) fn start() -> Self {
            Stopwatch
        }

        pub(super) fn record(&self, _: &Histogram) {}
    }
}
