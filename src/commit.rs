//! Carries a plan out: the writes before a response, in an order that keeps at most one token of a
//! browser usable and destroys nothing before the new session stands.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bson::RawBson;
use rocket::tokio;

use crate::clock::{Clock, Moment};
use crate::config::Config;
use crate::document::{Document, Filter, Update};
use crate::epoch::{Epoch, EpochLease};
use crate::error::{Error, Operation, Result};
use crate::live::{End, Live};
use crate::metrics::Latencies;
use crate::principals::PrincipalTypes;
use crate::record::sealer::Sealer;
use crate::record::token::{Id, Token};
use crate::record::{Malformed, Record, alive, field};
use crate::state::Stored;
use crate::state::plan::{CommitPlan, CookieLife, InsertPlan, LoginPlan, Write};
use crate::stats::{ConnectionCounters, Counters};
use crate::store::Order;
use crate::store::bounded::Bounded;
use crate::store::deferred::Source;
use crate::tasks::Tasks;

pub(crate) mod cas;
mod insert;
mod sealing;
mod sweep;
pub(crate) mod tombstone;
mod update;

use insert::RollBack;

/// How many sessions beyond `max_per_user` one login ends. There are more only where the limit is
/// new, and the next logins end those.
const MAX_SURPLUS_PER_LOGIN: u32 = 1000;

/// How many documents one command deletes, where there may be many.
const DELETED_PER_STEP: u32 = 1000;

/// How long a request relies on the times that it has read of a session.
const TIMES_VALID_FOR: Duration = Duration::from_secs(1);

/// Shared state of the crate: store, configuration, clock and counters.
pub(crate) struct Core {
    pub(crate) store: Bounded,
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) stats: Arc<Counters>,
    pub(crate) latencies: Latencies,
    pub(crate) tasks: Tasks,
    pub(crate) principals: PrincipalTypes,
    pub(crate) live: Live,
    pub(crate) epoch: EpochLease,
    /// A task deletes the sessions of other generations.
    is_sweeping: AtomicBool,
}

/// What a commit has done.
pub(crate) struct Done {
    pub(crate) outcome: Outcome,
    pub(crate) written: Option<Written>,
    pub(crate) cookie: Option<(Token, CookieLife)>,
    /// Takes a new session back whose cookie is not sent after all.
    undo: Option<RollBack>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing had to be written before the response.
    Nothing,
    Applied,
    /// The session ended, or was replaced, while the request ran: its changes were dropped.
    Gone,
}

/// What a write has left in the store.
pub(crate) enum Written {
    Inserted(Document, Option<Arc<Sealer>>, Token),
    /// The record before the update, the update, and the browser's token after it.
    Updated(Box<(Record, Update, Token)>),
}

impl Written {
    /// The session that was stored for the first time.
    pub(crate) fn new_id(&self) -> Option<&Id> {
        match self {
            Written::Inserted(.., token) => Some(&token.id),
            Written::Updated(_) => None,
        }
    }

    /// The session as it is stored now.
    pub(crate) fn stored(self, now: Moment) -> Option<Stored> {
        match self {
            Written::Inserted(document, sealer, token) => {
                let record = Record::parse(document, None).ok()?.sealed_by(sealer);
                Some(Stored { record, token })
            }
            Written::Updated(updated) => {
                let (before, update, token) = *updated;
                let record = before.after(&update, now)?;
                Some(Stored { record, token })
            }
        }
    }
}

impl Done {
    fn without_write(outcome: Outcome) -> Self {
        Done {
            outcome,
            written: None,
            cookie: None,
            undo: None,
        }
    }
}

impl Core {
    pub(crate) fn new(
        config: Config,
        store: impl Into<Source>,
        clock: Clock,
        connections: Arc<ConnectionCounters>,
    ) -> Self {
        let stats = Arc::new(Counters::of_kind(config.kind(), connections));
        let store = Bounded::new(store, config.deadline, Arc::clone(&stats));
        Core {
            live: Live::new(&store, &config, &clock),
            latencies: Latencies::of_kind(config.kind()),
            epoch: EpochLease::new(&store, &clock),
            is_sweeping: AtomicBool::new(false),
            store,
            config,
            clock,
            stats,
            tasks: Tasks::default(),
            principals: PrincipalTypes::default(),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Loads a session that has not ended with its generation; it may have expired. One round trip.
    pub(crate) async fn load(&self, id: &Id) -> Result<Option<Record>> {
        self.load_if(id, |_| true).await
    }

    /// Loads a session as [`load`](Core::load) does, if `is_wanted` accepts its document.
    async fn load_if(
        &self,
        id: &Id,
        is_wanted: impl Fn(&Document) -> bool,
    ) -> Result<Option<Record>> {
        let ids = vec![id.as_str().to_owned()];
        Ok(self.load_all(ids, is_wanted).await?.pop())
    }

    /// Loads the sessions with these ids, as [`load`](Core::load) does. One round trip.
    pub(crate) async fn load_many(&self, ids: Vec<String>) -> Result<Vec<Record>> {
        self.load_all(ids, |_| true).await
    }

    async fn load_all(
        &self,
        ids: Vec<String>,
        is_wanted: impl Fn(&Document) -> bool,
    ) -> Result<Vec<Record>> {
        let (found, epoch) = self.epoch.load(ids).await?;
        // With its exact size: a vector that grows allocates room for four records, which are large.
        let mut records = Vec::with_capacity(found.len());
        let wanted = found.into_iter().filter(is_wanted);
        records.extend(wanted.filter_map(|one| self.read(one)));
        let is_of = |epoch: Epoch, record: &Record| epoch.has(&record.meta);
        self.epoch.retain(&mut records, epoch, is_of).await?;
        Ok(records)
    }

    /// Whether a session has expired since it was loaded. Another request may have prolonged it, or
    /// shortened its life, and a write by the old times would revive it. So it costs a round trip if
    /// the session was loaded a second ago or more, or has expired by the times that were loaded.
    pub(crate) async fn has_expired(&self, record: &mut Record) -> Result<bool> {
        let is_over = |record: &Record| record.meta.is_expired(&self.config, self.now());
        let is_recent = self.now().since(record.read_at) < TIMES_VALID_FOR;
        if is_recent && !is_over(record) {
            return Ok(false);
        }
        let now = Box::pin(self.load(&record.meta.id)).await?;
        match now.filter(|now| !is_over(now)) {
            Some(now) => {
                record.read_at = now.read_at;
                Ok(false)
            }
            None => Ok(true),
        }
    }

    /// Reads a stored session; a malformed one is logged, not used and not overwritten.
    pub(crate) fn read(&self, document: Document) -> Option<Record> {
        let record = Record::read(document, &self.config, self.now());
        if let Err(Malformed { id: Some(id) }) = &record {
            rocket::warn!("session {id}: the stored document is malformed and was ignored");
        }
        record.ok()
    }

    /// Carries a plan out. `is_last`: no further use of the session follows in this request.
    pub(crate) async fn execute(self: &Arc<Self>, plan: CommitPlan, is_last: bool) -> Result<Done> {
        let CommitPlan { delete, write } = plan;
        let deletes = !delete.is_empty();
        let user = match &write {
            Write::Insert(plan) => plan.login.as_ref().map(|login| login.user.clone()),
            _ => None,
        };
        let ends_more = |login: &LoginPlan| deletes || !login.others.is_empty();
        let done = match write {
            Write::Insert(plan) if plan.login.as_ref().is_some_and(ends_more) => {
                Box::pin(self.insert_and_end(plan, &delete)).await?
            }
            write => {
                if deletes {
                    Box::pin(self.delete_all(&delete, End::LoggedOut, None)).await?;
                }
                let partly_done = |error: Error| error.partly_done_if(deletes);
                match write {
                    Write::Nothing => Done::without_write(Outcome::Nothing),
                    Write::DropForReplaced => {
                        self.stats.overtaken.count();
                        Done::without_write(Outcome::Gone)
                    }
                    Write::Touch(touch) => {
                        self.store.touch(touch);
                        Done::without_write(Outcome::Nothing)
                    }
                    Write::Insert(plan) => {
                        let inserted = Box::pin(self.insert(plan)).await;
                        inserted.map_err(partly_done)?
                    }
                    Write::Update(plan) => {
                        let updated = Box::pin(self.update(plan, is_last)).await;
                        updated.map_err(partly_done)?
                    }
                    Write::Refuse(error) => return Err(error),
                }
            }
        };
        match done.outcome {
            Outcome::Applied => self.stats.commits.count(),
            Outcome::Gone => self.stats.gone.count(),
            Outcome::Nothing if deletes => self.stats.commits.count(),
            Outcome::Nothing => {}
        }
        // Only now is nothing left that could undo the login.
        if let (Outcome::Applied, Some(user), Some((token, _))) = (done.outcome, user, &done.cookie)
        {
            self.enforce_max_per_user(user, token.id.clone());
        }
        Ok(done)
    }

    /// Carries out a login whose request has logged a session out before, or proves further sessions. They
    /// end after the login stands, and its tombstones record that it replaced them: a late response
    /// of another tab must not overwrite the login's cookie. A logout stands even if the login fails.
    async fn insert_and_end(
        self: &Arc<Self>,
        plan: Box<InsertPlan>,
        logged_out: &[Id],
    ) -> Result<Done> {
        let login = plan.login.as_ref();
        let (user, others) = login
            .map(|login| (login.user.clone(), login.others.clone()))
            .unzip();
        let inserted = Box::pin(self.insert(plan)).await;
        let mut deleted = self.delete_all(logged_out, End::LoggedOut, None).await;
        let is_stored = matches!(&inserted, Ok(done) if done.outcome == Outcome::Applied);
        if let (Ok(()), true, Some(others)) = (&deleted, is_stored, others) {
            let ended = self.delete_all(&others, End::Replaced, user.as_ref()).await;
            deleted = ended.map_err(|error| error.partly_done_if(!logged_out.is_empty()));
        }
        match (inserted, deleted) {
            (Ok(done), Ok(())) => Ok(done),
            (Err(error), Ok(())) => Err(error.partly_done_if(!logged_out.is_empty())),
            (Ok(done), Err(error)) => {
                if let Some(undo) = done.undo {
                    self.tasks.spawn(undo.run_and_log());
                }
                Err(error.partly_done())
            }
            (Err(insert), Err(error)) => {
                let is_open = matches!(insert, Error::Unknown { .. });
                Err(error.partly_done_if(is_open))
            }
        }
    }

    async fn delete_all(&self, ids: &[Id], end: End, user: Option<&RawBson>) -> Result<()> {
        for (ended, id) in ids.iter().enumerate() {
            let delete = self.store.delete(Filter::id(id.as_str()));
            let ids = [id.as_str()];
            let ending = self.live.ending(&ids, end, user, delete, |did| *did);
            let deleted = ending.await;
            deleted.map_err(|error| error.partly_done_if(ended > 0))?;
        }
        Ok(())
    }

    /// Deletes all sessions that a filter chooses. Returns their number.
    pub(crate) async fn end_matching(&self, sessions: Filter, end: End) -> Result<u64> {
        self.live.name_for_readers(&sessions, end).await;
        let delete = self.store.delete_all(sessions.clone());
        self.live.ending_all(&sessions, end, delete).await
    }

    /// Deletes all sessions that a filter chooses, in steps that each end by the deadline. Calls
    /// `progress` with the number of sessions that have ended so far.
    pub(crate) async fn end_in_steps(
        &self,
        sessions: Filter,
        end: End,
        progress: &mut (impl FnMut(u64) + Send),
    ) -> Result<u64> {
        self.live.name_for_readers(&sessions, end).await;
        let delete = self.delete_in_steps(&sessions, progress);
        self.live.ending_all(&sessions, end, delete).await
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
            self.live.intend(&[id], End::Revoked, user.as_ref());
            ids.push(id);
        }
        if ids.is_empty() {
            return Ok(0);
        }
        let owned = ids.iter().map(|id| (*id).to_owned()).collect();
        let delete = self.store.delete_all(Filter::ids(owned));
        let ending = self.live.ending(&ids, End::Revoked, None, delete, |_| true);
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
    /// itself; but it may not have seen this login. So this task counts a second time, once the later
    /// login must have finished.
    fn enforce_max_per_user(self: &Arc<Self>, user: RawBson, login: Id) {
        let Some(max) = self.config.max_per_user else {
            return;
        };
        let core = Arc::clone(self);
        self.tasks.spawn(async move {
            let Some(latest) = core.end_surplus(&user, &login, max).await else {
                return;
            };
            let (stopped, settled) = (core.live.stopped(), core.store.deadline());
            let core = Arc::downgrade(&core);
            tokio::spawn(async move {
                tokio::select! {
                    () = stopped => return,
                    () = tokio::time::sleep(settled) => {}
                }
                if let Some(core) = core.upgrade() {
                    core.end_surplus(&user, &latest, max).await;
                }
            });
        });
    }

    /// Counts the sessions up to a login, and ends the oldest. Returns the latest of all, if it is later.
    async fn end_surplus(&self, user: &RawBson, login: &Id, max: u32) -> Option<Id> {
        let ended = self.end_earlier_than(user, login, max).await;
        ended.inspect_err(Error::log).ok().flatten()
    }

    async fn end_earlier_than(&self, user: &RawBson, login: &Id, max: u32) -> Result<Option<Id>> {
        let theirs = Filter::all().equals(field::USER, user.clone());
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

/// Runs a future in a task, so that it continues when the caller stops polling. A panic in it is an
/// unknown outcome.
pub(crate) fn detached<T: Send + 'static, F>(
    tasks: &Tasks,
    operation: Operation,
    future: F,
) -> impl Future<Output = Result<T>> + use<T, F>
where
    F: Future<Output = Result<T>> + Send + 'static,
{
    tasks.run(move || Error::unknown(operation, TASK_LOST), future)
}

const TASK_LOST: &str = "the task panicked, or the runtime is shutting down";

#[cfg(test)]
mod tests;
