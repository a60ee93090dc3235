//! What a request's cookies led to.

use super::Stored;
use crate::commit::tombstone::Replaced;
use crate::record::legacy::LegacySession;
use crate::record::token::Id;

/// Everything that loading a request's session found out.
pub(crate) struct Loaded {
    pub(crate) outcome: LoadOutcome,
    /// Further sessions that the request's cookies prove: right secret, alive or expired. A logout
    /// ends them too.
    pub(crate) other_sessions: Vec<Id>,
    /// The request carries a cookie of our name, well-formed or not. A logout removes it.
    pub(crate) brought_cookie: bool,
    pub(crate) creation: Creation,
}

#[cfg(test)]
impl From<LoadOutcome> for Loaded {
    fn from(outcome: LoadOutcome) -> Self {
        Loaded {
            brought_cookie: !matches!(outcome, LoadOutcome::New(_)),
            outcome,
            other_sessions: Vec::new(),
            creation: Creation::Allowed,
        }
    }
}

/// Which session the request starts with.
pub(crate) enum LoadOutcome {
    /// None, and its cookies name none.
    New(NewReason),
    /// None, because the session with this id cannot be used.
    Dead(Id, NewReason),
    /// None: a login replaced it a moment ago.
    #[allow(dead_code)]
    Replaced(Box<Replaced>),
    Live(Box<Stored>),
    Legacy(Box<LegacySession>),
}

/// Whether the request may create a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Creation {
    Allowed,
    /// A cross-site request without a cookie: the browser may have withheld one.
    OnlyByLogin,
    /// The request is outside the cookie's path.
    Never,
}

/// Why a request has no earlier session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NewReason {
    /// The request carries no session cookie.
    NoCookie,
    /// The cookie's value has not the form of a token.
    Malformed,
    /// The request carries several session cookies, and not exactly one names a live session.
    Ambiguous,
    /// No session has the cookie's id.
    NotFound,
    /// The session has another secret.
    WrongSecret,
    /// The session has expired.
    Expired,
}

/// A session that the cookie named and that cannot be used.
pub(crate) struct Dead {
    pub(crate) id: Id,
    /// It expired and its document is still there, the browser's own: a logout deletes it.
    pub(crate) expired: bool,
    /// It is somebody's, perhaps another's: no login here takes its place.
    pub(crate) is_locked: bool,
}

impl Dead {
    pub(crate) fn new(id: Id) -> Self {
        Dead {
            id,
            expired: false,
            is_locked: false,
        }
    }
}
