//! The changes that a request makes to the session itself, and those that one write carries.

use super::changes::Changes;
use crate::record::token::{Secret, Token};
use crate::record::{EachTime, Override, OwnTimes};

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
pub(crate) type TimeChanges = EachTime<Option<Override>>;

impl TimeChanges {
    /// The times after these changes.
    pub(crate) fn apply(self, times: OwnTimes) -> OwnTimes {
        self.zip(times).map(|(change, time)| change.unwrap_or(time))
    }

    /// These changes, without those of the times that `others` are about.
    pub(super) fn without(self, others: TimeChanges) -> TimeChanges {
        let both = self.zip(others);
        both.map(|(change, other)| change.filter(|_| other.is_none()))
    }

    pub(super) fn and_then(self, later: TimeChanges) -> TimeChanges {
        self.zip(later).map(|(earlier, later)| later.or(earlier))
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
