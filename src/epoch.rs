//! The epoch: one write ends every session at once, however many there are.
//!
//! The document `~epoch` holds a generation, a random number, and `at`, when it was written. A session
//! carries the generation of its creation and has ended when the two are **not equal**: random numbers
//! have no order, and a failover may bring an earlier one back. Until sessions are
//! revoked for the first time there is neither the document nor the field in sessions, and both count as
//! the same generation.
//!
//! A process knows the generation under a lease of one second. The lease counts from the *sending* of
//! the read, by the monotonic clock and by the wall clock, whichever says that more time has passed
//! (the first may stand still while the machine sleeps). So [`LEASE_WAIT`] after a new generation is
//! stored, no process goes by an earlier one, and one that cannot read it serves no session.
//!
//! - A load that is sent without a lease brings the document in its own command. The lease is looked at
//!   when the reply is there.
//! - A call that writes to a session, stores a new one, or chooses sessions asks
//!   [`EpochLease::current`] first, which sends nothing while the lease lasts.
//! - A process that knows a generation and finds no document (all were deleted by hand, the collection
//!   was dropped) stores a new one, so that no session of before comes back. One that has read nothing
//!   for a while ([`REMEMBERED_FOR`]) goes without a generation then: processes that were started since
//!   the deletion do so, and their sessions must not end by it.
//!
//! A document of the Python package carries no generation. It has ended when it was not created after
//! `at`.

use std::time::Duration;

use bson::raw::RawBsonRef;
use bson::{RawBson, RawDocumentBuf, Timestamp};

use crate::clock::{Clock, Moment};
use crate::document::{Document, Filter, Operator, Path, SERVER_TIME, Update, moment};
use crate::error::{Error, Operation, Result};
use crate::lock::Mutex;
use crate::record::legacy::has_its_id;
use crate::record::token;
use crate::record::{Meta, field, seconds};
use crate::store::bounded::Bounded;
use crate::store::{Durability, Inserted, Updated};

/// The id of the epoch document. It has no `expires`, so nothing deletes it.
pub(crate) const ID: &str = "~epoch";

/// How long a process goes by the generation that it has read.
const LEASE: Duration = Duration::from_secs(1);

/// How long after a new generation is stored no lease of an earlier one lasts, and no request that
/// begins then is taken for one that began before it, whose logins end (a second of slack between two
/// readings of a server's clock).
pub(crate) const LEASE_WAIT: Duration = Duration::from_secs(2);

/// How long after its last read a process knows that a missing document was deleted.
const REMEMBERED_FOR: Duration = Duration::from_secs(10);

/// The fields of the document beside its id.
const GENERATION: &str = "generation";
/// When sessions were revoked, by the store's clock.
const AT: &str = "at";
/// When a generation was stored where there was none, until sessions are revoked: it ends no login in
/// progress.
const SINCE: &str = "since";
/// Sessions of other generations may still be stored.
const SWEEPING: &str = "sweeping";
/// Counts while a process deletes them.
const BEATS: &str = "beats";

/// What the epoch document says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epoch {
    /// `None` until sessions are revoked for the first time.
    pub(crate) generation: Option<i64>,
    at: Option<Moment>,
    /// Sessions of other generations may still be stored: counts and lists ask for this one.
    pub(crate) is_sweeping: bool,
    /// Another number while a process deletes them.
    pub(crate) beats: i64,
}

impl Epoch {
    pub(crate) fn read(document: Option<&Document>) -> Self {
        let get = |name| document.and_then(|document| document.get(name));
        Epoch {
            generation: get(GENERATION).and_then(|it| it.as_i64()),
            at: get(AT).or_else(|| get(SINCE)).and_then(date_or_timestamp),
            is_sweeping: get(SWEEPING).and_then(|it| it.as_bool()) == Some(true),
            beats: get(BEATS).and_then(|it| it.as_i64()).unwrap_or_default(),
        }
    }

    /// Whether a stored session is of this generation.
    pub(crate) fn includes(self, session: &Document) -> bool {
        let is_legacy = || has_its_id(session);
        let created = || session.get(field::CREATED).and_then(seconds);
        match session.get(field::EPOCH).map(|epoch| epoch.as_i64()) {
            None => self.includes_unmarked(is_legacy, created),
            Some(None) => false, // malformed
            Some(Some(generation)) => self.is(generation),
        }
    }

    /// Whether a session that was loaded is of this generation.
    pub(crate) fn has(self, session: &Meta) -> bool {
        match session.epoch {
            None => {
                self.includes_unmarked(|| session.id.is_legacy(), || Some(session.times.created))
            }
            Some(generation) => self.is(generation),
        }
    }

    fn includes_unmarked(
        self,
        is_legacy: impl Fn() -> bool,
        created: impl Fn() -> Option<Moment>,
    ) -> bool {
        if self.generation.is_none() {
            return true;
        }
        match (is_legacy().then(created).flatten(), self.at) {
            (Some(created), Some(at)) => created > at,
            _ => false,
        }
    }

    /// [`mark`](Epoch::mark) writes zero for no generation. Zero is never drawn.
    fn is(self, generation: i64) -> bool {
        self.generation.unwrap_or(0) == generation
    }

    /// Whether a session's document says that it is of another generation. Without one it says nothing
    /// here.
    pub(crate) fn contradicts(self, session: &Document) -> bool {
        let marked = session.get(field::EPOCH).and_then(|it| it.as_i64());
        match marked {
            Some(generation) => !self.is(generation),
            None => !has_its_id(session) && self.generation.is_some(),
        }
    }

    /// Restricts a filter of sessions to those of this generation, while others may be stored.
    pub(crate) fn restrict(self, sessions: Filter) -> Filter {
        match self.generation.filter(|_| self.is_sweeping) {
            Some(generation) => sessions.equals(field::EPOCH, RawBson::Int64(generation)),
            None => sessions,
        }
    }

    /// Adds the generation to an update that changes when a session of the Python package was created,
    /// by which it would be checked otherwise.
    pub(crate) fn mark(self, update: &mut Update, session: &Meta) {
        let is_checked_by_time = session.id.is_legacy() && session.epoch.is_none();
        if is_checked_by_time && update.contains(&Path::Meta(field::CREATED)) {
            update.set(field::EPOCH, self.generation.unwrap_or(0));
        }
    }
}

/// What this process knows of the epoch.
pub(crate) struct EpochLease {
    store: Bounded,
    clock: Clock,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    epoch: Epoch,
    /// When the read of this epoch was sent; `None` before the first.
    read: Option<Sending>,
}

/// What a read shows.
enum Noted {
    /// The newest epoch that is known.
    Epoch(Epoch),
    /// The document was deleted a moment ago.
    Deleted,
    /// The reply of a read that was sent later came before this one, says something else, and gives no
    /// lease any more.
    Overtaken,
}

/// When a read was sent.
#[derive(Clone, Copy, Debug)]
struct Sending {
    monotonic: Duration,
    wall: Moment,
}

impl Sending {
    fn now(clock: &Clock) -> Self {
        Sending {
            monotonic: clock.monotonic(),
            wall: clock.now(),
        }
    }

    /// How long before another one.
    fn before(self, later: Sending) -> Duration {
        let elapsed = later.monotonic.saturating_sub(self.monotonic);
        elapsed.max(later.wall.since(self.wall))
    }
}

impl EpochLease {
    pub(crate) fn new(store: &Bounded, clock: &Clock) -> Self {
        EpochLease {
            store: store.clone(),
            clock: clock.clone(),
            known: Mutex::default(),
        }
    }

    fn sent_now(&self) -> Sending {
        Sending::now(&self.clock)
    }

    /// Whether the store is in this process: it is looked at each time, without a lease.
    pub(crate) fn is_local(&self) -> bool {
        self.store.load_now(ID).is_some()
    }

    /// How long a new generation may be unknown to a process.
    pub(crate) fn wait(&self) -> Duration {
        match self.is_local() {
            true => Duration::ZERO,
            false => LEASE_WAIT,
        }
    }

    /// The epoch, while there is a lease.
    fn held(&self) -> Option<Epoch> {
        let stored = self.store.load_now(ID);
        let mut known = self.known.lock();
        match stored {
            Some(document) => {
                let epoch = Epoch::read(document.as_ref());
                if epoch.generation.is_none() && known.epoch.generation.is_some() {
                    return None; // it was deleted
                }
                known.epoch = epoch;
                Some(epoch)
            }
            None => {
                let read = known.read?;
                (read.before(self.sent_now()) < LEASE).then_some(known.epoch)
            }
        }
    }

    /// Whether a session's document says that it is of another generation than the last that is known.
    pub(crate) fn has_ended(&self, session: &Document) -> bool {
        self.known.lock().epoch.contradicts(session)
    }

    /// The epoch at this moment. One round trip when the lease has run out, at most once a second.
    pub(crate) async fn current(&self) -> Result<Epoch> {
        match self.held() {
            Some(epoch) => Ok(epoch),
            None => Box::pin(self.read()).await,
        }
    }

    /// Reads the epoch, whether or not there is a lease. One round trip.
    pub(crate) async fn read(&self) -> Result<Epoch> {
        let sent = self.sent_now();
        let document = self.store.load(ID).await?;
        self.learn(sent, document.as_ref()).await
    }

    /// Loads those of the sessions with these ids that have not ended with their generation. `read` parses
    /// a document, or leaves it out. One round trip; another one where the load did not bring the epoch,
    /// and the lease has run out since or a session is of another generation than the known one.
    pub(crate) async fn load<S>(
        &self,
        ids: Vec<String>,
        read: impl Fn(Document) -> Option<S>,
        is_of: impl Fn(Epoch, &S) -> bool,
    ) -> Result<Vec<S>> {
        let (found, brought) = match self.held() {
            Some(_) => (self.store.load_many(ids).await?, None),
            None => Box::pin(self.load_with_epoch(ids)).await?,
        };
        // With its exact size: a vector that grows allocates room for four records, which are large.
        let mut loaded = Vec::with_capacity(found.len());
        loaded.extend(found.into_iter().filter_map(read));
        if loaded.is_empty() {
            return Ok(loaded);
        }
        let epoch = match brought {
            Some(epoch) => epoch,
            None => {
                let known = self.current().await?;
                match loaded.iter().all(|session| is_of(known, session)) {
                    true => known,
                    // Its generation may be a newer one.
                    false => Box::pin(self.read()).await?,
                }
            }
        };
        loaded.retain(|session| is_of(epoch, session));
        Ok(loaded)
    }

    async fn load_with_epoch(
        &self,
        mut ids: Vec<String>,
    ) -> Result<(Vec<Document>, Option<Epoch>)> {
        ids.push(ID.to_owned());
        let sent = self.sent_now();
        let mut found = self.store.load_many(ids).await?;
        let at = found.iter().position(|one| one.id() == Some(ID));
        let document = at.map(|at| found.swap_remove(at));
        let epoch = self.learn(sent, document.as_ref()).await?;
        Ok((found, Some(epoch)))
    }

    /// Takes note of a read, and returns the newest epoch that is known. If the document was deleted by
    /// hand, another generation takes its place, of whichever process stores one first.
    async fn learn(&self, sent: Sending, document: Option<&Document>) -> Result<Epoch> {
        let mut noted = self.note(sent, document);
        for _ in 0..MAX_ATTEMPTS {
            match noted {
                Noted::Epoch(epoch) => return Ok(epoch),
                Noted::Deleted => {
                    rocket::warn!(
                        "Sessions: the document `{ID}` was deleted; sessions of before have ended"
                    );
                    self.insert().await?;
                }
                Noted::Overtaken => {}
            }
            let sent = self.sent_now();
            noted = self.note(sent, self.store.load(ID).await?.as_ref());
        }
        match noted {
            Noted::Epoch(epoch) => Ok(epoch),
            Noted::Deleted | Noted::Overtaken => {
                Err(Error::store(Operation::RevokeSessions, CONTENTION))
            }
        }
    }

    fn note(&self, sent: Sending, document: Option<&Document>) -> Noted {
        let epoch = Epoch::read(document);
        let mut known = self.known.lock();
        // Replies may come in another order than their reads were sent.
        if let Some(read) = known.read.filter(|read| read.monotonic > sent.monotonic) {
            let is_same = epoch.generation == known.epoch.generation;
            return match is_same || read.before(self.sent_now()) < LEASE {
                true => Noted::Epoch(known.epoch),
                false => Noted::Overtaken,
            };
        }
        let is_recent = |read: Sending| read.before(sent) < REMEMBERED_FOR;
        let is_deleted = epoch.generation.is_none() && known.epoch.generation.is_some();
        if is_deleted && known.read.is_none_or(is_recent) {
            return Noted::Deleted;
        }
        let read = Some(sent);
        *known = Known { epoch, read };
        Noted::Epoch(epoch)
    }

    async fn insert(&self) -> Result<Inserted> {
        let mut document = RawDocumentBuf::new();
        document.append(field::ID, ID);
        document.append(GENERATION, token::draw_number()?);
        document.append(SINCE, SERVER_TIME);
        document.append(SWEEPING, true);
        let documents = vec![Document::from_raw(document)];
        let (store, durability) = (&self.store, Durability::Identity);
        store.insert_or(documents, durability, || async {}).await
    }

    /// Ends every session: stores a new generation. After [`wait`](EpochLease::wait) no process
    /// goes by an earlier one.
    pub(crate) async fn advance(&self) -> Result<()> {
        let generation = token::draw_number()?;
        let mut update = Update::default();
        update.set(GENERATION, generation);
        update.set_now(AT);
        update.unset(SINCE);
        update.set(SWEEPING, true);
        let stored = self.put(update).await;
        // Also when the outcome is unknown: this process looks at once.
        self.known.lock().read = None;
        stored
    }

    async fn put(&self, update: Update) -> Result<()> {
        let mut is_inserted = false;
        for _ in 0..MAX_ATTEMPTS {
            let (filter, durability) = (Filter::id(ID), Durability::Identity);
            let updated = self.store.update(filter, update.clone(), durability);
            match updated.await {
                Ok(Updated::Applied) => return Ok(()),
                // Only an update gives the time to the millisecond, by the server's clock.
                Ok(Updated::Gone) => {
                    let inserted = self.insert().await;
                    inserted.map_err(|error| error.partly_done_if(is_inserted))?;
                    is_inserted = true;
                }
                // Another generation than before has ended every session already.
                Err(error) => return Err(error.partly_done_if(is_inserted)),
            }
        }
        Err(Error::store(Operation::RevokeSessions, CONTENTION).partly_done_if(is_inserted))
    }

    /// Records that this process deletes the sessions of other generations.
    pub(crate) async fn beat(&self, generation: i64) -> Result<()> {
        let mut update = Update::default();
        update.insert(Path::Meta(BEATS), Operator::Increment(1));
        let beat = self.update(generation, update);
        beat.await
    }

    /// Records that no session of another generation is stored any more.
    pub(crate) async fn swept(&self, generation: i64) -> Result<()> {
        let mut update = Update::default();
        update.unset(SWEEPING);
        update.unset(BEATS);
        let done = self.update(generation, update).await;
        self.known.lock().read = None;
        done
    }

    async fn update(&self, generation: i64, update: Update) -> Result<()> {
        let same = Filter::id(ID).equals(GENERATION, RawBson::Int64(generation));
        let updated = self.store.update(same, update, Durability::Identity);
        updated.await.map(drop)
    }
}

/// Between an update that finds no document and an insert that finds one, another process may delete or
/// store it.
const MAX_ATTEMPTS: usize = 3;

const CONTENTION: &str = "the document `~epoch` was deleted and stored again, or other reads of it overtook this one, \
                          3 times";

/// The date of an update, or the timestamp of an insert: whole seconds, whose end is meant.
fn date_or_timestamp(value: RawBsonRef<'_>) -> Option<Moment> {
    let end_of = |at: Timestamp| Moment::from_millis(i64::from(at.time) * 1000 + 999);
    moment(value).or_else(|| value.as_timestamp().map(end_of))
}

#[cfg(test)]
mod tests;
