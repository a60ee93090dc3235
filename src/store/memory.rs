//! Sessions in the memory of one process: for tests, and for trying things out.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bson::raw::RawBsonRef;
use bson::{RawBson, Timestamp, doc};

use rocket::async_trait;
use rocket::tokio::sync::broadcast;
use rocket::tokio::sync::broadcast::error::RecvError;
use rocket::tokio::time::timeout;

use crate::clock::{Clock, Moment};
use crate::document::{Document, Filter, Path, SERVER_TIME, Update, date, moment, number};
use crate::error::{Error, Operation, Result};
use crate::lock::Mutex;
use crate::record::field;
use crate::store::{
    Aged, Change, ChangeKind, Durability, Inserted, Order, REVOCATION_LIFETIME, Step, Store,
    TimeSource, Touch, Updated, Watch,
};

/// How many changes wait for a reader of the store.
const MAX_WAITING_CHANGES: usize = 1024;

/// A [`Store`] in the memory of this process, for tests and for trying things out.
///
/// Nothing survives the process. Expired documents are deleted from time to time, as new ones come.
pub struct MemoryStore {
    documents: Mutex<Documents>,
    clock: Clock,
    /// Sent to while the documents are locked, so that changes are sent in their order.
    changes: broadcast::Sender<Change>,
}

#[derive(Default)]
struct Documents {
    by_id: HashMap<String, Entry>,
    created_since_sweep: usize,
}

struct Entry {
    document: Document,
    /// The monotonic time at which this store itself set the document's `at` or `renewed`. A date
    /// has milliseconds, in which successive writes could be equal.
    set_at: Option<Duration>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(&Clock::default())
    }

    /// An empty store whose documents expire by this clock, which should be the one that its sessions
    /// live by ([`SessionFairing::with_clock`](crate::SessionFairing::with_clock)).
    #[must_use]
    pub fn with_clock(clock: &Clock) -> Self {
        MemoryStore {
            documents: Mutex::default(),
            clock: clock.clone(),
            changes: broadcast::Sender::new(MAX_WAITING_CHANGES),
        }
    }

    fn tell(&self, kind: ChangeKind, document: &Document) {
        if self.changes.receiver_count() == 0 {
            return;
        }
        let mut change = Change::at(document.id().unwrap_or_default(), kind, self.clock.now());
        change.user = document.get(field::USER).map(RawBsonRef::to_raw_bson);
        let by = document.get("by").and_then(RawBsonRef::as_str);
        change.by = by.map(str::to_owned);
        let _ = self.changes.send(change);
    }

    fn tell_deleted(&self, document: &Document) {
        let expired = Filter::all().before(field::EXPIRES, self.clock.now());
        let kind = match expired.matches(document) {
            true => ChangeKind::Expired,
            false => ChangeKind::Deleted,
        };
        self.tell(kind, document);
    }

    fn delete_up_to(&self, filter: &Filter, limit: usize) -> u64 {
        let mut stored = self.documents.lock();
        let last = stored.take_some(filter, limit);
        last.iter().for_each(|document| self.tell_deleted(document));
        last.len() as u64
    }

    fn tell_updated(&self, before: &Document, update: &Update) {
        let changes = |name| update.contains(&Path::Meta(name));
        if changes(field::RENEWED) {
            let kind = match changes(field::CREATED) {
                true => ChangeKind::Elevated,
                false => ChangeKind::Renewed,
            };
            self.tell(kind, before);
        }
    }

    /// A new document, as a server stores it: with the present time where it says `Timestamp(0, 0)`.
    fn filled(&self, document: Document) -> Entry {
        // Distinguishes the inserts of one second.
        static INSERTED: AtomicU32 = AtomicU32::new(1);
        let is_empty = |value: &RawBsonRef<'_>| value.as_timestamp() == Some(SERVER_TIME);
        if !document.fields().any(|(_, value)| is_empty(&value)) {
            return Entry {
                document,
                set_at: None,
            };
        }
        let seconds = self.clock.now().millis().div_euclid(1000);
        let now = Timestamp {
            time: u32::try_from(seconds).unwrap_or(u32::MAX),
            increment: INSERTED.fetch_add(1, Ordering::Relaxed),
        };
        let fill = |value: RawBsonRef<'_>| match is_empty(&value) {
            true => RawBson::Timestamp(now),
            false => value.to_raw_bson(),
        };
        let filled = document.fields().map(|(name, value)| (name, fill(value)));
        Entry {
            document: Document::from_raw(filled.collect()),
            set_at: Some(self.clock.monotonic()),
        }
    }

    fn aged(&self, entry: &Entry) -> Aged {
        let document = &entry.document;
        let stored = document.get("at").or_else(|| document.get(field::RENEWED));
        let start_of = |at: Timestamp| Moment::from_millis(i64::from(at.time) * 1000);
        let stored = stored.and_then(|at| moment(at).or_else(|| at.as_timestamp().map(start_of)));
        let since = |set: Duration| self.clock.monotonic().saturating_sub(set);
        let age = |stored| match entry.set_at {
            Some(set) => since(set),
            None => self.clock.now().since(stored),
        };
        Aged {
            document: document.only(|name| Aged::FIELDS.contains(&name)),
            age: stored.map(age),
        }
    }
}

/// Shows how many documents there are, and none of them.
impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let documents = self.documents.lock().by_id.len();
        write!(f, "MemoryStore({documents} documents)")
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Documents {
    fn chosen<'a>(&'a self, filter: &'a Filter) -> Box<dyn Iterator<Item = &'a Document> + 'a> {
        let matching = move |document: &&Document| filter.matches(document);
        match filter.wanted_id() {
            Some(id) => Box::new(self.document(id).into_iter().filter(matching)),
            None => {
                let all = self.by_id.values().map(|entry| &entry.document);
                Box::new(all.filter(matching))
            }
        }
    }

    fn document(&self, id: &str) -> Option<&Document> {
        self.by_id.get(id).map(|entry| &entry.document)
    }

    fn update(
        &mut self,
        filter: &Filter,
        update: &Update,
        clock: &Clock,
    ) -> Result<Option<Document>> {
        let Some(before) = self.chosen(filter).next().cloned() else {
            return Ok(None);
        };
        let after = update.apply(&before, clock.now())?;
        if let Some(entry) = before.id().and_then(|id| self.by_id.get_mut(id)) {
            entry.document = after;
            if update.sets_now() {
                entry.set_at = Some(clock.monotonic());
            }
        }
        Ok(Some(before))
    }

    fn take(&mut self, filter: &Filter) -> Option<Document> {
        let id = self.chosen(filter).next()?.id()?.to_owned();
        Some(self.by_id.remove(&id)?.document)
    }

    /// Drops expired documents, whenever as many documents were created as there are: the cost of a
    /// sweep is spread over the documents that it looks at.
    fn sweep(&mut self, now: Moment) -> Vec<Document> {
        self.created_since_sweep += 1;
        if self.created_since_sweep < self.by_id.len().max(1024) {
            return Vec::new();
        }
        self.created_since_sweep = 0;
        self.take_some(&Filter::all().before(field::EXPIRES, now), usize::MAX)
    }

    fn take_some(&mut self, filter: &Filter, limit: usize) -> Vec<Document> {
        let chosen = self
            .by_id
            .extract_if(|_, entry| filter.matches(&entry.document));
        let chosen = chosen.map(|(_, entry)| entry.document);
        chosen.take(limit).collect()
    }
}

#[async_trait]
impl Store for MemoryStore {
    /// Nothing waits, so a call ends when it is polled for the first time.
    fn runs_in_own_tasks(&self) -> bool {
        true
    }

    fn load_now(&self, id: &str) -> Option<Option<Document>> {
        Some(self.documents.lock().document(id).cloned())
    }

    async fn load_many(&self, ids: Vec<String>) -> Result<Vec<Document>> {
        let stored = self.documents.lock();
        let found = ids.iter().filter_map(|id| stored.document(id));
        Ok(found.cloned().collect())
    }

    async fn insert(&self, documents: Vec<Document>, _: Durability) -> Result<Inserted> {
        let mut stored = self.documents.lock();
        let mut created = Inserted::Stored;
        for (at, document) in documents.into_iter().enumerate() {
            let Some(id) = document.id().map(str::to_owned) else {
                continue;
            };
            if stored.by_id.contains_key(&id) {
                if at == 0 {
                    return Ok(Inserted::Exists);
                }
                created = Inserted::Beside;
                continue;
            }
            self.tell(ChangeKind::Inserted, &document);
            stored.by_id.insert(id, self.filled(document));
        }
        let swept = stored.sweep(self.clock.now());
        swept
            .iter()
            .for_each(|document| self.tell_deleted(document));
        Ok(created)
    }

    async fn update(&self, filter: Filter, update: Update, _: Durability) -> Result<Updated> {
        let mut stored = self.documents.lock();
        let before = stored.update(&filter, &update, &self.clock)?;
        if let Some(before) = &before {
            self.tell_updated(before, &update);
        }
        Ok(Updated::of(before.is_some()))
    }

    async fn delete(&self, filter: Filter) -> Result<bool> {
        Ok(self.take(filter).await?.is_some())
    }

    async fn take(&self, filter: Filter) -> Result<Option<Document>> {
        let mut stored = self.documents.lock();
        let last = stored.take(&filter);
        if let Some(last) = &last {
            self.tell_deleted(last);
        }
        Ok(last)
    }

    fn watch(&self) -> Box<dyn Watch> {
        Box::new(MemoryWatch(self.changes.subscribe(), self.clock.clone()))
    }

    async fn ages(&self, ids: Vec<String>) -> Result<Vec<Aged>> {
        let stored = self.documents.lock();
        let found = ids.iter().filter_map(|id| stored.by_id.get(id));
        Ok(found.map(|entry| self.aged(entry)).collect())
    }

    async fn put_revocation(&self, id: &str) -> Result<()> {
        let mut stored = self.documents.lock();
        let now = self.clock.now();
        let before = stored.document(id).cloned();
        let before = before.unwrap_or_else(|| Document::from_bson(&doc! { field::ID: id }));
        let mut update = Update::default();
        update.set("at", date(now));
        update.set(field::EXPIRES, date(now.plus(REVOCATION_LIFETIME)));
        let entry = Entry {
            document: update.apply(&before, now)?,
            set_at: Some(self.clock.monotonic()),
        };
        stored.by_id.insert(id.to_owned(), entry);
        Ok(())
    }

    fn time_source(&self) -> TimeSource {
        TimeSource::Process
    }

    fn touch(&self, touch: Touch) {
        // A touch of a session that is gone changes nothing, which is not an error.
        let (filter, update) = (touch.filter(), touch.update());
        let _ = self.documents.lock().update(&filter, &update, &self.clock);
    }

    async fn find(
        &self,
        filter: Filter,
        order: Order,
        skip: u64,
        limit: u32,
    ) -> Result<Vec<Document>> {
        let stored = self.documents.lock();
        let mut found: Vec<(f64, &Document)> = stored
            .chosen(&filter)
            .map(|document| {
                let created = match order {
                    Order::Id => None,
                    _ => document.get(field::CREATED).and_then(number),
                };
                // Documents without such a time come first.
                (created.unwrap_or(f64::NEG_INFINITY), document)
            })
            .collect();
        found
            .sort_by(|(a, one), (b, other)| a.total_cmp(b).then_with(|| one.id().cmp(&other.id())));
        if order == Order::NewestFirst {
            found.reverse();
        }
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let page = found.into_iter().skip(skip).take(limit as usize);
        Ok(page.map(|(_, document)| document.clone()).collect())
    }

    async fn estimated_count(&self) -> Result<u64> {
        Ok(self.documents.lock().by_id.len() as u64)
    }

    async fn count(&self, filter: Filter) -> Result<u64> {
        Ok(self.documents.lock().chosen(&filter).count() as u64)
    }

    async fn delete_all(&self, filter: Filter) -> Result<u64> {
        Ok(self.delete_up_to(&filter, usize::MAX))
    }

    async fn delete_some(&self, filter: Filter, limit: u32) -> Result<Step> {
        let deleted = self.delete_up_to(&filter, limit as usize);
        Ok(Step {
            deleted,
            is_last: deleted < u64::from(limit),
        })
    }

    async fn ensure_indexes(&self) -> Result<()> {
        Ok(())
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn flush(&self) {}

    fn describe(&self) -> String {
        "in the memory of this process".into()
    }
}

/// The changes of a [`MemoryStore`].
struct MemoryWatch(broadcast::Receiver<Change>, Clock);

const STORE_DROPPED: &str = "the store in memory was dropped";

#[async_trait]
impl Watch for MemoryWatch {
    async fn next(&mut self) -> Result<Option<Change>> {
        const PAUSE: Duration = Duration::from_secs(1);
        match timeout(PAUSE, self.0.recv()).await {
            Ok(Ok(change)) => Ok(Some(change)),
            Ok(Err(RecvError::Lagged(_))) => {
                let now = self.1.now();
                Ok(Some(Change::at("", ChangeKind::Missed, now)))
            }
            Ok(Err(RecvError::Closed)) => {
                Err(Error::store(Operation::WatchSessions, STORE_DROPPED))
            }
            Err(_) => Ok(None),
        }
    }
}
