//! The changes of stored documents, as a store reports them.

use bson::RawBson;
use rocket::async_trait;

use crate::clock::Moment;
use crate::error::Result;

/// The changes of documents, in their order ([`Store::watch`](super::Store::watch)).
///
/// It lasts through failures of the database that pass. Changes that may have been missed are
/// reported as one [`ChangeKind::Missed`], after which all further changes are reported again.
#[async_trait]
pub trait Watch: Send {
    /// The next change; `None` when nothing has happened for about a second.
    ///
    /// # Errors
    ///
    /// [`Error::Store`](crate::Error::Store) when the store cannot report changes, now or later.
    async fn next(&mut self) -> Result<Option<Change>>;
}

/// One change of one document. It has no value and no secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Change {
    pub(crate) id: String,
    pub(crate) kind: ChangeKind,
    pub(crate) at: Moment,
    /// The principal of a new session, or of a session that ended in a store that knows it.
    pub(crate) user: Option<RawBson>,
    /// The login that a new tombstone records.
    pub(crate) by: Option<String>,
}

/// What happened to a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeKind {
    /// It was inserted.
    Inserted,
    /// Its token was replaced.
    Renewed,
    /// Its token and its creation time were replaced.
    Elevated,
    /// It was deleted.
    Deleted,
    /// It was deleted after it had expired, by a store that can distinguish this.
    Expired,
    /// Changes may have been missed before this one.
    Missed,
}

impl Change {
    pub(crate) fn at(id: &str, kind: ChangeKind, at: Moment) -> Self {
        Change {
            id: id.to_owned(),
            kind,
            at,
            user: None,
            by: None,
        }
    }

    /// A change of a document at this time, in milliseconds since the Unix epoch, for stores outside
    /// of the crate.
    #[cfg(feature = "unstable-store")]
    #[must_use]
    pub fn new(id: &str, kind: ChangeKind, millis: i64) -> Self {
        Change::at(id, kind, Moment::from_millis(millis))
    }

    /// The id of the document; empty for [`ChangeKind::Missed`].
    #[cfg(feature = "unstable-store")]
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What happened to it.
    #[cfg(feature = "unstable-store")]
    #[must_use]
    pub fn kind(&self) -> ChangeKind {
        self.kind
    }
}
