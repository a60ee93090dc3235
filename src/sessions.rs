//! What an administrator sees: the sessions of an application, all of them.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bson::RawBson;
use rocket::tokio::sync::Notify;
use serde::Serialize;
use time::OffsetDateTime;

use crate::clock::Moment;
use crate::commit::run::Committer;
use crate::document::{Document, Filter};
use crate::error::{Error, Result, cause};
use crate::record::{Summary, alive, field, marker};
use crate::session::Session;
use crate::stats::Stats;
use crate::store::{Created, Durability};
use crate::token::Id;
use crate::value;

/// How long the marker of a revocation is kept: longer than any request takes.
const REVOCATION: std::time::Duration = std::time::Duration::from_secs(3600);

/// All sessions of the application: constructors for the fairing, and the administrator's handle.
///
/// The handle is managed state and a request guard, `&Sessions`; clones of it are the same handle.
///
/// ```
/// # use rocket::{get, post};
/// use rocket_mongo_session::{Error, Session, Sessions};
///
/// #[get("/admin")]
/// async fn live(sessions: &Sessions) -> Result<String, Error> {
///     Ok(format!("{} sessions", sessions.count().await?))
/// }
///
/// #[post("/logout-elsewhere")]
/// async fn elsewhere(session: &Session, sessions: &Sessions) -> Result<String, Error> {
///     let ended = sessions.revoke_others(session).await?;
///     Ok(format!("{ended} other devices were logged out"))
/// }
/// ```
///
/// Every call is one round trip unless it says otherwise, ends by the configured `deadline`, and
/// fails with [`Error::Store`] or [`Error::Unknown`].
#[derive(Clone)]
pub struct Sessions {
    pub(crate) committer: Arc<Committer>,
    /// Somebody noticed what a dropped collection looks like.
    pub(crate) look_after: Arc<Notify>,
}

/// One session as a list shows it. It holds no credential.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// The public session identifier, which [`Sessions::revoke_of`] takes.
    pub id: String,
    /// When the session was created: at its first write, or at the login that started it.
    pub created: OffsetDateTime,
    /// When its use was last written.
    pub accessed: OffsetDateTime,
    /// When it will expire if it is not used again; `None` is never.
    pub expires: Option<OffsetDateTime>,
    /// The browser's own words about itself, cut short (with `record_client`).
    pub client: Option<String>,
    /// The peer's address at the session's creation (with `record_client`); a proxy's, where one
    /// stands in front.
    pub ip: Option<IpAddr>,
}

impl Sessions {
    /// How many sessions are alive. Reads every one of them in the database: for a page that an
    /// administrator opens, not for every request.
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub async fn count(&self) -> Result<u64> {
        let all = alive(Filter::sessions(), self.now());
        self.committer.store.count(all).await
    }

    /// How many sessions of a user are alive.
    ///
    /// # Errors
    ///
    /// [`Error::BadUser`], or when the store cannot be asked.
    pub async fn count_user(&self, user: impl Serialize + Send) -> Result<u64> {
        let theirs = alive(of(&principal(&user)?), self.now());
        self.committer.store.count(theirs).await
    }

    /// The sessions of a user that are alive, the oldest first: `limit` of them (at most 1000)
    /// after the first `skip`.
    ///
    /// # Errors
    ///
    /// [`Error::BadUser`], or when the store cannot be asked.
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
        let found = self.committer.store.find(theirs, skip, limit.min(1000));
        let found = found.await?.into_iter();
        Ok(found.filter_map(|document| self.info(document)).collect())
    }

    fn info(&self, document: Document) -> Option<SessionInfo> {
        let summary = Summary::parse(&document)?;
        let config = &self.committer.config;
        let expires = summary.deadline(config.timeout, config.lifetime);
        Some(SessionInfo {
            id: summary.id.to_string(),
            created: summary.created.date(),
            accessed: summary.accessed.date(),
            expires: (expires < Moment::NEVER).then(|| expires.date()),
            client: summary.client.agent,
            ip: summary.client.ip.and_then(|ip| ip.parse().ok()),
        })
    }

    /// Ends one session, whosever it is: the administrator's call. For an id that comes from a
    /// user's request, [`revoke_of`](Sessions::revoke_of). Whether there was one.
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub async fn revoke(&self, id: &str) -> Result<bool> {
        let Some(id) = Id::parse(id) else {
            return Ok(false); // nothing of ours has that name, a marker included
        };
        self.committer.end(id, |id| Filter::id(id.as_str())).await
    }

    /// Ends one session if it is this user's. Whether there was one.
    ///
    /// # Errors
    ///
    /// [`Error::BadUser`], or when the store cannot be asked.
    pub async fn revoke_of(&self, user: impl Serialize + Send, id: &str) -> Result<bool> {
        let user = principal(&user)?;
        let Some(id) = Id::parse(id) else {
            return Ok(false);
        };
        let theirs = |id: &Id| Filter::id(id.as_str()).equals(field::USER, user.clone());
        self.committer.end(id, theirs).await
    }

    /// Ends every session of a user, on every device, and logins that are under way, a later one of
    /// this very request included; how many there were. Call it when an account is closed or a
    /// password was reset; to keep the browser that asks, call
    /// [`revoke_others`](Sessions::revoke_others) after its login. A few round trips.
    ///
    /// # Errors
    ///
    /// [`Error::BadUser`], or when the store cannot be asked: call it again then.
    pub async fn revoke_user(&self, user: impl Serialize + Send) -> Result<u64> {
        let user = principal(&user)?;
        self.mark(&marker::of_user(&user)).await?;
        self.delete_until_none(&of(&user)).await
    }

    /// Ends every session of the principal of this one, except this one, and logins that are under
    /// way elsewhere; how many there were. Nothing when nobody is logged in. The call for a user who
    /// changes the password: what this request did to its own session (an elevation) stands.
    ///
    /// # Errors
    ///
    /// When the store cannot be asked: call it again then.
    pub async fn revoke_others(&self, session: &Session) -> Result<u64> {
        let Some((user, own)) = session.owner() else {
            return Ok(0);
        };
        let (at, before) = self.mark(&marker::of_user(&user)).await?;
        session.outlives_revocation(at, before);
        let others = own.iter().fold(of(&user), |others, id| others.except(id));
        self.delete_until_none(&others).await
    }

    /// Ends every session, and logins that are under way (mass logout); how many there were. A few
    /// round trips.
    ///
    /// # Errors
    ///
    /// When the store cannot be asked: call it again then.
    pub async fn revoke_all(&self) -> Result<u64> {
        self.mark(marker::ALL).await?;
        self.delete_until_none(&Filter::sessions()).await
    }

    /// Deletes what has expired, and documents that can never expire because they have no
    /// `expires`; how many sessions there were. The TTL index does the first by itself, five minutes
    /// later. Three round trips, or two without a `timeout`.
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub async fn purge_expired(&self) -> Result<u64> {
        let now = self.now();
        let expired = |all: Filter| all.before(field::EXPIRES, now);
        let mut purged = self
            .committer
            .store
            .delete_all(expired(Filter::sessions()))
            .await?;
        // What is left then are markers, which nobody counts.
        self.committer
            .store
            .delete_all(expired(Filter::all()))
            .await?;
        if let Some(timeout) = self.committer.config.timeout {
            // An ancestor's document has no date to expire by, and may be alive.
            let old = now.minus(timeout);
            let orphans = Filter::sessions()
                .no_date(field::EXPIRES)
                .older(field::ACCESSED, old);
            purged += self.committer.store.delete_all(orphans).await?;
        }
        Ok(purged)
    }

    /// Makes the indexes, or repairs them. The fairing does so by itself in the background, unless
    /// `session.indexes` is off because the application's database user may not.
    ///
    /// # Errors
    ///
    /// When the store cannot be asked, or refuses.
    pub async fn ensure_indexes(&self) -> Result<()> {
        self.committer.store.ensure_indexes().await
    }

    /// Whether the store can be asked now: for health checks.
    ///
    /// # Errors
    ///
    /// When it cannot.
    pub async fn ping(&self) -> Result<()> {
        self.committer.store.ping().await
    }

    /// What happened in this process since it started. No round trip.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let batches = self.committer.store.touch_batches();
        self.committer.stats.read(batches)
    }

    fn now(&self) -> Moment {
        self.committer.clock.now()
    }

    /// Says that a revocation begins now, so that a login which is under way ends itself. When that
    /// is, and when the last one began before it.
    async fn mark(&self, id: &str) -> Result<(Moment, Option<Moment>)> {
        let store = &self.committer.store;
        // After the start of every request that is under way: within one millisecond nobody could
        // tell which came first.
        let now = self.committer.clock.next().await;
        let until = now.plus(REVOCATION);
        let document = marker::document(id, now, until, None);
        // It may be there already, and may be cleared away just then: both ways in turn.
        for _ in 0..3 {
            let created = store.create(vec![document.clone()], Durability::Identity);
            if created.await? == Created::Stored {
                return Ok((now, None));
            }
            let again = marker::again(now, until);
            let updated = store.update_returning(Filter::id(id), again, Durability::Identity);
            if let Some(before) = updated.await? {
                return Ok((now, marker::at(&before)));
            }
        }
        Err(Error::store("revoking sessions", NoMarker))
    }

    /// Deletes until none is left, but no more often than sessions that were there can escape by
    /// going on under another id just then: what is new meanwhile is not what was revoked.
    async fn delete_until_none(&self, filter: &Filter) -> Result<u64> {
        const PASSES: usize = 4;
        let mut total = 0;
        for _ in 0..PASSES {
            let ended = self.committer.store.delete_all(filter.clone()).await?;
            total += ended;
            if ended == 0 {
                break;
            }
        }
        Ok(total)
    }

    /// A well-formed cookie named no session. That is how a dropped collection shows, whose
    /// indexes went with it.
    pub(crate) fn missed(&self) {
        self.committer.stats.misses.count();
        self.look_after.notify_one();
    }
}

fn principal(user: &impl Serialize) -> Result<RawBson> {
    value::encode_principal(user).ok_or(Error::BadUser)
}

fn of(user: &RawBson) -> Filter {
    // Markers have no user, so nothing else is needed to leave them out.
    Filter::all().equals(field::USER, user.clone())
}

// A store that neither takes the marker nor has it. Without it nothing was revoked yet.
cause!(
    NoMarker,
    "the revocation could not be announced to logins that are under way"
);

/// Shows where the sessions are kept, without credentials.
impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("kept", &self.committer.store.describe())
            .finish_non_exhaustive()
    }
}
