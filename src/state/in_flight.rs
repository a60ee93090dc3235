//! What a request sets on the session itself, and what one write carries.

use crate::record::Own;
use crate::record::token::Secret;
use crate::state::changes::Changes;

/// What the request set on the session itself.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    pub(crate) timeout: Own,
    pub(crate) max_age: Own,
    /// A new CSRF secret for a stored session.
    pub(crate) csrf: Option<Secret>,
    pub(crate) touch: bool,
    pub(crate) renew: bool,
}

impl Settings {
    pub(super) fn are_some(&self) -> bool {
        let Settings {
            timeout,
            max_age,
            csrf,
            touch,
            renew,
        } = self;
        timeout.is_some() || max_age.is_some() || csrf.is_some() || *touch || *renew
    }

    /// These settings and then those.
    pub(super) fn and_then(self, later: Settings) -> Settings {
        Settings {
            timeout: later.timeout.or(self.timeout),
            max_age: later.max_age.or(self.max_age),
            csrf: later.csrf.or(self.csrf),
            touch: self.touch || later.touch,
            renew: self.renew || later.renew,
        }
    }
}

/// What a write that is under way carries of what the request did. It lies between what was loaded
/// and what the request does meanwhile, until it is known what became of it.
#[derive(Default)]
pub(crate) struct Sent {
    pub(crate) changes: Changes,
    pub(crate) settings: Settings,
}
