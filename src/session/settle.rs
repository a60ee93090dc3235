//! What the state becomes when a write ends.

use super::losses::{Loss, Save};
use super::{Inner, Shared};
use crate::commit::{Core, Done, Outcome, Written};
use crate::config::Transport;
use crate::error::{Error, Operation, Result};
use crate::record::token::Id;
use crate::state::{Base, Deletion, State, Stored};

/// A commit whose writes are on their way. If its task is dropped or panics, what it has done is unknown.
pub(super) struct Running<'a> {
    pub(super) shared: &'a Shared,
    pub(super) core: &'a Core,
    /// The call of `save` that asked for it; `None` for the response.
    pub(super) save: Option<Save>,
    /// The logged out sessions that it deletes.
    pub(super) deleted: Vec<Id>,
    /// How often the request had logged in or out when it began.
    pub(super) identity_changes: u32,
    /// It stores a token that was handed out.
    pub(super) issues: bool,
    /// A token was handed out before it began.
    pub(super) has_issued: bool,
    pub(super) has_ended: bool,
}

impl Running<'_> {
    pub(super) fn end(mut self, done: Result<Committed>) -> Result<Outcome> {
        self.has_ended = true;
        self.settle(done)
    }

    fn settle(&self, done: Result<Committed>) -> Result<Outcome> {
        let mut inner = self.shared.lock();
        let is_same = inner.state.identity_changes == self.identity_changes;
        let outcome = match done {
            Ok(committed) if is_same => Ok(self.succeeded(&mut inner, committed)),
            Ok(committed) => Ok(self.overtaken(&mut inner, committed)),
            Err(error) => {
                match (is_same, &error) {
                    (true, _) => inner.state.flush_failed(&error),
                    (false, Error::Unknown { .. }) => {}
                    (false, _) => inner.state.former_is_lost(),
                }
                Err(error)
            }
        };
        let Some(loss) = Loss::of(&outcome) else {
            return outcome;
        };
        // The client must not get a token that opens nothing, whatever the caller of `save` does about it.
        let has_token = match loss {
            Loss::InPart => false,
            Loss::Ended => self.issues || self.has_issued,
            Loss::Failed(_) => self.issues,
        };
        if has_token {
            inner.losses.report(loss.clone());
        }
        // After a login or a logout the end of the session before it counts as none.
        if is_same || matches!(loss, Loss::Failed(_)) {
            inner.lose(self.save, loss);
        }
        outcome
    }

    fn succeeded(&self, inner: &mut Inner, committed: Committed) -> Outcome {
        let (is_last, outcome) = (self.save.is_none(), committed.done.outcome);
        self.ends_were_stored(&mut inner.state);
        if let (Outcome::Applied, Some(id)) = (outcome, &committed.new_id) {
            inner.follow_new(self.core, id, is_last);
        }
        let state = &mut inner.state;
        match outcome {
            // A login that was revoked on its way: the session that it was to replace is still there.
            Outcome::Gone if matches!(state.base, Base::Login(_)) => state.discard_all(),
            Outcome::Gone => {
                log_dropped_changes(state);
                inner.session_ended();
            }
            Outcome::Nothing => state.discard_in_flight(),
            // A stream reads what was written.
            Outcome::Applied | Outcome::AppliedInPart if is_last => {}
            Outcome::Applied | Outcome::AppliedInPart => match committed.stored {
                Some(stored) => {
                    if outcome == Outcome::AppliedInPart {
                        state.settings_were_not_stored();
                    }
                    state.flush_succeeded(stored);
                }
                None => {
                    inner.session_ended();
                    return outcome;
                }
            },
        }
        self.keep_cookie(inner, committed.done, committed.new_id.is_some());
        outcome
    }

    /// The request has logged in or out meanwhile.
    fn overtaken(&self, inner: &mut Inner, committed: Committed) -> Outcome {
        let Committed {
            done,
            new_id,
            stored,
        } = committed;
        let outcome = done.outcome;
        let state = &mut inner.state;
        self.ends_were_stored(state);
        if outcome == Outcome::Gone {
            state.former_is_lost();
        }
        if stored.is_some_and(|stored| state.former_is_stored(stored)) {
            self.keep_cookie(inner, done, new_id.is_some());
        } else {
            // A session that the write has stored for the first time is not the request's any more.
            state.ended.extend(new_id.map(Deletion::from));
        }
        outcome
    }

    fn ends_were_stored(&self, state: &mut State) {
        let deleted = &self.deleted;
        state.ended.retain(|one| !deleted.contains(&one.id));
    }

    /// Keeps the cookie that the write has produced. Other requests know the session unless it is new:
    /// they may replace its token before the response.
    fn keep_cookie(&self, inner: &mut Inner, done: Done, is_new: bool) {
        if done.cookie.is_some() {
            inner.pending_cookie = done.cookie;
            let is_cookie = self.core.config.transport == Transport::Cookie;
            inner.must_prove_cookie = is_cookie && !is_new && self.save.is_some();
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            const LOST: &str = "the task panicked, or its runtime was shut down";
            let _ = self.settle(Err(Error::without_result(Operation::ChangeSession, LOST)));
        }
    }
}

/// What a commit has done.
pub(super) struct Committed {
    done: Done,
    /// The session that it has stored for the first time.
    new_id: Option<Id>,
    /// The session as it is stored now. A request that ends reads nothing more, so it is `None` then.
    stored: Option<Stored>,
}

impl Committed {
    /// It is unknown what is stored when the session must be read again, and that fails.
    pub(super) async fn new(core: &Core, mut done: Done, is_last: bool) -> Result<Self> {
        let new_id = done.written.as_ref().and_then(Written::new_id).cloned();
        let stored = match done.written.take().filter(|_| !is_last) {
            Some(written) => core.stored(written).await,
            None => Ok(None),
        };
        Ok(Committed {
            stored: stored.map_err(|error| Error::unknown(Operation::ChangeSession, error))?,
            done,
            new_id,
        })
    }
}

/// Says which keys were not stored because the session had ended: the response is still a success.
pub(super) fn log_dropped_changes(state: &State) {
    let keys = state.pending_keys();
    if keys.is_empty() {
        return;
    }
    rocket::warn!(
        "session {}: changes of {keys:?} were dropped because the session ended while the request \
         ran",
        state.describe(),
    );
}
