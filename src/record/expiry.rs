//! When a session ends: the one place that computes it.

use std::time::Duration;

use super::Meta;
use crate::clock::Moment;
use crate::config::Config;
use crate::document::{Filter, Update, date};
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
    pub(crate) fn is_set(self) -> bool {
        self != Override::Inherit
    }

    /// This override, or else `other`.
    pub(crate) fn or(self, other: Override) -> Override {
        match self {
            Override::Inherit => other,
            Override::Set(_) => self,
        }
    }

    pub(crate) fn resolve(self, configured: Option<Duration>) -> Option<Duration> {
        match self {
            Override::Inherit => configured,
            Override::Set(own) => own,
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
    pub(crate) fn new(config: &Config, timeout: Override, lifetime: Override) -> Self {
        Expiry {
            idle: timeout.resolve(config.timeout),
            absolute: lifetime.resolve(config.lifetime),
        }
    }

    /// When a session ends that was created and last used at these times.
    pub(crate) fn expires_at(self, created: Moment, accessed: Moment) -> Moment {
        let end = |since: Moment, timeout: Option<Duration>| {
            timeout.map_or(Moment::NEVER, |timeout| since.plus(timeout))
        };
        end(accessed, self.idle).min(end(created, self.absolute))
    }
}

impl Meta {
    pub(crate) fn expiry(&self, config: &Config) -> Expiry {
        Expiry::new(config, self.timeout, self.lifetime)
    }

    /// The latest moment at which the session is alive: the earliest of what is stored and what its
    /// own times and today's configuration say.
    pub(crate) fn ends_at(&self, config: &Config) -> Moment {
        let expiry = self.expiry(config);
        self.expires
            .min(expiry.expires_at(self.created, self.accessed))
    }

    pub(crate) fn is_expired(&self, config: &Config, now: Moment) -> bool {
        self.ends_at(config) < now
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
