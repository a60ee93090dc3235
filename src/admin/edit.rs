//! Changes a session from outside of its requests: from a job, or from another user's request.

use std::collections::HashMap;

use bson::RawBson;
use bson::raw::RawBsonRef;
use serde::Serialize;

use super::Sessions;
use crate::config::{Config, Encoding};
use crate::debug::opaque_debug;
use crate::document::key::{AsKey, Field, KeyOf};
use crate::document::value;
use crate::error::{Error, Result};
use crate::record::Record;
use crate::record::token::Id;
use crate::state::changes::{Change, Changes};
use crate::state::plan::ValuesPlan;

/// A change of another session ([`Sessions::edit`]). Nothing is sent before [`apply`](Edit::apply).
#[derive(Clone)]
#[must_use = "it does nothing until `apply` is awaited"]
pub struct Edit {
    sessions: Sessions,
    id: Option<Id>,
    changes: Changes,
    /// The elements that the changes append to lists, in the encoding that is not the configured one:
    /// the encoding of a stored list is known only when it is read.
    other_elements: HashMap<Field, Vec<RawBson>>,
    /// The first change that does not fit what came before; `apply` returns it.
    error: Option<Error>,
}

impl Sessions {
    /// Returns a change of one session of any user, to be made from a job or another request.
    ///
    /// As with the session's own requests, only the named keys are written, concurrent changes of other
    /// keys stay, and a session that has ended is never created again. An edit does not count as use of the
    /// session: it does not keep it alive. No round trip.
    ///
    /// ```
    /// # use rocket_mongo_session::{Error, Sessions};
    /// async fn invoice_is_ready(sessions: &Sessions, id: &str) -> Result<bool, Error> {
    ///     sessions
    ///         .edit(id)
    ///         .set("invoice", "2026-17")?
    ///         .increment("unread", 1)
    ///         .flash("Your invoice is ready.")?
    ///         .apply()
    ///         .await
    /// }
    /// ```
    pub fn edit(&self, id: &str) -> Edit {
        Edit {
            sessions: self.clone(),
            id: Id::parse(id),
            changes: Changes::default(),
            other_elements: HashMap::new(),
            error: None,
        }
    }
}

impl Edit {
    /// Returns the same change of another session.
    pub(super) fn of(mut self, id: Id) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets one value, as [`Session::set`](crate::Session::set) does.
    ///
    /// # Errors
    ///
    /// [`Error::BadKey`], [`Error::Encode`].
    pub fn set<V: Serialize + ?Sized>(self, key: impl KeyOf<V>, value: &V) -> Result<Self> {
        let field = Field::of_key(key.name())?;
        let value = self.encode(&field, value)?;
        Ok(self.with(field, Change::Set(value)))
    }

    /// Removes one value.
    pub fn remove(self, key: impl AsKey) -> Self {
        match Field::of_key(key.name()) {
            Ok(field) => self.with(field, Change::Unset),
            Err(_) => self, // such a key has no value
        }
    }

    /// Adds to an integer, as [`Session::increment`](crate::Session::increment) does. A key that
    /// cannot be one, and a value that is not an integer, are errors of [`apply`](Edit::apply).
    pub fn increment(mut self, key: impl AsKey, by: i64) -> Self {
        match Field::of_key(key.name()) {
            Ok(field) => self.with(field, Change::Add(by)),
            Err(error) => {
                self.error.get_or_insert(error);
                self
            }
        }
    }

    /// Appends to a list, as [`Session::push`](crate::Session::push) does.
    ///
    /// # Errors
    ///
    /// [`Error::BadKey`], [`Error::Encode`].
    pub fn push<V: Serialize + ?Sized>(self, key: impl AsKey, value: &V) -> Result<Self> {
        self.append(Field::of_key(key.name())?, value)
    }

    /// Adds a message to the default flash queue, which the session's next page shows.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`].
    pub fn flash(self, message: impl Serialize) -> Result<Self> {
        self.append(Field::of_queue("")?, &message)
    }

    /// Stores all of the changes or none; `false` when the session has ended, or never existed.
    ///
    /// Two round trips, and two more for each time that another request was faster where the server
    /// cannot add or append by itself (a value of the other encoding, or of the Python package).
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] when an increment meets a value that is not an integer, or a push one that is
    /// not a list; [`Error::TooLarge`] when the session would exceed `max_bytes`; [`Error::BadKey`] of an
    /// increment; [`Error::SealedValues`]; [`Error::Store`]: nothing has changed then. After [`Error::Unknown`] the changes may
    /// have been stored.
    pub async fn apply(self) -> Result<bool> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let core = &self.sessions.core;
        let Some(id) = self.id else {
            return Ok(false); // the id of a tombstone, for instance
        };
        let record = core.load(&id).await?;
        let is_alive = |record: &Record| !record.meta.is_expired(&core.config, core.now());
        let Some(record) = record.filter(is_alive) else {
            return Ok(false);
        };
        if self.changes.is_empty() {
            return Ok(true);
        }
        let sealed = || Error::SealedValues { id: id.to_string() };
        if record.has_data_key() {
            return Err(sealed());
        }
        let record = record.written_plain();
        let changes = encoded_as_stored(self.changes, &self.other_elements, &record, &core.config);
        check(&record, &changes, core.config.max_bytes)?;
        let plan = ValuesPlan::new(record, &changes, core.now());
        if core.change_values(plan).await? {
            return Ok(true);
        }
        // It has ended, or got its data key meanwhile.
        match core.load(&id).await? {
            Some(record) if record.has_data_key() => Err(sealed()),
            _ => Ok(false),
        }
    }

    fn encode<V: Serialize + ?Sized>(&self, field: &Field, value: &V) -> Result<RawBson> {
        let encoding = self.sessions.core.config.encoding;
        value::encode(value, encoding).map_err(|error| error.at(field))
    }

    fn append<V: Serialize + ?Sized>(mut self, field: Field, value: &V) -> Result<Self> {
        let element = self.encode(&field, value)?;
        let other = match self.sessions.core.config.encoding {
            Encoding::Document => Encoding::Binary,
            Encoding::Binary => Encoding::Document,
        };
        let other = value::encode(value, other).unwrap_or_else(|_| element.clone());
        let others = self.other_elements.entry(field.clone()).or_default();
        others.push(other);
        Ok(self.with(field, Change::Append(vec![element])))
    }

    fn with(mut self, field: Field, change: Change) -> Self {
        match self.changes.get_mut(&field) {
            None => self.changes.put(field, change),
            Some(before) => {
                if let Err(mismatch) = before.fold(change) {
                    self.error.get_or_insert_with(|| mismatch.of(&field));
                }
            }
        }
        self
    }
}

/// Returns the changes, with appended elements in the encoding of the stored list, as a request of
/// the session appends them. All other values are encoded as configured.
fn encoded_as_stored(
    mut changes: Changes,
    other_elements: &HashMap<Field, Vec<RawBson>>,
    record: &Record,
    config: &Config,
) -> Changes {
    for (field, elements) in other_elements {
        let encoding = record.stored(field).and_then(value::list_encoding);
        let is_other = encoding.is_some_and(|encoding| encoding != config.encoding);
        // A change that appends does nothing else: an append after a `set` is folded into the `set`.
        if is_other && let Some(Change::Append(all)) = changes.get_mut(field) {
            all.clone_from(elements);
        }
    }
    changes
}

/// Checks that every change fits the stored value, and that the session stays within `max_bytes`
/// unless it shrinks.
fn check(record: &Record, changes: &Changes, max_bytes: usize) -> Result<()> {
    let (mut old, mut new) = (0, 0);
    for (field, change) in changes.iter() {
        let stored = record.stored(field);
        let after = change.apply(stored);
        let after = after.map_err(|mismatch| mismatch.of(field))?;
        let size = |value: RawBsonRef<'_>| value::size(field.as_str(), value);
        old += stored.map_or(0, size);
        new += after.map_or(0, |after| size(after.as_raw_bson_ref()));
    }
    if new > old && record.size().saturating_sub(old) + new > max_bytes {
        return Err(Error::TooLarge { limit: max_bytes });
    }
    Ok(())
}

opaque_debug!(Edit);
