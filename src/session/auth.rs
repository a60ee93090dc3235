//! Who the session belongs to: login, elevation, renewal, logout.

use std::time::Duration;

use indexmap::IndexSet;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Inner, Session};
use crate::document::key::Field;
use crate::document::value;
use crate::error::{Error, Result};
use crate::live::End;
use crate::record::token::Secret;
use crate::state::{Base, Creation, TokenChange};

impl Session {
    /// Signs a user in: starts a new session that belongs to the user, with a new id, a new secret, a
    /// new CSRF secret and none of the earlier data (OWASP ASVS 7.2.4).
    ///
    /// The old session's document is deleted before the response is sent; its cookie is refused from
    /// then on. On top of the load it costs three round trips: an insert, a check whether the user's
    /// sessions were revoked meanwhile, and the delete of the old session if there is one.
    ///
    /// The user (also called the principal) is any serde value but null, of at most 8 KiB. Sessions
    /// are found by it ([`Sessions::of`](crate::Sessions::of)), so take a value that identifies a
    /// user and never changes: an id, not a profile. Its type counts, too: after `login(7)`,
    /// `of("7")` finds nothing. All numbers are one type.
    ///
    /// The login stands even if the handler then returns an error, unless `set_on_exception` is
    /// `false` or the response is a 5xx for which the application has no catcher. Before a second
    /// factor is proved, call something else: the guide's part [a second
    /// factor](crate::guide::sign_in#a-second-factor) says what.
    ///
    /// ```
    /// # use rocket::{FromForm, post, response::Redirect};
    /// # use rocket_mongo_session::{CsrfForm, Error, Session};
    /// #[derive(FromForm)]
    /// struct Credentials<'r> {
    ///     name: &'r str,
    ///     password: &'r str,
    /// }
    /// # fn find_user(_: &Credentials<'_>) -> Option<i64> { None }
    ///
    /// #[post("/login", data = "<form>")]
    /// fn login(form: CsrfForm<Credentials<'_>>, session: &Session) -> Result<Redirect, Error> {
    ///     let Some(user_id) = find_user(&form) else {
    ///         session.flash("That name and that password do not match.")?;
    ///         return Ok(Redirect::to("/login"));
    ///     };
    ///     session.login(user_id)?;
    ///     Ok(Redirect::to("/"))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::BadUser`], [`Error::Sealed`], [`Error::OutsidePath`]. Nothing has changed then.
    #[doc(alias("authenticate", "sign in", "session fixation", "cycle_id"))]
    pub fn login(&self, user: impl Serialize) -> Result<()> {
        self.login_with(&user, IndexSet::new())
    }

    /// Signs a user in as [`login`](Session::login) does, and carries the named keys over.
    ///
    /// This includes changes that other requests made to these keys before the old session ended; only
    /// then does it take one more round trip. If another request has renewed the old session meanwhile, the
    /// values are kept as they were loaded. If the login's form is sent twice, the second login keeps
    /// the values that the first one saw when its request began.
    ///
    /// ```
    /// # use rocket_mongo_session::{Error, Session};
    /// fn enter(session: &Session, user_id: i64) -> Result<(), Error> {
    ///     session.login_keeping(user_id, &["basket", "language"])
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`login`](Session::login), and [`Error::BadKey`].
    pub fn login_keeping(&self, user: impl Serialize, keys: &[&str]) -> Result<()> {
        let fields = keys.iter().map(|key| Field::of_key(key));
        let keep = fields.collect::<Result<_>>()?;
        self.login_with(&user, keep)
    }

    fn login_with(&self, user: &impl Serialize, keep: IndexSet<Field>) -> Result<()> {
        let user = value::encode_principal(user).ok_or(Error::BadUser)?;
        self.core.principals.note(&user);
        let mut inner = self.open()?;
        if inner.state.creation == Creation::Never {
            return Err(Error::OutsidePath);
        }
        inner.losses.forget_ends();
        inner.state.login(user, keep);
        Ok(())
    }

    /// Returns the signed-in user, or `None`.
    ///
    /// ```
    /// # use rocket::get;
    /// # use rocket_mongo_session::{Error, Session};
    /// #[get("/me")]
    /// fn me(session: &Session) -> Result<Option<String>, Error> {
    ///     let user_id: Option<i64> = session.user()?;
    ///     Ok(user_id.map(|id| format!("You are number {id}.")))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Decode`] when the user is not a `T`.
    pub fn user<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let user = self.lock().state.user().cloned();
        value::decode_principal(user.as_ref())
    }

    /// Whether the principal logged in, or was elevated, no longer ago than this.
    pub(crate) fn logged_in_within(&self, age: Duration) -> bool {
        let now = self.core.clock.now();
        let inner = self.lock();
        let since = inner.state.created(now);
        // One that lies ahead (by a clock that was wrong) says nothing of how long ago it was.
        let is_ahead = since.since(now) > age;
        inner.state.user().is_some() && !is_ahead && now.since(since) <= age
    }

    /// Gives the session a new secret and a new CSRF secret after a change of privilege within a
    /// login, as when a user becomes an administrator (OWASP ASVS 7.2.4, 7.5.3).
    ///
    /// The session keeps its id, its user and its data. A cookie that was stolen before is
    /// refused from the moment the response is sent, and forms that were rendered before do not pass the CSRF check any more.
    /// Call it after a proof, such as the password: the absolute timeout starts anew, and
    /// [`RecentLogin`](crate::RecentLogin) counts from here. If another request has replaced the
    /// session's token meanwhile, nothing of this request is stored ([`Error::Gone`] from
    /// [`save`](Session::save)). On a session that is not stored it does nothing: a new session has
    /// new secrets anyway. It costs the round trip of a change.
    ///
    /// It is not the place for a second factor: the user would be signed in before giving the factor.
    /// See [a second factor](crate::guide::sign_in#a-second-factor). Keep the
    /// privileges themselves in your database and check them at each request; the session only
    /// says how long ago the user proved who they are.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rocket::get;
    /// # use rocket_mongo_session::{Error, RecentLogin, Session};
    /// # fn is_right(_user_id: i64, _password: &str) -> bool { true }
    /// # fn administers(_user_id: i64) -> bool { true }
    /// /// The administrator's password is asked for again.
    /// fn prove_again(session: &Session, password: &str) -> Result<bool, Error> {
    ///     let Some(user_id) = session.user()? else { return Ok(false) };
    ///     if !is_right(user_id, password) {
    ///         return Ok(false);
    ///     }
    ///     session.elevate()?;
    ///     Ok(true)
    /// }
    ///
    /// #[get("/admin")] // within ten minutes of that
    /// fn admin(session: &Session, _recent: RecentLogin<600>) -> Result<Option<&'static str>, Error> {
    ///     let user_id = session.user::<i64>()?;
    ///     Ok(user_id.filter(|id| administers(*id)).map(|_| "the administrator's page"))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Sealed`].
    #[doc(alias("privileges", "step-up", "regenerate"))]
    pub fn elevate(&self) -> Result<()> {
        let secret = Secret::draw()?;
        let mut inner = self.open_to_write()?;
        if inner.state.stored().is_some() {
            inner.state.settings.csrf = Some(secret);
            inner.state.settings.token = TokenChange::Elevate;
        }
        Ok(())
    }

    /// Forgets everything: deletes the session's document and removes the cookie (OWASP ASVS 7.4.1).
    ///
    /// It takes effect whatever the response is, after an error and a panic as well. Later use in the
    /// same request starts a new session with a new id. One round trip, with the response; also if the
    /// cookie's session is not there any more, because only then is it certain that no failover of the
    /// database brings it back.
    ///
    /// ```
    /// # use rocket::{post, response::Redirect};
    /// # use rocket_mongo_session::{Error, Session};
    /// #[post("/logout")]
    /// fn logout(session: &Session) -> Result<Redirect, Error> {
    ///     session.logout()?;
    ///     session.flash("You are signed out.")?; // in a new session, without a user
    ///     Ok(Redirect::to("/"))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Sealed`].
    #[doc(alias("sign out", "destroy", "flush"))]
    pub fn logout(&self) -> Result<()> {
        let mut inner = self.open()?;
        self.log_out(&mut inner);
        Ok(())
    }

    /// Ends the stored session, or the one that a login of this request was to replace. Whose it was is
    /// remembered for events: the commit knows only its id.
    fn log_out(&self, inner: &mut Inner) {
        let stored = match &inner.state.base {
            Base::Empty => None,
            Base::Login(login) => login.replaces.as_ref().map(|replaces| &replaces.old),
            Base::Stored(stored) => Some(stored),
        };
        if let Some(stored) = stored {
            let meta = &stored.record.meta;
            let (id, user) = (meta.id.as_str(), meta.user.as_ref());
            self.core.live.intend(id, End::LoggedOut, user);
        }
        if matches!(inner.state.base, Base::Login(_)) {
            inner.subscribers.clear(); // the login that they follow is never stored
        }
        inner.losses.forget_ends();
        inner.state.logout();
        inner.pending_cookie = None; // by an earlier save, for the session that ends
    }

    /// Signs the user out as [`logout`](Session::logout) does, and carries the named keys over into a
    /// new session without a user: the user goes, the language stays.
    ///
    /// The new session has a new id, new secrets and the configured times. It gets the values as this
    /// request sees them; where none of the keys is set, none is created. One round trip more than a
    /// logout.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rocket_mongo_session::{Error, Session};
    /// fn leave(session: &Session) -> Result<(), Error> {
    ///     session.logout_keeping(&["language", "theme"])
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::BadKey`], [`Error::Sealed`]: nothing has changed then. [`Error::OutsidePath`]: the
    /// user is signed out, and nothing is kept.
    pub fn logout_keeping(&self, keys: &[&str]) -> Result<()> {
        let fields = keys.iter().map(|key| Field::of_key(key));
        let keep = fields.collect::<Result<_>>()?;
        let mut inner = self.open()?;
        let kept = inner.state.kept(&keep);
        self.log_out(&mut inner);
        if !kept.is_empty() {
            inner.state.check_may_write()?;
            inner.state.set_all(kept);
        }
        Ok(())
    }

    /// Ends the session, as [`logout`](Session::logout) does: its name in Pyramid's ISession.
    ///
    /// # Errors
    ///
    /// [`Error::Sealed`].
    pub fn invalidate(&self) -> Result<()> {
        self.logout()
    }

    /// Gives the session a new secret, and so the browser a new cookie, from time to time.
    ///
    /// Data, id and CSRF secret stay, so that open forms continue to work. The old cookie is refused
    /// before the response with the new one is sent. For more rights, use [`elevate`](Session::elevate). On a
    /// session that is not stored it does nothing: a new session has a new secret. If another request has
    /// replaced the session's token meanwhile, nothing of this request is stored ([`Error::Gone`] from
    /// [`save`](Session::save)). It costs the round trip of a change.
    ///
    /// # Parallel requests
    ///
    /// A request that the same browser sends before it has the new cookie is treated as one without a
    /// session: it sees an empty session, and its writes are dropped. So call it where the browser
    /// sends nothing else: in the response to a form or to a page load, not on a route that scripts
    /// or images ask for, and not in a guard that runs on every route.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rocket::{post, response::Redirect};
    /// # use rocket_mongo_session::{CsrfForm, Error, Key, Session};
    /// const RENEWED: Key<i64> = Key::new("renewed"); // seconds since 1970
    /// # fn now() -> i64 { 1_000_000 }
    ///
    /// #[post("/settings", data = "<_button>")] // a form is sent alone
    /// fn settings(_button: CsrfForm, session: &Session) -> Result<Redirect, Error> {
    ///     if now() - session.get(RENEWED)?.unwrap_or(0) > 86_400 {
    ///         session.set(RENEWED, &now())?;
    ///         session.renew()?;
    ///     }
    ///     Ok(Redirect::to("/settings"))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Sealed`].
    #[doc(alias("rotate", "regenerate", "cycle_key"))]
    pub fn renew(&self) -> Result<()> {
        let mut inner = self.open_to_write()?;
        if inner.state.stored().is_some() {
            let token = &mut inner.state.settings.token;
            *token = (*token).max(TokenChange::Renew);
        }
        Ok(())
    }
}
