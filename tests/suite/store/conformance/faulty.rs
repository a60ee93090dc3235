//! A store that keeps every promise, but for one small fault: what the conformance suite must find.
//!
//! It keeps documents in a map, and a copy of the map as it would be on a disk.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mongodb::bson::{Bson, DateTime, Document as Query, Timestamp, doc};
use rocket::async_trait;
use rocket::tokio::sync::broadcast;
use rocket::tokio::task::yield_now;
use rocket_mongo_session::store::{
    Aged, Change, ChangeKind, Document, Durability, Filter, Inserted, Order, Step, TimeSource,
    Touch, Update, Updated, Watch,
};
use rocket_mongo_session::testing::Clock;
use rocket_mongo_session::{Error, Result, Store};

mod faults;

pub use faults::{Call, FAULTS, Fault};

type Documents = BTreeMap<String, Document>;

pub struct Faulty {
    fault: Fault,
    documents: Mutex<Documents>,
    /// As they were before the last write.
    before: Mutex<Documents>,
    disk: Mutex<Documents>,
    has_indexes: AtomicBool,
    changes: broadcast::Sender<Change>,
}

struct Changes(broadcast::Receiver<Change>);

#[async_trait]
impl Watch for Changes {
    async fn next(&mut self) -> Result<Option<Change>> {
        Ok(self.0.try_recv().ok())
    }
}

impl Faulty {
    pub fn new(fault: Fault) -> Self {
        Faulty {
            fault,
            documents: Mutex::default(),
            before: Mutex::default(),
            disk: Mutex::default(),
            has_indexes: AtomicBool::new(false),
            changes: broadcast::Sender::new(64),
        }
    }

    /// What is left when the process dies and begins again.
    pub fn crashed(self) -> Self {
        let documents = held(&self.disk).clone();
        *held(&self.documents) = documents;
        self
    }

    fn tell(&self, kind: ChangeKind, id: &str) {
        if !(self.is(Fault::TellsNoDeletion) && kind == ChangeKind::Deleted) {
            let _ = self
                .changes
                .send(Change::new(id, kind, DateTime::now().timestamp_millis()));
        }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// The documents, to be written.
    fn write(&self) -> MutexGuard<'_, Documents> {
        let documents = held(&self.documents);
        if self.is(Fault::LoadLagsBehind) || self.is(Fault::FindLagsBehind) {
            *held(&self.before) = documents.clone();
        }
        documents
    }

    fn read(&self, lagging: Fault) -> Documents {
        if self.is(lagging) {
            held(&self.before).clone()
        } else {
            held(&self.documents).clone()
        }
    }

    /// A call of this kind is about to answer.
    fn done(&self, call: Call) {
        let is_late = self.is(Fault::AnswersBeforeTheDisk(call));
        if !is_late && matches!(self.fault, Fault::None | Fault::AnswersBeforeTheDisk(_)) {
            *held(&self.disk) = held(&self.documents).clone();
        }
    }

    fn matches(&self, filter: &Filter, document: &Document) -> bool {
        let matches = filter.matches(document);
        match self.fault {
            Fault::ComparesElements | Fault::MissingIsNull => {
                matches || self.matches_too(&query(&filter.to_bson()), document)
            }
            Fault::NumbersHaveTypes => {
                let (query, document) = (query(&filter.to_bson()), query(document.as_bytes()));
                let wanted = query
                    .get_document("user")
                    .ok()
                    .and_then(|user| user.get("$eq"));
                let types = wanted.zip(document.get("user"));
                matches && types.is_none_or(|(a, b)| a.element_type() == b.element_type())
            }
            _ => matches,
        }
    }

    /// What two faults take for equal, where nothing else is asked of the document.
    fn matches_too(&self, query: &Query, document: &Document) -> bool {
        let document = self::query(document.as_bytes());
        let both = query
            .get_document("$expr")
            .and_then(|expr| expr.get_array("$eq"));
        let Some([Bson::String(path), Bson::Document(literal)]) = both.ok().map(Vec::as_slice)
        else {
            return false;
        };
        let name = path.strip_prefix("$value.").unwrap_or_default();
        let (wanted, values) = (literal.get("$literal"), document.get_document("value").ok());
        let is_equal = match (values.and_then(|values| values.get(name)), wanted) {
            (Some(Bson::Array(elements)), Some(wanted)) => {
                self.is(Fault::ComparesElements) && elements.contains(wanted)
            }
            (None, Some(Bson::Null)) => self.is(Fault::MissingIsNull),
            _ => false,
        };
        is_equal && query.len() == 2 && query.get("_id") == document.get("_id")
    }

    /// The one document that a filter chooses.
    fn chosen(&self, documents: &Documents, filter: &Filter) -> Option<(String, Document)> {
        let (id, document) = documents.get_key_value(filter.wanted_id()?)?;
        let is_chosen = self.matches(filter, document);
        is_chosen.then(|| (id.clone(), document.clone()))
    }

    /// All documents that a filter chooses.
    fn all(&self, documents: &Documents, filter: &Filter) -> Vec<Document> {
        let chosen = documents
            .values()
            .filter(|document| self.matches(filter, document));
        chosen.cloned().collect()
    }

    /// The document as an update leaves it.
    fn changed(&self, update: &Update, before: &Document) -> Result<Document> {
        let after = update.apply_by(before, &Clock::default())?;
        let was = query(before.as_bytes());
        Ok(match self.fault {
            Fault::PartialUpdate => edited(&after, |after| {
                if let Some(user) = was.get("user") {
                    after.insert("user", user);
                }
            }),
            Fault::ForgetsUnknownFields => edited(&after, |after| drop(after.remove("unknown"))),
            Fault::NeverAdds => edited(&after, |after| {
                if let Some(Bson::Document(values)) = after.get_mut("value") {
                    let was = was.get_document("value").cloned().unwrap_or_default();
                    let kept = std::mem::take(values).into_iter();
                    *values = kept.filter(|(name, _)| was.contains_key(name)).collect();
                }
            }),
            Fault::KnowsNoPresent => edited(&after, |after| drop(after.remove("renewed"))),
            _ => after,
        })
    }

    /// Changes the one document.
    async fn change(&self, filter: &Filter, update: &Update) -> Result<Updated> {
        if self.is(Fault::ReadsThenWrites) {
            let read = held(&self.documents).clone();
            let Some((id, before)) = self.chosen(&read, filter) else {
                return Ok(Updated::Gone);
            };
            let after = self.changed(update, &before)?;
            yield_now().await; // as long as a network takes
            self.write().insert(id, after);
            return Ok(Updated::Applied);
        }
        let mut documents = self.write();
        let chosen = match filter.wanted_id() {
            Some(id) if self.is(Fault::UpdatesByIdAlone) => {
                let document = documents.get(id).cloned();
                document.map(|document| (id.to_owned(), document))
            }
            _ => self.chosen(&documents, filter),
        };
        let Some((id, before)) = chosen else {
            if let Some(id) = filter.wanted_id().filter(|_| self.is(Fault::Upserts))
                && !documents.contains_key(id)
            {
                let empty = Document::from_bytes(bytes(&doc! { "_id": id }));
                documents.insert(id.to_owned(), update.apply_by(&empty, &Clock::default())?);
            }
            return Ok(Updated::Gone);
        };
        let after = self.changed(update, &before).inspect_err(|_| {
            if self.is(Fault::HalfDone) {
                let half = edited(&before, |half| drop(half.insert("user", 9_i64)));
                documents.insert(id.clone(), half);
            }
        });
        let after = after?;
        if query(&update.to_bson()).contains_key("$currentDate") {
            self.tell(ChangeKind::Renewed, &id);
        }
        let is_same = after == before;
        documents.insert(id, after);
        Ok(match self.fault {
            Fault::CountsModified if is_same => Updated::Gone,
            _ => Updated::Applied,
        })
    }

    /// Ends the one document; gives it as it was.
    async fn end(&self, filter: &Filter) -> Option<Document> {
        let in_two_steps = self.is(Fault::TakesInTwoSteps);
        if in_two_steps || self.is(Fault::TakesAnOldCopy) {
            let read = held(&self.documents).clone();
            let (id, last) = self.chosen(&read, filter)?;
            yield_now().await;
            let was_there = self.write().remove(&id).is_some();
            return (was_there || in_two_steps).then_some(last);
        }
        let mut documents = self.write();
        if self.is(Fault::DeletesByIdAlone) {
            return documents.remove(filter.wanted_id()?);
        }
        let (id, last) = self.chosen(&documents, filter)?;
        documents.remove(&id);
        self.tell(ChangeKind::Deleted, &id);
        Some(last)
    }

    /// A document as it is kept.
    fn kept(&self, document: &Document) -> Document {
        match self.fault {
            Fault::CutsLongTexts => edited(document, |document| {
                for (_, value) in document.iter_mut() {
                    if let Bson::String(text) = value {
                        text.truncate(1 << 16);
                    }
                }
            }),
            _ => document.clone(),
        }
    }
}

#[async_trait]
impl Store for Faulty {
    async fn load(&self, id: &str) -> Result<Option<Document>> {
        match self.fault {
            Fault::Panics => panic!("no document of {id}"),
            _ => Ok(self.read(Fault::LoadLagsBehind).remove(id)),
        }
    }

    async fn insert(&self, documents: Vec<Document>, _: Durability) -> Result<Inserted> {
        let ids = documents.iter().filter_map(Document::id);
        let ids: Vec<String> = ids.map(str::to_owned).collect();
        let mut looked = None;
        if self.is(Fault::LooksThenCreates) {
            looked = Some(held(&self.documents).contains_key(&ids[0]));
            yield_now().await;
        }
        let mut stored = self.write();
        let exists = looked.unwrap_or_else(|| stored.contains_key(&ids[0]))
            && !self.is(Fault::CreateReplaces);
        let mut created = Inserted::Stored;
        for (at, (id, document)) in ids.into_iter().zip(&documents).enumerate() {
            if at == 0 && exists {
                created = Inserted::Exists;
                if !self.is(Fault::KeepsTombstonesWithoutSession) {
                    break;
                }
            } else if at > 0 && stored.contains_key(&id) && !self.is(Fault::ReplacesTombstones) {
                created = match self.fault {
                    Fault::NeverBeside => created,
                    _ => Inserted::Beside,
                };
                if self.is(Fault::StopsAtATombstone) {
                    break;
                }
            } else {
                self.tell(ChangeKind::Inserted, &id);
                stored.insert(id, filled(&self.kept(document)));
            }
        }
        drop(stored);
        self.done(Call::Insert);
        Ok(created)
    }

    async fn update(&self, filter: Filter, update: Update, _: Durability) -> Result<Updated> {
        let updated = self.change(&filter, &update).await?;
        self.done(Call::Update);
        Ok(updated)
    }

    async fn delete(&self, filter: Filter) -> Result<bool> {
        let deleted = self.end(&filter).await.is_some();
        self.done(Call::Delete);
        Ok(deleted || self.is(Fault::DeleteAlwaysSaysTrue))
    }

    async fn take(&self, filter: Filter) -> Result<Option<Document>> {
        let taken = match self.fault {
            Fault::TakeLeavesTheDocument => {
                let chosen = self.chosen(&held(&self.documents), &filter);
                chosen.map(|(_, document)| document)
            }
            _ => self.end(&filter).await,
        };
        self.done(Call::Take);
        Ok(taken)
    }

    async fn load_many(&self, ids: Vec<String>) -> Result<Vec<Document>> {
        let stored = held(&self.documents);
        let found = ids.iter().filter_map(|id| stored.get(id)).cloned();
        Ok(match self.fault {
            Fault::LoadsOneOfMany => found.take(1).collect(),
            _ => found.collect(),
        })
    }

    async fn times(&self, ids: Vec<String>, _: bool) -> Result<Vec<Document>> {
        let stored = held(&self.documents);
        let found = ids.iter().filter_map(|id| stored.get(id)).cloned();
        Ok(match self.fault {
            Fault::FollowsOneBatch => found.take(101).collect(),
            Fault::TellsNoEpoch => {
                let sessions = found.filter(|one| one.id().is_some_and(|id| !id.starts_with('~')));
                sessions.collect()
            }
            _ => found.collect(),
        })
    }

    fn watch(&self) -> Box<dyn Watch> {
        Box::new(Changes(self.changes.subscribe()))
    }

    async fn ages(&self, ids: Vec<String>) -> Result<Vec<Aged>> {
        let stored = held(&self.documents);
        let found = ids.iter().filter_map(|id| stored.get(id));
        let aged = |document: &Document| {
            let fields = query(document.as_bytes());
            let at = fields.get("at").or_else(|| fields.get("renewed"));
            let since = |millis: i64| DateTime::now().timestamp_millis().saturating_sub(millis);
            let millis = match at {
                Some(Bson::DateTime(date)) => Some(since(date.timestamp_millis())),
                Some(Bson::Timestamp(at)) => Some(since(i64::from(at.time) * 1000)),
                Some(Bson::Double(seconds)) if self.is(Fault::AgesOfNumbers) => {
                    Some(since((seconds * 1000.0) as i64))
                }
                _ => None,
            };
            let kept = fields.into_iter();
            let kept = kept.filter(|(name, _)| Aged::FIELDS.contains(&name.as_str()));
            Aged {
                document: Document::from_bytes(bytes(&kept.collect())),
                age: millis.map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0))),
            }
        };
        Ok(found.map(aged).collect())
    }

    async fn put_revocation(&self, id: &str) -> Result<()> {
        let now = DateTime::now().timestamp_millis();
        let mut stored = self.write();
        let mut document = stored
            .get(id)
            .map_or_else(|| doc! { "_id": id }, |before| query(before.as_bytes()));
        if self.is(Fault::RevokesOnce) && document.contains_key("at") {
            return Ok(());
        }
        document.insert("at", DateTime::from_millis(now));
        document.insert("expires", DateTime::from_millis(now + 3_600_000));
        stored.insert(id.to_owned(), Document::from_bytes(bytes(&document)));
        drop(stored);
        self.done(Call::PutRevocation);
        Ok(())
    }

    fn time_source(&self) -> TimeSource {
        TimeSource::Server
    }

    fn touch(&self, touch: Touch) {
        let mut documents = self.write();
        match self.fault {
            Fault::LosesTouches => return,
            Fault::TouchCreates if !documents.contains_key(touch.id()) => {
                let empty = Document::from_bytes(bytes(&doc! { "_id": touch.id() }));
                documents.insert(touch.id().to_owned(), empty);
            }
            _ => {}
        }
        for (id, document) in documents.iter_mut() {
            let is_chosen = match self.fault {
                Fault::TouchesEverybody => true,
                Fault::TouchRevives => id == touch.id(),
                _ => touch.filter().matches(document),
            };
            if !is_chosen {
                continue;
            }
            let before = match self.fault {
                Fault::TouchSets => edited(document, |document| {
                    document.remove("accessed");
                    document.remove("expires");
                }),
                _ => document.clone(),
            };
            let after = touch
                .update()
                .apply_by(&before, &Clock::default())
                .expect("times only grow");
            // In the order that the fields had.
            let (was, is) = (query(document.as_bytes()), query(after.as_bytes()));
            let names = was
                .keys()
                .chain(is.keys().filter(|name| !was.contains_key(*name)));
            let ordered = names.filter_map(|name| Some((name.clone(), is.get(name)?.clone())));
            *document = Document::from_bytes(bytes(&ordered.collect()));
        }
    }

    async fn find(
        &self,
        filter: Filter,
        order: Order,
        skip: u64,
        limit: u32,
    ) -> Result<Vec<Document>> {
        if self.is(Fault::NeverAnswers) {
            std::future::pending::<()>().await;
        }
        let documents = self.read(Fault::FindLagsBehind);
        let mut found = self.all(&documents, &filter);
        if self.is(Fault::ListsTombstones) {
            let tombstones = documents.iter().filter(|(id, _)| id.starts_with('~'));
            found.extend(tombstones.map(|(_, tombstone)| tombstone.clone()));
        }
        if order != Order::Id && !self.is(Fault::FindsInTheOrderOfIds) {
            // Stable, and they come in the order of their ids.
            found.sort_by_cached_key(|document| {
                let created = query(document.as_bytes()).get("created").cloned();
                created.as_ref().and_then(millis)
            });
        }
        let is_reversed = order == Order::NewestFirst;
        if is_reversed != self.is(Fault::FindsTheNewestFirst) {
            found.reverse();
        }
        let skip = match self.fault {
            Fault::IgnoresSkip => 0,
            _ => usize::try_from(skip).unwrap_or(usize::MAX),
        };
        let limit = match self.fault {
            Fault::ZeroMeansUnlimited if limit == 0 => usize::MAX,
            Fault::EndsAfterABatch => (limit as usize).min(101),
            _ => limit as usize,
        };
        Ok(found.into_iter().skip(skip).take(limit).collect())
    }

    async fn estimated_count(&self) -> Result<u64> {
        Ok(self.read(Fault::FindLagsBehind).len() as u64)
    }

    async fn count(&self, filter: Filter) -> Result<u64> {
        let documents = held(&self.documents);
        let count = match self.fault {
            Fault::CountsWithoutTheFilter => documents.len(),
            _ => self.all(&documents, &filter).len(),
        };
        Ok(count as u64 + u64::from(self.is(Fault::CountsOneMore) && count > 0))
    }

    async fn delete_all(&self, filter: Filter) -> Result<u64> {
        let mut documents = self.write();
        let mut gone: Vec<String> = documents
            .iter()
            .filter(|(id, document)| {
                let is_taken = self.is(Fault::DeleteAllTakesTombstones) && id.starts_with('~');
                is_taken || self.matches(&filter, document)
            })
            .map(|(id, _)| id.clone())
            .collect();
        if self.is(Fault::DeleteAllStopsAtTen) {
            gone.truncate(10);
        }
        for id in &gone {
            documents.remove(id);
        }
        drop(documents);
        self.done(Call::DeleteAll);
        Ok(match self.fault {
            Fault::DeleteAllDoesNotCount => 0,
            _ => gone.len() as u64,
        })
    }

    async fn delete_some(&self, filter: Filter, limit: u32) -> Result<Step> {
        if self.is(Fault::DeleteSomeDeletesAll) {
            let deleted = self.delete_all(filter).await?;
            return Ok(Step {
                deleted,
                is_last: true,
            });
        }
        let mut documents = self.write();
        let chosen = documents
            .iter()
            .filter(|(_, document)| self.matches(&filter, document));
        let chosen = chosen.map(|(id, _)| id.clone()).take(limit as usize);
        let chosen: Vec<String> = chosen.collect();
        for id in &chosen {
            documents.remove(id);
        }
        Ok(Step {
            deleted: chosen.len() as u64,
            is_last: chosen.len() < limit as usize && !self.is(Fault::DeleteSomeNeverEnds),
        })
    }

    async fn ensure_indexes(&self) -> Result<()> {
        let again = self.has_indexes.swap(true, Ordering::SeqCst);
        match self.fault {
            Fault::IndexesOnce if again => {
                let exists = std::io::Error::other("the index exists");
                return Err(Error::store(
                    rocket_mongo_session::Operation::MakeIndexes,
                    exists,
                ));
            }
            Fault::IndexesEmptyTheStore => self.write().clear(),
            _ => {}
        }
        Ok(())
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn flush(&self) {}

    fn describe(&self) -> String {
        format!("a store with a fault: {:?}", self.fault)
    }
}

fn held(documents: &Mutex<Documents>) -> MutexGuard<'_, Documents> {
    documents.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A time that the suite sorts by, in milliseconds.
fn millis(seconds: &Bson) -> Option<i64> {
    match seconds {
        Bson::Double(seconds) => Some((seconds * 1000.0).round() as i64),
        Bson::Int64(seconds) => Some(seconds * 1000),
        _ => None,
    }
}

/// A new document with the present time where it leaves a timestamp empty.
fn filled(document: &Document) -> Document {
    const EMPTY: Bson = Bson::Timestamp(Timestamp {
        time: 0,
        increment: 0,
    });
    let fields = query(document.as_bytes());
    if !fields.values().any(|value| *value == EMPTY) {
        return document.clone();
    }
    let seconds = DateTime::now().timestamp_millis() / 1000;
    let now = Bson::Timestamp(Timestamp {
        time: u32::try_from(seconds).expect("before 2106"),
        increment: 1,
    });
    let fields = fields.into_iter().map(|(name, value)| match value {
        EMPTY => (name, now.clone()),
        value => (name, value),
    });
    Document::from_bytes(bytes(&fields.collect()))
}

fn query(bytes: &[u8]) -> Query {
    Query::from_reader(bytes).expect("a document")
}

fn bytes(document: &Query) -> Vec<u8> {
    let mut bytes = Vec::new();
    document.to_writer(&mut bytes).expect("a document");
    bytes
}

fn edited(document: &Document, edit: impl FnOnce(&mut Query)) -> Document {
    let mut document = query(document.as_bytes());
    edit(&mut document);
    Document::from_bytes(bytes(&document))
}
