//! Calls that read the database again and are carried out at once: [`Session::modify`] and pops. Both
//! are a compare-and-set of one value, so that no update is lost and nothing is delivered twice.

use std::pin::pin;
use std::sync::Arc;

use bson::RawBson;
use bson::raw::RawBsonRef;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::commit::SAVE_IN_PROGRESS;
use super::losses::Loss;
use super::permit::WritePermit;
use super::{Session, decode};
use crate::commit::Outcome;
use crate::commit::cas::{Attempt, CompareAndSet};
use crate::document::Update;
use crate::document::key::{Field, KeyFor};
use crate::document::value::{self, Value};
use crate::error::{Error, Operation, Result};
use crate::record::{self, Record};
use crate::state::Stored;
use crate::state::changes::Change;
use crate::store::Durability;

/// Computes the new value from the stored one, and the result for the caller. The stored value is an
/// error when it is sealed and does not open.
type Step<'f, T> =
    dyn FnMut(Result<Option<RawBsonRef<'_>>>) -> Result<(Option<RawBson>, T)> + Send + 'f;

/// How often a call looks again because the request itself has changed the value meanwhile.
const MAX_ATTEMPTS: usize = 100;

/// An exchange that has begun, of a value of the stored session.
struct Begun {
    stored: Stored,
    identity_changes: u32,
    pending_growth: isize,
    /// The outcome of an earlier write of the value is unknown.
    was_uncertain: bool,
}

/// An exchange that runs, until it has ended or its future is dropped.
struct Running<'s>(&'s Session);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.lock().state.doubts.give_up();
    }
}

impl Session {
    /// Changes one value in any way, and loses no update: `f` makes the new value from the old one.
    ///
    /// The new value is stored only if no other request has changed the old one meanwhile. Otherwise
    /// `f` is called again, with the current value. `f` may run several times, so it must have no side
    /// effects. Returns the value that was stored. A change between values that MongoDB compares as
    /// equal is not noticed: from `1` to `1.0`, or from `0.0` to `-0.0`.
    ///
    /// It is stored at once, not with the response: one round trip, and two more for each time that
    /// another request was faster. If the request has changed the key before, or has kept it in a
    /// login, that is saved first, with all that is pending (one more round trip, or those of the
    /// login); if the database fails then, so does the response. On a session that is not stored yet, `f`
    /// runs at once and the value is stored with the response.
    ///
    /// ```
    /// # use rocket_mongo_session::{Error, Session};
    /// async fn add(session: &Session, item: u32) -> Result<Vec<u32>, Error> {
    ///     session
    ///         .modify("basket", |basket: Option<Vec<u32>>| {
    ///             let mut basket = basket.unwrap_or_default();
    ///             basket.retain(|other| *other != item);
    ///             basket.push(item);
    ///             basket
    ///         })
    ///         .await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Decode`] when the stored value is not a `T`, [`Error::Gone`] when the session ended
    /// or was renewed by another request, [`Error::Store`] when the database failed or it lost to
    /// other requests until the `deadline`, and those of [`set`](Session::set). The call has changed
    /// nothing then; what the request had changed before may be saved. After [`Error::Unknown`] the
    /// value may have been stored.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped (by a timeout around it, for instance), the value is stored or not,
    /// and the request does not learn which. A write that has begun ends nevertheless, and later writes
    /// and the response wait for it. A request changes its session in one call at a time:
    /// while a future is kept without being polled, the other calls wait, until the `deadline` ends
    /// them.
    #[doc(alias("atomic", "concurrent", "compare-and-set", "optimistic locking"))]
    pub async fn modify<T: Serialize + DeserializeOwned + Send>(
        &self,
        key: impl KeyFor<T> + Send,
        mut f: impl FnMut(Option<T>) -> T + Send,
    ) -> Result<T> {
        let field = Field::of_key(key.name())?;
        let name = field.clone();
        let mut step = |stored: Result<Option<RawBsonRef<'_>>>| {
            let value = f(decode(&name, stored?)?);
            let encoded = self.encode(&name, &value)?;
            Ok((Some(encoded), value))
        };
        self.exchange(field, &mut step).await
    }

    /// Changes one value as [`modify`](Session::modify) does, or removes it: `None` from `f` leaves
    /// the key unset.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rocket_mongo_session::{Error, Key, Session};
    /// const ATTEMPTS: Key<u32> = Key::new("attempts");
    ///
    /// /// Uses up one attempt. Returns how many are left.
    /// async fn attempt(session: &Session) -> Result<u32, Error> {
    ///     let left = session.modify_or_remove(ATTEMPTS, |left| match left.unwrap_or(3) {
    ///         0 | 1 => None,
    ///         left => Some(left - 1),
    ///     });
    ///     Ok(left.await?.unwrap_or(0))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`modify`](Session::modify).
    ///
    /// # Cancellation
    ///
    /// As [`modify`](Session::modify).
    pub async fn modify_or_remove<T: Serialize + DeserializeOwned + Send>(
        &self,
        key: impl KeyFor<T> + Send,
        mut f: impl FnMut(Option<T>) -> Option<T> + Send,
    ) -> Result<Option<T>> {
        let field = Field::of_key(key.name())?;
        let name = field.clone();
        let mut step = |stored: Result<Option<RawBsonRef<'_>>>| {
            let value = f(decode(&name, stored?)?);
            let encoded = value.as_ref().map(|value| self.encode(&name, value));
            Ok((encoded.transpose()?, value))
        };
        self.exchange(field, &mut step).await
    }

    /// Takes all messages of a queue. If one of them is not a `T`, the queue is emptied anyway
    /// and the call fails: one message must not break every page.
    pub(super) async fn pop_all<T: DeserializeOwned + Send>(&self, field: Field) -> Result<Vec<T>> {
        let (is_empty, may_be_unseen) = {
            let state = &self.open()?.state;
            (!state.contains(&field), state.may_be_unseen)
        };
        if is_empty {
            return Ok(Vec::new());
        }
        if may_be_unseen {
            return Ok(self.read(&field)?.unwrap_or_default());
        }
        let name = field.clone();
        let mut step = |stored: Result<Option<RawBsonRef<'_>>>| {
            let all = stored.and_then(|stored| decode::<Vec<T>>(&name, stored));
            Ok((None, all.map(Option::unwrap_or_default)))
        };
        self.exchange(field, &mut step).await?
    }

    /// Reads and changes one value. No save or other exchange of this request runs at the same time, so
    /// the state has the stored value afterwards, and the token is the stored one unless another
    /// request has replaced it.
    async fn exchange<T: Send>(&self, field: Field, step: &mut Step<'_, T>) -> Result<T> {
        let identity_changes = self.open_to_write()?.state.identity_changes;
        let permit = Arc::new(self.save_before_exchange(&field).await?);
        let begun = {
            let state = &mut self.open_to_write()?.state;
            if state.identity_changes != identity_changes {
                return Err(Error::Gone); // the request logged in or out meanwhile
            }
            state.stored().cloned().map(|stored| Begun {
                stored,
                identity_changes,
                pending_growth: state.pending_growth(),
                was_uncertain: state.doubts.begin(&field),
            })
        };
        let Some(begun) = begun else {
            return self.exchange_here(field, step);
        };
        let _running = Running(self);
        let outcome = |done: &Result<Option<_>>| match done {
            Ok(Some(_)) => "applied",
            Ok(None) => "gone",
            Err(_) => "error",
        };
        let (kind, timer) = (self.core.config.kind(), self.core.latencies.time_commit());
        let done = {
            let what = self.compare_and_set(&begun.stored, &permit);
            let exchanged = pin!(self.exchange_stored(&field, &begun, &what, step));
            let span = &self.shared.span;
            span.commit(kind, false, outcome, exchanged).await
        };
        drop(timer);
        self.settle_exchange(begun, done)
    }

    /// Repeats a step on the stored session until no other request has changed the value meanwhile.
    async fn exchange_stored<T: Send>(
        &self,
        field: &Field,
        begun: &Begun,
        what: &CompareAndSet,
        step: &mut Step<'_, T>,
    ) -> Result<Option<(Record, Update, T)>> {
        let mut finds_out = begun.was_uncertain;
        let attempt = |record: &Record| {
            let now = record.get(field);
            let now = match &now {
                Ok(now) => Ok(now.as_ref().map(Value::as_ref)),
                Err(unreadable) => Err(unreadable.of(field)),
            };
            let (next, output) = step(now.clone())?;
            let is_same = match (now, &next) {
                (Ok(Some(now)), Some(next)) => value::same(now, next.as_raw_bson_ref()),
                (Ok(None), None) => true,
                _ => false,
            };
            // After a write whose outcome is unknown, the first attempt finds out what is stored.
            let must_write = std::mem::take(&mut finds_out);
            if is_same && !must_write {
                return Ok(Attempt::Unchanged(output));
            }
            // Without a data key it is not sent yet, and the attempt is made again.
            finds_out = must_write && record.lacks_data_key() && next.is_some();
            self.check_size(record, field, next.as_ref(), begun.pending_growth)?;
            Ok(Attempt::Write(vec![(field.clone(), next)], output))
        };
        let record = begun.stored.record.clone();
        self.core.compare_and_set(what, record, attempt).await
    }

    fn settle_exchange<T>(
        &self,
        begun: Begun,
        done: Result<Option<(Record, Update, T)>>,
    ) -> Result<T> {
        let mut inner = self.lock();
        let is_same = inner.state.identity_changes == begun.identity_changes;
        match done {
            Ok(Some((record, _, output))) => {
                self.core.stats.commits.count();
                let token = begun.stored.token;
                let stored = Stored { record, token };
                match is_same {
                    true => inner.state.exchange_succeeded(stored),
                    false => drop(inner.state.former_is_stored(stored)),
                }
                Ok(output)
            }
            Ok(None) => {
                self.core.stats.gone.count();
                inner.state.doubts.fail();
                if is_same {
                    // By an earlier save: the browser may have another one by now.
                    inner.pending_cookie = None;
                    // If the session was renewed, the request's other changes can still be stored:
                    // the commit finds out.
                    if !inner.state.is_pending() {
                        inner.session_ended();
                    }
                }
                Err(Error::Gone)
            }
            Err(error) => {
                if !matches!(error, Error::Unknown { .. }) {
                    inner.state.doubts.fail();
                }
                Err(error)
            }
        }
    }

    /// Waits for the running saves and exchanges of this request. If it has changed the value that is
    /// to be exchanged, saves that first.
    async fn save_before_exchange(&self, field: &Field) -> Result<WritePermit> {
        for _ in 0..MAX_ATTEMPTS {
            let permit = self.shared.acquire_permit(self.core.store.deadline()).await;
            let in_progress = || Error::store(Operation::ChangeSession, SAVE_IN_PROGRESS);
            let permit = permit.ok_or_else(in_progress)?;
            if !self.open()?.state.must_save_before_exchange(field) {
                return Ok(permit);
            }
            drop(permit);
            match self.save_detached().await {
                Ok(Outcome::Gone) => return Err(Error::Gone),
                Ok(_) => {}
                Err(error) => {
                    // The caller may do without the value, but the request's earlier changes are lost.
                    if !matches!(error, Error::Gone | Error::Sealed) {
                        self.lock().losses.report(Loss::Failed(error.clone()));
                    }
                    return Err(error);
                }
            }
        }
        Err(Error::store(Operation::ChangeSession, CHANGED_MEANWHILE))
    }

    /// The token is a condition: a request whose cookie was replaced meanwhile must not read on with
    /// it.
    fn compare_and_set(&self, stored: &Stored, permit: &Arc<WritePermit>) -> CompareAndSet {
        let Stored { record, token } = stored;
        let config = &self.core.config;
        let now = self.core.now();
        let mut update = Update::default();
        if !self.lock().state.skips_touch {
            let times = &record.meta.times;
            let expires = times.own.expiry(config).expires_at(times.created, now);
            record::touch(&mut update, now, expires);
        }
        CompareAndSet {
            token: Some(token.clone()),
            filter: record.with_same_token(record::unless_expired(record.meta.id.as_str(), now)),
            update,
            durability: Durability::Data,
            permit: Some(Arc::clone(permit) as _),
        }
    }

    fn check_size(
        &self,
        record: &Record,
        field: &Field,
        next: Option<&RawBson>,
        pending_growth: isize,
    ) -> Result<()> {
        let size = |value: &RawBson| value::size(field.as_str(), value.as_raw_bson_ref());
        let (old, new) = (record.size_of(field), next.map_or(0, size));
        let whole = record.size().saturating_sub(old) + new;
        let limit = self.core.config.max_bytes;
        if new > old && whole.saturating_add_signed(pending_growth) > limit {
            return Err(Error::TooLarge { limit });
        }
        Ok(())
    }

    /// On a session that is not stored, no other request can change the value; another task of this
    /// one can, and `f` itself.
    fn exchange_here<T>(&self, field: Field, step: &mut Step<'_, T>) -> Result<T> {
        for _ in 0..MAX_ATTEMPTS {
            let (now, version) = {
                let inner = self.lock();
                (inner.state.get(&field)?, inner.state.version)
            };
            let (next, output) = step(Ok(now.as_ref().map(RawBson::as_raw_bson_ref)))?;
            let mut inner = self.open_to_write()?;
            if inner.state.version != version {
                continue;
            }
            if next.is_some() || now.is_some() {
                let change = next.map_or(Change::Unset, Change::Set);
                inner.state.change(field, change)?;
            }
            return Ok(output);
        }
        Err(Error::store(Operation::ChangeSession, CHANGED_MEANWHILE))
    }
}

const CHANGED_MEANWHILE: &str = "gave up after 100 attempts, because the session was changed during each; `f` must not use the session";
