//! What a handler sees of its session.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::RawBson;
use rocket::tokio;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

use crate::clock::Moment;
use crate::commit::{Core, Done, Outcome};
use crate::config::{MAX_COOKIE_AGE, MAX_TIMEOUT};
use crate::document::key::Field;
use crate::document::value;
use crate::error::{Error, Result};
use crate::record::Record;
use crate::record::token::Token;
use crate::state::plan::{CookieLife, Decision};
use crate::state::{Base, LoadOutcome, State, Stored};
use crate::{detach, record};

mod auth;
mod commit;
mod csrf;
mod flash;
mod modify;
mod values;

pub(crate) use commit::CookieChange;
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
    core: Arc<Core>,
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
        core: Arc<Core>,
        arrival: LoadOutcome,
        client: record::Client,
        started: Moment,
    ) -> Self {
        let mut state = State::new(arrival, started, core.config.max_bytes);
        state.client = client;
        Session {
            core,
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
        let patience = self.core.store.deadline();
        let turn = tokio::time::timeout(patience, self.turn.lock()).await;
        turn.map_err(|_| Error::left())
    }

    /// Carries a decision out. Whoever waits for it may go; it is not left half done.
    async fn carry_out(&self, decision: Decision, goes_on: bool) -> Result<Done> {
        let core = Arc::clone(&self.core);
        detach::to_its_end(async move { core.run(decision, goes_on).await }).await
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
        let config = &self.core.config;
        let inner = self.lock();
        let state = &inner.state;
        let fresh = |created: Moment| {
            let timeout = state.timeout(config.timeout);
            let now = self.core.clock.now();
            crate::state::plan::expiry(created, now, timeout, config.lifetime)
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
        if timeout.is_some_and(|timeout| timeout.as_millis() == 0 || timeout > MAX_TIMEOUT) {
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
        if max_age.is_some_and(|life| life < Duration::from_secs(1) || life > MAX_COOKIE_AGE) {
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
