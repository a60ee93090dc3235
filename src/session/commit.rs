//! The answer's side of a session: the commit that goes with it, and what the browser is told.

use bson::RawBson;

use super::Session;
use crate::clock::Moment;
use crate::commit::Outcome;
use crate::error::{Error, Result};
use crate::record::token::Token;
use crate::state::Base;
use crate::state::plan::{CookieLife, decide};

/// What the answer tells the browser.
pub(crate) enum CookieChange {
    None,
    Send(Token, CookieLife),
    Remove,
}

impl Session {
    /// The commit that goes with the answer; nothing can change after it.
    pub(crate) async fn finish(&self) -> Result<CookieChange> {
        if self.lock().state.sealed {
            // The same request was answered before: a test's clone of it, which shares its session.
            return Ok(CookieChange::None);
        }
        self.commit(true).await?;
        let mut inner = self.lock();
        Ok(match inner.owed.take() {
            Some((token, life)) => CookieChange::Send(token, life),
            None if inner.state.removal => CookieChange::Remove,
            None => CookieChange::None,
        })
    }

    /// The handler's answer is not the one that is sent.
    pub(crate) fn discard(&self) {
        self.lock().state.discard();
    }

    /// The principal, and the ids of the session that it has here: of the stored one, and of the
    /// one that replaces it with the answer.
    pub(crate) fn owner(&self) -> Option<(RawBson, Vec<String>)> {
        let inner = self.lock();
        let user = inner.state.user()?.clone();
        let ids = inner.state.id().into_iter().chain(inner.state.replaced());
        Some((user, ids.map(ToString::to_string).collect()))
    }

    /// The stored session that says who the user is; none when this request's own login does.
    pub(crate) fn stands_on(&self) -> Option<String> {
        let inner = self.lock();
        inner.state.stands_on().map(ToString::to_string)
    }

    /// A revocation of the others began at `at`, which this request's own login is no part of.
    /// `before` is when the last one began before that: a login that was under way then is one of
    /// those that it ended.
    pub(crate) fn outlives_revocation(&self, at: Moment, before: Option<Moment>) {
        let state = &mut self.lock().state;
        let known = state.spared.unwrap_or(state.started).max(state.started);
        if before.is_none_or(|before| before <= known) {
            state.spared = Some(at);
        }
    }

    pub(super) async fn commit(&self, is_last: bool) -> Result<Outcome> {
        let mut turn = self.turn().await?;
        let was_left = std::mem::take(&mut *turn);
        if was_left {
            self.discard(); // but for a logout, which stands
        }
        let outcome = self.commit_in_turn(is_last, &mut turn).await?;
        if was_left {
            return Err(Error::left());
        }
        Ok(outcome)
    }

    async fn commit_in_turn(&self, is_last: bool, turn: &mut bool) -> Result<Outcome> {
        let (decision, identity) = {
            let mut inner = self.open()?;
            let state = &mut inner.state;
            state.sealed = is_last;
            state.name_itself();
            let now = self.core.clock.now();
            let decision = decide(state, &self.core.config, now)?;
            if decision.is_nothing() {
                return Ok(Outcome::Nothing);
            }
            state.begin();
            (decision, state.identity)
        };
        let ended = decision.end.clone();
        *turn = true;
        let done = self.carry_out(decision, !is_last).await;
        *turn = false;
        let mut inner = self.lock();
        let state = &mut inner.state;
        let is_same = state.identity == identity;
        let done = done.inspect_err(|_| {
            if is_same {
                state.fell();
            }
        })?;
        state.ended.retain(|id| !ended.contains(id));
        if !is_same {
            // Logged in or out while the write was under way: what was written is not the
            // session any more. A document that is new with it must not stay; one that a login
            // replaces ends with that.
            let stored = done.stored.map(|stored| stored.record.id);
            let replaced = state.replaced().cloned();
            let left = stored.filter(|id| replaced.as_ref() != Some(id));
            state.ended.extend(left);
            return Ok(done.outcome);
        }
        match (done.outcome, done.stored) {
            (Outcome::Gone, _) => inner.lost(),
            (Outcome::Applied, Some(stored)) => state.written(Base::Stored(Box::new(stored))),
            // A stream that goes on reads what was written.
            (Outcome::Applied, None) if is_last => {}
            (Outcome::Applied, None) => state.discard(),
            (Outcome::Nothing, _) => state.fell(),
        }
        if done.cookie.is_some() {
            inner.owed = done.cookie;
        }
        Ok(done.outcome)
    }
}
