//! The ends of sessions: one, those that were found or chosen, those beyond `max_per_user`.

use std::pin::pin;
use std::sync::Arc;

use bson::RawBson;
use rocket::tokio;

use super::Core;
use crate::document::{Document, Filter};
use crate::error::Result;
use crate::live::End;
use crate::record::token::Id;
use crate::record::{alive, field};
use crate::state::Deletion;
use crate::store::Order;

/// How many sessions beyond `max_per_user` one login ends. There are more only where the limit is
/// new, and the next logins end those.
const MAX_SURPLUS_PER_LOGIN: u32 = 1000;

/// How often one login counts its user's sessions, at most: again for a later login, and after a failure.
/// With the default `deadline` of 10 seconds, which is also the pause, the last one is 20 seconds after the
/// first: longer than an election usually takes (12 seconds).
/// <https://www.mongodb.com/docs/manual/core/replica-set-elections/>
const MAX_COUNTS_PER_LOGIN: u32 = 3;

/// How many documents one command deletes, where there may be many.
pub(super) const DELETED_PER_STEP: u32 = 1000;

impl Core {
    pub(crate) async fn delete_all(
        &self,
        sessions: impl Iterator<Item = Deletion>,
        end: End,
        user: Option<&RawBson>,
    ) -> Result<()> {
        for (ended, session) in sessions.enumerate() {
            let delete = self.store.delete(session.filter());
            let ids = [session.id.as_str()];
            let ending = self.live.ending(&ids, end, user, delete, |did| Some(*did));
            let deleted = ending.await;
            deleted.map_err(|error| error.partly_done_if(ended > 0))?;
        }
        Ok(())
    }

    /// Deletes all sessions that a filter chooses. Returns their number.
    pub(crate) async fn end_matching(&self, sessions: Filter, end: End) -> Result<u64> {
        let named = self.live.name_for_readers(&sessions, end).await;
        let delete = self.store.delete_all(sessions.clone());
        self.live.ending_all(&sessions, end, named, delete).await
    }

    /// Deletes all sessions that a filter chooses, in steps that each end by the deadline. Calls
    /// `progress` with the number of sessions that have ended so far.
    pub(crate) async fn end_in_steps(
        &self,
        sessions: Filter,
        end: End,
        progress: &mut (impl FnMut(u64) + Send),
    ) -> Result<u64> {
        let named = self.live.name_for_readers(&sessions, end).await;
        let delete = self.delete_in_steps(&sessions, progress);
        self.live.ending_all(&sessions, end, named, delete).await
    }

    /// Revokes sessions that were found: those of one step, if there may be many. Returns how many of
    /// them were still there.
    pub(crate) async fn end_found<'a>(
        &self,
        sessions: impl Iterator<Item = &'a Document>,
    ) -> Result<u64> {
        let mut ids = Vec::new();
        for session in sessions {
            let Some(id) = session.id() else { continue };
            let user = session.get(field::USER).map(|user| user.to_raw_bson());
            self.live.intend(id, End::Revoked, user.as_ref());
            ids.push(id);
        }
        if ids.is_empty() {
            return Ok(0);
        }
        let owned = ids.iter().map(|id| (*id).to_owned()).collect();
        let delete = self.store.delete_all(Filter::ids(owned));
        let ending = self
            .live
            .ending(&ids, End::Revoked, None, delete, |_| Some(true));
        ending.await
    }

    /// Deletes all documents that a filter chooses, in steps that each end by the deadline. It ends where
    /// others are stored all the time: those of the last step are enough.
    pub(crate) async fn delete_in_steps(
        &self,
        documents: &Filter,
        progress: &mut (impl FnMut(u64) + Send),
    ) -> Result<u64> {
        let mut all = 0;
        loop {
            let step = self.store.delete_some(documents.clone(), DELETED_PER_STEP);
            let step = step.await;
            let step = step.map_err(|error| error.partly_done_if(all > 0))?;
            all += step.deleted;
            if step.is_last {
                return Ok(all);
            }
            progress(all);
        }
    }

    /// Ends a user's oldest sessions beyond `max_per_user` after a login, in the background. The database
    /// gives the order in which logins were stored, so that all processes agree on it, whatever their
    /// clocks show. (Two shards may disagree on the latest login by as much as their clocks differ.)
    ///
    /// A later login may still be undone, so it is not counted. If it stands, it ends the surplus
    /// itself; but it may not have seen this login. So this task counts a second time, when the later
    /// login has usually finished. After a failure it counts again as well, with the same pause.
    pub(super) fn enforce_max_per_user(self: &Arc<Self>, user: RawBson, login: Id) {
        let Some(max) = self.config.max_per_user else {
            return;
        };
        let core = Arc::clone(self);
        self.tasks.spawn(async move {
            let Some(mut latest) = core.end_surplus(&user, login, max).await else {
                return;
            };
            let (stopped, settled) = (core.live.stopped(), core.store.deadline());
            let core = Arc::downgrade(&core);
            tokio::spawn(async move {
                let mut stopped = pin!(stopped);
                for _ in 1..MAX_COUNTS_PER_LOGIN {
                    tokio::select! {
                        () = &mut stopped => return,
                        () = tokio::time::sleep(settled) => {}
                    }
                    let Some(core) = core.upgrade() else { return };
                    match core.end_surplus(&user, latest, max).await {
                        Some(later) => latest = later,
                        None => return,
                    }
                }
            });
        });
    }

    /// Counts the sessions up to a login, and ends the oldest. Returns the login to count up to next: the
    /// latest of all, if it is later, and the same one after a failure.
    async fn end_surplus(&self, user: &RawBson, login: Id, max: u32) -> Option<Id> {
        match self.end_earlier_than(user, &login, max).await {
            Ok(later) => later,
            Err(error) => {
                error.log();
                Some(login)
            }
        }
    }

    async fn end_earlier_than(&self, user: &RawBson, login: &Id, max: u32) -> Result<Option<Id>> {
        let theirs = Filter::sessions().equals(field::USER, user.clone());
        let theirs = alive(theirs, self.now());
        let limit = max.saturating_add(MAX_SURPLUS_PER_LOGIN);
        let theirs = self.epoch.current().await?.restrict(theirs);
        let mut all = self
            .store
            .find(theirs, Order::OldestFirst, 0, limit)
            .await?;
        // Those without a time were stored before there was a limit. They stay in the order of `created`.
        all.sort_by_key(|session| {
            let stored = session.get(field::LOGGED_IN);
            let stored = stored.and_then(|at| at.as_timestamp());
            stored.map(|at| (at.time, at.increment))
        });
        let own = all.iter().position(|one| one.id() == Some(login.as_str()));
        let counted = match own {
            Some(own) => own + 1,
            None if all.len() == limit as usize => all.len(), // it is behind them
            None => return Ok(None),                          // it has ended
        };
        let surplus = counted.saturating_sub(max as usize);
        self.end_found(all.iter().take(surplus)).await?;
        let later = all.get(counted..).and_then(<[Document]>::last);
        Ok(later.and_then(|latest| Id::parse(latest.id()?)))
    }
}
