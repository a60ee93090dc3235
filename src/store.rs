//! Where sessions are kept: the [`Store`] trait and its promises.

use rocket::async_trait;

use crate::clock::Moment;
pub use crate::document::{Document, Filter, Inapplicable, Update};
use crate::error::{Error, Result};

pub(crate) mod bounded;
pub(crate) mod memory;
pub(crate) mod mongo;

/// Keeps session documents. [`Sessions`](crate::Sessions) brings one for MongoDB and one in
/// memory; implement it to keep sessions elsewhere, and attach it with
/// [`Sessions::with_store`](crate::Sessions::with_store).
///
/// What the crate promises its users stands on what a store promises here:
///
/// 1. **No upsert.** Only [`create`](Store::create) makes a document, and only of an id that no
///    document has. Every other call leaves a missing document missing.
/// 2. **Single fields.** [`update`](Store::update) changes the fields that the [`Update`] names and
///    nothing else, all of them or none, and only in a document that the [`Filter`] chooses at
///    that very moment.
/// 3. **No stale reads.** [`load`](Store::load) and [`find`](Store::find) answer with what was
///    stored at some moment after they were called, and see every write whose call has returned.
/// 4. **Success means stored.** An `Ok` is said after the change is as durable as
///    [`Durability`] asks. An `Err` that is not [`Error::Unknown`] means that nothing changed; of
///    an operation with an unknown outcome either all or nothing takes effect, now or later.
///
/// [`testing::conformance`](crate::testing::conformance) tries the first three on any store.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The document with this id, if there is one.
    async fn load(&self, id: &str) -> Result<Option<Document>>;

    /// Stores new documents. The first is the session; the others are markers, which may exist
    /// already and then stay as they are, which [`Created::Beside`] tells. [`Created::Exists`] says
    /// that a document with the first one's id exists, and nothing was changed.
    async fn create(&self, documents: Vec<Document>, durability: Durability) -> Result<Created>;

    /// Changes single fields of the one document that the filter chooses.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] when the update does not fit a stored value; nothing was changed then.
    async fn update(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Updated>;

    /// As [`update`](Store::update), and gives the document as it was just before; `None` when
    /// the filter chose none.
    async fn update_returning(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Option<Document>>;

    /// Deletes the one document that the filter chooses; `false` when there was none.
    async fn delete(&self, filter: Filter) -> Result<bool>;

    /// As [`delete`](Store::delete), and gives the document as it was at its end.
    async fn take(&self, filter: Filter) -> Result<Option<Document>>;

    /// Notes that a session was in use: `accessed` and `expires` grow to the given times. Returns
    /// at once; the write may follow later together with others, and may be lost. It never makes
    /// a document.
    fn touch(&self, touch: Touch);

    /// Documents that the filter chooses, by `created` and then `_id`: `limit` of them at most, and
    /// none if that is 0, after skipping some. They may come without what a list does not show, the
    /// fields `value`, `token` and `csrf`, so that a page of large sessions is not large.
    async fn find(&self, filter: Filter, skip: u64, limit: u32) -> Result<Vec<Document>>;

    /// How many documents the filter chooses.
    async fn count(&self, filter: Filter) -> Result<u64>;

    /// Deletes every document that the filter chooses, and says how many those were.
    async fn delete_all(&self, filter: Filter) -> Result<u64>;

    /// Makes the indexes that keep the calls above cheap, and repairs them.
    async fn ensure_indexes(&self) -> Result<()>;

    /// Whether the store can be asked now.
    async fn ping(&self) -> Result<()>;

    /// Writes what was put off (touches), before the process ends; what is on its way already is
    /// there, too, when it returns.
    async fn flush(&self);

    /// What the store is, for the log line at launch; without credentials.
    fn describe(&self) -> String;

    /// How many batches of touches were written.
    fn touch_batches(&self) -> u64 {
        0
    }
}

/// What became of a new document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is stored, and so is all that came with it.
    Stored,
    /// It is stored, beside a marker that existed already and is as it was.
    Beside,
    /// Its id was taken; nothing was changed.
    Exists,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updated {
    /// It is stored.
    Applied,
    /// The filter chose no document: the session ended, or is no longer what the filter asks.
    Gone,
}

/// How durable a write must be before a store says that it succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A session's data: as durable as the database is set up to be, and at least on a majority
    /// of a replica set.
    Data,
    /// Who may come in (login, renew, logout, revocation): on disk as well.
    Identity,
}

/// One session's use, to be written later.
#[derive(Clone, Debug)]
pub struct Touch {
    pub(crate) id: String,
    pub(crate) accessed: Moment,
    pub(crate) expires: Moment,
}

impl Touch {
    /// The id of the session that was in use.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The change: both times grow, neither is ever set back.
    #[must_use]
    pub fn update(&self) -> Update {
        let mut update = Update::default();
        crate::record::touch(&mut update, self.accessed, self.expires);
        update
    }
}

impl From<Inapplicable> for Error {
    fn from(_: Inapplicable) -> Self {
        Error::Mismatch {
            key: String::new(),
            reason: "an increment or a push does not fit the stored value",
        }
    }
}
