use std::fmt;
use std::sync::Arc;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, RawBson, doc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::sample::{DATA, a_tombstone, at, id, listed, path, raw, touch};
use super::{Failure, Kept, text};
use crate::clock::Moment;
use crate::document::key::Field;
use crate::document::value;
use crate::document::{Operator, Path, date};
use crate::error::{Error, Result};
use crate::record::{binary, field};
use crate::store::memory::MemoryStore;
use crate::store::{Document, Filter, Order, Store, Touch, Update};

/// How many programs are tried, and how long each is.
const PROGRAMS: u64 = 120;
const STEPS: usize = 14;

/// Whatever calls come one after the other, the store returns for each what
/// [`MemoryStore`](crate::MemoryStore) does, and holds the same documents in the end. That is the
/// whole meaning of filters and updates: what is equal, what a comparison with another type says,
/// where a new field goes.
pub async fn does_what_the_memory_store_does(store: Arc<dyn Store>) -> Kept {
    let origin = at(0);
    for seed in 0..PROGRAMS {
        let mut dice = Dice {
            rng: StdRng::seed_from_u64(seed),
            origin,
        };
        let program: Vec<Step> = (0..STEPS).map(|_| dice.step()).collect();
        if let Some(difference) = compare(&*store, &program).await? {
            return Err(shrink(&*store, program, difference).await);
        }
    }
    Ok(())
}

/// Leaves out every step without which the program still shows a difference.
async fn shrink(store: &dyn Store, mut program: Vec<Step>, mut difference: String) -> Failure {
    let mut at = 0;
    while at < program.len() {
        let mut shorter = program.clone();
        shorter.remove(at);
        match compare(store, &shorter).await {
            Ok(Some(still)) => (program, difference) = (shorter, still),
            _ => at += 1,
        }
    }
    let steps: String = program.iter().map(|step| format!("\n    {step}")).collect();
    Failure::new(format!("{difference} after{steps}"))
}

/// Carries a program out on both stores; says where they differ.
async fn compare(store: &dyn Store, program: &[Step]) -> Result<Option<String>> {
    store.delete_all(Filter::all()).await?;
    let memory = MemoryStore::new();
    for step in program {
        let (ours, theirs) = (step.run(&memory).await?, step.run(store).await?);
        if ours != theirs {
            return Ok(Some(format!("it answers {theirs} and not {ours}")));
        }
    }
    for document in memory
        .find(Filter::all(), Order::OldestFirst, 0, 100)
        .await?
    {
        let load = Step::Load(document.id().unwrap_or_default().to_owned());
        let (ours, theirs) = (load.run(&memory).await?, load.run(store).await?);
        if ours != theirs {
            return Ok(Some(format!("it holds {theirs} and not {ours}")));
        }
    }
    let all = Step::Count(Filter::all());
    let (ours, theirs) = (all.run(&memory).await?, all.run(store).await?);
    Ok((ours != theirs).then(|| format!("it holds {theirs} documents and not {ours}")))
}

#[derive(Clone)]
enum Step {
    Load(String),
    Insert(Vec<Document>),
    Update(Filter, Update),
    Delete(Filter),
    Take(Filter),
    Touch(Touch),
    Find(Filter, u64, u32),
    Count(Filter),
    DeleteAll(Filter),
}

#[derive(PartialEq)]
enum Outcome {
    Done(String),
    Documents(Vec<Document>),
}

impl Step {
    /// Carries the step out. An error that is not part of a store's promises ends the program.
    async fn run(&self, store: &dyn Store) -> Result<Outcome> {
        match self.outcome(store).await {
            Err(Error::Mismatch { .. }) => Ok(Outcome::Done("Mismatch".to_owned())),
            other => other,
        }
    }

    async fn outcome(&self, store: &dyn Store) -> Result<Outcome> {
        let done = |what: &dyn fmt::Debug| Outcome::Done(format!("{what:?}"));
        let one = |document: Option<Document>| Outcome::Documents(Vec::from_iter(document));
        Ok(match self.clone() {
            Step::Load(id) => one(store.load(&id).await?),
            Step::Insert(documents) => done(&store.insert(documents, DATA).await?),
            Step::Update(filter, update) => done(&store.update(filter, update, DATA).await?),
            Step::Delete(filter) => done(&store.delete(filter).await?),
            Step::Take(filter) => one(store.take(filter).await?),
            Step::Touch(touch) => {
                store.touch(touch);
                store.flush().await;
                done(&())
            }
            Step::Find(filter, skip, limit) => {
                let found = store.find(filter, Order::OldestFirst, skip, limit).await?;
                Outcome::Documents(found.iter().map(listed).collect())
            }
            Step::Count(filter) => done(&store.count(filter).await?),
            Step::DeleteAll(filter) => done(&store.delete_all(filter).await?),
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = |filter: &Filter| text(&Document::from_bytes(filter.to_bson()));
        let changes = |update: &Update| text(&Document::from_bytes(update.to_bson()));
        match self {
            Step::Load(id) => write!(f, "load {id}"),
            Step::Insert(documents) => {
                let documents: Vec<String> = documents.iter().map(text).collect();
                write!(f, "create {}", documents.join(" and "))
            }
            Step::Update(filter, update) => {
                write!(f, "update {} with {}", query(filter), changes(update))
            }
            Step::Delete(filter) => write!(f, "delete {}", query(filter)),
            Step::Take(filter) => write!(f, "take {}", query(filter)),
            Step::Touch(touch) => {
                write!(f, "touch {} with {}", touch.id(), changes(&touch.update()))
            }
            Step::Find(filter, skip, limit) => {
                write!(f, "find {} skip {skip} limit {limit}", query(filter))
            }
            Step::Count(filter) => write!(f, "count {}", query(filter)),
            Step::DeleteAll(filter) => write!(f, "delete_all {}", query(filter)),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Done(what) => f.write_str(what),
            Outcome::Documents(documents) => {
                let documents: Vec<String> = documents.iter().map(text).collect();
                write!(f, "[{}]", documents.join(", "))
            }
        }
    }
}

/// The values' names: few, so that steps meet.
const NAMES: [&str; 9] = ["a", "b", "a%2Eb", "%24x", "_f_", "ключ", "B", "a$b", "7"];

/// Draws the steps of random programs.
struct Dice {
    rng: StdRng,
    origin: Moment,
}

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    fn step(&mut self) -> Step {
        match self.below(20) {
            0 => Step::Load(self.id()),
            1..=4 => Step::Insert(self.documents()),
            5..=11 => Step::Update(self.filter_of_one(), self.update()),
            12 => Step::Delete(self.filter_of_one()),
            13 => Step::Take(self.filter_of_one()),
            14 => Step::Touch(touch(&self.id(), self.moment(), self.moment())),
            15 | 16 => {
                let (skip, limit) = (self.below(3) as u64, self.below(4) as u32);
                Step::Find(self.filter(), skip, limit)
            }
            17 | 18 => Step::Count(self.filter()),
            _ => Step::DeleteAll(self.filter()),
        }
    }

    fn id(&mut self) -> String {
        id(self.below(3) as u32)
    }

    /// Nothing expires while the suite runs, so that no store sweeps it.
    fn moment(&mut self) -> Moment {
        let hours = [24, 25, 26][self.below(3)];
        Moment::from_millis(self.origin.millis() + hours * 3_600_000 + self.below(3) as i64)
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.below(NAMES.len())]
    }

    fn documents(&mut self) -> Vec<Document> {
        let mut values = bson::Document::new();
        for _ in 0..self.below(5) {
            let (name, value) = (self.name(), self.value());
            values.insert(name, Bson::try_from(value).unwrap_or(Bson::Null));
        }
        let number = [1_i64, 2][self.below(2)];
        let times = [self.moment(), self.moment(), self.moment()];
        let mut document = doc! {
            field::ID: self.id(),
            field::CREATED: times[0].seconds(),
            field::ACCESSED: times[1].seconds(),
            field::VALUE: values,
            field::EXPIRES: date(times[2]),
            field::USER: number,
            "unknown": [number],
        };
        match self.below(5) {
            0 => drop(document.remove(field::EXPIRES)),
            1 => {
                document.insert(field::CREATED, times[0].millis() / 1000);
                document.insert(field::ACCESSED, times[1].millis() / 1000);
            }
            2 => drop(document.insert(field::USER, doc! { "id": number as i32, "of": [1.0] })),
            _ => {}
        }
        let mut documents = vec![raw(&document)];
        for _ in 0..self.below(3).saturating_sub(1) {
            let number = self.below(2) as u32;
            documents.push(a_tombstone(number, 0));
        }
        documents
    }

    fn value(&mut self) -> RawBson {
        match self.below(16) {
            0 => RawBson::Int64(1),
            1 => RawBson::Int32(1),
            2 => RawBson::Double(1.0),
            3 => RawBson::Double([0.0, -0.0, f64::NAN, 0.5][self.below(4)]),
            4 => RawBson::Int64([i64::MAX, i64::MIN, 1 << 53, (1 << 53) + 1][self.below(4)]),
            5 => RawBson::Double(
                [9_223_372_036_854_775_807.0, 9_007_199_254_740_992.0][self.below(2)],
            ),
            6 => RawBson::Null,
            7 => RawBson::Boolean(true),
            // Two that an expression would take for a field and for a variable.
            8 => RawBson::String(["", "1", "é", "$user", "$$NOW"][self.below(5)].into()),
            9 => RawBson::DateTime(date(self.moment())),
            10 => RawBson::Binary(Binary {
                subtype: [BinarySubtype::Generic, BinarySubtype::UserDefined(0x80)][self.below(2)],
                bytes: vec![1],
            }),
            11 => self.nested("x"),
            12 => self.nested("y"),
            _ => value::from_elements(&self.elements()),
        }
    }

    /// A document with one number in one of its types: documents compare by value, too.
    fn nested(&mut self, name: &str) -> RawBson {
        let number = [Bson::Int32(1), Bson::Int64(1), Bson::Double(1.0)][self.below(3)].clone();
        let mut whole = bson::RawDocumentBuf::new();
        whole.append(name, RawBson::try_from(number).unwrap_or(RawBson::Null));
        RawBson::Document(whole)
    }

    fn elements(&mut self) -> Vec<RawBson> {
        let number = [RawBson::Int32(1), RawBson::Int64(1), RawBson::Null][self.below(3)].clone();
        vec![number; self.below(3)]
    }

    /// A filter as single documents are chosen by.
    fn filter_of_one(&mut self) -> Filter {
        let filter = Filter::id(&self.id());
        self.conditions(filter, 3)
    }

    fn filter(&mut self) -> Filter {
        let filter = match self.below(4) {
            0 => Filter::all(),
            1 => Filter::ids(vec![self.id(), self.id()]),
            _ => Filter::sessions(),
        };
        self.conditions(filter, 4)
    }

    fn conditions(&mut self, mut filter: Filter, most: usize) -> Filter {
        for _ in 0..self.below(most) {
            filter = match self.below(10) {
                0 => filter.except(&self.id()),
                1 => filter.equals(field::USER, RawBson::Int64([1, 2][self.below(2)])),
                2 => filter.equals(field::USER, RawBson::Double(1.0)),
                3 => filter.not_before(field::EXPIRES, self.moment()),
                4 => filter.before(field::EXPIRES, self.moment()),
                5 => filter.no_date(field::EXPIRES),
                6 => filter.older(field::ACCESSED, self.moment()),
                7 => filter.still(Path::Value(Field::stored(self.name())), Some(self.value())),
                8 => filter.unless_before(field::EXPIRES, self.moment()),
                _ => filter.still(Path::Value(Field::stored(self.name())), None),
            };
        }
        filter
    }

    fn update(&mut self) -> Update {
        let mut update = Update::default();
        for _ in 0..=self.below(4) {
            let operation = match self.below(6) {
                0 => Operator::Unset,
                1 => Operator::Increment([1, -1, i64::MAX][self.below(3)]),
                2 | 3 => Operator::Push(self.elements()),
                _ => Operator::Set(self.value()),
            };
            update.insert(path(self.name()), operation);
        }
        match self.below(6) {
            0 => update.raise(field::ACCESSED, self.moment().seconds()),
            1 => update.raise(field::EXPIRES, date(self.moment())),
            2 => update.set(field::TOKEN, binary(&[1; 32])),
            3 => update.set(field::EXPIRES, date(self.moment())),
            _ => {}
        }
        update
    }
}
