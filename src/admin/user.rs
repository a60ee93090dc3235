//! The sessions of one user.

use bson::RawBson;
use rocket::futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::{SessionInfo, Sessions, export, of};
use crate::debug::opaque_debug;
use crate::document::{Filter, value};
use crate::error::{Error, Result};
use crate::record::token::Id;
use crate::record::{alive, field};
use crate::store::Order;

/// How many sessions one command lists.
const BATCH: u32 = 1000;
/// How many sessions are changed at a time.
const CONCURRENT_EDITS: usize = 8;

/// The sessions of one user ([`Sessions::of`]): counts, lists, ends, notifies and exports them.
///
/// A user that cannot be encoded is an error of each call, [`Error::BadUser`].
///
/// # Examples
///
/// ```
/// # use rocket::{FromForm, get, post};
/// # use rocket_mongo_session::{CsrfForm, Error, Session, Sessions};
/// #[get("/devices")]
/// async fn devices(session: &Session, sessions: &Sessions) -> Result<String, Error> {
///     let Some(user_id) = session.user::<i64>()? else { return Ok(String::new()) };
///     let mut lines = String::new();
///     for info in sessions.of(user_id).list(0, 50).await? {
///         lines += &format!("{}: last used {}\n", info.id, info.accessed);
///     }
///     Ok(lines)
/// }
///
/// #[derive(FromForm)]
/// struct End<'r> {
///     id: &'r str, // from a request: it may be another user's
/// }
///
/// #[post("/devices/end", data = "<form>")]
/// async fn end(
///     form: CsrfForm<End<'_>>,
///     session: &Session,
///     sessions: &Sessions,
/// ) -> Result<String, Error> {
///     let ended = match session.user::<i64>()? {
///         Some(user_id) => sessions.of(user_id).revoke(form.id).await?,
///         None => false,
///     };
///     Ok(if ended { "signed out" } else { "it had ended before" }.to_owned())
/// }
/// ```
#[derive(Clone)]
#[must_use = "it does nothing until one of its calls is awaited"]
pub struct UserSessions {
    sessions: Sessions,
    user: Option<RawBson>,
}

impl UserSessions {
    pub(super) fn new(sessions: Sessions, user: &impl Serialize) -> Self {
        let user = value::encode_principal(user);
        if let Some(user) = &user {
            sessions.core.principals.warn_if_unused(user);
        }
        UserSessions { sessions, user }
    }

    fn principal(&self) -> Result<&RawBson> {
        self.user.as_ref().ok_or(Error::BadUser)
    }

    async fn alive(&self) -> Result<Filter> {
        let theirs = alive(of(self.principal()?), self.sessions.now());
        Ok(self.sessions.core.epoch.current().await?.restrict(theirs))
    }

    /// Returns how many live sessions the user has. One round trip.
    ///
    /// The database counts by the stored times: sessions that a shorter `timeout` or `lifetime` in the
    /// configuration has ended are counted until the end that was stored before.
    ///
    /// # Errors
    ///
    /// [`Error::BadUser`]; [`Error::Store`] when the database fails.
    pub async fn count(&self) -> Result<u64> {
        self.sessions.core.store.count(self.alive().await?).await
    }

    /// Returns the user's live sessions, newest first: `limit` of them (at most 1000) after the first
    /// `skip`.
    ///
    /// Sessions of the Python package are left out until their next login: their ids are credentials.
    /// `skip` and `limit` count stored sessions. So a page may be short, or empty, although more follow:
    /// sessions that a shorter `timeout` or `lifetime` in the configuration has ended are left out of it.
    /// One round trip, and none when `limit` is 0.
    ///
    /// # Errors
    ///
    /// [`Error::BadUser`]; [`Error::Store`] when the database fails.
    pub async fn list(&self, skip: u64, limit: u32) -> Result<Vec<SessionInfo>> {
        self.principal()?;
        if limit == 0 {
            return Ok(Vec::new());
        }
        let theirs = self.alive().await?;
        let store = &self.sessions.core.store;
        let found = store.find(theirs, Order::NewestFirst, skip, limit.min(BATCH));
        let (found, now) = (found.await?, self.sessions.now().date());
        Ok(found
            .iter()
            .filter_map(|document| self.sessions.live_info(document, now))
            .collect())
    }

    /// Ends one session if it is this user's; `true` when there was one.
    ///
    /// It is the call for an id that comes from a request: another user's session is left alone. One
    /// round trip.
    ///
    /// # Errors
    ///
    /// [`Error::BadUser`]; [`Error::Store`] and [`Error::Unknown`] when the database fails.
    pub async fn revoke(&self, id: &str) -> Result<bool> {
        let user = self.principal()?.clone();
        let Some(id) = Id::parse(id) else {
            return Ok(false);
        };
        let theirs = Filter::id(id.as_str()).equals(field::USER, user.clone());
        self.sessions.revoke_one(&id, theirs, Some(&user)).await
    }

    /// Ends every session of the user, on every device; returns how many there were.
    ///
    /// Logins whose request began before the revocation end, too, also a later one of this very
    /// request; the log names the user of a login that was dropped. On MongoDB a login whose request
    /// begins up to a second after the revocation may end as well, because two clocks are compared.
    /// Call it when an account is closed or a password was reset.
    ///
    /// It ends the session of the request that calls it as well, if that is the user's: changes that
    /// the handler makes in it afterwards are dropped, a flash message included. To show one, call
    /// [`Session::logout`](crate::Session::logout) after this and then
    /// [`Session::flash`](crate::Session::flash), which starts a new session. To sign this browser in
    /// at once, or keep it signed in, call [`revoke_others`](Sessions::revoke_others) after its login
    /// instead. Two round trips.
    ///
    /// ```
    /// # use rocket::{post, response::Redirect};
    /// # use rocket_mongo_session::{CsrfHeader, Error, Session, Sessions};
    /// #[post("/logout-everywhere")]
    /// async fn logout_everywhere(
    ///     _checked: CsrfHeader,
    ///     session: &Session,
    ///     sessions: &Sessions,
    /// ) -> Result<Redirect, Error> {
    ///     if let Some(user_id) = session.user::<i64>()? {
    ///         sessions.of(user_id).revoke_all().await?;
    ///     }
    ///     session.logout()?;
    ///     session.flash("You are signed out on all devices.")?; // in a new session, without a user
    ///     Ok(Redirect::to("/"))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::BadUser`]; [`Error::Store`] and [`Error::Unknown`] when the database fails: call it
    /// again then.
    #[doc(alias("mass logout", "logout everywhere", "erasure"))]
    pub async fn revoke_all(&self) -> Result<u64> {
        let user = self.principal()?;
        self.sessions.core.revoke_of_user(user, of(user)).await
    }

    /// Adds a flash message to the default queue of every live session of the user; returns how many
    /// took it.
    ///
    /// A session without room for the message is left out, with a line in the log. One round trip
    /// for each 1000 sessions, and two for each session.
    ///
    /// # Errors
    ///
    /// [`Error::BadUser`], [`Error::Encode`]; [`Error::SealedValues`] for a sealed session, of which
    /// others may have the message then; [`Error::Store`] and [`Error::Unknown`] when the
    /// database fails: some sessions may have the message then.
    pub async fn flash(&self, message: impl Serialize + Send) -> Result<u64> {
        self.principal()?;
        let edit = self.sessions.edit("").flash(message)?;
        let edits = self.ids().await?.into_iter().map(|id| {
            let edit = edit.clone().of(id);
            async move {
                match edit.apply().await {
                    Ok(is_applied) => Ok(u64::from(is_applied)),
                    Err(error @ (Error::TooLarge { .. } | Error::Mismatch { .. })) => {
                        error.log();
                        Ok(0)
                    }
                    Err(error) => Err(error.partly_done()),
                }
            }
        });
        let edits = stream::iter(edits).buffer_unordered(CONCURRENT_EDITS);
        edits.try_fold(0, async |sum, one| Ok(sum + one)).await
    }

    /// Returns everything that is stored of the user's live sessions, without secrets: what a person
    /// may ask for (GDPR, article 15).
    ///
    /// Each is an object with `id` (`null` for a session of the Python package, whose id is a
    /// credential), `user`, `created`, `accessed`, `expires`, `client`, `ip`, and with `values` and
    /// `flash`, which hold the application's values and messages by name. `return_to` is the address
    /// that [`set_return_to`](crate::Session::set_return_to) stored, or `null`. Times are in RFC 3339.
    /// A value that JSON cannot express is `null`, and so are `values`, `flash` and `return_to` of a
    /// sealed session. One round trip for each 1000 sessions, and one for each session.
    ///
    /// # Errors
    ///
    /// [`Error::BadUser`]; [`Error::Store`] when the database fails.
    #[doc(alias("gdpr", "personal data"))]
    pub async fn export(&self) -> Result<Vec<serde_json::Value>> {
        let core = &self.sessions.core;
        let mut all = Vec::new();
        for id in self.ids().await? {
            // Also one that a shortened setting has ended: it is stored until the end that it had before.
            let record = core.load(&id).await?;
            all.extend(record.map(|record| export::record(&record, &core.config)));
        }
        Ok(all)
    }

    /// The ids of the user's live sessions, by their stored times.
    async fn ids(&self) -> Result<Vec<Id>> {
        let store = &self.sessions.core.store;
        let (theirs, mut ids) = (self.alive().await?, Vec::new());
        let mut rest = theirs.clone();
        loop {
            let found = store.find(rest, Order::Id, 0, BATCH).await?;
            ids.extend(found.iter().filter_map(|one| Id::parse(one.id()?)));
            // Not by `skip`: a session that ends meanwhile would move another out of the next page. Nor
            // after the last of `ids`: a whole page may be documents of another application.
            let last = found.last().and_then(|last| last.id());
            let Some(last) = last.filter(|_| found.len() == BATCH as usize) else {
                return Ok(ids);
            };
            rest = theirs.clone().after_id(last);
        }
    }
}

opaque_debug!(UserSessions);
