//! The administrative API: lists, counts and revokes sessions.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bson::RawBson;
use serde::Serialize;
use time::OffsetDateTime;

use crate::clock::Moment;
use crate::commit::Core;
use crate::commit::tombstone;
use crate::document::value;
use crate::document::{Document, Filter};
use crate::error::{Error, Result};
use crate::live::{End, Events};
use crate::record::token::Id;
use crate::record::{Meta, Record, alive, field};
use crate::session::Session;
use crate::stats::Stats;

/// All sessions of the application: constructors for the fairing, and the administrator's handle.
///
/// The handle is a request guard, `&Sessions`, and managed state: outside of a request it is
/// `rocket.state::<Sessions>()`. Clones of it are the same handle.
///
/// ```
/// # use rocket::{get, post};
/// use rocket_mongo_session::{Error, Session, Sessions};
///
/// #[get("/admin")]
/// async fn live(sessions: &Sessions) -> Result<String, Error> {
///     Ok(format!("live sessions: {}", sessions.count().await?))
/// }
///
/// #[post("/logout-elsewhere")]
/// async fn elsewhere(session: &Session, sessions: &Sessions) -> Result<String, Error> {
///     let ended = sessions.revoke_others(session).await?;
///     Ok(format!("other devices that were logged out: {ended}"))
/// }
/// ```
///
/// Every call is one round trip unless it says otherwise, and each round trip ends by the configured
/// `deadline`. When a call that ends several sessions fails, some of them may have ended.
#[derive(Clone)]
pub struct Sessions {
    pub(crate) core: Arc<Core>,
}

/// One session as a list shows it. Nothing in it lets anybody in.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// The public session identifier, which [`Sessions::revoke_of`] takes.
    pub id: String,
    /// When the session was created: at its first write, or at the login or elevation that started
    /// it.
    pub created: OffsetDateTime,
    /// The last recorded use of the session.
    pub accessed: OffsetDateTime,
    /// When it will expire if it is not used again; `None` is never.
    pub expires: Option<OffsetDateTime>,
    /// The first 128 characters of what the browser says about itself, its `User-Agent` (with
    /// `record_client`). They are the client's words: escape them before you show them.
    pub client: Option<String>,
    /// The address that the session was created from (with `record_client`). Behind a proxy it is
    /// the proxy's, unless `client_ip_header` and `trusted_proxies` are set.
    pub ip: Option<IpAddr>,
}

impl Sessions {
    /// Returns the number of live sessions.
    ///
    /// The database reads an index entry of every one of them: for a page that an administrator
    /// opens, not for every request.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the database fails.
    pub async fn count(&self) -> Result<u64> {
        let all = alive(Filter::sessions(), self.now());
        self.core.store.count(all).await
    }

    /// Returns the number of live sessions of a user.
    ///
    /// # Errors
    ///
    /// [`Error::BadUser`]; [`Error::Store`] when the database fails.
    pub async fn count_user(&self, user: impl Serialize + Send) -> Result<u64> {
        let theirs = alive(of(&principal(&user)?), self.now());
        self.core.store.count(theirs).await
    }

    /// Returns the live sessions of a user, oldest first: `limit` of them (at most 1000)
    /// after the first `skip`.
    ///
    /// One round trip, and none when `limit` is 0.
    ///
    /// ```
    /// # use rocket::get;
    /// # use rocket_mongo_session::{Error, Session, Sessions};
    /// #[get("/devices")]
    /// async fn devices(session: &Session, sessions: &Sessions) -> Result<String, Error> {
    ///     let Some(user_id) = session.user::<i64>()? else { return Ok(String::new()) };
    ///     let mut lines = String::new();
    ///     for info in sessions.list(user_id, 0, 50).await? {
    ///         lines += &format!("{}: last used {}\n", info.id, info.accessed);
    ///     }
    ///     Ok(lines)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::BadUser`]; [`Error::Store`] when the database fails.
    pub async fn list(
        &self,
        user: impl Serialize + Send,
        skip: u64,
        limit: u32,
    ) -> Result<Vec<SessionInfo>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let theirs = alive(of(&principal(&user)?), self.now());
        let found = self.core.store.find(theirs, skip, limit.min(1000));
        let found = found.await?.into_iter();
        Ok(found.filter_map(|document| self.info(document)).collect())
    }

    fn info(&self, document: Document) -> Option<SessionInfo> {
        // The id of a legacy session may be its credential.
        let meta = Meta::parse(&document).filter(|meta| !meta.id.is_legacy())?;
        let expires = meta.ends_at(&self.core.config);
        Some(SessionInfo {
            id: meta.id.to_string(),
            created: meta.created.date(),
            accessed: meta.accessed.date(),
            expires: (expires < Moment::NEVER).then(|| expires.date()),
            client: meta.client.agent,
            ip: meta.client.ip.and_then(|ip| ip.parse().ok()),
        })
    }

    /// Ends one session of any user; `true` when there was one.
    ///
    /// It is the administrator's call. For an id that comes from a user's request, use
    /// [`revoke_of`](Sessions::revoke_of). One round trip.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] and [`Error::Unknown`] when the database fails.
    pub async fn revoke(&self, id: &str) -> Result<bool> {
        match Id::parse(id) {
            Some(id) => self.revoke_one(&id, Filter::id(id.as_str()), None).await,
            None => Ok(false), // the id of a tombstone, for instance
        }
    }

    /// Ends one session if it is this user's; `true` when there was one.
    ///
    /// One round trip.
    ///
    /// ```
    /// # use rocket::{FromForm, post};
    /// # use rocket_mongo_session::{CsrfForm, Error, Session, Sessions};
    /// #[derive(FromForm)]
    /// struct End<'r> {
    ///     id: &'r str, // from a request: it may be anybody's
    /// }
    ///
    /// #[post("/devices/end", data = "<form>")]
    /// async fn end(
    ///     form: CsrfForm<End<'_>>,
    ///     session: &Session,
    ///     sessions: &Sessions,
    /// ) -> Result<String, Error> {
    ///     let ended = match session.user::<i64>()? {
    ///         Some(user_id) => sessions.revoke_of(user_id, form.id).await?,
    ///         None => false,
    ///     };
    ///     Ok(if ended { "signed out" } else { "it had ended before" }.to_owned())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::BadUser`]; [`Error::Store`] and [`Error::Unknown`] when the database fails.
    pub async fn revoke_of(&self, user: impl Serialize + Send, id: &str) -> Result<bool> {
        let user = principal(&user)?;
        let Some(id) = Id::parse(id) else {
            return Ok(false);
        };
        let theirs = Filter::id(id.as_str()).equals(field::USER, user.clone());
        self.revoke_one(&id, theirs, Some(&user)).await
    }

    async fn revoke_one(&self, id: &Id, filter: Filter, user: Option<&RawBson>) -> Result<bool> {
        let (core, ids) = (&self.core, [id.as_str()]);
        let delete = core.store.delete(filter);
        let ending = core
            .live
            .ending(&ids, End::Revoked, user, delete, |did| *did);
        ending.await
    }

    /// Ends every session of a user, on every device; returns how many there were.
    ///
    /// Logins whose request began before the revocation end, too, also a later one of this very
    /// request; the log names the user of a login that was dropped. On MongoDB that holds for
    /// requests that begin within a second after it, since two clocks are compared. Call it when an
    /// account is closed or a password was reset. To keep the browser that asks, call
    /// [`revoke_others`](Sessions::revoke_others) after its login. Two round trips.
    ///
    /// # Errors
    ///
    /// [`Error::BadUser`]; [`Error::Store`] and [`Error::Unknown`] when the database fails: call it
    /// again then.
    pub async fn revoke_user(&self, user: impl Serialize + Send) -> Result<u64> {
        let user = principal(&user)?;
        self.revoke_matching(tombstone::of_user(&user), of(&user))
            .await
    }

    /// Ends every other session of this session's user; returns how many there were.
    ///
    /// Logins of the user that are in progress elsewhere end, too. A login of this request that is
    /// not stored yet is saved first, with all that is pending. Three round trips, and none when
    /// the session has no user.
    ///
    /// It is the call for a user who changes the password. First make sure that the session is still
    /// alive: a request can be held open for as long as its client likes, and this one may be a
    /// thief's whose session was ended long ago.
    ///
    /// ```
    /// # use rocket_mongo_session::{Error, Session, Sessions};
    /// async fn change_password(session: &Session, sessions: &Sessions) -> Result<u64, Error> {
    ///     session.elevate()?; // a cookie of this browser that was stolen before is dead
    ///     session.save().await?; // `Error::Gone` when the session was ended meanwhile
    ///     // … store the new password here …
    ///     sessions.revoke_others(session).await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] when this session was ended, or its token replaced, since the request began:
    /// nothing else was ended. [`Error::Store`] and [`Error::Unknown`] when the database fails: call
    /// it again then.
    pub async fn revoke_others(&self, session: &Session) -> Result<u64> {
        if session.is_login_pending() {
            session.save().await?;
        }
        let Some((user, id, token)) = session.signed_in() else {
            return Ok(0);
        };
        let stored = self.core.store.load(id.as_str()).await?;
        let stored = stored.and_then(|stored| self.core.read(stored));
        let (config, now) = (&self.core.config, self.core.now());
        let proves =
            |record: &Record| record.token.matches(&token) && !record.meta.is_expired(config, now);
        if !stored.as_ref().is_some_and(proves) {
            return Err(Error::Gone);
        }
        let others = of(&user).except(id.as_str());
        self.revoke_matching(tombstone::of_user(&user), others)
            .await
    }

    /// Ends every session (mass logout); returns how many there were.
    ///
    /// Logins whose request began before the revocation end, too, as with
    /// [`revoke_user`](Sessions::revoke_user). Two round trips.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] and [`Error::Unknown`] when the database fails: call it again then.
    pub async fn revoke_all(&self) -> Result<u64> {
        self.revoke_matching(tombstone::ALL.to_owned(), Filter::sessions())
            .await
    }

    /// Records the revocation, so that logins in progress end, and then deletes what is stored. What
    /// fails after the first step is an unknown outcome.
    async fn revoke_matching(&self, revocation: String, sessions: Filter) -> Result<u64> {
        self.core.store.put_revocation(&revocation).await?;
        let ended = self.core.end_matching(sessions, End::Revoked).await;
        ended.map_err(Error::half_way)
    }

    /// Deletes what has expired, and documents that can never expire because they have no
    /// `expires`; returns how many sessions there were.
    ///
    /// The TTL index does the first by itself, five minutes later. Three round trips, and two where
    /// the configured `timeout` is `false`.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] and [`Error::Unknown`] when the database fails.
    pub async fn purge_expired(&self) -> Result<u64> {
        let now = self.now();
        let expired = |all: Filter| all.before(field::EXPIRES, now);
        let expired_sessions = expired(Filter::sessions());
        let purged = self.core.end_matching(expired_sessions, End::Expired);
        let mut purged = purged.await?;
        // What is left then are tombstones, which are not counted.
        self.core.store.delete_all(expired(Filter::all())).await?;
        if let Some(timeout) = self.core.config.timeout {
            // A legacy document has no date to expire by, and may be alive.
            let old = now.minus(timeout);
            let orphans = Filter::sessions()
                .no_date(field::EXPIRES)
                .older(field::ACCESSED, old);
            purged += self.core.end_matching(orphans, End::Expired).await?;
        }
        Ok(purged)
    }

    /// Creates the indexes, or repairs them.
    ///
    /// The fairing does so by itself in the background, unless `indexes` is `false` because the
    /// application's database user may not. One round trip when they are there, a few for a repair,
    /// and one more at the first call of the process.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the database fails or refuses, [`Error::Unknown`] when it takes longer
    /// than the `deadline`.
    pub async fn ensure_indexes(&self) -> Result<()> {
        self.core.store.ensure_indexes().await
    }

    /// Succeeds when the database answers now: for health checks.
    ///
    /// One round trip, and one more at the first call of the process.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when it does not answer.
    pub async fn ping(&self) -> Result<()> {
        self.core.store.ping().await
    }

    /// What happened in this process since it started, in numbers. No round trip.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let batches = self.core.store.touch_batches();
        self.core.stats.read(batches)
    }

    /// Returns a stream of what happens to sessions from this call on, in every process.
    ///
    /// It is for audit trails and for pages that change by themselves. It reads a change stream, which
    /// needs a replica set or a sharded cluster and the privileges of the role `read`; sessions in
    /// memory have events, too. One change stream serves all streams of the process, and takes one
    /// connection of the pool while there is one.
    ///
    /// The stream lasts through elections, lost connections and restarts of the database. Where events
    /// may have been missed, because 1,024 wait for a slow reader, or the database does not have the
    /// position any more, or the collection was dropped, an [`EventKind::Missed`](crate::EventKind)
    /// comes first: read again what the events are applied to, then. Before MongoDB 6.0 it may begin
    /// with events of the second before the call. It ends when the application shuts down.
    ///
    /// A value or a secret is in no event. Sessions that the Python package created are left out: their
    /// ids can be credentials.
    ///
    /// # Errors
    ///
    /// The stream's only item is [`Error::Store`] on a standalone server, and where the database user
    /// may not read change streams.
    ///
    /// # Examples
    ///
    /// ```
    /// use rocket::futures::StreamExt;
    /// use rocket_mongo_session::{Error, EventKind, Sessions};
    ///
    /// async fn audit(sessions: Sessions) -> Result<(), Error> {
    ///     let mut events = sessions.events();
    ///     while let Some(event) = events.next().await {
    ///         let event = event?;
    ///         if event.kind == EventKind::LoggedIn {
    ///             let user_id: Option<i64> = event.user()?;
    ///             println!("{} session {} of {user_id:?}", event.at, event.id);
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// No round trip: the stream opens when it is read.
    pub fn events(&self) -> Events {
        self.core.live.events()
    }

    fn now(&self) -> Moment {
        self.core.clock.now()
    }
}

fn principal(user: &impl Serialize) -> Result<RawBson> {
    value::encode_principal(user).ok_or(Error::BadUser)
}

fn of(user: &RawBson) -> Filter {
    // Tombstones have no user, so nothing else is needed to leave them out.
    Filter::all().equals(field::USER, user.clone())
}

/// Shows where the sessions are kept, without credentials.
impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("kept", &self.core.store.describe())
            .finish_non_exhaustive()
    }
}
