//! The application's values.

use bson::RawBson;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Session, decode};
use crate::document::key::{AsKey, Field, KeyFor, KeyOf};
use crate::document::value;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::state::changes::Change;

impl Session {
    /// Reads one value; `None` when the key is not set, or holds a null that is not a `T`.
    ///
    /// The value is a copy: after a change, [`set`](Session::set) it again.
    ///
    /// ```
    /// # use rocket_mongo_session::{Error, Key, Session};
    /// const NAME: Key<String> = Key::new("name");
    ///
    /// fn greeting(session: &Session) -> Result<String, Error> {
    ///     let visits = session.get::<i64>("visits")?.unwrap_or(0); // by name, with the type here
    ///     Ok(match session.get(NAME)? {
    ///         Some(name) => format!("Welcome back, {name}: visit number {visits}."),
    ///         None => "Welcome!".to_owned(),
    ///     })
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Decode`] when the stored value is not a `T`. It is left as it is, and other keys
    /// are not affected.
    pub fn get<T: DeserializeOwned>(&self, key: impl KeyFor<T>) -> Result<Option<T>> {
        let Ok(field) = Field::of_key(key.name()) else {
            return Ok(None);
        };
        self.read(&field)
    }

    pub(super) fn read<T: DeserializeOwned>(&self, field: &Field) -> Result<Option<T>> {
        let stored = self.lock().state.get(field)?;
        // Decoded after the lock is given back: `Deserialize` is the application's code.
        decode(field, stored.as_ref().map(RawBson::as_raw_bson_ref))
    }

    /// Sets one value.
    ///
    /// It is stored with the response, as this key alone. An equal value changes nothing. When two
    /// requests set the same key at the same time, the later one wins; where the new value depends
    /// on the old one, use [`increment`](Session::increment), [`push`](Session::push) or
    /// [`modify`](Session::modify).
    ///
    /// ```
    /// # use rocket_mongo_session::{Error, Key, Session};
    /// const NAME: Key<String> = Key::new("name");
    ///
    /// fn rename(session: &Session, name: &str) -> Result<(), Error> {
    ///     session.set(NAME, name)?; // a `Key<String>` takes a `&str`
    ///     session.set("renamed", &true)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::BadKey`], [`Error::Encode`], [`Error::TooLarge`], [`Error::Sealed`]. Nothing has
    /// changed then.
    #[doc(alias = "insert")]
    pub fn set<V: Serialize + ?Sized>(&self, key: impl KeyOf<V>, value: &V) -> Result<()> {
        let field = Field::of_key(key.name())?;
        let value = self.encode(&field, value)?;
        self.open_to_write()?
            .state
            .change(field, Change::Set(value))
    }

    pub(super) fn encode<V: Serialize + ?Sized>(
        &self,
        field: &Field,
        value: &V,
    ) -> Result<RawBson> {
        value::encode(value, self.core.config.encoding).map_err(|error| error.at(field))
    }

    /// Encodes a new element of a list as the list is encoded, if that is possible.
    pub(super) fn encode_element<V: Serialize + ?Sized>(
        &self,
        field: &Field,
        value: &V,
    ) -> Result<RawBson> {
        let own = self.encode(field, value);
        if matches!(own, Ok(RawBson::Int64(_))) {
            return own; // the same in both encodings, so the list need not be searched
        }
        let encoding = self.lock().state.list_encoding(field);
        match encoding.filter(|encoding| *encoding != self.core.config.encoding) {
            Some(encoding) => value::encode(value, encoding).or(own),
            None => own,
        }
    }

    /// Removes one value; `true` when there was one.
    ///
    /// The removal is stored with the response. Where it comes too late (see [`Error::Sealed`]),
    /// the value stays and the log says so.
    pub fn remove(&self, key: impl AsKey) -> bool {
        let Ok(field) = Field::of_key(key.name()) else {
            return false;
        };
        let Some(mut inner) = self.open_or_log() else {
            return false;
        };
        let existed = inner.state.contains(&field);
        if let Err(error) = inner.state.change(field, Change::Unset) {
            error.log();
        }
        existed
    }

    /// Reads one value and removes it; `None` when the key is not set, or holds a null that is not
    /// a `T`.
    ///
    /// The removal is stored with the response. Two requests at the same time may both take the same
    /// value. For messages of which each is to be taken once, use a [`Queue`](crate::Queue). For the
    /// page to return to after a login, use [`take_return_to`](Session::take_return_to).
    ///
    /// ```
    /// # use rocket_mongo_session::{Error, Key, Session};
    /// /// What the visitor had typed before the login.
    /// const DRAFT: Key<String> = Key::new("draft");
    ///
    /// fn draft(session: &Session) -> Result<String, Error> {
    ///     Ok(session.take(DRAFT)?.unwrap_or_default())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Session::get), and [`Error::Sealed`]. Nothing is removed then.
    pub fn take<T: DeserializeOwned>(&self, key: impl KeyFor<T>) -> Result<Option<T>> {
        let Ok(field) = Field::of_key(key.name()) else {
            return Ok(None);
        };
        loop {
            let (seen, version, is_uncertain) = {
                let state = &self.lock().state;
                (
                    state.get(&field)?,
                    state.version,
                    state.doubts.is_uncertain(&field),
                )
            };
            let Some(seen) = seen else {
                if is_uncertain {
                    self.open_to_write()?.state.change(field, Change::Unset)?;
                }
                return Ok(None);
            };
            let value = decode(&field, Some(seen.as_raw_bson_ref()))?;
            let mut inner = self.open_to_write()?;
            if inner.state.version == version {
                inner.state.change(field, Change::Unset)?;
                return Ok(value);
            }
            // Another task of this request has changed the session meanwhile.
        }
    }

    /// Returns whether the key is set, as this request sees it; to a null as well.
    pub fn contains(&self, key: impl AsKey) -> bool {
        Field::of_key(key.name()).is_ok_and(|field| self.lock().state.contains(&field))
    }

    /// Returns the application's keys, in stored order.
    ///
    /// Flash queues and the CSRF secret are not among them.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let fields = self.lock().state.fields();
        fields
            .iter()
            .filter_map(|field| Field::key(field.as_str()))
            .collect()
    }

    /// Returns how many keys the application has set.
    #[must_use]
    pub fn len(&self) -> usize {
        let fields = self.lock().state.fields();
        let is_key = |field: &&Field| Field::key(field.as_str()).is_some();
        fields.iter().filter(is_key).count()
    }

    /// Returns whether the application has set no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes the application's keys.
    ///
    /// The session keeps its id, its user, its flash queues and its CSRF secret. To forget
    /// everything, [`logout`](Session::logout). Stored with the response.
    pub fn clear(&self) {
        let Some(mut inner) = self.open_or_log() else {
            return;
        };
        inner.state.clear();
    }

    /// Reads one value, and sets it first if it is not set (`setdefault` of Pyramid's ISession).
    ///
    /// Stored with the response. When two requests at the same time find the key missing, each
    /// sets its own value, and the later one wins.
    ///
    /// ```
    /// # use rocket_mongo_session::{Error, Session};
    /// fn theme(session: &Session) -> Result<String, Error> {
    ///     session.get_or_insert("theme", "light".to_owned())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Session::get) and [`set`](Session::set).
    pub fn get_or_insert<T: Serialize + DeserializeOwned>(
        &self,
        key: impl KeyFor<T>,
        value: T,
    ) -> Result<T> {
        let field = Field::of_key(key.name())?;
        if let Some(stored) = self.read(&field)? {
            return Ok(stored); // without an encoding of what is not needed
        }
        let encoded = self.encode(&field, &value)?;
        loop {
            let (seen, version) = {
                let inner = self.lock();
                (inner.state.get(&field)?, inner.state.version)
            };
            let seen = seen.as_ref().map(RawBson::as_raw_bson_ref);
            if let Some(stored) = decode(&field, seen)? {
                return Ok(stored);
            }
            let mut inner = self.open_to_write()?;
            if inner.state.version == version {
                inner.state.change(field, Change::Set(encoded))?;
                return Ok(value);
            }
            // Another task of this request has changed the session meanwhile.
        }
    }

    /// Adds to an integer, and is atomic under concurrent requests.
    ///
    /// The database does the addition when the response is stored, so that no count is lost. A
    /// missing key counts from 0. Returns the sum as this request sees it. Another request at the
    /// same time may have seen the same sum.
    ///
    /// A [`Key`](crate::Key) of any type is taken: that its values are integers is not checked
    /// when you compile.
    ///
    /// ```
    /// # use rocket::get;
    /// use rocket_mongo_session::{Error, Key, Session};
    ///
    /// const VISITS: Key<i64> = Key::new("visits");
    ///
    /// #[get("/")]
    /// fn index(session: &Session) -> Result<String, Error> {
    ///     let visits = session.increment(VISITS, 1)?;
    ///     Ok(format!("visit number {visits}"))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] when the value is not an integer or the sum leaves the range of `i64`;
    /// [`Error::BadKey`], [`Error::TooLarge`], [`Error::Sealed`]. Nothing has changed then.
    #[doc(alias("atomic", "concurrent", "counter"))]
    pub fn increment(&self, key: impl AsKey, by: i64) -> Result<i64> {
        let field = Field::of_key(key.name())?;
        let mut inner = self.open_to_write()?;
        inner.state.change(field.clone(), Change::Add(by))?;
        let sum = inner.state.get(&field)?;
        Ok(sum
            .and_then(|sum| value::integer(sum.as_raw_bson_ref()))
            .unwrap_or(by))
    }

    /// Appends to a list, and is atomic under concurrent requests.
    ///
    /// The database appends when the response is stored. A missing key counts as an empty list.
    /// The list grows until the session's data would exceed `max_bytes`; to keep it short, use
    /// [`modify`](Session::modify).
    ///
    /// A [`Key`](crate::Key) of any type is taken: that the list holds such elements is not checked
    /// when you compile.
    ///
    /// ```
    /// # use rocket_mongo_session::{Error, Key, Session};
    /// const SEEN: Key<Vec<u32>> = Key::new("seen");
    ///
    /// fn show(session: &Session, article: u32) -> Result<Vec<u32>, Error> {
    ///     session.push(SEEN, &article)?;
    ///     Ok(session.get(SEEN)?.unwrap_or_default()) // with this article at its end
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] when the value is not a list; [`Error::BadKey`], [`Error::Encode`],
    /// [`Error::TooLarge`], [`Error::Sealed`]. Nothing has changed then.
    #[doc(alias("atomic", "append"))]
    pub fn push<V: Serialize + ?Sized>(&self, key: impl AsKey, value: &V) -> Result<()> {
        let field = Field::of_key(key.name())?;
        let value = self.encode_element(&field, value)?;
        self.open_to_write()?
            .state
            .change(field, Change::Append(vec![value]))
    }
}
