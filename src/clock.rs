//! Time: every moment that the crate compares, stores or sends comes from one [`Clock`].

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rocket::tokio::sync::watch;
use time::OffsetDateTime;

/// A point in time, in whole milliseconds since the Unix epoch.
///
/// Milliseconds are what a BSON date holds, and in that unit a time survives its way through the
/// `double` seconds of the stored document unchanged, so that comparisons are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Moment(i64);

impl Moment {
    /// 9999-12-31T00:00:00Z, which a stored `expires` holds when a session never expires.
    pub(crate) const NEVER: Moment = Moment(253_402_214_400_000);

    pub(crate) const fn from_millis(millis: i64) -> Self {
        Moment(millis)
    }

    pub(crate) const fn millis(self) -> i64 {
        self.0
    }

    /// Converts epoch seconds to a moment; `None` for NaN, infinity and numbers out of range.
    pub(crate) fn from_seconds(seconds: f64) -> Option<Self> {
        let millis = (seconds * 1000.0).round();
        // Beyond this no calendar date exists, and arithmetic on it could wrap.
        (millis.is_finite() && millis.abs() < 1e16).then_some(Moment(millis as i64))
    }

    /// Epoch seconds, as the Python package stores them.
    pub(crate) fn seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    pub(crate) fn plus(self, by: Duration) -> Self {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        Moment(self.0.saturating_add(millis)).min(Self::NEVER)
    }

    pub(crate) fn minus(self, by: Duration) -> Self {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        Moment(self.0.saturating_sub(millis))
    }

    /// How long before `self` the moment `earlier` lies; zero when it lies after.
    pub(crate) fn since(self, earlier: Moment) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Converts to a calendar date, clamped to the range of calendar dates.
    pub(crate) fn date(self) -> OffsetDateTime {
        let clamped = self
            .0
            .clamp(-62_135_596_800_000, Self::NEVER.0 + 86_399_999);
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(clamped) * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

/// The clock that sessions live by: the system's, or one that stands still until a test moves it.
///
/// [`Clock::new`] stands still, and is for tests only. [`Clock::default`] is the system's, which an
/// application uses by default.
///
/// ```
/// use std::time::Duration;
/// use rocket_mongo_session::{Sessions, testing::Clock};
///
/// let clock = Clock::new();
/// let fairing = Sessions::in_memory().with_clock(&clock);
/// // … requests …
/// clock.advance(Duration::from_secs(1201)); // every session idles out
/// # drop(fairing);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Held(Arc<Held>),
}

/// The time that a held clock shows.
#[derive(Debug)]
struct Held {
    now: AtomicI64,
    /// How far the clock was moved forward in all, in milliseconds.
    advanced: AtomicU64,
    /// Notifies the tasks that wait for a time when the clock is moved.
    moved: watch::Sender<()>,
}

/// The zero of [`Clock::monotonic`].
static PROCESS_START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The clock by which the ages of a store's documents are measured ([`Store::time_source`](crate::store::Store::time_source)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSource {
    /// The clock of this process: an age can be compared exactly with that of a request.
    Process,
    /// The clock of a server, some of whose times are whole seconds.
    Server,
}

/// When a request began, by every kind of time that it is compared in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    /// The wall clock, for what is stored and shown.
    pub(crate) moment: Moment,
    instant: Instant,
    ticks: Duration,
}

impl Started {
    /// How long ago the request began.
    ///
    /// A server's ages are compared with real time: by the wall clock, too, since the other one stands
    /// still while a machine is suspended. Those of a store in this process move with its clock, which
    /// a test can advance.
    pub(crate) fn age(&self, clock: &Clock, source: TimeSource) -> Duration {
        let real = self.instant.elapsed();
        match (source, &clock.0) {
            (TimeSource::Server, Source::System) => real.max(system().since(self.moment)),
            (TimeSource::Process, Source::Held(_)) => real.saturating_add(self.elapsed(clock)),
            (TimeSource::Server, Source::Held(_)) | (TimeSource::Process, Source::System) => real,
        }
    }

    /// How long the request has been running: zero by a clock that stands still.
    pub(crate) fn elapsed(&self, clock: &Clock) -> Duration {
        clock.ticks().saturating_sub(self.ticks)
    }
}

impl Clock {
    /// Creates a clock that stands still at the present time until it is moved: for tests only.
    ///
    /// Its clones share its time. An application with such a clock would let no session expire.
    #[must_use]
    pub fn new() -> Self {
        Clock(Source::Held(Arc::new(Held {
            now: AtomicI64::new(system().0),
            advanced: AtomicU64::new(0),
            moved: watch::Sender::new(()),
        })))
    }

    /// Moves the clock forward, by whole milliseconds. The system's clock is not moved.
    pub fn advance(&self, by: Duration) {
        if let Source::Held(held) = &self.0 {
            let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
            let moved = |all: u64| Some(all.saturating_add(millis));
            let _ = held
                .advanced
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, moved);
        }
        self.shift(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
    }

    /// Moves the clock back, as a corrected system clock does. The system's clock is not moved.
    pub fn rewind(&self, by: Duration) {
        self.shift(i64::try_from(by.as_millis()).map_or(i64::MIN, |millis| -millis));
    }

    /// Returns the time that the clock shows.
    #[must_use]
    pub fn time(&self) -> OffsetDateTime {
        self.now().date()
    }

    pub(crate) fn now(&self) -> Moment {
        match &self.0 {
            Source::System => system(),
            Source::Held(held) => Moment(held.now.load(Ordering::SeqCst)),
        }
    }

    /// The time since the process started, which never goes back. The time by which a test has
    /// advanced the clock is added.
    pub(crate) fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System => self.ticks(),
            Source::Held(_) => PROCESS_START.elapsed().saturating_add(self.ticks()),
        }
    }

    /// The time since the process started. By a clock that stands still: only the time by which a
    /// test has advanced it.
    fn ticks(&self) -> Duration {
        match &self.0 {
            Source::System => PROCESS_START.elapsed(),
            Source::Held(held) => Duration::from_millis(held.advanced.load(Ordering::SeqCst)),
        }
    }

    /// Notes that a request begins now.
    pub(crate) fn started(&self) -> Started {
        Started {
            moment: self.now(),
            instant: Instant::now(),
            ticks: self.ticks(),
        }
    }

    fn shift(&self, millis: i64) {
        if let Source::Held(held) = &self.0 {
            let moved = |now: i64| Some(now.saturating_add(millis));
            let _ = held
                .now
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, moved);
            held.moved.send_replace(());
        }
    }

    /// Returns a receiver that is notified when a test moves the clock.
    pub(crate) fn moves(&self) -> Moves {
        match &self.0 {
            Source::System => Moves(None),
            Source::Held(held) => Moves(Some(held.moved.subscribe())),
        }
    }
}

/// Is notified when a test moves a [`Clock`].
pub(crate) struct Moves(Option<watch::Receiver<()>>);

impl Moves {
    /// Waits until the clock was moved since the last call. The system's clock never is.
    pub(crate) async fn next(&mut self) {
        if let Some(moved) = &mut self.0
            && moved.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

fn system() -> Moment {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Moment(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
        Err(before) => {
            Moment(i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |m| -m))
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0)]
    #[case(1)]
    #[case(999)]
    #[case(1_700_000_000_123)]
    #[case(Moment::NEVER.millis())]
    #[case(-62_135_596_800_000)]
    fn a_moment_survives_its_way_through_stored_seconds(#[case] millis: i64) {
        let moment = Moment::from_millis(millis);
        assert_eq!(Moment::from_seconds(moment.seconds()), Some(moment));
    }

    #[rstest]
    #[case(f64::NAN)]
    #[case(f64::INFINITY)]
    #[case(f64::NEG_INFINITY)]
    #[case(1e300)]
    #[case(-1e300)]
    fn what_names_no_moment_is_none(#[case] seconds: f64) {
        assert_eq!(Moment::from_seconds(seconds), None);
    }

    #[test]
    fn request_that_slept_with_its_machine_is_as_old_as_the_wall_clock_says() {
        let (clock, hour) = (Clock::default(), Duration::from_secs(3600));
        let now = clock.started();
        let slept = Started {
            moment: Moment::from_millis(now.moment.millis() - 3_600_000),
            ..now
        };
        assert!(slept.age(&clock, TimeSource::Server) >= hour);
        assert!(now.age(&clock, TimeSource::Server) < hour);
    }

    #[test]
    fn no_distance_overflows() {
        let far = Moment::from_millis(i64::MAX);
        assert_eq!(far.plus(Duration::MAX), Moment::NEVER);
        assert_eq!(Moment::from_millis(i64::MIN).since(far), Duration::ZERO);
        assert!(far.since(Moment::from_millis(i64::MIN)) > Duration::ZERO);
        let _ = (far.date(), Moment::from_millis(i64::MIN).date());
    }

    #[test]
    fn monotonic_time_follows_advances_and_no_rewind() {
        let clock = Clock::new();
        let before = clock.monotonic();
        clock.advance(Duration::from_secs(60));
        let after = clock.monotonic();
        assert!(after - before >= Duration::from_secs(60));
        clock.rewind(Duration::from_secs(3600));
        assert!(clock.monotonic() >= after);
    }

    #[test]
    fn a_request_takes_no_time_by_a_clock_that_stands_still() {
        let (held, system) = (Clock::new(), Clock::default());
        let (by_held, by_system) = (held.started(), system.started());
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(2) {}
        assert_eq!(by_held.elapsed(&held), Duration::ZERO);
        assert!(by_system.elapsed(&system) >= Duration::from_millis(2));
        held.advance(Duration::from_secs(1));
        assert_eq!(by_held.elapsed(&held), Duration::from_secs(1));
    }

    #[test]
    fn a_held_clock_moves_only_when_told_and_its_clones_with_it() {
        let clock = Clock::new();
        let (other, start) = (clock.clone(), clock.now());
        assert_eq!(clock.now(), start);
        clock.advance(Duration::from_millis(1500));
        assert_eq!(other.now().since(start), Duration::from_millis(1500));
        other.rewind(Duration::from_millis(1500));
        assert_eq!(clock.now(), start);
    }
}
