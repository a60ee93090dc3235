//! What reads the database again and is carried out at once: [`Session::modify`] and pops. Both
//! are a compare-and-set on one value, so that nothing is lost and nothing happens twice.

use std::sync::MutexGuard;

use bson::RawBson;
use bson::raw::RawBsonRef;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Inner, Session, decode};
use crate::commit::backoff::Backoff;
use crate::document::key::{Field, KeyFor};
use crate::document::value;
use crate::document::{Filter, Operation, Update};
use crate::error::{Error, Result};
use crate::record::{self, Record, field};
use crate::state::Base;
use crate::state::changes::Change;
use crate::state::plan::decide_move;
use crate::store::{Durability, Updated};

/// What becomes of a value, and what the caller gets for it.
type Step<'f, T> = dyn FnMut(Option<&RawBson>) -> Result<(Option<RawBson>, T)> + Send + 'f;

impl Session {
    /// Changes one value in any way, and loses no update: `f` makes the new value from the old one.
    ///
    /// The new value is stored only if nobody else has changed the old one meanwhile. Otherwise `f`
    /// is called again, with the value of today. So it should do nothing but compute. Returns the
    /// value that was stored.
    ///
    /// It is stored at once, not with the response: one round trip, and two more for each time that
    /// another request was faster. On a session that is not stored yet, `f` runs once and the value
    /// is stored with the response.
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
    /// or was renewed by another request, [`Error::Store`] when the database failed or others were
    /// faster until the `deadline`, and those of [`set`](Session::set). Nothing has changed then.
    /// After [`Error::Unknown`] nobody knows.
    pub async fn modify<T: Serialize + DeserializeOwned + Send>(
        &self,
        key: impl KeyFor<T> + Send,
        mut f: impl FnMut(Option<T>) -> T + Send,
    ) -> Result<T> {
        let field = Field::of_key(key.name())?;
        let name = field.clone();
        let mut step = |stored: Option<&RawBson>| {
            let value = f(stored.map(|stored| decode(&name, stored)).transpose()?);
            let encoded = self.encode(&name, &value)?;
            Ok((Some(encoded), value))
        };
        self.exchange(field, false, &mut step).await
    }

    /// Takes all that a field holds. One message that is no `T` does not keep the others in the way
    /// of every page: they are taken, and it is an error.
    pub(super) async fn pop_all<T: DeserializeOwned + Send>(&self, field: Field) -> Result<Vec<T>> {
        let name = field.clone();
        let mut step = |stored: Option<&RawBson>| {
            let all = stored.map(|stored| decode::<Vec<T>>(&name, stored));
            Ok((None, all.transpose().map(Option::unwrap_or_default)))
        };
        self.exchange(field, true, &mut step).await?
    }

    async fn exchange<T>(
        &self,
        field: Field,
        returning: bool,
        step: &mut Step<'_, T>,
    ) -> Result<T> {
        let mut turn = self.turn().await?;
        if std::mem::take(&mut *turn) {
            self.discard();
            return Err(Error::left());
        }
        self.move_ancestor(&field, returning, &mut turn).await?;
        // What is stored, when there is something that others can see.
        let (stored, pending, beside, identity) = {
            let mut inner = self.open()?;
            let state = &mut inner.state;
            let record = match &state.base {
                Base::Stored(stored) => {
                    let worth = !returning || stored.record.get(&field).is_some();
                    worth.then(|| stored.record.clone())
                }
                Base::New(_) => None,
            };
            let Some(record) = record else {
                drop(inner);
                return self.exchange_locally(field, step);
            };
            let beside = state.growth_beside(&field);
            let pending = state.begin_one(&field);
            (record, pending, beside, state.identity)
        };
        let in_flight = UnderWay {
            session: self,
            identity: Some(identity),
        };
        let call = Exchange {
            name: &field,
            pending: pending.as_ref(),
            beside,
            returning,
        };
        let result = self.exchange_stored(call, stored, step, &mut turn).await;
        let is_open = matches!(result, Err(Error::Unknown { .. }));
        let inner = match &result {
            Ok(_) | Err(Error::Gone) => in_flight.ends(),
            // What was folded into it may be stored; a pop takes nothing along.
            Err(_) if is_open && !returning => in_flight.ends(),
            Err(_) => None, // as it was before
        };
        if let Some(mut inner) = inner {
            match &result {
                Ok((record, _)) => inner.stored_is(record),
                Err(Error::Gone) => {
                    self.core.stats.gone.count();
                    inner.lost();
                }
                Err(_) => inner.state.fell(),
            }
        }
        result.map(|(_, output)| output)
    }

    /// A session of the ancestor's is moved first, as it was loaded: its document has neither a
    /// token to compare with nor names of ours, and who moves it is the one who may take from it.
    async fn move_ancestor(&self, field: &Field, returning: bool, turn: &mut bool) -> Result<()> {
        let (decision, identity) = {
            let inner = self.open()?;
            let state = &inner.state;
            if !state.is_ancestors() || (returning && state.base.get(field).is_none()) {
                return Ok(());
            }
            let now = self.core.clock.now();
            let decision = decide_move(state, &self.core.config, now)?;
            (decision, state.identity)
        };
        *turn = true;
        let done = self.carry_out(decision, true).await;
        *turn = false;
        let done = done?;
        let mut inner = self.lock();
        if inner.state.identity != identity {
            // Logged in or out meanwhile, which ends what was just moved.
            inner
                .state
                .ended
                .extend(done.stored.map(|stored| stored.record.id));
            return Err(Error::Gone);
        }
        let Some(stored) = done.stored else {
            inner.lost();
            return Err(Error::Gone);
        };
        inner.state.written(Base::Stored(Box::new(stored)));
        inner.owed = done.cookie;
        Ok(())
    }

    fn exchange_locally<T>(&self, field: Field, step: &mut Step<'_, T>) -> Result<T> {
        loop {
            let now = self.lock().state.get(&field);
            let (next, output) = step(now.as_ref())?;
            let mut inner = self.open()?;
            if inner.state.get(&field) != now {
                continue; // another task of this request was faster
            }
            if next.is_some() || now.is_some() {
                let change = next.map_or(Change::Unset, Change::Set);
                inner.state.change(field, change)?;
            }
            return Ok(output);
        }
    }

    async fn exchange_stored<T>(
        &self,
        call: Exchange<'_>,
        mut record: Record,
        step: &mut Step<'_, T>,
        turn: &mut bool,
    ) -> Result<(Record, T)> {
        let (store, config, name) = (&self.core.store, &self.core.config, call.name);
        let mut backoff = Backoff::new(store.deadline());
        loop {
            let stored = record.get(name).map(RawBsonRef::to_raw_bson);
            let before = stored.as_ref().map(RawBson::as_raw_bson_ref);
            let current = match call.pending {
                Some(change) => change.apply(before).map_err(|reason| Error::Mismatch {
                    key: name.display(),
                    reason,
                })?,
                None => stored.clone(),
            };
            let (next, output) = step(current.as_ref())?;
            if next == stored {
                return Ok((record, output)); // as it is in the store already
            }
            let size = |value: &Option<RawBson>| {
                let value = value.as_ref().map(RawBson::as_raw_bson_ref);
                value.map_or(0, |value| value::size(name.as_str(), value))
            };
            let (old, new) = (size(&stored), size(&next));
            let whole =
                (record.size() - old.min(record.size()) + new).saturating_add_signed(call.beside);
            if new > old && whole > config.max_bytes {
                let limit = config.max_bytes;
                return Err(Error::TooLarge { limit });
            }

            let now = self.core.clock.now();
            let timeout = record.timeout.unwrap_or(config.timeout);
            let mut update = Update::default();
            let operation = next.map_or(Operation::Unset, Operation::Set);
            record::change(&mut update, name.clone(), operation);
            let expires = crate::state::plan::expiry(record.created, now, timeout, config.lifetime);
            record::touch(&mut update, now, expires);
            // The token as well as the id: a request whose cookie was replaced meanwhile must not
            // read on with it.
            let mut filter = Filter::id(record.id.as_str())
                .equals(field::TOKEN, record::binary(record.token.as_bytes()))
                .still(name.clone(), stored);
            if record.deadline(config.timeout, config.lifetime) < now {
                filter = filter.not_before(field::EXPIRES, now);
            }
            *turn = true;
            let applied = if call.returning {
                let before = store.update_returning(filter, update.clone(), Durability::Data);
                before.await.map(|before| before.is_some())
            } else {
                let updated = store.update(filter, update.clone(), Durability::Data);
                updated.await.map(|updated| updated == Updated::Applied)
            };
            *turn = false;
            if applied? {
                self.core.stats.commits.count();
                let record = record.after(&update).unwrap_or(record);
                return Ok((record, output));
            }
            let fresh = store.load(record.id.as_str()).await?;
            let fresh = fresh.and_then(Record::parse).ok_or(Error::Gone)?;
            let now = self.core.clock.now();
            let is_over = fresh.deadline(config.timeout, config.lifetime) < now;
            if is_over || !fresh.token.matches(&record.token) {
                return Err(Error::Gone);
            }
            self.core.stats.conflicts.count();
            record = fresh;
            backoff.wait("changing a session").await?;
        }
    }
}

/// What one exchange is about.
struct Exchange<'a> {
    name: &'a Field,
    /// What the request had done to the value before, which goes along.
    pending: Option<&'a Change>,
    /// What its pending changes of other values add to the session's size.
    beside: isize,
    /// Whether the value is given away, which only the one who takes it may do.
    returning: bool,
}

/// An exchange that is under way. Unless it ends well, what it carried is pending again: when it
/// fails, when it panics in the application's function, and when it is dropped.
struct UnderWay<'s> {
    session: &'s Session,
    /// Whose value it is, while this is to be put back.
    identity: Option<u32>,
}

impl<'s> UnderWay<'s> {
    /// The state to go on with; nothing when another session took this one's place meanwhile.
    fn ends(mut self) -> Option<MutexGuard<'s, Inner>> {
        let inner = self.session.lock();
        (self.identity.take() == Some(inner.state.identity)).then_some(inner)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let Some(identity) = self.identity else {
            return;
        };
        let mut inner = self.session.lock();
        if inner.state.identity == identity {
            inner.state.put_back();
        }
    }
}
