//! Sessions in the memory of one process: for tests, and for trying things out.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rocket::async_trait;

use crate::clock::{Clock, Moment};
use crate::document::{Document, Filter, Update, number};
use crate::error::Result;
use crate::record::field;
use crate::store::{Created, Durability, Store, Touch, Updated};

/// A [`Store`] in the memory of this process, for tests and for trying things out.
///
/// Nothing survives the process. Expired documents are deleted from time to time, as new ones come.
pub struct MemoryStore {
    documents: Mutex<Documents>,
    clock: Clock,
}

#[derive(Default)]
struct Documents {
    by_id: HashMap<String, Document>,
    created_since_sweep: usize,
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
        }
    }

    fn lock(&self) -> MutexGuard<'_, Documents> {
        self.documents
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows how many documents there are, and none of them.
impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let documents = self.lock().by_id.len();
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
            Some(id) => Box::new(self.by_id.get(id).into_iter().filter(matching)),
            None => Box::new(self.by_id.values().filter(matching)),
        }
    }

    fn update(&mut self, filter: &Filter, update: &Update) -> Result<Option<Document>> {
        let Some(before) = self.chosen(filter).next().cloned() else {
            return Ok(None);
        };
        let after = update.apply(&before)?;
        if let Some(id) = before.id() {
            self.by_id.insert(id.to_owned(), after);
        }
        Ok(Some(before))
    }

    fn take(&mut self, filter: &Filter) -> Option<Document> {
        let id = self.chosen(filter).next()?.id()?.to_owned();
        self.by_id.remove(&id)
    }

    /// Drops what expired, whenever as many documents were made as there are: the cost of a
    /// sweep is spread over what it sweeps.
    fn sweep(&mut self, now: Moment) {
        self.created_since_sweep += 1;
        if self.created_since_sweep >= self.by_id.len().max(1024) {
            self.created_since_sweep = 0;
            let expired = Filter::all().before(field::EXPIRES, now);
            self.by_id.retain(|_, document| !expired.matches(document));
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn load(&self, id: &str) -> Result<Option<Document>> {
        Ok(self.lock().by_id.get(id).cloned())
    }

    async fn create(&self, documents: Vec<Document>, _: Durability) -> Result<Created> {
        let mut stored = self.lock();
        let mut created = Created::Stored;
        for (at, document) in documents.into_iter().enumerate() {
            let Some(id) = document.id().map(str::to_owned) else {
                continue;
            };
            if stored.by_id.contains_key(&id) {
                if at == 0 {
                    return Ok(Created::Exists);
                }
                created = Created::Beside;
                continue;
            }
            stored.by_id.insert(id, document);
        }
        stored.sweep(self.clock.now());
        Ok(created)
    }

    async fn update(&self, filter: Filter, update: Update, _: Durability) -> Result<Updated> {
        let before = self.lock().update(&filter, &update)?;
        Ok(if before.is_some() {
            Updated::Applied
        } else {
            Updated::Gone
        })
    }

    async fn update_returning(
        &self,
        filter: Filter,
        update: Update,
        _: Durability,
    ) -> Result<Option<Document>> {
        self.lock().update(&filter, &update)
    }

    async fn delete(&self, filter: Filter) -> Result<bool> {
        Ok(self.lock().take(&filter).is_some())
    }

    async fn take(&self, filter: Filter) -> Result<Option<Document>> {
        Ok(self.lock().take(&filter))
    }

    fn touch(&self, touch: Touch) {
        // A touch of a session that is gone changes nothing, and that is all right.
        let _ = self.lock().update(&Filter::id(touch.id()), &touch.update());
    }

    async fn find(&self, filter: Filter, skip: u64, limit: u32) -> Result<Vec<Document>> {
        let stored = self.lock();
        let mut found: Vec<(f64, &Document)> = stored
            .chosen(&filter)
            .map(|document| {
                let created = document.get(field::CREATED).and_then(number);
                // What has no such time comes first.
                (created.unwrap_or(f64::NEG_INFINITY), document)
            })
            .collect();
        found
            .sort_by(|(a, one), (b, other)| a.total_cmp(b).then_with(|| one.id().cmp(&other.id())));
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let page = found.into_iter().skip(skip).take(limit as usize);
        Ok(page.map(|(_, document)| document.clone()).collect())
    }

    async fn count(&self, filter: Filter) -> Result<u64> {
        Ok(self.lock().chosen(&filter).count() as u64)
    }

    async fn delete_all(&self, filter: Filter) -> Result<u64> {
        let mut stored = self.lock();
        let before = stored.by_id.len();
        stored.by_id.retain(|_, document| !filter.matches(document));
        Ok((before - stored.by_id.len()) as u64)
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
