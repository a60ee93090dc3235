//! The changes that a request makes to the session itself, and those that one write carries.

use super::changes::Changes;
use crate::record::token::{Secret, Token};
use crate::record::{Override, OwnTimes};

/// What the request set on the session itself.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    pub(crate) times: TimeChanges,
    /// A new CSRF secret.
    pub(crate) csrf: Option<Secret>,
    pub(crate) touch: bool,
    pub(crate) token: TokenChange,
    /// The token that was handed out, and that the session has to be stored with.
    pub(crate) issued: Option<Token>,
}

/// The request's changes of the session's own times; `None` leaves a time as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimeChanges {
    pub(crate) timeout: Option<Override>,
    pub(crate) lifetime: Option<Override>,
    pub(crate) max_age: Option<Override>,
}

impl TimeChanges {
    /// The times after these changes.
    pub(crate) fn apply(self, times: OwnTimes) -> OwnTimes {
        OwnTimes {
            timeout: self.timeout.unwrap_or(times.timeout),
            lifetime: self.lifetime.unwrap_or(times.lifetime),
            max_age: self.max_age.unwrap_or(times.max_age),
        }
    }

    /// These changes, without those of the times that `others` are about.
    pub(super) fn without(self, others: TimeChanges) -> TimeChanges {
        TimeChanges {
            timeout: self.timeout.filter(|_| others.timeout.is_none()),
            lifetime: self.lifetime.filter(|_| others.lifetime.is_none()),
            max_age: self.max_age.filter(|_| others.max_age.is_none()),
        }
    }

    pub(super) fn and_then(self, later: TimeChanges) -> TimeChanges {
        TimeChanges {
            timeout: later.timeout.or(self.timeout),
            lifetime: later.lifetime.or(self.lifetime),
            max_age: later.max_age.or(self.max_age),
        }
    }
}

/// Whether the session gets a new secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TokenChange {
    #[default]
    Keep,
    Renew,
    /// A renewal that also starts the absolute timeout anew.
    Elevate,
}

impl Settings {
    pub(super) fn is_empty(&self) -> bool {
        !self.has_changes() && self.issued.is_none()
    }

    /// Whether these settings change a stored session. A token that was handed out is stored then,
    /// unless it is a new one.
    pub(super) fn has_changes(&self) -> bool {
        let changes_token = self.token != TokenChange::Keep;
        self.times_are_set() || self.csrf.is_some() || self.touch || changes_token
    }

    pub(crate) fn times_are_set(&self) -> bool {
        self.times != TimeChanges::default()
    }

    /// Whether these settings alone make a session worth storing.
    pub(super) fn create_session(&self) -> bool {
        self.times_are_set() || self.csrf.is_some() || self.issued.is_some()
    }
}

/// The changes of a write that has not finished. They apply to the loaded session, and the request's
/// changes meanwhile apply to them.
#[derive(Default)]
pub(crate) struct InFlight {
    pub(crate) changes: Changes,
    pub(crate) settings: Settings,
}
