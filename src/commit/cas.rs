//! The one compare-and-set loop: an update on the condition that values are still what they were,
//! again on fresh data until it wins or the deadline ends it.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bson::RawBson;
use rand::RngExt;
use rocket::tokio::time::{Instant, sleep};

use super::Core;
use crate::document::key::Field;
use crate::document::{Document, Filter, Operator, Update};
use crate::error::{Error, Operation, Result};
use crate::record::token::Token;
use crate::record::{self, Record};
use crate::spans::carried;
use crate::store::{Durability, Updated};

/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_millis(32);

/// What one attempt does with the record as it is now.
pub(crate) enum Attempt<T> {
    /// It leaves the record as it is.
    Unchanged(T),
    /// Sets these values, if the stored ones are still those of the record.
    Write(Vec<(Field, Option<RawBson>)>, T),
}

/// A compare-and-set of one session.
pub(crate) struct CompareAndSet {
    /// The request's token, if it is a request: it opens what others have sealed meanwhile.
    pub(crate) token: Option<Token>,
    /// The conditions on the session, beside the compared values.
    pub(crate) filter: Filter,
    /// The changes that are written beside the compared values, as they are stored.
    pub(crate) update: Update,
    pub(crate) durability: Durability,
    /// What a write holds until it has ended, though its caller may be gone.
    pub(crate) permit: Option<Arc<dyn Any + Send + Sync>>,
}

impl Core {
    /// Repeats `attempt` until its write wins. Returns the record after it and the update that made it
    /// so; `None` when the session has ended, or the filter does not hold any more.
    pub(crate) async fn compare_and_set<T>(
        &self,
        what: &CompareAndSet,
        mut record: Record,
        mut attempt: impl FnMut(&Record) -> Result<Attempt<T>>,
    ) -> Result<Option<(Record, Update, T)>> {
        let mut backoff = Backoff::new(self.store.deadline());
        if self.has_expired(&mut record).await? {
            return Ok(None);
        }
        loop {
            let (values, output) = match attempt(&record)? {
                Attempt::Unchanged(output) => {
                    return Ok(Some((record, Update::default(), output)));
                }
                Attempt::Write(values, output) => (values, output),
            };
            if record.lacks_data_key() && values.iter().any(|(_, value)| value.is_some()) {
                match self.give_data_key(what, record).await? {
                    Some(keyed) => record = keyed, // it may have been read again
                    None => return Ok(None),
                }
                continue;
            }
            if !self.epoch.current().await?.has(&record.meta) {
                return Ok(None);
            }
            if let Some(update) = self.write_if_same(what, &record, values).await? {
                let record = record.after(&update, self.now()).unwrap_or(record);
                return Ok(Some((record, update, output)));
            }
            let Some(fresh) = self.load_again(what, &record).await? else {
                return Ok(None); // not the compared values have changed, but the session has ended
            };
            self.stats.conflicts.count();
            record = fresh;
            backoff.wait().await?;
        }
    }

    /// The session with a data key, which only a request's token can give it.
    async fn give_data_key(&self, what: &CompareAndSet, record: Record) -> Result<Option<Record>> {
        match &what.token {
            Some(token) => self.with_data_key(record, token).await,
            None => Ok(None),
        }
    }

    /// Sets values if the stored ones are still those of the record. Returns the update of the record;
    /// `None` when it found no such session.
    async fn write_if_same(
        &self,
        what: &CompareAndSet,
        record: &Record,
        values: Vec<(Field, Option<RawBson>)>,
    ) -> Result<Option<Update>> {
        let (mut filter, mut update) = (what.filter.clone(), what.update.clone());
        for (field, value) in values {
            filter = record.with_same_value(filter, &field);
            let value = value.map(|value| record.seal(&field, value)).transpose()?;
            let operator = value.map_or(Operator::Unset, Operator::Set);
            record::change(&mut update, field, operator);
        }
        let stored = record.completed(&update);
        let (store, durability, permit) =
            (self.store.clone(), what.durability, what.permit.clone());
        let update_with_permit = carried(async move {
            let _permit = permit;
            store.update(filter, stored, durability).await
        });
        let updated = self.tasks.run(Operation::ChangeSession, update_with_permit);
        Ok((updated.await? == Updated::Applied).then_some(update))
    }

    /// The session as it is now, if it is alive and the filter still holds.
    async fn load_again(&self, what: &CompareAndSet, record: &Record) -> Result<Option<Record>> {
        let is_wanted = |fresh: &Document| what.filter.matches(fresh);
        let ids = vec![record.meta.id.as_str().to_owned()];
        let fresh = self.load_all(ids, is_wanted).await?.pop();
        let fresh = fresh.and_then(|fresh| self.reopen(fresh, record, what.token.as_ref()));
        Ok(fresh.filter(|fresh| !fresh.meta.is_expired(&self.config, self.now())))
    }
}

/// Pauses between attempts: each a little longer, at random, so that requests that collided do not
/// meet again.
struct Backoff {
    until: Instant,
    pause: Duration,
}

impl Backoff {
    fn new(deadline: Duration) -> Self {
        let now = Instant::now();
        Backoff {
            until: now.checked_add(deadline).unwrap_or(now),
            pause: Duration::from_millis(1),
        }
    }

    async fn wait(&mut self) -> Result<()> {
        let longest = u64::try_from(self.pause.as_micros()).unwrap_or(u64::MAX);
        let pause = Duration::from_micros(rand::rng().random_range(0..=longest));
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        if Instant::now() + pause >= self.until {
            return Err(Error::store(
                Operation::ChangeSession,
                CONFLICT_RETRIES_EXHAUSTED,
            ));
        }
        sleep(pause).await;
        Ok(())
    }
}

const CONFLICT_RETRIES_EXHAUSTED: &str = "gave up after repeated write conflicts (deadline reached); use `increment` or `push`, or let fewer \
     requests modify one key at a time";
