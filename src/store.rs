//! Where sessions are kept: the [`Store`] trait and its promises.

use std::time::Duration;

use rocket::async_trait;

use crate::clock::Moment;
pub use crate::clock::TimeSource;
pub use crate::document::{Document, Filter, Inapplicable, Update};
use crate::error::{Error, Result};

pub(crate) mod bounded;
pub(crate) mod deferred;
#[cfg(test)]
pub(crate) mod faulty;
pub(crate) mod memory;
pub(crate) mod mongo;
mod watch;

pub use watch::{Change, ChangeKind, Watch};

/// Stores session documents: [`MongoStore`](mongo::MongoStore) in MongoDB,
/// [`MemoryStore`](memory::MemoryStore) in memory. Tests put stores of their own around them.
///
/// 1. **No upsert of a session.** Only [`insert`](Store::insert) creates one, under an id that no
///    document has. Every other call leaves a missing document missing.
/// 2. **Single fields.** [`update`](Store::update) changes the fields that the [`Update`] names and
///    nothing else, all of them or none, and only in a document that the [`Filter`] chooses at
///    that very moment.
/// 3. **No stale reads.** [`load`](Store::load) and [`find`](Store::find) return what was stored at
///    some moment after they were called, and see every write whose call has returned.
/// 4. **Success means stored.** `Ok` comes after the change is as durable as [`Durability`] asks.
///    Ends of sessions are always as durable as [`Durability::Identity`].
///
/// [`testing::conformance`](crate::testing::conformance) tries the first three on any store, and of
/// the fourth as much as one crash shows.
///
/// # Errors
///
/// A read fails with [`Error::Store`]. A write fails with [`Error::Store`] when it changed nothing, and
/// with [`Error::Unknown`] when its outcome is unknown: it was or will be applied completely, or not at
/// all. A store does not watch the time: `Bounded` ends each call by the deadline.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The document with this id, if there is one.
    async fn load(&self, id: &str) -> Result<Option<Document>> {
        Ok(self.load_many(vec![id.to_owned()]).await?.pop())
    }

    /// The document with this id, or that it is missing, from a store in this process, which has it
    /// at once. `None` from any other store, which is asked by [`load_many`](Store::load_many).
    fn load_now(&self, id: &str) -> Option<Option<Document>> {
        let _ = id;
        None
    }

    /// Whether [`load_many`](Store::load_many) and [`update`](Store::update) may be dropped, or not polled,
    /// at any time: work that others wait for, or that has to end, runs in tasks of the store's own,
    /// until [`flush`](Store::flush). Otherwise each call gets a task.
    fn runs_in_own_tasks(&self) -> bool {
        false
    }

    /// The documents with these ids, in any order: at most 5 ids, unless [`times`](Store::times)
    /// calls it.
    async fn load_many(&self, ids: Vec<String>) -> Result<Vec<Document>>;

    /// Stores new documents. The first is the session, the others are tombstones.
    ///
    /// [`Inserted::Exists`] says that a document with the first one's id exists. Then nothing is
    /// stored, and that document stays as it is. A tombstone that exists stays as it is, too, and does
    /// not keep the others from being stored; [`Inserted::Beside`] says that there was one.
    async fn insert(&self, documents: Vec<Document>, durability: Durability) -> Result<Inserted>;

    /// Changes single fields of the one document that the filter chooses. Fails with [`Error::Mismatch`],
    /// and changes nothing, when the update does not fit a stored value.
    async fn update(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Updated>;

    /// Deletes the one document that the filter chooses; `false` when there was none.
    async fn delete(&self, filter: Filter) -> Result<bool>;

    /// Deletes the one document that the filter chooses, as [`delete`](Store::delete) does, and
    /// returns it as it was at its end.
    async fn take(&self, filter: Filter) -> Result<Option<Document>>;

    /// The documents with these ids, in any order, and how long ago each one's `at`, or else its
    /// `renewed`, was by the clock of the store. Only the fields of [`Aged::FIELDS`] are there.
    async fn ages(&self, ids: Vec<String>) -> Result<Vec<Aged>>;

    /// Stores a revocation document, as durable as [`Durability::Identity`]: `at` is the present
    /// time by the clock of the store, `expires` an hour later. One that has the id is changed in
    /// these two fields. Only this call makes a document that is missing.
    async fn put_revocation(&self, id: &str) -> Result<()>;

    /// The documents with these ids, in any order: any number of ids, each asked for once. Only the
    /// fields `_id`, `created`, `accessed`, `expires`, `timeout`, `lifetime`, `epoch`, `generation`, `at`
    /// and `since` have to be there.
    ///
    /// It is asked twice a second while streams follow their sessions. `is_final`: a deletion that may be
    /// rolled back by a failover does not count yet.
    async fn times(&self, ids: Vec<String>, is_final: bool) -> Result<Vec<Document>> {
        let _ = is_final;
        self.load_many(ids).await
    }

    /// Returns the changes of documents from this call on. Nothing is sent before its first
    /// [`next`](Watch::next).
    fn watch(&self) -> Box<dyn Watch>;

    /// Whose clock [`ages`](Store::ages) goes by.
    fn time_source(&self) -> TimeSource;

    /// Records that a session was used: `accessed` and `expires` grow to the given times, unless the
    /// session had expired then ([`Touch::filter`]).
    ///
    /// Returns at once. The write may follow later, with others in one command, and may be lost. It
    /// never makes a document.
    fn touch(&self, touch: Touch);

    /// Documents that the filter chooses, in this order: at most `limit` of them (none if that is
    /// 0), after the first `skip`.
    ///
    /// They may come without the fields `value`, `token`, `csrf` and `seal`, which no list shows, so that a
    /// page of large sessions is not large.
    async fn find(
        &self,
        filter: Filter,
        order: Order,
        skip: u64,
        limit: u32,
    ) -> Result<Vec<Document>>;

    /// About how many documents there are, tombstones included, without looking at them.
    async fn estimated_count(&self) -> Result<u64>;

    /// How many documents the filter chooses.
    async fn count(&self, filter: Filter) -> Result<u64>;

    /// Deletes every document that the filter chooses, and returns their number. After [`Error::Unknown`]
    /// some of them may have been deleted.
    async fn delete_all(&self, filter: Filter) -> Result<u64>;

    /// Deletes documents that the filter chooses, any `limit` of them at most. Work on many documents is
    /// done in such steps, each of which ends by the deadline.
    ///
    /// By default those with the least ids.
    async fn delete_some(&self, filter: Filter, limit: u32) -> Result<Step> {
        let found = self.find(filter.clone(), Order::Id, 0, limit).await?;
        let ids = found.iter().filter_map(|one| one.id().map(str::to_owned));
        let ids: Vec<String> = ids.collect();
        let is_last = ids.len() < usize::try_from(limit).unwrap_or(usize::MAX);
        let deleted = match ids.is_empty() {
            true => 0,
            false => self.delete_all(filter.within(ids)).await?,
        };
        Ok(Step { deleted, is_last })
    }

    /// Makes the indexes that keep the calls above cheap, and repairs them.
    async fn ensure_indexes(&self) -> Result<()>;

    /// Succeeds when the store answers now.
    async fn ping(&self) -> Result<()>;

    /// Writes the touches that were put off, before the process ends. When it returns, writes that
    /// were on their way already are stored, too.
    async fn flush(&self);

    /// Describes the store for the log line at launch, without credentials.
    fn describe(&self) -> String;

    /// How many batches of touches were written, for [`Stats`](crate::Stats); 0 unless a store says
    /// otherwise.
    fn touch_batches(&self) -> u64 {
        0
    }
}

/// In which order documents are found ([`Store::find`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By `created` and then `_id`. Documents without such a time come first.
    OldestFirst,
    /// The reverse of [`OldestFirst`](Order::OldestFirst).
    NewestFirst,
    /// By `_id`, so that a filter which names the last id continues a scan.
    Id,
}

/// How long a revocation document is kept. A request that runs longer cannot log in.
pub(crate) const REVOCATION_LIFETIME: Duration = Duration::from_secs(3600);

/// A document and its age ([`Store::ages`]).
#[derive(Clone, Debug)]
pub struct Aged {
    /// The document, with the fields of [`Aged::FIELDS`] alone.
    pub document: Document,
    /// How long ago its `at`, or else its `renewed`, was; `None` when it has neither, or no time
    /// is stored there. A time that lies ahead is zero ago.
    pub age: Option<Duration>,
}

impl Aged {
    /// The fields that the document comes with, where it has them.
    pub const FIELDS: [&'static str; 11] = [
        "_id",
        "at",
        "renewed",
        "by",
        "token",
        "csrf",
        "kept",
        "seal",
        "expires",
        "epoch",
        "generation",
    ];
}

/// The outcome of an insert ([`Store::insert`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is stored, and so is all that came with it.
    Stored,
    /// It is stored, beside a tombstone that existed already and stays as it is.
    Beside,
    /// A document has its id. Nothing was changed.
    Exists,
}

/// The outcome of an update ([`Store::update`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updated {
    /// It is stored.
    Applied,
    /// The filter chose no document: the session ended, or is not as the filter asks any more.
    Gone,
}

impl Updated {
    pub(crate) fn of(is_applied: bool) -> Self {
        match is_applied {
            true => Updated::Applied,
            false => Updated::Gone,
        }
    }
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

/// What one step of a deletion did ([`Store::delete_some`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// How many documents it deleted.
    pub deleted: u64,
    /// Whether it found no more than these: documents that are stored later are not looked for.
    pub is_last: bool,
}

/// A note that one session was used ([`Store::touch`]).
#[derive(Clone, Debug)]
pub struct Touch {
    pub(crate) id: String,
    pub(crate) accessed: Moment,
    pub(crate) expires: Moment,
}

impl Touch {
    /// The id of the session that was used, for stores outside of the crate.
    #[cfg(feature = "unstable-store")]
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Chooses the session, unless it had expired before it was used: another request may have
    /// shortened its life.
    #[must_use]
    pub fn filter(&self) -> Filter {
        crate::record::unless_expired(&self.id, self.accessed)
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
