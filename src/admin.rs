//! The administrative API: counts, finds, changes and ends sessions.

mod edit;
mod export;
mod find;
mod info;
mod user;

use std::fmt;
use std::sync::Arc;

use bson::RawBson;
use serde::Serialize;

use crate::clock::Moment;
use crate::commit::Core;
use crate::document::Filter;
use crate::error::{Error, Result};
use crate::live::{End, Events};
use crate::record::token::Id;
use crate::record::{Record, alive, field};
use crate::session::Session;
use crate::stats::Stats;

pub use edit::Edit;
pub use find::{Page, Query, RevokedPage};
pub use info::SessionInfo;
pub use user::UserSessions;

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
/// `deadline`. Once a second a call first asks whether all sessions have ended
/// ([`revoke_all`](Sessions::revoke_all)), which is one more. On a sharded cluster a call that
/// ends several sessions makes two for each 1000 of them or a part of that, and up to two more. When a
/// call that ends several sessions fails, some of them may have ended.
#[derive(Clone)]
pub struct Sessions {
    pub(crate) core: Arc<Core>,
}

impl Sessions {
    /// Returns the number of live sessions.
    ///
    /// The database reads an index entry for each session: use it on an administrator's page, not in each
    /// request. It counts by the stored times, as [`UserSessions::count`] does. During the background
    /// deletion after a [`revoke_all`](Sessions::revoke_all)
    /// the database reads each live document instead, and sessions of the Python package are left out. A
    /// session that is created or replaced during the count may be missing. Two round trips.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the database fails.
    pub async fn count(&self) -> Result<u64> {
        let (store, now) = (&self.core.store, self.now());
        let epoch = self.core.epoch.current().await?;
        if epoch.is_sweeping {
            let sessions = epoch.restrict(Filter::sessions());
            return store.count(alive(sessions, now)).await;
        }
        // Two ranges of two indexes, where a condition on both reads every document.
        let all = store.count(alive(Filter::all(), now)).await?;
        let others = store.count(alive(Filter::tombstones(), now)).await?;
        Ok(all.saturating_sub(others))
    }

    /// Returns about how many sessions there are, in constant time: from the collection's metadata.
    ///
    /// Expired sessions and the crate's own documents (tombstones and revocations, which are kept
    /// for up to an hour) are counted, too. After an unclean shutdown of the database the number can be off until
    /// its next checkpoint. One round trip.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the database fails.
    pub async fn estimated_count(&self) -> Result<u64> {
        self.core.store.estimated_count().await
    }

    /// Returns the sessions of one user: to count, list, end, notify and export them.
    ///
    /// The user is the value that [`login`](Session::login) was given. Its type counts: the sessions of
    /// `login(7)` are not those of `of("7")`. All numbers are one type. The log warns once where no login
    /// of this process had a user of this type. No round trip.
    pub fn of(&self, user: impl Serialize) -> UserSessions {
        UserSessions::new(self.clone(), &user)
    }

    /// Ends one session of any user; `true` when there was one.
    ///
    /// It is the administrator's call. For an id that comes from a user's request, use
    /// [`of(user).revoke(id)`](UserSessions::revoke). One round trip.
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

    pub(super) async fn revoke_one(
        &self,
        id: &Id,
        filter: Filter,
        user: Option<&RawBson>,
    ) -> Result<bool> {
        let (core, ids) = (&self.core, [id.as_str()]);
        let delete = core.store.delete(filter);
        let ending = core
            .live
            .ending(&ids, End::Revoked, user, delete, |did| Some(*did));
        ending.await
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
        let stored = self.core.load(&id).await?;
        let (config, now) = (&self.core.config, self.core.now());
        let proves =
            |record: &Record| record.token.matches(&token) && !record.meta.is_expired(config, now);
        if !stored.as_ref().is_some_and(proves) {
            return Err(Error::Gone);
        }
        let others = of(&user).except(id.as_str());
        self.core.revoke_of_user(&user, others).await
    }

    /// Ends every session (mass logout), whatever their number; returns how many there were.
    ///
    /// One write ends all of them: when this returns, after two seconds, no process serves one any more,
    /// and a user who signs in from then on stays signed in. The documents are deleted meanwhile and
    /// afterwards, in the background; until then counts and lists leave them out. The number is exact up
    /// to 100,000 documents. Above, it is the collection's estimate
    /// ([`estimated_count`](Sessions::estimated_count)).
    ///
    /// Logins whose request began before the revocation end, too, as with
    /// [`of(user).revoke_all()`](UserSessions::revoke_all). Two round trips, at the first call two more, and
    /// three for each 1000 documents that are deleted until it returns. Sessions in memory end and are
    /// deleted at once.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] and [`Error::Unknown`] when the database fails: call it again then.
    pub async fn revoke_all(&self) -> Result<u64> {
        self.core.revoke_all(&mut |_| {}, false).await
    }

    /// Ends every session, as [`revoke_all`](Sessions::revoke_all) does, and returns when the
    /// documents are deleted: for a process that ends afterwards, as a command-line tool. The number
    /// is exact. `progress` is called after each 1000 documents with the number deleted so far.
    ///
    /// The sessions have ended after two seconds, whatever becomes of the deletion: another process
    /// continues it. The round trips of `revoke_all`.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when nothing has ended; [`Error::Unknown`] when the outcome is unknown, or not
    /// all is deleted: call it again then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rocket_mongo_session::{Error, Sessions};
    /// async fn end_all(sessions: &Sessions) -> Result<(), Error> {
    ///     let ended = sessions.revoke_all_with(|so_far| println!("{so_far} …")).await?;
    ///     println!("{ended} sessions ended");
    ///     Ok(())
    /// }
    /// ```
    pub async fn revoke_all_with(&self, mut progress: impl FnMut(u64) + Send) -> Result<u64> {
        self.core.revoke_all(&mut progress, true).await
    }

    /// Deletes expired sessions, and documents that can never expire because they have no `expires`;
    /// returns how many sessions there were.
    ///
    /// The TTL index does the first by itself, five minutes later. This call goes by the clock of this
    /// machine: with one that is fast it deletes sessions that other servers still accept. Both are found by the index on
    /// `expires`. Three round trips when there is nothing to delete (two where the configured `timeout`
    /// is `false`), and two more for each 1000 documents.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] and [`Error::Unknown`] when the database fails: what was deleted until then
    /// stays so.
    pub async fn purge_expired(&self) -> Result<u64> {
        self.purge_expired_with(|_| {}).await
    }

    /// Deletes expired sessions, as [`purge_expired`](Sessions::purge_expired) does, and calls
    /// `progress` after each 1000 sessions with the number deleted so far.
    ///
    /// # Errors
    ///
    /// Those of [`purge_expired`](Sessions::purge_expired).
    ///
    /// # Examples
    ///
    /// ```
    /// # use rocket_mongo_session::{Error, Sessions};
    /// async fn purge(sessions: &Sessions) -> Result<(), Error> {
    ///     let purged = sessions.purge_expired_with(|so_far| println!("{so_far} …")).await?;
    ///     println!("{purged} sessions deleted");
    ///     Ok(())
    /// }
    /// ```
    pub async fn purge_expired_with(&self, mut progress: impl FnMut(u64) + Send) -> Result<u64> {
        let (core, now) = (&self.core, self.now());
        let expired = |all: Filter| all.before(field::EXPIRES, now);
        let sessions = expired(Filter::sessions());
        let purged = core.end_in_steps(sessions, End::Expired, &mut progress);
        let mut purged = purged.await?;
        // The rest are tombstones, which are not counted.
        let tombstones = expired(Filter::tombstones());
        core.delete_in_steps(&tombstones, &mut |_| {}).await?;
        if let Some(timeout) = core.config.timeout {
            // A legacy document has no date to expire by, and may be alive.
            let old = now.minus(timeout);
            let orphans = Filter::sessions()
                .no_date(field::EXPIRES)
                .older(field::ACCESSED, old);
            let before = purged;
            let mut progress = |so_far| progress(before + so_far);
            let ended = core.end_in_steps(orphans, End::Expired, &mut progress);
            purged += ended.await?;
        }
        Ok(purged)
    }

    /// Returns how many stored sessions have expired: what [`purge_expired`](Sessions::purge_expired)
    /// would delete now.
    ///
    /// Two round trips, and one where the configured `timeout` is `false`.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the database fails.
    pub async fn count_expired(&self) -> Result<u64> {
        let (now, store) = (self.now(), &self.core.store);
        let expired = Filter::sessions().before(field::EXPIRES, now);
        let mut count = store.count(expired).await?;
        if let Some(timeout) = self.core.config.timeout {
            let orphans = Filter::sessions()
                .no_date(field::EXPIRES)
                .older(field::ACCESSED, now.minus(timeout));
            count += store.count(orphans).await?;
        }
        Ok(count)
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

    /// Succeeds when the database replies now. For monitoring; probes use
    /// [`is_ready`](Sessions::is_ready).
    ///
    /// One round trip, and one more at the first call of the process.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when it does not answer.
    pub async fn ping(&self) -> Result<()> {
        self.core.store.ping().await
    }

    /// Returns the counters of this process since it started. No round trip.
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
    /// comes first: then read again the data that the events are applied to. Before MongoDB 6.0 it
    /// may begin with events of the second before the call. It ends when the application shuts down.
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

fn of(user: &RawBson) -> Filter {
    // The collection may hold documents of another application that have a `user`, too. Those whose ids
    // are not strings are left alone.
    Filter::sessions().equals(field::USER, user.clone())
}

/// Shows where the sessions are kept, without credentials.
impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("kept", &self.core.store.describe())
            .finish_non_exhaustive()
    }
}
