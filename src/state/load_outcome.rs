//! The result of looking up the request's cookie.

use bson::RawBson;

use super::Stored;
use crate::document::Filter;
use crate::document::key::Field;
use crate::record::token::{Digest, Id, Secret};
use crate::record::{self, field};

/// The result of looking up a request's session cookie, and what the request may create.
pub(crate) struct Loaded {
    pub(crate) outcome: LoadOutcome,
    /// Further sessions that the request's cookies prove, though some may have expired. A login and a
    /// logout end them, too.
    pub(crate) other_sessions: Vec<Id>,
    /// Sessions that the request's tokens name, and that were not found. A logout deletes them
    /// nevertheless: an end that no majority has taken yet can be lost with the primary.
    pub(crate) not_alive: Vec<Deletion>,
    /// The request brought a cookie of our name, well-formed or not. A logout removes it.
    pub(crate) brought_cookie: bool,
    pub(crate) creation: Creation,
    /// The response may be unseen: a HEAD request or a prefetch.
    pub(crate) may_be_unseen: bool,
}

/// A session that a logout deletes.
#[derive(Clone)]
pub(crate) struct Deletion {
    pub(crate) id: Id,
    /// What is stored under the id must have this token. `None`: the request has proven the session.
    pub(crate) token: Option<Digest>,
}

impl From<Id> for Deletion {
    fn from(id: Id) -> Self {
        Deletion { id, token: None }
    }
}

impl Deletion {
    pub(crate) fn filter(&self) -> Filter {
        let filter = Filter::id(self.id.as_str());
        match &self.token {
            Some(token) => filter.equals(field::TOKEN, record::binary(token.as_bytes())),
            None => filter,
        }
    }
}

pub(crate) enum LoadOutcome {
    /// No usable cookie, and no session that it could have named.
    New(NewReason),
    /// The cookie names a session that is not alive, or has another secret.
    Dead(Id, NewReason),
    /// A login or a renewal replaced the session a moment ago.
    Replaced(Box<Replaced>),
    Live(Box<Stored>),
}

/// A session that was replaced so recently that the browser may not have the new cookie yet.
pub(crate) struct Replaced {
    pub(crate) id: Id,
    pub(crate) proof: Option<Proof>,
}

/// What a login left for requests that prove the session which it replaced.
#[derive(Clone)]
pub(crate) struct Proof {
    pub(crate) csrf: Secret,
    pub(crate) kept: Vec<(Field, RawBson)>,
}

/// Which sessions a request may create.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Creation {
    #[default]
    Allowed,
    /// The browser calls the request cross-site, and it came without a cookie. A `Lax` cookie of
    /// the signed-in session may have been held back, and a new one would overwrite it.
    OnlyByLogin,
    /// The request is outside of the cookie's path: a cookie that is sent here overwrites the one
    /// inside, and does not come back.
    Never,
}

/// Why a request has no earlier session: [`Session::why_new`](crate::Session::why_new).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NewReason {
    /// The request has no session cookie.
    NoCookie,
    /// The cookie's value does not have the form of a token.
    Malformed,
    /// The request has several session cookies, and not exactly one of their sessions is alive.
    Ambiguous,
    /// No stored session has the cookie's id: it was logged out, revoked, or deleted after expiry.
    NotFound,
    /// The session has another secret: it was renewed or elevated, or the cookie was made up.
    WrongSecret,
    /// The session has expired.
    Expired,
    /// A login, renewal or elevation of the last five seconds replaced the session, and the browser sent the old
    /// cookie.
    Replaced,
    /// The session ended during this request: by a logout, or elsewhere.
    Ended,
}
