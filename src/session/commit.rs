//! The commit of a session: by `save`, and with the response.

use std::sync::Arc;

use bson::RawBson;

use super::losses::Save;
use super::{Session, Shared};
use crate::commit::{Core, Done, Outcome, Written};
use crate::config::Transport;
use crate::error::{Error, Operation, Result};
use crate::live::End;
use crate::record::token::{Digest, Id, Token};
use crate::state::plan::{CookieLife, plan};
use crate::state::{Base, Deletion, State, Stored};

/// What the response does with the session's cookie.
pub(crate) enum CookieChange {
    None,
    Send(Token, CookieLife),
    Remove,
    /// No cookie: the token was handed out by `issue_token`.
    Issued,
}

impl Session {
    /// Commits with the response; nothing can change after it.
    ///
    /// Rocket polls this to its end, so it needs no task of its own.
    pub(crate) async fn finish(&self) -> Result<CookieChange> {
        if self.lock().state.is_committed {
            // An earlier response has committed the session: that of a test's clone of the request.
            return Ok(CookieChange::None);
        }
        let committed = self.shared.commit(&self.core, None).await;
        let mut inner = self.lock();
        inner.subscribers.clear(); // nothing was stored that they could follow
        match (committed, inner.unproven_cookie.take()) {
            // Everything was stored before. Without its new cookie the browser might be signed out.
            (Err(error), Some(cookie)) => {
                error.log();
                inner.pending_cookie = Some(*cookie);
            }
            (committed, _) => {
                committed?;
            }
        }
        if let Some(error) = inner.losses.error_of_response(inner.is_issued) {
            return Err(error);
        }
        Ok(
            match (self.core.config.transport, inner.pending_cookie.take()) {
                (Transport::Bearer, _) if inner.is_issued => CookieChange::Issued,
                (Transport::Cookie, Some((token, life))) => CookieChange::Send(token, life),
                (Transport::Cookie, None) if inner.state.removes_cookie => CookieChange::Remove,
                (Transport::Bearer, _) | (Transport::Cookie, None) => CookieChange::None,
            },
        )
    }

    /// Whether the handler's changes may be stored with the response of a catcher: not if the token
    /// that the handler's response was to hand out is stored with them.
    pub(crate) fn can_be_answered_by_catcher(&self) -> bool {
        self.lock().state.issued().is_none()
    }

    /// The response that is sent is not the handler's: its changes are dropped.
    pub(crate) fn discard(&self) {
        let mut inner = self.lock();
        inner.state.discard();
        inner.issues_no_more = false;
    }

    /// The user, and the stored session and token that prove it.
    pub(crate) fn signed_in(&self) -> Option<(RawBson, Id, Digest)> {
        let inner = self.lock();
        let stored = inner.state.stored()?;
        let user = stored.record.meta.user.clone()?;
        let token = &stored.token;
        let digest = token.digest(&self.core.config.cookie_name);
        Some((user, token.id.clone(), digest))
    }

    /// Whether a login waits to be stored.
    pub(crate) fn is_login_pending(&self) -> bool {
        matches!(self.lock().state.base, Base::Login(_))
    }

    /// Commits what has changed so far, in a task that continues when its caller stops waiting.
    pub(super) async fn save_detached(&self) -> Result<Outcome> {
        let (shared, core) = (Arc::clone(&self.shared), Arc::clone(&self.core));
        let save = self.lock().losses.start_save();
        let commit = async move { shared.commit(&core, Some(save)).await };
        let result = self.core.tasks.run(Operation::ChangeSession, commit).await;
        self.lock().losses.end_save(save);
        result
    }
}

impl Shared {
    /// Plans and carries out a commit, and updates the state by its outcome. `save`: the call of
    /// `save` that asks for it; `None` for the response.
    async fn commit(self: &Arc<Self>, core: &Arc<Core>, save: Option<Save>) -> Result<Outcome> {
        let Some(_turn) = self.take_turn(core.store.deadline()).await else {
            if save.is_none() {
                // The response commits nothing else: nor must a catcher.
                self.lock().state.is_committed = true;
                Box::pin(self.end_logged_out(core)).await;
            }
            return Err(Error::unknown(Operation::ChangeSession, SAVE_IN_PROGRESS));
        };
        let identity_changes = self.lock().state.identity_changes;
        let result = self.commit_in_turn(core, save.is_none()).await;
        let Some(save) = save else {
            return result;
        };
        if self.lock().state.is_committed {
            // The response did not wait for this save: what the save had to leave to it ends here.
            self.end_logged_out(core).await;
        }
        let mut inner = self.lock();
        match &result {
            Ok(outcome @ (Outcome::Applied | Outcome::Nothing)) => {
                if let Some(error) = inner.losses.since(save) {
                    // Only if the session is gone itself, none of the changes is stored.
                    let is_gone = matches!(error, Error::Gone);
                    let in_part =
                        *outcome == Outcome::Applied || is_gone && inner.state.stored().is_some();
                    return Err(match in_part {
                        true => Error::unknown(Operation::ChangeSession, error),
                        false => error,
                    });
                }
            }
            // After the response's own commit nothing was left to save, and after a login or a logout
            // nothing of this save's changes.
            Err(Error::Sealed) => {}
            Ok(Outcome::Gone | Outcome::AppliedInPart)
                if inner.state.identity_changes != identity_changes => {}
            Ok(Outcome::Gone | Outcome::AppliedInPart) => inner.losses.add(save, Error::Gone),
            Err(error) => inner.losses.add(save, error.clone()),
        }
        result
    }

    async fn commit_in_turn(&self, core: &Arc<Core>, is_last: bool) -> Result<Outcome> {
        let (plan, identity_changes, issues, has_issued) = {
            let mut inner = self.lock();
            if inner.state.is_committed {
                return Err(Error::Sealed);
            }
            if is_last {
                inner.prepare_last();
            }
            let has_issued = inner.is_issued;
            let state = &mut inner.state;
            state.is_committed = is_last;
            let plan = plan(state, &core.config, core.now()).inspect_err(|_| state.discard());
            let issues = state.settings.issued.is_some();
            if matches!(&plan, Ok(plan) if !plan.is_nothing()) {
                state.start_flush();
            }
            (plan, state.identity_changes, issues, has_issued)
        };
        let plan = match plan {
            Ok(plan) if plan.is_nothing() => return Ok(Outcome::Nothing),
            Ok(plan) => plan,
            Err(error) => {
                if is_last {
                    Box::pin(self.end_logged_out(core)).await;
                }
                return Err(error);
            }
        };
        let deleted: Vec<Id> = plan.delete.iter().map(|one| one.id.clone()).collect();
        let is_touch = plan.only_touches();
        let kind = core.config.kind();
        let timer = (!is_touch).then(|| core.latencies.time_commit());
        // Boxed, so that the response of a request that changes nothing does not carry the room for it.
        let mut commit = Box::pin(core.execute(plan, is_last));
        let commit = commit.as_mut();
        let done = self.span.commit(kind, is_touch, outcome_name, commit).await;
        drop(timer);
        let done = match done {
            Ok(done) => Committed::new(core, done, is_last).await,
            Err(error) => Err(error),
        };
        let outcome = self.settle(core, done, &deleted, identity_changes, is_last);
        if let (true, Ok(Outcome::Gone)) = (is_last, &outcome) {
            Box::pin(self.prove_cookie(core)).await;
        }
        let lost = match &outcome {
            Err(error) => Some(error.clone()),
            Ok(Outcome::Gone) => Some(Error::Gone),
            Ok(Outcome::Applied | Outcome::AppliedInPart | Outcome::Nothing) => None,
        };
        // The client must not get a token that opens nothing, whatever the caller of `save` does about it.
        let is_lost = |error: &Error| issues || has_issued && matches!(error, Error::Gone);
        if let Some(error) = lost.filter(is_lost) {
            self.lock().losses.report(error);
        }
        outcome
    }

    fn settle(
        &self,
        core: &Core,
        done: Result<Committed>,
        deleted: &[Id],
        identity_changes: u32,
        is_last: bool,
    ) -> Result<Outcome> {
        let mut inner = self.lock();
        let state = &mut inner.state;
        let is_same = state.identity_changes == identity_changes;
        let Committed {
            done,
            new_id,
            stored,
        } = match done {
            Ok(done) => done,
            Err(error) if is_same && matches!(state.base, Base::Login(_)) => {
                state.discard_all();
                return Err(error);
            }
            Err(error) => {
                match (is_same, &error) {
                    (true, Error::Unknown { .. }) => state.flush_is_unknown(),
                    (true, _) => state.discard_in_flight(),
                    (false, _) => {}
                }
                return Err(error);
            }
        };
        state.ended.retain(|one| !deleted.contains(&one.id));
        if !is_same {
            // A session that the write has stored for the first time is not the request's any more,
            // unless a login replaces it.
            if !stored.is_some_and(|stored| state.former_is_stored(stored)) {
                state.ended.extend(new_id.map(Deletion::from));
                return Ok(done.outcome);
            }
        } else {
            if let (Outcome::Applied, Some(id)) = (done.outcome, &new_id) {
                inner.follow_new(core, id, is_last);
            }
            let state = &mut inner.state;
            match done.outcome {
                // A login that was revoked on its way: the session that it was to replace is still
                // there.
                Outcome::Gone if matches!(state.base, Base::Login(_)) => state.discard_all(),
                Outcome::Gone => {
                    log_dropped_changes(state);
                    inner.session_ended();
                }
                Outcome::Nothing => state.discard_in_flight(),
                // A stream reads what was written.
                Outcome::Applied | Outcome::AppliedInPart if is_last => {}
                Outcome::Applied | Outcome::AppliedInPart => match stored {
                    Some(stored) => state.flush_succeeded(stored),
                    None => {
                        inner.session_ended();
                        return Ok(done.outcome);
                    }
                },
            }
        }
        if done.cookie.is_some() {
            inner.pending_cookie = done.cookie;
            let is_cookie = core.config.transport == Transport::Cookie;
            inner.cookie_is_known = is_cookie && new_id.is_none();
        }
        Ok(done.outcome)
    }

    /// The login that the response was to store has not taken place. The cookie of an earlier save is
    /// sent nevertheless, unless another request has replaced its token since.
    async fn prove_cookie(&self, core: &Core) {
        let cookie = {
            let inner = self.lock();
            let cookie = inner.pending_cookie.as_ref();
            cookie
                .filter(|_| inner.cookie_is_known)
                .map(|(token, _)| token.clone())
        };
        let Some(token) = cookie else { return };
        let digest = token.digest(&core.config.cookie_name);
        let is_replaced = match core.load(&token.id).await {
            Ok(stored) => stored.is_none_or(|stored| !stored.token.matches(&digest)),
            Err(_) => false, // without its new cookie the browser might be signed out
        };
        if is_replaced {
            self.lock().pending_cookie = None;
        }
    }

    /// Deletes the sessions that the request has logged out, where no commit does.
    async fn end_logged_out(&self, core: &Core) {
        let ended = std::mem::take(&mut self.lock().state.ended);
        let deleted = core.delete_all(ended.into_iter(), End::LoggedOut, None);
        if let Err(error) = deleted.await {
            error.log();
        }
    }
}

/// What a commit has done.
struct Committed {
    done: Done,
    /// The session that it has stored for the first time.
    new_id: Option<Id>,
    /// The session as it is stored now. A request that ends reads nothing more, so it is `None` then.
    stored: Option<Stored>,
}

impl Committed {
    /// It is unknown what is stored when the session must be read again, and that fails.
    async fn new(core: &Core, mut done: Done, is_last: bool) -> Result<Self> {
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

/// The outcome of a commit, for its span.
fn outcome_name(done: &Result<Done>) -> &'static str {
    match done.as_ref().map(|done| done.outcome) {
        Ok(Outcome::Nothing) => "nothing",
        Ok(Outcome::Applied | Outcome::AppliedInPart) => "applied",
        Ok(Outcome::Gone) => "gone",
        Err(_) => "error",
    }
}

/// Says which keys were not stored because the session had ended: the response is still a success.
fn log_dropped_changes(state: &State) {
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

pub(super) const SAVE_IN_PROGRESS: &str =
    "an earlier write of this request did not end within `session.deadline`";
