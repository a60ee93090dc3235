//! What a request sets on the session itself, and what one write carries.

use super::changes::Changes;
use crate::record::Override;
use crate::record::token::Secret;

/// What the request set on the session itself.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    pub(crate) timeout: Override,
    pub(crate) lifetime: Override,
    pub(crate) max_age: Override,
    /// A new CSRF secret.
    pub(crate) csrf: Option<Secret>,
    pub(crate) touch: bool,
    pub(crate) token: TokenChange,
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
        !self.times_are_set()
            && self.csrf.is_none()
            && !self.touch
            && self.token == TokenChange::Keep
    }

    pub(crate) fn times_are_set(&self) -> bool {
        self.timeout.is_set() || self.lifetime.is_set() || self.max_age.is_set()
    }

    /// Whether these settings alone make a session worth storing.
    pub(super) fn create_session(&self) -> bool {
        self.times_are_set() || self.csrf.is_some()
    }

    /// These settings, overridden by `later`.
    pub(super) fn and_then(self, later: Settings) -> Settings {
        Settings {
            timeout: later.timeout.or(self.timeout),
            lifetime: later.lifetime.or(self.lifetime),
            max_age: later.max_age.or(self.max_age),
            csrf: later.csrf.or(self.csrf),
            touch: self.touch || later.touch,
            token: self.token.max(later.token),
        }
    }
}

/// What a write that has not finished carries. It lies between what was loaded and what the request
/// does meanwhile.
#[derive(Default)]
pub(crate) struct InFlight {
    pub(crate) changes: Changes,
    pub(crate) settings: Settings,
}
