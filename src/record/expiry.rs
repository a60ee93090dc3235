//! When a session expires: the one place that computes it.

use std::time::Duration;

use super::fields::Fields;
use super::{Meta, legacy};
use crate::clock::Moment;
use crate::config::Config;
use crate::document::{Document, Filter, Update, date};
use crate::record::field;

/// A time that a session may set for itself; `Inherit` is "as configured".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Override {
    #[default]
    Inherit,
    /// This session's own; `None` disables it.
    Set(Option<Duration>),
}

impl Override {
    pub(crate) fn resolve(self, configured: Option<Duration>) -> Option<Duration> {
        match self {
            Override::Inherit => configured,
            Override::Set(own) => own,
        }
    }
}

/// The times that a session has of its own.
pub(crate) type OwnTimes = EachTime<Override>;

/// A value for each of the times that a session may have of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EachTime<T> {
    pub(crate) timeout: T,
    pub(crate) lifetime: T,
    pub(crate) max_age: T,
}

impl<T> EachTime<T> {
    pub(crate) fn zip<U>(self, other: EachTime<U>) -> EachTime<(T, U)> {
        EachTime {
            timeout: (self.timeout, other.timeout),
            lifetime: (self.lifetime, other.lifetime),
            max_age: (self.max_age, other.max_age),
        }
    }

    pub(crate) fn map<U>(self, f: impl Fn(T) -> U) -> EachTime<U> {
        EachTime {
            timeout: f(self.timeout),
            lifetime: f(self.lifetime),
            max_age: f(self.max_age),
        }
    }
}

impl OwnTimes {
    /// The timeouts in force.
    pub(crate) fn expiry(self, config: &Config) -> Expiry {
        Expiry {
            idle: self.timeout.resolve(config.timeout),
            absolute: self.lifetime.resolve(config.lifetime),
        }
    }
}

/// The idle and the absolute timeout of one session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expiry {
    pub(crate) idle: Option<Duration>,
    pub(crate) absolute: Option<Duration>,
}

impl Expiry {
    /// When a session ends that was created and last used at these times.
    pub(crate) fn expires_at(self, created: Moment, accessed: Moment) -> Moment {
        let end = |since: Moment, timeout: Option<Duration>| {
            timeout.map_or(Moment::NEVER, |timeout| since.plus(timeout))
        };
        end(accessed, self.idle).min(end(created, self.absolute))
    }
}

/// The times that decide when a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) created: Moment,
    pub(crate) accessed: Moment,
    pub(crate) expires: Moment,
    pub(crate) own: OwnTimes,
}

impl Times {
    /// The names of the fields that [`Times::parse`] reads, and of those by which all sessions end
    /// ([`epoch`](crate::epoch)).
    pub(crate) const FIELDS: [&'static str; 9] = [
        field::CREATED,
        field::ACCESSED,
        field::EXPIRES,
        field::TIMEOUT,
        field::LIFETIME,
        field::EPOCH,
        "generation",
        "at",
        "since",
    ];

    /// Reads the times of a stored session, whose other fields may be missing; `None` when they are
    /// malformed.
    pub(crate) fn parse(document: &Document, config: &Config, now: Moment) -> Option<Self> {
        let mut fields = Fields::read(document)?;
        if fields.expires.is_none() && fields.id.as_ref()?.is_legacy() {
            fields.expires = legacy::expiry(document, config, now);
        }
        fields.times()
    }

    /// The latest moment at which the session is alive: the earlier of the stored `expires`
    /// and the end by its own times and today's configuration.
    pub(crate) fn ends_at(&self, config: &Config) -> Moment {
        let expiry = self.own.expiry(config);
        self.expires
            .min(expiry.expires_at(self.created, self.accessed))
    }
}

impl Meta {
    pub(crate) fn is_expired(&self, config: &Config, now: Moment) -> bool {
        self.times.ends_at(config) < now
    }
}

/// Adds to an update that the session was used: both times only grow by it.
pub(crate) fn touch(update: &mut Update, accessed: Moment, expires: Moment) {
    update.raise(field::ACCESSED, accessed.seconds());
    update.raise(field::EXPIRES, date(expires));
}

/// Restricts a filter to sessions that are alive at `now`, by what their documents say.
pub(crate) fn alive(filter: Filter, now: Moment) -> Filter {
    filter.not_before(field::EXPIRES, now)
}

/// Chooses one session, unless it has expired by `now`: another request may have shortened its life
/// since it was loaded, and a write would prolong it.
pub(crate) fn unless_expired(id: &str, now: Moment) -> Filter {
    Filter::id(id).unless_before(field::EXPIRES, now)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::Override::{Inherit, Set};
    use super::*;

    const ONE: Duration = Duration::from_secs(1);
    const TWO: Duration = Duration::from_secs(2);

    fn at(seconds: i64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    #[rstest]
    #[case(Inherit, Some(ONE), Some(ONE))]
    #[case(Inherit, None, None)]
    #[case(Set(Some(TWO)), Some(ONE), Some(TWO))]
    #[case(Set(Some(TWO)), None, Some(TWO))]
    #[case(Set(None), Some(ONE), None)]
    fn override_wins_over_what_it_overrides(
        #[case] own: Override,
        #[case] configured: Option<Duration>,
        #[case] expected: Option<Duration>,
    ) {
        assert_eq!(own.resolve(configured), expected, "{own:?} {configured:?}");
    }

    #[rstest]
    #[case(None, None, Moment::NEVER)]
    #[case(Some(20), None, at(170))]
    #[case(None, Some(60), at(160))]
    #[case(Some(20), Some(60), at(160))]
    #[case(Some(5), Some(60), at(155))]
    #[case(Some(u64::MAX), Some(u64::MAX), Moment::NEVER)]
    fn expiry_is_the_earlier_of_both_timeouts(
        #[case] idle: Option<u64>,
        #[case] absolute: Option<u64>,
        #[case] expected: Moment,
    ) {
        let expiry = Expiry {
            idle: idle.map(Duration::from_secs),
            absolute: absolute.map(Duration::from_secs),
        };
        let ends = expiry.expires_at(at(100), at(150));
        assert_eq!(ends, expected, "{idle:?} {absolute:?}");
    }
}
