//! What a handler sees of its session.

use std::fmt;
use std::sync::{Arc, MutexGuard};

use bson::raw::RawBsonRef;
use rocket::tokio::sync::Semaphore;
use serde::de::DeserializeOwned;

use crate::clock::Started;
use crate::commit::{Core, Outcome};
use crate::document::key::Field;
use crate::document::value;
use crate::error::{Error, Operation, Result};
use crate::live::{Followed, Subscriber};
use crate::lock::Mutex;
use crate::record::Client;
use crate::record::token::Token;
use crate::spans::RequestSpan;
use crate::state::plan::CookieLife;
use crate::state::{Loaded, NewReason, State};

mod auth;
mod bearer;
mod commit;
mod csrf;
mod ended;
mod flash;
mod losses;
mod modify;
mod permit;
mod return_to;
mod settle;
mod times;
mod values;

pub(crate) use commit::CookieChange;
pub use flash::Queue;
use losses::{Loss, Losses, Save};

/// The session of the request at hand: a request guard, `&Session`.
///
/// All guards of one request share one session. It is loaded once, with one round trip, when the
/// first guard runs; routes without it never load it. A handler's changes are stored before the
/// response is sent. Only the keys that were changed are written, never the whole document, so that
/// concurrent requests do not overwrite each other's keys. If that fails, the response becomes the
/// application's 503.
///
/// Every call takes `&self`. A call that is not `async` never waits for the database.
///
/// # When the guard fails
///
/// * **503** when the database fails or does not answer in time. It never looks like "logged out".
/// * **403** for a request of another site with an unsafe method (POST and the like; see
///   `trusted_origins`).
/// * **500** when no session fairing is attached. (A launch with such a route mounted is refused.)
///
/// `Result<&Session, Error>` gives the error instead. `Option<&Session>` is `None` after any error, so
/// that the route is served even when the database is down or the request was refused. Do not use it
/// to decide whether a user is signed in.
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

/// The state that the request and the tasks of its writes share. Kept below 1,032 bytes, the limit up
/// to which glibc's allocator serves from a cache of the thread: parts that few requests need are
/// boxed.
struct Shared {
    inner: Mutex<Inner>,
    /// One permit: the writes of a request happen one at a time.
    writes: Semaphore,
    span: RequestSpan,
}

struct Inner {
    state: State,
    /// The cookie that a `save` has produced, to be sent with the response.
    pending_cookie: Option<(Token, CookieLife)>,
    /// Other requests know the session of the pending cookie, and may have replaced its token since.
    must_prove_cookie: bool,
    /// A token was handed out (`issue_token`).
    is_issued: bool,
    /// A catcher may have taken the place of the response with that token.
    issues_no_more: bool,
    losses: Losses,
    /// Subscriptions to the session that this request stores.
    subscribers: Vec<Subscriber>,
    /// The session that the response has stored.
    stored_last: Option<Box<Followed>>,
}

impl Inner {
    /// Before a save's own writes: those that follow lost changes are not made, and nor is the save a
    /// success.
    fn prepare_save(&mut self, save: Save) -> Result<()> {
        let Some(loss) = self.losses.since(save) else {
            return Ok(());
        };
        self.state.discard(); // only the ends of sessions are kept
        let error = loss.error();
        self.lose(Some(save), loss);
        Err(error)
    }

    /// The changes of a save, or of the response, are lost.
    fn lose(&mut self, save: Option<Save>, loss: Loss) {
        if let Some(save) = save {
            self.losses.add(save, loss);
        }
    }

    /// Before the response's own commit.
    fn prepare_last(&mut self) {
        if self.losses.stop_later_changes(self.is_issued) {
            if self.losses.error_of_response(self.is_issued).is_none() {
                settle::log_dropped_changes(&self.state);
            }
            self.state.discard(); // only the ends of sessions are kept
        }
        if self.pending_cookie.is_some() && self.state.resend_with_commit() {
            // The update proves the token again: another request may have replaced it since the save.
            self.pending_cookie = None;
        }
    }

    /// The session has ended or was replaced: the cookie of an earlier save must not be sent.
    fn session_ended(&mut self) {
        self.pending_cookie = None;
        self.state.session_ended();
    }
}

impl Shared {
    /// A panic elsewhere cannot leave the state half changed: of an application's code only its logger
    /// and its wakers run under this lock.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

impl Session {
    pub(crate) fn new(
        core: Arc<Core>,
        loaded: Loaded,
        client: Client,
        started: Started,
        span: RequestSpan,
    ) -> Self {
        let state = State::new(loaded, client, started, core.config.max_bytes);
        if let Some(reason) = state.why_new {
            rocket::debug!("Session: the request has no earlier session: {reason:?}");
        }
        let inner = Inner {
            state,
            pending_cookie: None,
            must_prove_cookie: false,
            is_issued: false,
            issues_no_more: false,
            losses: Losses::default(),
            subscribers: Vec::new(),
            stored_last: None,
        };
        let shared = Shared {
            inner: Mutex::new(inner),
            writes: Semaphore::new(1),
            span,
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
        if inner.state.is_committed {
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

    /// The state for a change, in a call that returns no error: a refusal is logged instead.
    fn open_or_log(&self) -> Option<MutexGuard<'_, Inner>> {
        self.open_to_write().inspect_err(Error::log).ok()
    }

    /// Makes it read-only: it was loaded after the response's commit, and nothing is stored any more.
    pub(crate) fn make_read_only(&self) {
        self.lock().state.is_committed = true;
    }

    // ---- the session itself

    /// Returns the session's public id, which is safe to log and to show: it is not a credential.
    ///
    /// `None` until the session is stored. To have the id before the response, call
    /// [`save`](Session::save). No round trip.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        let inner = self.lock();
        let by_response = inner.stored_last.as_ref().map(|stored| &stored.id);
        inner
            .state
            .public_id()
            .or(by_response)
            .map(ToString::to_string)
    }

    /// Returns whether the session began in this request: the browser brought no usable session, or
    /// the request logged in or out. It stays so until the response, unless a `save` could not store the
    /// login.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.lock().state.is_new
    }

    /// Returns why the request has no earlier session; `None` when it has one.
    ///
    /// Use it to find out why users lose their sessions. The same reason is logged at debug level.
    #[must_use]
    #[doc(alias("troubleshooting", "session lost", "debugging"))]
    pub fn why_new(&self) -> Option<NewReason> {
        self.lock().state.why_new
    }

    /// Stores now what has changed so far, instead of with the response.
    ///
    /// Use it before a stream or a websocket starts, and where the handler has to know whether the
    /// changes are stored before it continues. Later changes are stored with the response. What
    /// `save` stored stays, and its cookie is sent, whatever the response becomes; only if storing
    /// the later changes fails, the 503 carries no cookie. One round trip for a change, and none when
    /// nothing changed. If it gave the browser a new cookie of a session that was stored before (by a
    /// renewal, for example), the response asks once more whether another request has replaced it.
    ///
    /// `Ok` means that everything which the request changed before is stored: a save also fails where an
    /// earlier one that ran at the same time failed, or one whose future was dropped.
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
    /// login included, and so they are where the save fails for an earlier one. They are not where [`Error::Unknown`] says that an earlier write of this request
    /// has not ended: they are stored with the response then, if it has ended before.
    ///
    /// It is [`Error::Unknown`], too, where another request renewed the session meanwhile: values are
    /// stored then, and times or a CSRF token that were set are not.
    ///
    /// # Cancellation
    ///
    /// The write runs in a task of its own and ends even if the future is dropped. If it fails then,
    /// later saves fail, and the response becomes the 503; not if the session had ended (then later
    /// changes are dropped as well), or if only its times or CSRF token were not stored, as with changes that
    /// are stored with the response.
    #[doc(alias("commit", "flush"))]
    pub async fn save(&self) -> Result<()> {
        match self.save_detached().await? {
            Outcome::Gone => Err(Error::Gone),
            Outcome::AppliedInPart => Err(Error::unknown(Operation::ChangeSession, Error::Gone)),
            Outcome::Applied | Outcome::Nothing => Ok(()),
        }
    }
}

/// Rocket ends some requests without its response fairings, as when one of them panics. Changes that
/// were never committed are logged.
impl Drop for Session {
    fn drop(&mut self) {
        let state = &self.lock().state;
        if !state.is_committed && (state.is_pending() || !state.ended.is_empty()) {
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

/// Decodes a value, if there is one. Null counts as no value, unless `T` has a meaning for it.
fn decode<T: DeserializeOwned>(field: &Field, stored: Option<RawBsonRef<'_>>) -> Result<Option<T>> {
    let Some(stored) = stored else {
        return Ok(None);
    };
    match value::decode(stored) {
        Ok(value) => Ok(Some(value)),
        Err(_) if value::is_null(stored) => Ok(None),
        Err(reason) => Err(Error::Decode {
            key: field.display(),
            wanted: std::any::type_name::<T>(),
            found: value::kind(stored),
            reason,
        }),
    }
}

#[cfg(test)]
mod tests;
