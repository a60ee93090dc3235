//! A store that remembers what it was asked, and into which any bytes can be put.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rocket::async_trait;
use rocket_mongo_session::mongodb::bson;
use rocket_mongo_session::store::{
    Aged, Document, Durability, Filter, Inserted, Order, TimeSource, Touch, Update, Updated, Watch,
};
use rocket_mongo_session::testing::Clock;
use rocket_mongo_session::{Error, Store};

use crate::lock;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Load,
    Insert,
    /// An update, a deletion or a touch of the document with the call's id.
    Write,
}

#[derive(Default)]
struct Inner {
    documents: BTreeMap<String, Vec<u8>>,
    calls: Vec<(Call, String)>,
}

/// Copies share what they hold.
#[derive(Clone, Default)]
pub struct Watched(Arc<Mutex<Inner>>);

impl Watched {
    /// What is stored under an id.
    pub fn stored(&self, id: &str) -> Option<Vec<u8>> {
        lock(&self.0).documents.get(id).cloned()
    }

    /// Forgets everything and holds these bytes under this id, whatever they are.
    pub fn hold_only(&self, id: &str, bytes: Vec<u8>) {
        *lock(&self.0) = Inner {
            documents: BTreeMap::from([(id.to_owned(), bytes)]),
            calls: Vec::new(),
        };
    }

    /// What was asked since the last call of this.
    pub fn calls(&self) -> Vec<(Call, String)> {
        std::mem::take(&mut lock(&self.0).calls)
    }

    fn note(&self, call: Call, id: &str) {
        lock(&self.0).calls.push((call, id.to_owned()));
    }

    /// The documents that a filter chooses, and a note that they are about to be written.
    fn chosen(&self, filter: &Filter) -> Vec<(String, Document)> {
        let inner = lock(&self.0);
        let documents = inner.documents.iter();
        let documents =
            documents.map(|(id, bytes)| (id.clone(), Document::from_bytes(bytes.clone())));
        documents
            .filter(|(id, document)| {
                filter.wanted_id().is_none_or(|wanted| wanted == id) && filter.matches(document)
            })
            .collect()
    }

    fn change(&self, filter: &Filter, update: &Update) -> Result<Updated, Error> {
        if let Some(id) = filter.wanted_id() {
            self.note(Call::Write, id);
        }
        let _ = (filter.to_bson(), update.to_bson());
        let Some((id, before)) = self.chosen(filter).into_iter().next() else {
            return Ok(Updated::Gone);
        };
        let after = update.apply_by(&before, &Clock::default())?;
        lock(&self.0).documents.insert(id, after.into_bytes());
        Ok(Updated::Applied)
    }
}

#[async_trait]
impl Store for Watched {
    async fn insert(&self, documents: Vec<Document>, _: Durability) -> Result<Inserted, Error> {
        let mut created = Inserted::Stored;
        for (at, document) in documents.into_iter().enumerate() {
            let id = document.id().expect("an id").to_owned();
            self.note(Call::Insert, &id);
            let documents = &mut lock(&self.0).documents;
            match documents.contains_key(&id) {
                true if at == 0 => return Ok(Inserted::Exists),
                true => created = Inserted::Beside,
                false => drop(documents.insert(id, document.into_bytes())),
            }
        }
        Ok(created)
    }

    async fn update(&self, f: Filter, update: Update, _: Durability) -> Result<Updated, Error> {
        self.change(&f, &update)
    }

    async fn delete(&self, filter: Filter) -> Result<bool, Error> {
        Ok(self.take(filter).await?.is_some())
    }

    async fn take(&self, filter: Filter) -> Result<Option<Document>, Error> {
        if let Some(id) = filter.wanted_id() {
            self.note(Call::Write, id);
        }
        let Some((id, document)) = self.chosen(&filter).into_iter().next() else {
            return Ok(None);
        };
        lock(&self.0).documents.remove(&id);
        Ok(Some(document))
    }

    async fn load_many(&self, ids: Vec<String>) -> Result<Vec<Document>, Error> {
        ids.iter().for_each(|id| self.note(Call::Load, id));
        let found = ids.iter().filter_map(|id| self.stored(id));
        Ok(found.map(Document::from_bytes).collect())
    }

    async fn ages(&self, ids: Vec<String>) -> Result<Vec<Aged>, Error> {
        // The fuzz targets ask for no age: what is stored has none.
        let found = ids.iter().filter_map(|id| self.stored(id));
        let aged = |bytes| Aged {
            document: Document::from_bytes(bytes),
            age: None,
        };
        Ok(found.map(aged).collect())
    }

    async fn put_revocation(&self, id: &str) -> Result<(), Error> {
        let document = bson::doc! { "_id": id, "at": bson::DateTime::now() };
        let bytes = bson::to_vec(&document).expect("a small document");
        lock(&self.0).documents.insert(id.to_owned(), bytes);
        Ok(())
    }

    fn watch(&self) -> Box<dyn Watch> {
        unreachable!("no fuzz target asks for changes")
    }

    fn time_source(&self) -> TimeSource {
        TimeSource::Process
    }

    fn touch(&self, touch: Touch) {
        self.note(Call::Write, touch.id());
        let mut inner = lock(&self.0);
        let Some(bytes) = inner.documents.get_mut(touch.id()) else {
            return;
        };
        let document = Document::from_bytes(bytes.clone());
        if touch.filter().matches(&document)
            && let Ok(after) = touch.update().apply_by(&document, &Clock::default())
        {
            *bytes = after.into_bytes();
        }
    }

    async fn find(
        &self,
        filter: Filter,
        _: Order,
        skip: u64,
        limit: u32,
    ) -> Result<Vec<Document>, Error> {
        let chosen = self.chosen(&filter).into_iter();
        let chosen = chosen.skip(skip as usize).take(limit as usize);
        Ok(chosen.map(|(_, document)| document).collect())
    }

    async fn estimated_count(&self) -> Result<u64, Error> {
        Ok(self.chosen(&Filter::default()).len() as u64)
    }

    async fn count(&self, filter: Filter) -> Result<u64, Error> {
        Ok(self.chosen(&filter).len() as u64)
    }

    async fn delete_all(&self, filter: Filter) -> Result<u64, Error> {
        let chosen = self.chosen(&filter);
        for (id, _) in &chosen {
            self.note(Call::Write, id);
            lock(&self.0).documents.remove(id);
        }
        Ok(chosen.len() as u64)
    }

    async fn ensure_indexes(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn flush(&self) {}

    fn describe(&self) -> String {
        "any bytes".into()
    }
}
