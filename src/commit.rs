//! Carries a plan out: the writes before a response, in an order that keeps at most one token of a
//! browser usable and destroys nothing before the new session stands.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::config::Config;
use crate::document::{Document, Update};
use crate::epoch::{Epoch, EpochLease};
use crate::error::{Error, Result};
use crate::live::{End, Live};
use crate::metrics::Latencies;
use crate::principals::PrincipalTypes;
use crate::record::sealer::Sealer;
use crate::record::token::{Id, Token};
use crate::record::{Malformed, Record};
use crate::state::plan::{CommitPlan, CookieLife, InsertPlan, Write};
use crate::state::{Deletion, Stored};
use crate::stats::{ConnectionCounters, Counters};
use crate::store::bounded::Bounded;
use crate::store::deferred::Source;
use crate::tasks::Tasks;

pub(crate) mod cas;
mod ending;
mod insert;
pub(crate) mod revocation;
mod sealing;
mod sweep;
pub(crate) mod tombstone;
mod update;

use insert::RollBack;

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
    has_sweeper: AtomicBool,
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
    /// The values were stored. Times or a CSRF secret were not, because another request had replaced
    /// the token.
    AppliedInPart,
    /// The changes were dropped: the session had ended, or its token was replaced; a login was revoked
    /// on its way; or a new session would overwrite the cookie of a login of the same browser.
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

    /// The browser's token after the write.
    fn token(&self) -> &Token {
        match self {
            Written::Inserted(.., token) => token,
            Written::Updated(updated) => &updated.2,
        }
    }

    /// The stored session; `None` if the update does not fit the record that it was planned for.
    fn record(self, now: Moment) -> Option<Record> {
        match self {
            Written::Inserted(document, sealer, _) => {
                let record = Record::from_own_form(document, None).ok()?;
                Some(record.sealed_by(sealer))
            }
            Written::Updated(updated) => {
                let (before, update, _) = *updated;
                before.after(&update, now)
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
            has_sweeper: AtomicBool::new(false),
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

    /// Whether the store has answered, and the application is not shutting down.
    pub(crate) fn is_ready(&self) -> bool {
        self.store.has_answered() && !self.live.is_stopped()
    }

    /// Loads a session that has not ended with its generation; it may have expired. One round trip.
    pub(crate) async fn load(&self, id: &Id) -> Result<Option<Record>> {
        let ids = vec![id.as_str().to_owned()];
        Ok(self.load_all(ids, |_| true).await?.pop())
    }

    /// Loads the sessions with these ids, as [`load`](Core::load) does, whose documents `is_wanted`
    /// accepts. One round trip.
    pub(crate) async fn load_all(
        &self,
        ids: Vec<String>,
        is_wanted: impl Fn(&Document) -> bool,
    ) -> Result<Vec<Record>> {
        let read = |one| Some(one).filter(&is_wanted).and_then(|one| self.read(one));
        let is_of = |epoch: Epoch, record: &Record| epoch.has(&record.meta);
        self.epoch.load(ids, read, is_of).await
    }

    /// The session that a write has stored; `None` when it has ended since. No round trip, unless another
    /// request changed the type of a value meanwhile: then it is read again.
    pub(crate) async fn stored(&self, written: Written) -> Result<Option<Stored>> {
        let token = written.token().clone();
        let record = match written.record(self.now()) {
            Some(record) => Some(record),
            None => {
                let digest = token.digest(&self.config.cookie_name);
                let fresh = Box::pin(self.load(&token.id)).await?;
                let fresh = fresh.filter(|fresh| fresh.token.matches(&digest));
                fresh.and_then(|fresh| fresh.opened_by(&token, &self.config.cookie_name))
            }
        };
        Ok(record.map(|record| Stored { record, token }))
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
        let done = match write {
            Write::Insert(plan) if plan.login.is_some() => {
                Box::pin(self.insert_and_end(plan, delete)).await?
            }
            write => {
                if deletes {
                    Box::pin(self.delete_all(delete.into_iter(), End::LoggedOut, None)).await?;
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
            Outcome::Applied | Outcome::AppliedInPart => self.stats.commits.count(),
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

    /// Carries out a login. The sessions that its request has logged out before, and further ones that it
    /// proves, end after the login stands, and its tombstones record that it replaced them: a late
    /// response of another tab must not overwrite the login's cookie. A logout stands even if the login
    /// fails.
    async fn insert_and_end(
        self: &Arc<Self>,
        plan: Box<InsertPlan>,
        logged_out: Vec<Deletion>,
    ) -> Result<Done> {
        let login = plan.login.as_ref();
        let (user, other_sessions) = login
            .map(|login| (login.user.clone(), login.other_sessions.clone()))
            .unzip();
        let inserted = Box::pin(self.insert(plan)).await;
        let has_logged_out = !logged_out.is_empty();
        let logged_out = logged_out.into_iter();
        let mut deleted = self.delete_all(logged_out, End::LoggedOut, None).await;
        let is_stored = matches!(&inserted, Ok(done) if done.outcome == Outcome::Applied);
        if let (Ok(()), true, Some(others)) = (&deleted, is_stored, other_sessions) {
            let others = others.into_iter().map(Deletion::from);
            let ended = self.delete_all(others, End::Replaced, user.as_ref()).await;
            deleted = ended.map_err(|error| error.partly_done_if(has_logged_out));
        }
        match (inserted, deleted) {
            (Ok(done), Ok(())) => Ok(done),
            (Err(error), Ok(())) => Err(error.partly_done_if(has_logged_out)),
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
}

#[cfg(test)]
mod tests;
