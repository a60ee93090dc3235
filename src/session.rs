//! What a handler sees of its session.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::RawBson;
use rocket::tokio;
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

use crate::changes::Change;
use crate::clock::Moment;
use crate::commit::run::{Committer, Done, Outcome};
use crate::commit::{CookieLife, Decision};
use crate::error::{Error, Result};
use crate::key::{AsKey, Field, KeyFor, KeyOf};
use crate::record::Record;
use crate::state::{Arrival, Base, State, Stored};
use crate::token::Token;
use crate::{deadline, record, value};

mod answer;
mod csrf;
mod exchange;
mod flash;
mod login;

pub(crate) use answer::CookieChange;
pub use flash::Queue;

/// The session of the request at hand: a request guard, `&Session`.
///
/// All guards of one request share one session. It is loaded with one round trip when the first of
/// them asks for it, and not at all on a route that asks for none. What a handler changes is stored
/// with the response, before the response leaves. Only the keys that were changed are written, never
/// the whole document, so that requests which run at the same time do not undo each other. If that
/// fails, the response becomes the application's 503.
///
/// Every call takes `&self`. A call that is not `async` never waits for the database.
///
/// # When the guard fails
///
/// * **503** when the database fails or does not answer in time. It never looks like "logged out".
/// * **403** for a request of another site with a method that changes things (see
///   `trusted_origins`).
/// * **500** when no session fairing is attached. (A launch with such a route mounted is refused.)
///
/// `Result<&Session, Error>` gives the error instead. `Option<&Session>` is Rocket's own way to say
/// "serve this even when the database is down or the request refused". Do not use it to tell who is
/// signed in from who is not.
///
/// # Example
///
/// ```
/// # use rocket::{get, post};
/// use rocket_mongo_session::{Error, Key, Session};
///
/// const NAME: Key<String> = Key::new("name");
///
/// #[post("/name/<name>")]
/// fn set(session: &Session, name: &str) -> Result<(), Error> {
///     session.set(NAME, name)
/// }
///
/// #[get("/name")]
/// fn name(session: &Session) -> Result<Option<String>, Error> {
///     session.get(NAME)
/// }
/// ```
pub struct Session {
    committer: Arc<Committer>,
    inner: Mutex<Inner>,
    /// One commit, `modify` or pop of a session at a time, in the order of their calls. Whether a
    /// write is under way: who takes a turn and finds one comes after a caller that dropped its
    /// write half-way, and nobody knows what became of that.
    turn: tokio::sync::Mutex<bool>,
}

struct Inner {
    state: State,
    /// A cookie that an earlier `save` owes the browser.
    owed: Option<(Token, CookieLife)>,
}

impl Inner {
    /// What is stored after a write of single values.
    fn stored_is(&mut self, record: &Record) {
        if let Base::Stored(stored) = &self.state.base {
            let (record, token) = (record.clone(), stored.token.clone());
            self.state
                .written(Base::Stored(Box::new(Stored { record, token })));
        }
    }

    /// The session has ended, or the browser has another one by now: neither is the cookie that an
    /// earlier save owes it to be sent any more.
    fn lost(&mut self) {
        self.owed = None;
        self.state.lost();
    }
}

impl Session {
    pub(crate) fn new(
        committer: Arc<Committer>,
        arrival: Arrival,
        client: record::Client,
        started: Moment,
    ) -> Self {
        let mut state = State::new(arrival, started, committer.config.max_bytes);
        state.client = client;
        Session {
            committer,
            inner: Mutex::new(Inner { state, owed: None }),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Waits for its turn to write, for as long as one operation may take: a write that somebody
    /// put aside half-way keeps its turn for ever.
    async fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, bool>> {
        if let Ok(turn) = self.turn.try_lock() {
            return Ok(turn);
        }
        let patience = self.committer.store.deadline();
        let turn = tokio::time::timeout(patience, self.turn.lock()).await;
        turn.map_err(|_| Error::left())
    }

    /// Carries a decision out. Whoever waits for it may go; it is not left half done.
    async fn carry_out(&self, decision: Decision, goes_on: bool) -> Result<Done> {
        let committer = Arc::clone(&self.committer);
        deadline::to_its_end(async move { committer.run(decision, goes_on).await }).await
    }

    /// A panic elsewhere cannot leave the state half changed: no code of an application runs under
    /// this lock.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, Inner>> {
        let inner = self.lock();
        if inner.state.sealed {
            return Err(Error::Sealed);
        }
        Ok(inner)
    }

    /// For calls that return no error: what cannot be kept is at least said.
    fn open_or_log(&self) -> Option<MutexGuard<'_, Inner>> {
        self.open().inspect_err(Error::log).ok()
    }

    // ---- values

    /// Reads one value; `None` when the key is not set.
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

    fn read<T: DeserializeOwned>(&self, field: &Field) -> Result<Option<T>> {
        let stored = self.lock().state.get(field);
        // Decoded after the lock is given back: `Deserialize` is the application's code.
        stored.map(|stored| decode(field, &stored)).transpose()
    }

    /// Sets one value.
    ///
    /// It is stored with the response, as this key alone. An equal value is no change. When two
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
    pub fn set<V: Serialize + ?Sized>(&self, key: impl KeyOf<V>, value: &V) -> Result<()> {
        let field = Field::of_key(key.name())?;
        let value = self.encode(&field, value)?;
        self.open()?.state.change(field, Change::Set(value))
    }

    fn encode<V: Serialize + ?Sized>(&self, field: &Field, value: &V) -> Result<RawBson> {
        value::encode(value, self.committer.config.encoding).map_err(|reason| Error::Encode {
            key: field.display(),
            reason,
        })
    }

    /// Encodes what is appended to a list as the list is encoded, if it can be.
    fn encode_element<V: Serialize + ?Sized>(&self, field: &Field, value: &V) -> Result<RawBson> {
        let encoding = self.lock().state.list_encoding(field);
        match encoding.map(|encoding| value::encode(value, encoding)) {
            Some(Ok(encoded)) => Ok(encoded),
            _ => self.encode(field, value),
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

    /// Reads one value and removes it; `None` when the key is not set.
    ///
    /// The removal is stored with the response. Two requests at the same time may both take the same
    /// value. For messages of which each is to be taken once, use a [`Queue`].
    ///
    /// ```
    /// # use rocket_mongo_session::{Error, Key, Session};
    /// # use rocket::response::Redirect;
    /// /// The page that asked for a login.
    /// const RETURN_TO: Key<String> = Key::new("return_to");
    ///
    /// fn after_login(session: &Session) -> Result<Redirect, Error> {
    ///     Ok(Redirect::to(session.take(RETURN_TO)?.unwrap_or_else(|| "/".to_owned())))
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
            let seen = self.lock().state.get(&field);
            let value = seen.as_ref().map(|seen| decode(&field, seen)).transpose()?;
            let mut inner = self.open()?;
            if inner.state.get(&field) == seen {
                inner.state.change(field, Change::Unset)?;
                return Ok(value);
            }
            // Another task of this request was faster.
        }
    }

    /// Whether the key is set, as this request sees it.
    pub fn contains(&self, key: impl AsKey) -> bool {
        Field::of_key(key.name()).is_ok_and(|field| self.lock().state.contains(&field))
    }

    /// The application's keys, in stored order.
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

    /// How many keys the application has set.
    #[must_use]
    pub fn len(&self) -> usize {
        let fields = self.lock().state.fields();
        let is_key = |field: &&Field| Field::key(field.as_str()).is_some();
        fields.iter().filter(is_key).count()
    }

    /// Whether the application has set no key.
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
        loop {
            if let Some(stored) = self.read(&field)? {
                return Ok(stored);
            }
            let encoded = self.encode(&field, &value)?;
            let mut inner = self.open()?;
            if !inner.state.contains(&field) {
                inner.state.change(field, Change::Set(encoded))?;
                return Ok(value);
            }
            // Another task of this request was faster.
        }
    }

    /// Adds to an integer, and counts right when requests run at the same time.
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
    /// [`Error::Mismatch`] when the value is no integer or the sum leaves the range of `i64`;
    /// [`Error::BadKey`], [`Error::TooLarge`], [`Error::Sealed`]. Nothing has changed then.
    pub fn increment(&self, key: impl AsKey, by: i64) -> Result<i64> {
        let field = Field::of_key(key.name())?;
        let mut inner = self.open()?;
        inner.state.change(field.clone(), Change::Add(by))?;
        let sum = inner.state.get(&field);
        Ok(sum
            .and_then(|sum| value::integer(sum.as_raw_bson_ref()))
            .unwrap_or(by))
    }

    /// Appends to a list, and loses nothing when requests run at the same time.
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
    /// [`Error::Mismatch`] when the value is no list; [`Error::BadKey`], [`Error::Encode`],
    /// [`Error::TooLarge`], [`Error::Sealed`]. Nothing has changed then.
    pub fn push<V: Serialize + ?Sized>(&self, key: impl AsKey, value: &V) -> Result<()> {
        let field = Field::of_key(key.name())?;
        let value = self.encode_element(&field, value)?;
        self.open()?
            .state
            .change(field, Change::Append(vec![value]))
    }

    // ---- the session itself

    /// The session's public id, which is safe to log and to show: it lets nobody in.
    ///
    /// `None` while the session is not stored and nothing was written to it.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        self.lock().state.id().map(ToString::to_string)
    }

    /// Whether the session began in this request.
    ///
    /// So it is when the browser brought no session that can be used, and after a login, an
    /// elevation or a logout. It stays so until the response.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.lock().state.is_new
    }

    /// When the session was created: at its first write, or at the login or elevation that started
    /// it.
    #[must_use]
    pub fn created(&self) -> OffsetDateTime {
        let inner = self.lock();
        let created = match &inner.state.base {
            Base::Stored(stored) => stored.record.created,
            Base::New(new) => new.ancestor().map_or(inner.state.started, |a| a.created),
        };
        created.date()
    }

    /// When it was last noted that the session was used (see `reissue_time`).
    #[must_use]
    pub fn accessed(&self) -> OffsetDateTime {
        let inner = self.lock();
        let accessed = match &inner.state.base {
            Base::Stored(stored) => stored.record.accessed,
            Base::New(new) => new.ancestor().map_or(inner.state.started, |a| a.accessed),
        };
        accessed.date()
    }

    /// When the session will expire if it is not used again; `None` is never.
    ///
    /// That is the earlier of two times: the last use and `timeout`, the creation and `lifetime`.
    #[must_use]
    pub fn expires(&self) -> Option<OffsetDateTime> {
        let config = &self.committer.config;
        let inner = self.lock();
        let state = &inner.state;
        let fresh = |created: Moment| {
            let timeout = state.timeout(config.timeout);
            let now = self.committer.clock.now();
            crate::commit::expiry(created, now, timeout, config.lifetime)
        };
        let expires = match &state.base {
            Base::Stored(stored) if state.own_timeout().is_none() => {
                stored.record.deadline(config.timeout, config.lifetime)
            }
            Base::Stored(stored) => fresh(stored.record.created),
            Base::New(new) => match new.ancestor() {
                Some(ancestor) if !state.is_wanted() => {
                    ancestor.deadline(config.timeout, config.lifetime)
                }
                Some(ancestor) => fresh(ancestor.created),
                None => fresh(state.started),
            },
        };
        (expires < Moment::NEVER).then(|| expires.date())
    }

    /// Sets how long this session lives without being used, instead of the configured `timeout`;
    /// `None` is for ever.
    ///
    /// The time is kept in the session, to the millisecond, and stored with the response. On a
    /// session that is not stored yet this creates it. The configured `lifetime` still holds. A
    /// login starts with the configured times again, so set them after it.
    ///
    /// "Remember me" sets this time in the database, and [`set_max_age`](Session::set_max_age) in
    /// the browser:
    ///
    /// ```
    /// use std::time::Duration;
    /// # use rocket_mongo_session::{Error, Session};
    ///
    /// fn remember(session: &Session, user_id: i64) -> Result<(), Error> {
    ///     const MONTH: Duration = Duration::from_secs(30 * 86_400);
    ///     session.login(user_id)?;
    ///     session.set_timeout(Some(MONTH))?;
    ///     session.set_max_age(Some(MONTH))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::BadDuration`] for zero and for more than 100 years; [`Error::Sealed`].
    pub fn set_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);
        if timeout.is_some_and(|timeout| timeout.as_millis() == 0 || timeout > LONGEST) {
            return Err(Error::BadDuration);
        }
        let mut inner = self.open()?;
        inner.state.settings.timeout = Some(timeout);
        inner.state.name_itself();
        Ok(())
    }

    /// Sets how long the browser keeps the cookie, instead of the configured `max_age`; `None` is
    /// until the browser closes.
    ///
    /// The time is kept in the session, and holds whenever the cookie is sent again. The cookie is
    /// sent with this response, in whole seconds. Combine it with
    /// [`set_timeout`](Session::set_timeout), where the example is: the session ends with the
    /// earlier of the two.
    ///
    /// # Errors
    ///
    /// [`Error::BadDuration`] for less than a second and for more than 400 days, which is all that
    /// a browser grants (RFC 6265bis, 5.5); [`Error::Sealed`].
    pub fn set_max_age(&self, max_age: Option<Duration>) -> Result<()> {
        const LONGEST: Duration = Duration::from_secs(400 * 86_400);
        if max_age.is_some_and(|life| life < Duration::from_secs(1) || life > LONGEST) {
            return Err(Error::BadDuration);
        }
        let mut inner = self.open()?;
        inner.state.settings.max_age = Some(max_age);
        inner.state.name_itself();
        Ok(())
    }

    /// Notes that the session was used and sends its cookie again, even though nothing changed
    /// (`changed` of Pyramid's ISession).
    ///
    /// It is stored with the response, with one more round trip. On a session that holds nothing it
    /// does nothing.
    pub fn touch(&self) {
        if let Some(mut inner) = self.open_or_log() {
            inner.state.settings.touch = true;
            inner.state.name_itself();
        }
    }

    /// Stores now what has changed so far, instead of with the response.
    ///
    /// Use it before a stream or a websocket starts, and where the handler has to know whether the
    /// changes are stored before it goes on. What changes later is stored with the response. What
    /// `save` stored stays, and its cookie is sent, whatever the response becomes; only if storing
    /// the later changes fails, the 503 carries no cookie. One round trip for a change, and none
    /// when nothing changed.
    ///
    /// ```
    /// # use rocket_mongo_session::{Error, Session};
    /// # async fn charge(_cents: u32) {}
    /// async fn pay(session: &Session, cents: u32) -> Result<(), Error> {
    ///     session.set("paying", &cents)?;
    ///     session.save().await?; // if this fails, nothing is charged
    ///     charge(cents).await;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] when the session ended while the request ran, [`Error::Store`] and
    /// [`Error::Unknown`] when the database failed, [`Error::Mismatch`] when another request changed
    /// the type of a value that this one counts in or appends to. The changes are dropped then.
    pub async fn save(&self) -> Result<()> {
        match self.commit(false).await? {
            Outcome::Gone => Err(Error::Gone),
            Outcome::Applied | Outcome::Nothing => Ok(()),
        }
    }
}

/// What was done and never came to its commit is at least said: Rocket answers some requests without
/// its response fairings, as one whose own fairing panics.
impl Drop for Session {
    fn drop(&mut self) {
        let state = &self.lock().state;
        if !state.sealed && (state.is_pending() || !state.ended.is_empty()) {
            rocket::error!(
                "Session: a request's changes were dropped, because it was not answered."
            );
        }
    }
}

/// Shows what is public: no token, no value.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        f.debug_struct("Session")
            .field("id", &inner.state.id())
            .field("is_new", &inner.state.is_new)
            .finish_non_exhaustive()
    }
}

fn decode<T: DeserializeOwned>(field: &Field, stored: &RawBson) -> Result<T> {
    let stored = stored.as_raw_bson_ref();
    value::decode(stored).ok_or_else(|| Error::Decode {
        key: field.display(),
        wanted: std::any::type_name::<T>(),
        found: value::kind(stored),
    })
}

#[cfg(test)]
mod tests;
