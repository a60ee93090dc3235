//! The saves of a request that have lost their changes: which errors the later saves and the response
//! have for it.

use std::collections::BTreeMap;

use crate::commit::Outcome;
use crate::error::{Error, Operation, Result};

#[derive(Default)]
pub(super) struct Losses {
    /// How many saves were started.
    saves: u64,
    /// The losses that no caller of a save has taken, by the numbers of the saves.
    unreported: BTreeMap<u64, Loss>,
    /// How many saves have lost their changes, and what the last one has lost.
    count: u64,
    last: Option<Loss>,
}

/// What has become of a save's changes.
#[derive(Clone)]
pub(super) enum Loss {
    /// They were dropped, because the session had ended, or a login was revoked on its way.
    Ended,
    /// The values were stored, times or a CSRF secret were not.
    InPart,
    Failed(Error),
}

impl Loss {
    pub(super) fn of(result: &Result<Outcome>) -> Option<Self> {
        match result {
            Ok(Outcome::Applied | Outcome::Nothing) => None,
            Ok(Outcome::AppliedInPart) => Some(Loss::InPart),
            Ok(Outcome::Gone) | Err(Error::Gone) => Some(Loss::Ended),
            Err(error) => Some(Loss::Failed(error.clone())),
        }
    }

    pub(super) fn error(&self) -> Error {
        match self {
            Loss::Ended => Error::Gone,
            Loss::InPart => Error::unknown(Operation::ChangeSession, Error::Gone),
            Loss::Failed(error) => error.clone(),
        }
    }
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

    /// A save has lost its changes, and its caller may not learn of it.
    pub(super) fn add(&mut self, save: Save, loss: Loss) {
        self.count += 1;
        self.last = Some(loss.clone());
        self.unreported.insert(save.number, loss);
    }

    /// The caller of a save takes its error.
    pub(super) fn end_save(&mut self, save: Save) {
        self.unreported.remove(&save.number);
    }

    /// Changes were lost, whatever the handler does about the error that it gets.
    pub(super) fn report(&mut self, loss: Loss) {
        self.saves += 1;
        self.unreported.insert(self.saves, loss);
    }

    /// The request logs in or out: what ended before is not its session any more.
    pub(super) fn forget_ends(&mut self) {
        self.unreported
            .retain(|_, loss| matches!(loss, Loss::Failed(_)));
    }

    /// Returns why a save cannot promise that all earlier changes are stored: another save has lost
    /// some since this one was called, or lost some before and no caller has taken its error.
    pub(super) fn since(&self, save: Save) -> Option<Loss> {
        let unreported = self.unreported.values().next();
        let meanwhile = self.last.as_ref().filter(|_| self.count > save.losses);
        unreported.or(meanwhile).cloned()
    }

    /// Whether later changes must not be stored with the response either: those that they follow are
    /// lost, and the handler does not know.
    pub(super) fn stop_later_changes(&self, is_issued: bool) -> bool {
        let mut losses = self.unreported.values();
        losses.any(|loss| is_issued || !matches!(loss, Loss::InPart))
    }

    /// Returns an error that no caller has taken, with which the response must not be a success. The
    /// end of the session is not such an error, as in the response's own commit, unless a token was
    /// handed out (`is_issued`).
    pub(super) fn error_of_response(&self, is_issued: bool) -> Option<Error> {
        let mut losses = self.unreported.values();
        let loss = losses.find(|loss| is_issued || matches!(loss, Loss::Failed(_)));
        loss.map(Loss::error)
    }
}
