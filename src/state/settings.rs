//! What a request sets on the session itself, and what one write carries.

use crate::changes::Changes;
use crate::record::Own;
use crate::token::Secret;

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

/// What one write carries of what a request did.
#[derive(Default)]
pub(crate) struct Sent {
    pub(crate) changes: Changes,
    pub(crate) settings: Settings,
}

impl Settings {
    /// What is left to write when `sent` has been written.
    pub(super) fn without(&self, sent: &Settings) -> Settings {
        let csrf = self.csrf.clone().filter(|secret| {
            let written = sent.csrf.as_ref();
            !written.is_some_and(|written| written.matches(secret))
        });
        Settings {
            timeout: self.timeout.filter(|own| sent.timeout != Some(*own)),
            max_age: self.max_age.filter(|own| sent.max_age != Some(*own)),
            csrf,
            touch: self.touch && !sent.touch,
            renew: self.renew && !sent.renew,
        }
    }
}
