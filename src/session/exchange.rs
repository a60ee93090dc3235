//! What reads the database again and is carried out at once: [`Session::modify`] and pops. Both
//! are a compare-and-set on one value, so that nothing is lost and nothing happens twice.

use bson::RawBson;
use bson::raw::RawBsonRef;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Session, decode};
use crate::changes::Change;
use crate::commit::decide_move;
use crate::commit::run::Turns;
use crate::document::{Filter, Operation, Update};
use crate::error::{Error, Result};
use crate::key::{Field, KeyFor};
use crate::record::{self, Record, field};
use crate::state::{Base, Sent, Stored};
use crate::store::{Durability, Updated};
use crate::value;

/// What becomes of a value, and what the caller gets for it.
type Step<'f, T> = dyn FnMut(Option<&RawBson>) -> Result<(Option<RawBson>, T)> + Send + 'f;

impl Session {
    /// Reads one value, lets `f` make a new one of it, and stores that, without ever losing an
    /// update: if another request changed the value meanwhile, `f` is called again with that one.
    /// Done at once, not with the answer: at least one round trip.
    ///
    /// `f` may run several times, so it should do nothing but compute. On a session that is not
    /// stored yet it runs once and the value goes with the answer.
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
    /// or was renewed by another request, [`Error::Store`] when others won until the deadline, and
    /// those of [`set`](Session::set). Nothing has changed then, except after [`Error::Unknown`].
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

    /// Takes all that a field holds, as `T` reads it, or nothing at all.
    pub(super) async fn pop_all<T: DeserializeOwned + Send>(&self, field: Field) -> Result<Vec<T>> {
        let name = field.clone();
        let mut step = |stored: Option<&RawBson>| {
            let all = stored.map(|stored| decode(&name, stored)).transpose()?;
            Ok((None, all.unwrap_or_default()))
        };
        self.exchange(field, true, &mut step).await
    }

    async fn exchange<T>(
        &self,
        field: Field,
        returning: bool,
        step: &mut Step<'_, T>,
    ) -> Result<T> {
        let mut turn = self.turn.lock().await;
        if std::mem::take(&mut *turn) {
            self.discard();
            return Err(Error::left());
        }
        self.move_ancestor(&field, returning, &mut turn).await?;
        // What is stored, when there is something that others can see; what is pending either way.
        let (stored, pending) = {
            let mut inner = self.open()?;
            let record = match &inner.state.base {
                Base::Stored(stored) => {
                    let worth = !returning || stored.record.get(&field).is_some();
                    worth.then(|| stored.record.clone())
                }
                Base::New(_) => None,
            };
            match record {
                Some(record) => (record, inner.state.begin_one(&field)),
                None => {
                    drop(inner);
                    return self.exchange_locally(field, step);
                }
            }
        };
        let pending = Pending {
            session: self,
            change: Some((field.clone(), pending)),
        };
        let result = self
            .exchange_stored(&field, stored, pending.change(), returning, step, &mut turn)
            .await;
        if matches!(result, Ok(_) | Err(Error::Gone)) {
            pending.forget();
        } else {
            drop(pending);
        }
        let mut inner = self.lock();
        match result {
            Ok((record, output)) => {
                if let Base::Stored(stored) = &inner.state.base {
                    let token = stored.token.clone();
                    let base = Base::Stored(Box::new(Stored { record, token }));
                    inner.state.rebase(base, &Sent::default());
                }
                Ok(output)
            }
            Err(error) => {
                if matches!(error, Error::Gone) {
                    self.committer.stats.gone.count();
                    inner.state.lost();
                }
                Err(error)
            }
        }
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
            let now = self.committer.clock.now();
            let decision = decide_move(state, &self.committer.config, now)?;
            (decision, state.identity)
        };
        *turn = true;
        let done = self.committer.run(decision, true).await;
        *turn = false;
        let done = done?;
        let mut inner = self.lock();
        let state = &mut inner.state;
        if state.identity != identity {
            // Logged in or out meanwhile, which ends what was just moved.
            state
                .ended
                .extend(done.stored.map(|stored| stored.record.id));
            return Err(Error::Gone);
        }
        let Some(stored) = done.stored else {
            state.lost();
            return Err(Error::Gone);
        };
        state.rebase(Base::Stored(Box::new(stored)), &Sent::default());
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
        name: &Field,
        mut record: Record,
        pending: Option<&Change>,
        returning: bool,
        step: &mut Step<'_, T>,
        turn: &mut bool,
    ) -> Result<(Record, T)> {
        let (store, config) = (&self.committer.store, &self.committer.config);
        let mut turns = Turns::new(store.deadline());
        loop {
            let stored = record.get(name).map(RawBsonRef::to_raw_bson);
            let before = stored.as_ref().map(RawBson::as_raw_bson_ref);
            let current = match pending {
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
            if new > old && record.size() - old.min(record.size()) + new > config.max_bytes {
                let limit = config.max_bytes;
                return Err(Error::TooLarge { limit });
            }

            let now = self.committer.clock.now();
            let timeout = record.timeout.unwrap_or(config.timeout);
            let mut update = Update::default();
            let operation = next.map_or(Operation::Unset, Operation::Set);
            record::change(&mut update, name.clone(), operation);
            let expires = crate::commit::expiry(record.created, now, timeout, config.lifetime);
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
            let applied = if returning {
                let before = store.update_returning(filter, update.clone(), Durability::Data);
                before.await.map(|before| before.is_some())
            } else {
                let updated = store.update(filter, update.clone(), Durability::Data);
                updated.await.map(|updated| updated == Updated::Applied)
            };
            *turn = false;
            if applied? {
                self.committer.stats.commits.count();
                let record = record.after(&update).unwrap_or(record);
                return Ok((record, output));
            }
            let fresh = store.load(record.id.as_str()).await?;
            let fresh = fresh.and_then(Record::parse).ok_or(Error::Gone)?;
            let now = self.committer.clock.now();
            let is_over = fresh.deadline(config.timeout, config.lifetime) < now;
            if is_over || !fresh.token.matches(&record.token) {
                return Err(Error::Gone);
            }
            self.committer.stats.conflicts.count();
            record = fresh;
            turns.wait("changing a session").await?;
        }
    }
}

/// What the request had done to a value before, on its way into an exchange. It goes back when the
/// exchange fails, panics in the application's function, or is dropped.
struct Pending<'s> {
    session: &'s Session,
    change: Option<(Field, Option<Change>)>,
}

impl Pending<'_> {
    fn change(&self) -> Option<&Change> {
        let (_, change) = self.change.as_ref()?;
        change.as_ref()
    }

    /// It is part of what is stored now.
    fn forget(mut self) {
        self.change = None;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some((field, change)) = self.change.take() {
            self.session.lock().state.put_back(field, change);
        }
    }
}
