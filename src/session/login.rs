//! Who the session belongs to: login, elevation, renewal, logout.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Session, decode};
use crate::error::{Error, Result};
use crate::key::Field;
use crate::state::{Base, Keep};
use crate::value;

impl Session {
    /// Starts a new session that belongs to the principal: a new id, a new secret, a new CSRF
    /// secret, and none of the earlier data (OWASP ASVS 7.2.4). The old session's document is
    /// deleted before the answer leaves; whoever knows its cookie is not let in with it.
    ///
    /// The principal is any serializable value except null, of at most 8 KiB; sessions are found
    /// by it ([`Sessions::list`](crate::Sessions::list)), so let it be what identifies a user and
    /// nothing that changes.
    ///
    /// ```
    /// # use rocket::{post, response::Redirect};
    /// # use rocket_mongo_session::{Error, Session};
    /// # fn check(_: &str) -> Option<i64> { Some(1) }
    /// #[post("/login/<password>")]
    /// fn login(session: &Session, password: &str) -> Result<Redirect, Error> {
    ///     if let Some(user_id) = check(password) {
    ///         session.login(user_id)?;
    ///     }
    ///     Ok(Redirect::to("/"))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::BadUser`], [`Error::Sealed`].
    pub fn login(&self, user: impl Serialize) -> Result<()> {
        self.login_with(&user, Keep::Nothing)
    }

    /// As [`login`](Session::login), carrying the named keys over (a basket), with what other
    /// requests did to them until the old session's end.
    ///
    /// # Errors
    ///
    /// As [`login`](Session::login), and [`Error::BadKey`].
    pub fn login_keeping(&self, user: impl Serialize, keys: &[&str]) -> Result<()> {
        let fields = keys.iter().map(|key| Field::of_key(key));
        let keep = Keep::Fields(fields.collect::<Result<_>>()?);
        self.login_with(&user, keep)
    }

    fn login_with(&self, user: &impl Serialize, keep: Keep) -> Result<()> {
        let user = value::encode_principal(user).ok_or(Error::BadUser)?;
        self.open()?.state.login(Some(user), keep);
        Ok(())
    }

    /// The principal; `None` when nobody is logged in.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`] when the principal is not a `T`.
    pub fn user<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let user = self.lock().state.user().cloned();
        let name = Field::stored("(the principal)");
        user.map(|user| decode(&name, &user)).transpose()
    }

    /// Whether the principal logged in, or was elevated, no longer ago than this.
    pub(crate) fn logged_in_within(&self, age: Duration) -> bool {
        let now = self.committer.clock.now();
        let inner = self.lock();
        let since = match &inner.state.base {
            Base::Stored(stored) => stored.record.created,
            Base::New(_) => now,
        };
        // One that lies ahead (by a clock that was wrong) says nothing of how long ago it was.
        let is_ahead = since.since(now) > age;
        inner.state.user().is_some() && !is_ahead && now.since(since) <= age
    }

    /// For a change of privilege within a login (a second factor, becoming an administrator): a
    /// new session of the same principal with all its data, as
    /// [`login_keeping`](Session::login_keeping) of every key, and its flash messages. Does
    /// nothing on a session that holds nothing. The configured `lifetime` begins anew, so call it
    /// after a proof.
    ///
    /// # Errors
    ///
    /// [`Error::Sealed`].
    pub fn elevate(&self) -> Result<()> {
        let mut inner = self.open()?;
        if inner.state.holds_something() {
            inner.state.login(None, Keep::All);
        }
        Ok(())
    }

    /// Forgets everything and deletes the session's document, whatever the answer becomes; the
    /// answer removes the cookie. Later use in the same request starts a new session with a new
    /// id.
    ///
    /// # Errors
    ///
    /// [`Error::Sealed`].
    pub fn logout(&self) -> Result<()> {
        let mut inner = self.open()?;
        inner.state.logout();
        inner.owed = None; // by an earlier save, for the session that ends
        Ok(())
    }

    /// ISession's name for [`logout`](Session::logout).
    ///
    /// # Errors
    ///
    /// [`Error::Sealed`].
    pub fn invalidate(&self) -> Result<()> {
        self.logout()
    }

    /// Gives the session a new secret: same data, same id, same CSRF secret, so that open forms go
    /// on working. For periodic rotation; for a change of privilege, [`elevate`](Session::elevate).
    /// The old cookie is dead before the answer with the new one leaves.
    ///
    /// # Errors
    ///
    /// [`Error::Sealed`].
    pub fn renew(&self) -> Result<()> {
        let mut inner = self.open()?;
        inner.state.settings.renew = true;
        inner.state.name_itself();
        Ok(())
    }
}
