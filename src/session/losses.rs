//! The saves of a request that have lost their changes: which errors the later saves and the response
//! have for it.

use std::collections::BTreeMap;

use crate::error::Error;

#[derive(Default)]
pub(super) struct Losses {
    /// How many saves were started.
    saves: u64,
    /// The errors of saves that no caller has taken, by their numbers: the response must not be a
    /// success.
    unreported: BTreeMap<u64, Error>,
    /// How many saves have lost their changes, and the error of the last one.
    count: u64,
    last: Option<Error>,
}

/// A call of `save`.
#[derive(Clone, Copy)]
pub(super) struct Save {
    number: u64,
    /// How many saves of the request had lost their changes when it was called.
    losses: u64,
}

impl Losses {
    /// A save starts.
    pub(super) fn start_save(&mut self) -> Save {
        self.saves += 1;
        Save {
            number: self.saves,
            losses: self.count,
        }
    }

    /// A save has lost its changes. Until its caller has taken the error, the response fails with it.
    pub(super) fn add(&mut self, save: Save, error: Error) {
        self.count += 1;
        self.last = Some(error.clone());
        self.unreported.insert(save.number, error);
    }

    /// The caller of a save takes its error.
    pub(super) fn end_save(&mut self, save: Save) {
        self.unreported.remove(&save.number);
    }

    /// Makes the response fail with this error, whatever the handler does about it.
    pub(super) fn report(&mut self, error: Error) {
        self.saves += 1;
        self.unreported.insert(self.saves, error);
    }

    /// The request logs in or out: what ended before is not its session any more.
    pub(super) fn forget_ends(&mut self) {
        self.unreported
            .retain(|_, error| !matches!(error, Error::Gone));
    }

    /// Returns why a save cannot promise that all earlier changes are stored: another save has lost
    /// some since this one was called, or lost some before and no caller has taken its error.
    pub(super) fn since(&self, save: Save) -> Option<Error> {
        let unreported = self.unreported.values().next();
        let meanwhile = self.last.as_ref().filter(|_| self.count > save.losses);
        unreported.or(meanwhile).cloned()
    }

    /// Returns an error that no caller has taken, with which the response must not be a success. The
    /// end of the session is not such an error, as in the response's own commit, unless a token was
    /// handed out (`is_issued`).
    pub(super) fn error_of_response(&self, is_issued: bool) -> Option<Error> {
        let mut errors = self.unreported.values();
        let is_error = |error: &&Error| is_issued || !matches!(error, Error::Gone);
        errors.find(is_error).cloned()
    }
}
