//! Finds live sessions, and ends those that were found, page by page.

use std::net::IpAddr;
use std::time::Duration;

use bson::RawBson;
use rocket::tokio::time::Instant;
use serde::Serialize;
use time::OffsetDateTime;

use super::{SessionInfo, Sessions, of};
use crate::clock::Moment;
use crate::debug::opaque_debug;
use crate::document::{Filter, value};
use crate::error::{Error, Result};
use crate::live::End;
use crate::record::field;
use crate::record::token::Id;
use crate::store::Order;

/// How many documents one command reads.
const BATCH: u32 = 1000;
/// After this time a page ends where it is.
const MAX_TIME: Duration = Duration::from_secs(1);
const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;

/// Which sessions [`Sessions::find`] returns. All conditions must hold; without one it is every live
/// session.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Query {
    created_before: Option<OffsetDateTime>,
    created_after: Option<OffsetDateTime>,
    accessed_before: Option<OffsetDateTime>,
    accessed_after: Option<OffsetDateTime>,
    expires_before: Option<OffsetDateTime>,
    expires_after: Option<OffsetDateTime>,
    client_contains: Option<String>,
    ip: Option<IpAddr>,
    user: Option<User>,
    limit: Option<u32>,
    after: Option<String>,
}

/// The user of a query; `None` when it cannot be encoded.
#[derive(Clone)]
struct User(Option<RawBson>);

opaque_debug!(User);

impl Query {
    /// Creates a query that chooses all live sessions.
    pub fn new() -> Self {
        Query::default()
    }

    /// Chooses sessions that were created (or logged in, or elevated) before this time.
    pub fn created_before(mut self, at: OffsetDateTime) -> Self {
        self.created_before = Some(at);
        self
    }

    /// Chooses sessions that were created (or logged in, or elevated) after this time.
    pub fn created_after(mut self, at: OffsetDateTime) -> Self {
        self.created_after = Some(at);
        self
    }

    /// Chooses sessions whose last recorded use was before this time.
    pub fn accessed_before(mut self, at: OffsetDateTime) -> Self {
        self.accessed_before = Some(at);
        self
    }

    /// Chooses sessions whose last recorded use was after this time.
    pub fn accessed_after(mut self, at: OffsetDateTime) -> Self {
        self.accessed_after = Some(at);
        self
    }

    /// Chooses sessions that expire before this time if they are not used again.
    pub fn expires_before(mut self, at: OffsetDateTime) -> Self {
        self.expires_before = Some(at);
        self
    }

    /// Chooses sessions that expire after this time, or never.
    pub fn expires_after(mut self, at: OffsetDateTime) -> Self {
        self.expires_after = Some(at);
        self
    }

    /// Chooses sessions whose recorded `User-Agent` contains this text, in upper or lower case (with
    /// `record_client`).
    pub fn client_contains(mut self, text: &str) -> Self {
        self.client_contains = Some(text.to_lowercase());
        self
    }

    /// Chooses sessions that were created from this address (with `record_client`).
    pub fn ip(mut self, ip: IpAddr) -> Self {
        self.ip = Some(ip);
        self
    }

    /// Chooses the sessions of one user: the value that the login was given, whose type counts, as in
    /// [`Sessions::of`]. The database reads only these.
    pub fn user(mut self, user: impl Serialize) -> Self {
        self.user = Some(User(value::encode_principal(&user)));
        self
    }

    /// Sets the most sessions of one page: 100 by default, from 1 to 1000.
    pub fn limit(mut self, most: u32) -> Self {
        self.limit = Some(most);
        self
    }

    /// Continues where the page before ended, at its [`Page::next`].
    pub fn after(mut self, cursor: &str) -> Self {
        self.after = Some(cursor.to_owned());
        self
    }

    /// Returns the sessions that the database reads for the query.
    fn filter(&self) -> Result<Filter> {
        match &self.user {
            None => Ok(Filter::sessions()),
            Some(User(Some(user))) => Ok(of(user)),
            Some(User(None)) => Err(Error::BadUser),
        }
    }

    fn chooses(&self, info: &SessionInfo) -> bool {
        let is_before = |end: Option<OffsetDateTime>, at| end.is_none_or(|end| at < end);
        let is_after = |start: Option<OffsetDateTime>, at| start.is_none_or(|start| at > start);
        let contains = |text: &String| {
            let client = info.client.as_ref();
            client.is_some_and(|client| client.to_lowercase().contains(text))
        };
        is_before(self.created_before, info.created)
            && is_after(self.created_after, info.created)
            && is_before(self.accessed_before, info.accessed)
            && is_after(self.accessed_after, info.accessed)
            && match info.expires {
                Some(at) => is_before(self.expires_before, at) && is_after(self.expires_after, at),
                None => self.expires_before.is_none(),
            }
            && self.client_contains.as_ref().is_none_or(contains)
            && self.ip.is_none_or(|ip| info.ip == Some(ip))
    }
}

/// A page of sessions ([`Sessions::find`]).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Page {
    /// The sessions, in the order of their ids. There may be fewer than asked for, or none, although
    /// more follow.
    pub sessions: Vec<SessionInfo>,
    /// The cursor of the next page ([`Query::after`]); `None` when this is the last one.
    pub next: Option<String>,
    /// How many stored sessions were read for this page, for a progress bar.
    #[serde(skip)]
    pub examined: u64,
}

/// What [`Sessions::revoke_found`] did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RevokedPage {
    /// How many sessions it ended.
    pub ended: u64,
    /// The cursor of the next page ([`Query::after`]); `None` when this was the last one.
    pub next: Option<String>,
    /// How many stored sessions were read for this page, for a progress bar.
    pub examined: u64,
}

impl Sessions {
    /// Returns a page of the live sessions of all users that a query chooses, in the order of their
    /// ids.
    ///
    /// Sessions are read in the order of the index on `_id`, 1000 documents a command without their
    /// values, and compared in this process. One call reads for a second at most, and ends with the command
    /// that fills half of the page. So a page may be short or empty and still have a `next`: continue as
    /// long as there is one. Sessions of the Python package are
    /// left out until their next login, because their ids are credentials. A session that is created
    /// during the search may be missing. None is shown twice.
    ///
    /// # Errors
    ///
    /// [`Error::BadUser`] for a user that cannot be encoded; [`Error::Store`] when the database fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use rocket_mongo_session::{Error, Query, Sessions};
    /// # use rocket_mongo_session::time::{Duration, OffsetDateTime};
    ///
    /// /// Ends every session that was not used for a month, and says how many there were.
    /// async fn end_idle(sessions: &Sessions) -> Result<u64, Error> {
    ///     let month_ago = OffsetDateTime::now_utc() - Duration::days(30);
    ///     let mut query = Query::new().accessed_before(month_ago);
    ///     let mut ended = 0;
    ///     loop {
    ///         let page = sessions.find(&query).await?;
    ///         for info in page.sessions {
    ///             ended += u64::from(sessions.revoke(&info.id).await?);
    ///         }
    ///         let Some(next) = page.next else { return Ok(ended) };
    ///         query = query.after(&next);
    ///     }
    /// }
    /// ```
    ///
    /// One round trip for each 1000 sessions that are read.
    pub async fn find(&self, query: &Query) -> Result<Page> {
        let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT) as usize;
        let started = Instant::now();
        let chosen = query.filter()?;
        let mut page = Page {
            sessions: Vec::new(),
            next: query.after.clone(),
            examined: 0,
        };
        loop {
            let all = match &page.next {
                Some(cursor) => chosen.clone().after_id(cursor),
                None => chosen.clone(),
            };
            let batch = self.core.store.find(all, Order::Id, 0, BATCH).await?;
            let epoch = self.core.epoch.current().await?;
            let now = self.now().date();
            for document in &batch {
                if page.sessions.len() >= limit {
                    return Ok(page);
                }
                page.examined += 1;
                page.next = document.id().map(cursor_after).or(page.next);
                let info = self.live_info(document, now);
                let info = info.filter(|_| epoch.includes(document));
                page.sessions
                    .extend(info.filter(|info| query.chooses(info)));
            }
            let is_last = batch.len() < BATCH as usize;
            // Sessions of the next batch beyond the limit would be read again for the next page.
            let is_half_full = page.sessions.len() * 2 >= limit;
            if is_last || is_half_full || started.elapsed() >= MAX_TIME {
                page.next = page.next.filter(|_| !is_last);
                return Ok(page);
            }
        }
    }

    /// Ends the sessions of one page: those that [`find`](Sessions::find) returns for the same query.
    ///
    /// Call it again with [`Query::after`] as long as there is a `next`. Sessions that have ended
    /// stay ended: after an interruption, the same query from its beginning ends the rest. With
    /// `accessed_before` or `expires_before`, a session that is used between the search and its end
    /// is left alone. Logins in progress are not ended;
    /// [`of(user).revoke_all`](super::UserSessions::revoke_all) does that.
    ///
    /// # Errors
    ///
    /// Those of [`find`](Sessions::find); [`Error::Unknown`] when some of the page may have ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use rocket_mongo_session::{Error, Query, Sessions};
    ///
    /// /// Ends every session of a browser that is not allowed any more.
    /// async fn end_old_browsers(sessions: &Sessions) -> Result<u64, Error> {
    ///     let mut query = Query::new().client_contains("MSIE").limit(1000);
    ///     let mut ended = 0;
    ///     loop {
    ///         let page = sessions.revoke_found(&query).await?;
    ///         ended += page.ended;
    ///         let Some(next) = page.next else { return Ok(ended) };
    ///         query = query.after(&next);
    ///     }
    /// }
    /// ```
    ///
    /// The round trips of `find`, and one more where it finds sessions.
    pub async fn revoke_found(&self, query: &Query) -> Result<RevokedPage> {
        let started = self.now();
        let page = self.find(query).await?;
        let mut revoked = RevokedPage {
            ended: 0,
            next: page.next,
            examined: page.examined,
        };
        let (live, mut ids) = (&self.core.live, Vec::new());
        for (id, user) in page.sessions.iter().map(SessionInfo::named) {
            live.intend(id, End::Revoked, user);
            ids.push(id);
        }
        if !ids.is_empty() {
            let all = Filter::ids(ids.iter().map(|id| (*id).to_owned()).collect());
            let unused = match (query.accessed_before, query.expires_before) {
                (Some(end), _) => all.older(field::ACCESSED, rounded_up(end)),
                (None, Some(_)) => all.older(field::ACCESSED, started),
                (None, None) => all,
            };
            let delete = self.core.store.delete_all(unused);
            // Those that were used since have not ended.
            let ending = live.ending(&ids, End::Revoked, None, delete, |_| None);
            revoked.ended = ending.await?;
        }
        Ok(revoked)
    }
}

/// The first whole millisecond that is not before a time: stored times have no fractions of one.
fn rounded_up(at: OffsetDateTime) -> Moment {
    let millis = (at.unix_timestamp_nanos() + 999_999).div_euclid(1_000_000);
    Moment::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// The cursor behind a session. The id of a legacy session may be its credential: its cursor has half
/// of the id, and sorts after every id that begins so. (With 64 random bits that is one.)
fn cursor_after(id: &str) -> String {
    const HALF: usize = 16;
    match id.get(..HALF) {
        Some(half) if Id::is_legacy_text(id) => format!("{half}~"),
        _ => id.to_owned(),
    }
}
