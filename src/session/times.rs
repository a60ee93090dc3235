//! The times of a session: what they are, the session's own, and what counts as use.

use std::ops::RangeInclusive;
use std::time::Duration;

use time::OffsetDateTime;

use super::Session;
use crate::clock::Moment;
use crate::config::{MAX_COOKIE_AGE, MAX_TIMEOUT};
use crate::error::{Error, Result};
use crate::record::{Override, OwnTimes};
use crate::state::Base;
use crate::state::TimeChanges;

const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(1)..=MAX_TIMEOUT;
const COOKIE_AGES: RangeInclusive<Duration> = Duration::from_secs(1)..=MAX_COOKIE_AGE;

impl Session {
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
        let accessed = stored.map(|stored| stored.record.meta.times.accessed);
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
            Base::Stored(stored) if !state.sets_times() => stored.record.meta.times.ends_at(config),
            _ => state.expiry(config).expires_at(state.created(now), now),
        };
        (expires < Moment::NEVER).then(|| expires.date())
    }

    /// Marks the session as used and sends its cookie again, even though nothing changed (`changed`
    /// of Pyramid's ISession).
    ///
    /// It is stored with the response, with one more round trip. On a session that is not stored it
    /// does nothing.
    pub fn touch(&self) {
        if let Some(mut inner) = self.open_or_log() {
            inner.state.settings.touch |= inner.state.stored().is_some();
        }
    }

    /// Does not count this request as use of the session: it neither records use nor extends it.
    ///
    /// For requests that the browser sends by itself, such as a poll for news, or that show how long
    /// the session still lasts: without this, a page that is left open keeps its user signed in. The
    /// request's changes are stored anyway. The calls that set times, that renew the cookie, and
    /// [`touch`](Session::touch), still count as use. No round trip, and it saves the one of a touch.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rocket::get;
    /// # use rocket_mongo_session::{Session, time::OffsetDateTime};
    /// /// The seconds until the user is signed out, for a page that polls it.
    /// #[get("/session/remaining")]
    /// fn remaining(session: &Session) -> Option<String> {
    ///     session.skip_touch();
    ///     let left = session.expires()? - OffsetDateTime::now_utc();
    ///     Some(left.whole_seconds().to_string())
    /// }
    /// ```
    #[doc(alias("peek", "polling", "read without extending"))]
    pub fn skip_touch(&self) {
        self.lock().state.skips_touch = true;
    }

    // ---- the session's own times

    /// Returns the idle timeout in force: this session's own, or the configured `timeout`; `None`
    /// when it is disabled. No round trip.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.lock().state.expiry(&self.core.config).idle
    }

    /// Returns the absolute timeout in force: this session's own, or the configured `lifetime`;
    /// `None` when it is disabled. No round trip.
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        self.lock().state.expiry(&self.core.config).absolute
    }

    /// Returns how long the browser keeps the cookie: this session's own time, or the configured
    /// `max_age`; `None` until the browser closes. No round trip.
    #[must_use]
    pub fn max_age(&self) -> Option<Duration> {
        let max_age = self.lock().state.times().max_age;
        max_age.resolve(self.core.config.max_age)
    }

    /// Sets the idle timeout of this session, instead of the configured `timeout`; `None` disables
    /// it.
    ///
    /// The time is kept in the session, to the millisecond, and stored with the response. An equal
    /// time changes nothing. On a session that is not stored yet this creates it. The absolute
    /// timeout still holds. A login starts with the configured times again, so set them after it;
    /// [`reset_times`](Session::reset_times) returns to them. For "remember me" use
    /// [`remember_for`](Session::remember_for).
    ///
    /// # Errors
    ///
    /// [`Error::BadDuration`] for zero and for more than 100 years; [`Error::Sealed`].
    #[doc(alias("idle timeout", "sliding expiration", "ttl"))]
    pub fn set_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        let timeout = own(timeout, TIMEOUTS)?;
        self.set_times(TimeChanges {
            timeout: Some(timeout),
            ..TimeChanges::default()
        })
    }

    /// Sets the absolute timeout of this session, counted from its creation, login or elevation,
    /// instead of the configured `lifetime`; `None` disables it.
    ///
    /// Kept and stored as by [`set_timeout`](Session::set_timeout).
    ///
    /// # Errors
    ///
    /// [`Error::BadDuration`] for zero and for more than 100 years; [`Error::Sealed`].
    #[doc(alias = "absolute timeout")]
    pub fn set_lifetime(&self, lifetime: Option<Duration>) -> Result<()> {
        let lifetime = own(lifetime, TIMEOUTS)?;
        self.set_times(TimeChanges {
            lifetime: Some(lifetime),
            ..TimeChanges::default()
        })
    }

    /// Sets how long the browser keeps the cookie (`Max-Age`), instead of the configured `max_age`;
    /// `None` is until the browser closes.
    ///
    /// The time is kept in the session, and holds whenever the cookie is sent again. The cookie is
    /// sent with this response, in whole seconds, unless the time is equal to the one before.
    ///
    /// # Errors
    ///
    /// [`Error::BadDuration`] for less than a second and for more than 400 days, which is all that
    /// a browser grants (RFC 6265bis, 5.5); [`Error::Sealed`].
    pub fn set_max_age(&self, max_age: Option<Duration>) -> Result<()> {
        let max_age = own(max_age, COOKIE_AGES)?;
        self.set_times(TimeChanges {
            max_age: Some(max_age),
            ..TimeChanges::default()
        })
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
        let own = Some(own(Some(time), COOKIE_AGES)?);
        self.set_times(TimeChanges {
            timeout: own,
            lifetime: own,
            max_age: own,
        })
    }

    /// Returns to the configured times: undoes [`set_timeout`](Session::set_timeout),
    /// [`set_lifetime`](Session::set_lifetime), [`set_max_age`](Session::set_max_age) and
    /// [`remember_for`](Session::remember_for).
    ///
    /// Stored with the response, whose cookie has the configured `max_age`. On a session without
    /// times of its own it does nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rocket_mongo_session::{Error, Session};
    /// /// The user unticks "keep me signed in".
    /// fn forget_me(session: &Session) -> Result<(), Error> {
    ///     session.reset_times()
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Sealed`].
    pub fn reset_times(&self) -> Result<()> {
        self.set_times(OwnTimes::default().map(Some))
    }

    fn set_times(&self, changes: TimeChanges) -> Result<()> {
        self.open_to_write()?.state.set_times(changes);
        Ok(())
    }
}

/// A session's own time, as it is stored: to the millisecond.
fn own(time: Option<Duration>, allowed: RangeInclusive<Duration>) -> Result<Override> {
    let Some(time) = time else {
        return Ok(Override::Set(None));
    };
    if !allowed.contains(&time) {
        return Err(Error::BadDuration);
    }
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Ok(Override::Set(Some(Duration::from_millis(millis))))
}
