//! What a request comes with.

use super::Stored;
use crate::record::legacy::LegacySession;
use crate::record::token::Id;

/// What the request's cookie led to.
pub(crate) enum LoadOutcome {
    /// No cookie, or none that could be one of ours.
    Nothing,
    /// A cookie that names no session that is alive; it is left alone.
    Dead(Id),
    /// A cookie with another secret than the session that it names: from before a renewal, or made
    /// up by somebody who knows the id.
    Locked(Id),
    /// A cookie whose session has expired, but whose document is still there.
    Expired(Id),
    Live(Box<Stored>),
    LegacySession(Box<LegacySession>),
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
