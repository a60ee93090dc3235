//! The commit of a session: by `save`, and with the response.

use std::sync::Arc;

use bson::RawBson;

use super::losses::{Loss, Save};
use super::settle::{Committed, Running};
use super::{Session, Shared};
use crate::commit::{Core, Done, Outcome};
use crate::config::Transport;
use crate::error::{Error, Operation, Result};
use crate::live::End;
use crate::record::token::{Digest, Id, Token};
use crate::state::Base;
use crate::state::plan::{CommitPlan, CookieLife, plan};

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
        let (subscribers, must_prove) = {
            let mut inner = self.lock();
            let subscribers = std::mem::take(&mut inner.subscribers);
            (subscribers, inner.must_prove_cookie)
        };
        // Nothing was stored that they could follow. Not under the lock: each may wake a task.
        drop(subscribers);
        committed?;
        if must_prove {
            Box::pin(self.shared.prove_cookie(&self.core)).await;
        }
        let mut inner = self.lock();
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
        let Some(_permit) = self.acquire_permit(core.store.deadline()).await else {
            if save.is_none() {
                // The response commits nothing else: nor must a catcher.
                self.lock().state.is_committed = true;
                Box::pin(self.end_logged_out(core)).await;
            }
            return Err(Error::unknown(Operation::ChangeSession, SAVE_IN_PROGRESS));
        };
        let result = self.commit_with_permit(core, save).await;
        if save.is_some() && self.lock().state.is_committed {
            // The response did not wait for this save: what the save had to leave to it ends here.
            self.end_logged_out(core).await;
        }
        result
    }

    async fn commit_with_permit(&self, core: &Arc<Core>, save: Option<Save>) -> Result<Outcome> {
        let is_last = save.is_none();
        let (plan, running) = match self.begin(core, save) {
            Ok(Some(begun)) => begun,
            Ok(None) => return Ok(Outcome::Nothing),
            Err(error) => {
                if is_last {
                    Box::pin(self.end_logged_out(core)).await;
                }
                return Err(error);
            }
        };
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
        running.end(done)
    }

    /// Plans a commit; `None` when there is nothing to write.
    fn begin<'a>(
        &'a self,
        core: &'a Core,
        save: Option<Save>,
    ) -> Result<Option<(CommitPlan, Running<'a>)>> {
        let mut inner = self.lock();
        if inner.state.is_committed {
            return Err(Error::Sealed);
        }
        match save {
            Some(save) => inner.prepare_save(save)?,
            None => inner.prepare_last(),
        }
        inner.state.is_committed = save.is_none();
        let plan = match plan(&inner.state, &core.config, core.now()) {
            Ok(plan) => plan,
            Err(error) => {
                inner.state.discard();
                inner.lose(save, Loss::Failed(error.clone()));
                return Err(error);
            }
        };
        if plan.is_nothing() {
            return Ok(None);
        }
        let running = Running {
            shared: self,
            core,
            save,
            deleted: plan.delete.iter().map(|one| one.id.clone()).collect(),
            identity_changes: inner.state.identity_changes,
            issues: inner.state.settings.issued.is_some(),
            has_issued: inner.is_issued,
            has_ended: false,
        };
        inner.state.start_flush();
        Ok(Some((plan, running)))
    }

    /// Drops the cookie of an earlier save if another request has replaced its token since.
    async fn prove_cookie(&self, core: &Core) {
        let pending = self.lock().pending_cookie.as_ref().map(|one| one.0.clone());
        let Some(token) = pending else { return };
        let digest = token.digest(&core.config.cookie_name);
        let is_replaced = match core.load(&token.id).await {
            Ok(stored) => stored.is_none_or(|stored| !stored.token.matches(&digest)),
            Err(error) => {
                error.log();
                false // without its new cookie the browser might be signed out
            }
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

/// The outcome of a commit, for its span.
fn outcome_name(done: &Result<Done>) -> &'static str {
    match done.as_ref().map(|done| done.outcome) {
        Ok(Outcome::Nothing) => "nothing",
        Ok(Outcome::Applied | Outcome::AppliedInPart) => "applied",
        Ok(Outcome::Gone) => "gone",
        Err(_) => "error",
    }
}

pub(super) const SAVE_IN_PROGRESS: &str =
    "an earlier write of this request did not end within `session.deadline`";
