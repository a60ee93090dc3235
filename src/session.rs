//! What a handler sees of its session.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::raw::RawBsonRef;
use rocket::tokio;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

use crate::clock::{Moment, Started};
use crate::commit::{Core, Outcome};
use crate::config::{MAX_COOKIE_AGE, MAX_TIMEOUT};
use crate::document::key::Field;
use crate::document::value;
use crate::error::{Error, Result};
use crate::live::{Followed, Subscriber};
use crate::record::token::Token;
use crate::record::{Client, Override};
use crate::state::plan::CookieLife;
use crate::state::{Base, Loaded, NewReason, State};

mod auth;
mod commit;
mod csrf;
mod ended;
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
    shared: Arc<Shared>,
}

/// What the request and the tasks of its writes share.
struct Shared {
    inner: Mutex<Inner>,
    /// Held by a task that commits: commits happen one at a time, in the order of their calls.
    commit_order: tokio::sync::Mutex<()>,
}

struct Inner {
    state: State,
    /// The cookie that a `save` has produced, to be sent with the response.
    pending_cookie: Option<(Token, CookieLife)>,
    /// How many saves were started.
    saves: u64,
    /// The errors of saves that no caller has taken, by their numbers: the response must not be a
    /// success.
    unreported: BTreeMap<u64, Error>,
    /// Subscriptions to the session that this request stores.
    subscribers: Vec<Subscriber>,
    /// The session that the response has stored.
    stored_last: Option<Followed>,
}

impl Inner {
    /// The session has ended or was replaced: the cookie of an earlier save must not be sent.
    fn lost(&mut self) {
        self.pending_cookie = None;
        self.state.lost();
    }
}

impl Shared {
    /// A panic elsewhere cannot leave the state half changed: no code of an application runs under
    /// this lock.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    pub(crate) fn new(core: Arc<Core>, loaded: Loaded, client: Client, started: Started) -> Self {
        let state = State::new(loaded, client, started, core.config.max_bytes);
        if let Some(reason) = state.why_new {
            rocket::debug!("Session: the request has no earlier session: {reason:?}");
        }
        let inner = Inner {
            state,
            pending_cookie: None,
            saves: 0,
            unreported: BTreeMap::new(),
            subscribers: Vec::new(),
            stored_last: None,
        };
        let shared = Shared {
            inner: Mutex::new(inner),
            commit_order: tokio::sync::Mutex::default(),
        };
        Session {
            core,
            shared: Arc::new(shared),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.lock()
    }

    /// The state, unless the response was committed.
    fn open(&self) -> Result<MutexGuard<'_, Inner>> {
        let inner = self.lock();
        if inner.state.sealed {
            return Err(Error::Sealed);
        }
        Ok(inner)
    }

    /// The state for a change of the session.
    fn open_to_write(&self) -> Result<MutexGuard<'_, Inner>> {
        let inner = self.open()?;
        inner.state.check_may_write()?;
        Ok(inner)
    }

    /// The same for calls that return no error: what cannot be kept is logged.
    fn open_or_log(&self) -> Option<MutexGuard<'_, Inner>> {
        self.open_to_write().inspect_err(Error::log).ok()
    }

    // ---- the session itself

    /// Returns the session's public id, which is safe to log and to show: it is no credential.
    ///
    /// `None` until the session is stored. To have the id before the response, call
    /// [`save`](Session::save). No round trip.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        self.lock().state.public_id().map(ToString::to_string)
    }

    /// Returns whether the session began in this request: the browser brought no usable session, or
    /// the request logged in or out. It stays so until the response.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.lock().state.is_new
    }

    /// Returns why the request has no earlier session; `None` when it has one.
    ///
    /// Use it to find out why users lose their sessions. The same reason is logged at debug level.
    #[must_use]
    pub fn why_new(&self) -> Option<NewReason> {
        self.lock().state.why_new
    }

    /// Returns when the session was created: at its first write, or at the last login or elevation.
    #[must_use]
    pub fn created(&self) -> OffsetDateTime {
        self.lock().state.created(self.core.now()).date()
    }

    /// Returns the last recorded use of the session (see `reissue_time`).
    #[must_use]
    pub fn accessed(&self) -> OffsetDateTime {
        let inner = self.lock();
        let stored = inner.state.stored();
        let accessed = stored.map(|stored| stored.record.meta.accessed);
        accessed.unwrap_or(inner.state.started.moment).date()
    }

    /// Returns when the session expires if it is not used again; `None` for never.
    ///
    /// That is the earlier of two times: the last use plus the idle timeout, and the creation plus
    /// the absolute timeout.
    #[must_use]
    pub fn expires(&self) -> Option<OffsetDateTime> {
        let config = &self.core.config;
        let now = self.core.now();
        let inner = self.lock();
        let state = &inner.state;
        let expires = match &state.base {
            Base::Stored(stored) if !state.sets_times() => stored.record.meta.ends_at(config),
            _ => state.expiry(config).expires_at(state.created(now), now),
        };
        (expires < Moment::NEVER).then(|| expires.date())
    }

    /// Sets the idle timeout of this session, instead of the configured `timeout`; `None` disables
    /// it.
    ///
    /// The time is kept in the session, to the millisecond, and stored with the response. On a
    /// session that is not stored yet this creates it. The absolute timeout still holds. A login
    /// starts with the configured times again, so set them after it. For "remember me" use
    /// [`remember_for`](Session::remember_for).
    ///
    /// # Errors
    ///
    /// [`Error::BadDuration`] for zero and for more than 100 years; [`Error::Sealed`].
    pub fn set_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        check_timeout(timeout)?;
        self.open_to_write()?.state.settings.timeout = Override::Set(timeout);
        Ok(())
    }

    /// Sets the absolute timeout of this session, counted from its creation, login or elevation,
    /// instead of the configured `lifetime`; `None` disables it.
    ///
    /// Kept and stored as by [`set_timeout`](Session::set_timeout).
    ///
    /// # Errors
    ///
    /// [`Error::BadDuration`] for zero and for more than 100 years; [`Error::Sealed`].
    pub fn set_lifetime(&self, lifetime: Option<Duration>) -> Result<()> {
        check_timeout(lifetime)?;
        self.open_to_write()?.state.settings.lifetime = Override::Set(lifetime);
        Ok(())
    }

    /// Sets how long the browser keeps the cookie (`Max-Age`), instead of the configured `max_age`;
    /// `None` is until the browser closes.
    ///
    /// The time is kept in the session, and holds whenever the cookie is sent again. The cookie is
    /// sent with this response, in whole seconds.
    ///
    /// # Errors
    ///
    /// [`Error::BadDuration`] for less than a second and for more than 400 days, which is all that
    /// a browser grants (RFC 6265bis, 5.5); [`Error::Sealed`].
    pub fn set_max_age(&self, max_age: Option<Duration>) -> Result<()> {
        check_max_age(max_age)?;
        self.open_to_write()?.state.settings.max_age = Override::Set(max_age);
        Ok(())
    }

    /// Keeps the user signed in for this time, in the database and in the browser: sets the idle
    /// timeout, the absolute timeout and the cookie's `Max-Age` at once ("remember me").
    ///
    /// Call it after [`login`](Session::login), which starts with the configured times.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// # use rocket_mongo_session::{Error, Session};
    ///
    /// fn remember(session: &Session, user_id: i64) -> Result<(), Error> {
    ///     const MONTH: Duration = Duration::from_secs(30 * 86_400);
    ///     session.login(user_id)?;
    ///     session.remember_for(MONTH)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::BadDuration`] for less than a second and for more than 400 days, which is all that
    /// a browser grants (RFC 6265bis, 5.5); [`Error::Sealed`]. Nothing has changed then.
    #[doc(alias = "remember_me")]
    pub fn remember_for(&self, time: Duration) -> Result<()> {
        check_max_age(Some(time))?;
        let mut inner = self.open_to_write()?;
        let settings = &mut inner.state.settings;
        settings.max_age = Override::Set(Some(time));
        settings.timeout = Override::Set(Some(time));
        settings.lifetime = Override::Set(Some(time));
        Ok(())
    }

    /// Marks the session as used and sends its cookie again, even though nothing changed (`changed`
    /// of Pyramid's ISession).
    ///
    /// It is stored with the response, with one more round trip. On a session that is not stored it
    /// does nothing.
    pub fn touch(&self) {
        if let Some(mut inner) = self.open_or_log() {
            inner.state.settings.touch = true;
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
    /// the type of a value that this one counts in or appends to. The changes are dropped then, a
    /// login included.
    ///
    /// # Cancellation
    ///
    /// The write runs in a task of its own and ends even if the future is dropped. If it fails then,
    /// the response becomes the 503.
    pub async fn save(&self) -> Result<()> {
        match self.save_detached().await? {
            Outcome::Gone => Err(Error::Gone),
            Outcome::Applied | Outcome::Nothing => Ok(()),
        }
    }
}

/// Rocket ends some requests without its response fairings, as when one of them panics. What was
/// never committed is logged.
impl Drop for Session {
    fn drop(&mut self) {
        let state = &self.lock().state;
        if !state.sealed && (state.is_pending() || !state.ended.is_empty()) {
            rocket::error!(
                "session {}: uncommitted changes were discarded because the request ended without a \
                 response",
                state.describe(),
            );
        }
    }
}

/// Shows what is public: no token, no value.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        f.debug_struct("Session")
            .field("id", &inner.state.public_id())
            .field("is_new", &inner.state.is_new)
            .finish_non_exhaustive()
    }
}

fn check_max_age(max_age: Option<Duration>) -> Result<()> {
    match max_age {
        Some(life) if life < Duration::from_secs(1) || life > MAX_COOKIE_AGE => {
            Err(Error::BadDuration)
        }
        _ => Ok(()),
    }
}

fn check_timeout(timeout: Option<Duration>) -> Result<()> {
    match timeout {
        Some(timeout) if timeout.as_millis() == 0 || timeout > MAX_TIMEOUT => {
            Err(Error::BadDuration)
        }
        _ => Ok(()),
    }
}

fn decode<T: DeserializeOwned>(field: &Field, stored: RawBsonRef<'_>) -> Result<T> {
    value::decode(stored).ok_or_else(|| Error::Decode {
        key: field.display(),
        wanted: std::any::type_name::<T>(),
        found: value::kind(stored),
    })
}

#[cfg(test)]
mod tests;
