//! Time: every moment that the crate compares, stores or sends comes from one [`Clock`].

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rocket::tokio;
use time::OffsetDateTime;

/// A point in time, in whole milliseconds since the Unix epoch.
///
/// Milliseconds are what a BSON date holds, and in that unit a time survives its way through the
/// `double` seconds of the stored document unchanged, so that comparisons are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

    /// The moment that so many epoch seconds name, or `None` when they name none (NaN, infinite).
    pub(crate) fn from_seconds(seconds: f64) -> Option<Self> {
        let millis = (seconds * 1000.0).round();
        // Beyond this no calendar date exists, and arithmetic on it could wrap.
        (millis.is_finite() && millis.abs() < 1e16).then_some(Moment(millis as i64))
    }

    /// Epoch seconds, as the ancestor stores them.
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

    /// As a calendar date; clamped to what a calendar date can be.
    pub(crate) fn date(self) -> OffsetDateTime {
        let clamped = self
            .0
            .clamp(-62_135_596_800_000, Self::NEVER.0 + 86_399_999);
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(clamped) * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

/// When a request began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    pub(crate) moment: Moment,
}

/// The clock that sessions live by: the system's, or one that stands still until a test moves it.
///
/// [`Clock::new`] stands still, and is for tests only. [`Clock::default`] is the system's, which is
/// what an application has unless it says otherwise.
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
    Held(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands still at the present time until it is moved: for tests only.
    ///
    /// Clones of it move together. An application with such a clock would let no session expire.
    #[must_use]
    pub fn new() -> Self {
        Clock(Source::Held(Arc::new(AtomicI64::new(system().0))))
    }

    /// The system's clock.
    pub(crate) fn system() -> Self {
        Clock(Source::System)
    }

    /// Moves the clock forward, by whole milliseconds. The system's clock is not moved.
    pub fn advance(&self, by: Duration) {
        self.shift(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
    }

    /// Moves the clock back, as a corrected system clock does. The system's clock is not moved.
    pub fn rewind(&self, by: Duration) {
        self.shift(i64::try_from(by.as_millis()).map_or(i64::MIN, |millis| -millis));
    }

    /// What the clock shows.
    #[must_use]
    pub fn time(&self) -> OffsetDateTime {
        self.now().date()
    }

    pub(crate) fn now(&self) -> Moment {
        match &self.0 {
            Source::System => system(),
            Source::Held(at) => Moment(at.load(Ordering::SeqCst)),
        }
    }

    /// The beginning of a request, by every clock that it is compared with.
    pub(crate) fn started(&self) -> Started {
        Started { moment: self.now() }
    }

    /// A moment after every one that was shown before the call: waits for the next millisecond. A
    /// clock that is held shows none, and does not keep anybody waiting for it.
    pub(crate) async fn next(&self) -> Moment {
        const TRIES: usize = 20;
        let called = self.now();
        for _ in 0..TRIES {
            if matches!(self.0, Source::Held(_)) || self.now() > called {
                return self.now();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // It was set back meanwhile.
        called.plus(Duration::from_millis(1))
    }

    fn shift(&self, millis: i64) {
        if let Source::Held(at) = &self.0 {
            let moved = |now: i64| Some(now.saturating_add(millis));
            let _ = at.fetch_update(Ordering::SeqCst, Ordering::SeqCst, moved);
        }
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
    use super::*;

    #[test]
    fn a_moment_survives_its_way_through_stored_seconds() {
        for millis in [
            0,
            1,
            999,
            1_700_000_000_123,
            Moment::NEVER.millis(),
            -62_135_596_800_000,
        ] {
            let moment = Moment::from_millis(millis);
            assert_eq!(Moment::from_seconds(moment.seconds()), Some(moment));
        }
    }

    #[test]
    fn what_names_no_moment_is_none() {
        for seconds in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300] {
            assert_eq!(Moment::from_seconds(seconds), None);
        }
    }

    #[test]
    fn no_distance_overflows() {
        let far = Moment::from_millis(i64::MAX);
        assert_eq!(far.plus(Duration::MAX), Moment::NEVER);
        assert_eq!(Moment::from_millis(i64::MIN).since(far), Duration::ZERO);
        assert!(far.since(Moment::from_millis(i64::MIN)) > Duration::ZERO);
        let _ = (far.date(), Moment::from_millis(i64::MIN).date());
    }

    #[rocket::async_test]
    async fn the_next_moment_lies_after_all_that_were_shown() {
        let system = Clock::system();
        let shown = system.now();
        assert!(system.next().await > shown);
        let held = Clock::new();
        assert_eq!(held.next().await, held.now());
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
