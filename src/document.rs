//! What crosses the [`Store`](crate::store::Store) trait: a stored [`Document`], the [`Filter`]
//! that chooses one, and the [`Update`] that changes single fields of it.
//!
//! All three can be rendered as BSON bytes, for a store that speaks BSON, and carried out in
//! process, for one that does not. There is no way to say "upsert" or "replace" in them.

use std::collections::BTreeMap;
use std::fmt;

use bson::raw::RawBsonRef;
use bson::{Bson, RawArrayBuf, RawBson, RawDocument, RawDocumentBuf};

use crate::clock::Moment;
use crate::key::Field;

mod compare;

pub(crate) use compare::number;
use compare::{equal, order};

/// One stored document, as BSON bytes: a session, or a marker of the crate's own.
#[derive(Clone, PartialEq)]
pub struct Document(Vec<u8>);

impl Document {
    /// Takes the bytes of a BSON document, as a store kept them.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Document(bytes)
    }

    /// The bytes to keep.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes themselves, to keep or to send.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The document's `_id`, by which a store finds it.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.get("_id")?.as_str()
    }

    pub(crate) fn from_bson(document: &bson::Document) -> Self {
        Document(bson::to_vec(document).unwrap_or_default())
    }

    pub(crate) fn from_raw(document: RawDocumentBuf) -> Self {
        Document(document.into_bytes())
    }

    pub(crate) fn raw(&self) -> Option<&RawDocument> {
        RawDocument::from_bytes(&self.0).ok()
    }

    pub(crate) fn get(&self, name: &str) -> Option<RawBsonRef<'_>> {
        self.raw()?.get(name).ok().flatten()
    }

    fn at(&self, path: &Path) -> Option<RawBsonRef<'_>> {
        match path {
            Path::Meta(name) => self.get(name),
            Path::Value(field) => self
                .get("value")?
                .as_document()?
                .get(field.as_str())
                .ok()
                .flatten(),
        }
    }
}

/// Prints the size only: a document holds secrets' digests and an application's data.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({} bytes)", self.0.len())
    }
}

/// Where in a document something is: a field of the crate's own, or one of the session's values.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Path {
    Meta(&'static str),
    Value(Field),
}

impl Path {
    fn render(&self) -> String {
        match self {
            Path::Meta(name) => (*name).to_owned(),
            Path::Value(field) => format!("value.{}", field.as_str()),
        }
    }
}

/// Which documents an operation is about; all its conditions must hold at once.
#[derive(Clone, Default)]
pub struct Filter {
    clauses: Vec<Clause>,
    /// The operation must not travel with others.
    alone: bool,
}

#[derive(Clone)]
enum Clause {
    Id(String),
    Ids(Vec<String>),
    NotId(String),
    /// Sessions only: a marker's id starts with `~`, which sorts after every session's.
    Session,
    Equals(&'static str, RawBson),
    /// The value under the path is this very value (and no array that holds it), or missing.
    Is(Path, Option<RawBson>),
    NotBefore(&'static str, Moment),
    Before(&'static str, Moment),
    /// No date, so that the TTL index never deletes it.
    NoDate(&'static str),
    /// Epoch seconds that lie before a moment.
    Older(&'static str, Moment),
}

impl Filter {
    /// Every document, markers included.
    pub(crate) fn all() -> Self {
        Filter::default()
    }

    /// Every session.
    pub(crate) fn sessions() -> Self {
        Filter::default().with(Clause::Session)
    }

    pub(crate) fn id(id: &str) -> Self {
        Filter::default().with(Clause::Id(id.to_owned()))
    }

    pub(crate) fn ids(ids: Vec<String>) -> Self {
        Filter::default().with(Clause::Ids(ids))
    }

    pub(crate) fn except(self, id: &str) -> Self {
        self.with(Clause::NotId(id.to_owned()))
    }

    /// A field of the crate's own has this value.
    pub(crate) fn equals(self, name: &'static str, value: RawBson) -> Self {
        self.with(Clause::Equals(name, value))
    }

    /// A session's value is exactly as it was loaded.
    pub(crate) fn still(self, field: Field, value: Option<RawBson>) -> Self {
        self.with(Clause::Is(Path::Value(field), value))
    }

    pub(crate) fn not_before(self, name: &'static str, moment: Moment) -> Self {
        self.with(Clause::NotBefore(name, moment))
    }

    pub(crate) fn before(self, name: &'static str, moment: Moment) -> Self {
        self.with(Clause::Before(name, moment))
    }

    pub(crate) fn no_date(self, name: &'static str) -> Self {
        self.with(Clause::NoDate(name))
    }

    pub(crate) fn older(self, name: &'static str, moment: Moment) -> Self {
        self.with(Clause::Older(name, moment))
    }

    fn with(mut self, clause: Clause) -> Self {
        self.clauses.push(clause);
        self
    }

    /// For an update whose caller is told what became of it: of several that travel together, it
    /// is not always known whether a session ended before or after its own.
    pub(crate) fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// The one id that the filter asks for and nothing else, when that is all it says: such
    /// operations may travel together.
    #[must_use]
    pub fn only_id(&self) -> Option<&str> {
        match self.clauses.as_slice() {
            [Clause::Id(id)] if !self.alone => Some(id),
            _ => None,
        }
    }

    /// The id that a matching document has, when the filter names one.
    #[must_use]
    pub fn wanted_id(&self) -> Option<&str> {
        self.clauses.iter().find_map(|clause| match clause {
            Clause::Id(id) => Some(id.as_str()),
            _ => None,
        })
    }

    /// Whether a document is chosen.
    #[must_use]
    pub fn matches(&self, document: &Document) -> bool {
        let date = |name| document.get(name).and_then(RawBsonRef::as_datetime);
        self.clauses.iter().all(|clause| match clause {
            Clause::Id(id) => document.id() == Some(id),
            Clause::Ids(ids) => document
                .id()
                .is_some_and(|id| ids.iter().any(|one| one == id)),
            Clause::NotId(id) => document.id() != Some(id),
            Clause::Session => document.id().is_some_and(|id| id < "~"),
            Clause::Equals(name, value) => document
                .get(name)
                .is_some_and(|stored| equal(stored, value.as_raw_bson_ref())),
            Clause::Is(path, value) => match (document.at(path), value) {
                (None, None) => true,
                (Some(stored), Some(value)) => equal(stored, value.as_raw_bson_ref()),
                _ => false,
            },
            Clause::NotBefore(name, moment) => {
                date(name).is_some_and(|date| date.timestamp_millis() >= moment.millis())
            }
            Clause::Before(name, moment) => {
                date(name).is_some_and(|date| date.timestamp_millis() < moment.millis())
            }
            Clause::NoDate(name) => date(name).is_none(),
            Clause::Older(name, moment) => {
                let seconds = document.get(name).and_then(number);
                seconds.is_some_and(|seconds| seconds < moment.seconds())
            }
        })
    }

    /// The filter as a MongoDB query, in BSON bytes.
    #[must_use]
    pub fn to_bson(&self) -> Vec<u8> {
        let (mut query, mut all) = (RawDocumentBuf::new(), RawArrayBuf::new());
        let mut paths = Vec::with_capacity(self.clauses.len());
        for clause in &self.clauses {
            let (path, condition) = clause.render();
            if paths.contains(&path) {
                let mut another = RawDocumentBuf::new();
                another.append(&path, condition);
                all.push(another);
            } else {
                query.append(&path, condition);
                paths.push(path);
            }
        }
        if !all.is_empty() {
            query.append("$and", all);
        }
        query.into_bytes()
    }
}

impl Clause {
    /// A path and what must be there, as MongoDB puts it.
    fn render(&self) -> (String, RawBson) {
        let with = |operator: &str, value: RawBson| {
            let mut condition = RawDocumentBuf::new();
            condition.append(operator, value);
            RawBson::Document(condition)
        };
        let id = |condition| ("_id".to_owned(), condition);
        let of = |name: &&str, condition| ((*name).to_owned(), condition);
        let text = |text: &str| RawBson::String(text.to_owned());
        match self {
            Clause::Id(one) => id(text(one)),
            Clause::Ids(ids) => {
                let mut all = RawArrayBuf::new();
                ids.iter().for_each(|one| all.push(one.as_str()));
                id(with("$in", RawBson::Array(all)))
            }
            Clause::NotId(one) => id(with("$ne", text(one))),
            Clause::Session => id(with("$lt", text("~"))),
            Clause::Equals(name, value) => of(name, with("$eq", value.clone())),
            // Plain equality would let 5 match [5, 6]; an expression compares the value itself.
            Clause::Is(path, Some(value)) => {
                let mut both = RawArrayBuf::new();
                both.push(format!("${}", path.render()));
                both.push(with("$literal", value.clone()));
                ("$expr".to_owned(), with("$eq", RawBson::Array(both)))
            }
            Clause::Is(path, None) => (path.render(), with("$exists", false.into())),
            Clause::NotBefore(name, moment) => of(name, with("$gte", date(*moment).into())),
            Clause::Before(name, moment) => of(name, with("$lt", date(*moment).into())),
            Clause::NoDate(name) => of(name, with("$not", with("$type", text("date")))),
            Clause::Older(name, moment) => of(name, with("$lt", moment.seconds().into())),
        }
    }
}

/// Names no value: a filter holds digests and principals.
impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({} conditions)", self.clauses.len())
    }
}

/// What a write changes in a document: single fields, and nothing else of it.
#[derive(Clone, Default)]
pub struct Update {
    /// By path, since MongoDB adds new fields in that order, and one path at most once.
    operations: BTreeMap<Path, Operation>,
}

#[derive(Clone)]
pub(crate) enum Operation {
    Set(RawBson),
    Unset,
    Increment(i64),
    Push(Vec<RawBson>),
    /// Set, unless what is stored is greater.
    Raise(RawBson),
}

impl Operation {
    fn operator(&self) -> &'static str {
        match self {
            Operation::Set(_) => "$set",
            Operation::Unset => "$unset",
            Operation::Increment(_) => "$inc",
            Operation::Push(_) => "$push",
            Operation::Raise(_) => "$max",
        }
    }

    fn operand(&self) -> RawBson {
        match self {
            Operation::Set(value) | Operation::Raise(value) => value.clone(),
            Operation::Unset => RawBson::Boolean(true),
            Operation::Increment(by) => RawBson::Int64(*by),
            Operation::Push(values) => {
                let mut each = RawDocumentBuf::new();
                each.append("$each", crate::value::from_elements(values));
                RawBson::Document(each)
            }
        }
    }
}

impl Update {
    pub(crate) fn insert(&mut self, path: Path, operation: Operation) {
        self.operations.insert(path, operation);
    }

    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<RawBson>) {
        self.insert(Path::Meta(name), Operation::Set(value.into()));
    }

    pub(crate) fn raise(&mut self, name: &'static str, value: impl Into<RawBson>) {
        self.insert(Path::Meta(name), Operation::Raise(value.into()));
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The update as MongoDB's update document, in BSON bytes. Only `$set`, `$unset`, `$inc`,
    /// `$push` and `$max` occur in it.
    #[must_use]
    pub fn to_bson(&self) -> Vec<u8> {
        self.to_raw().into_bytes()
    }

    pub(crate) fn to_raw(&self) -> RawDocumentBuf {
        const OPERATORS: [&str; 5] = ["$set", "$unset", "$inc", "$push", "$max"];
        let mut update = RawDocumentBuf::new();
        for operator in OPERATORS {
            let its = self.operations.iter();
            let mut its = its.filter(|(_, operation)| operation.operator() == operator);
            let Some(first) = its.next() else { continue };
            let mut fields = RawDocumentBuf::new();
            for (path, operation) in std::iter::once(first).chain(its) {
                fields.append(path.render(), operation.operand());
            }
            update.append(operator, fields);
        }
        update
    }

    /// Carries the update out on a document, all of it or nothing, as MongoDB does.
    ///
    /// # Errors
    ///
    /// When an increment or a push meets a value that is no number or array, or an integer would
    /// leave the range of `i64`.
    pub fn apply(&self, document: &Document) -> Result<Document, Inapplicable> {
        let mut whole: bson::Document =
            bson::from_slice(document.as_bytes()).map_err(|_| Inapplicable)?;
        for (path, operation) in &self.operations {
            let (fields, name) = match path {
                Path::Meta(name) => (&mut whole, *name),
                Path::Value(field) => match values(&mut whole, operation)? {
                    Some(values) => (values, field.as_str()),
                    None => continue,
                },
            };
            match operation {
                Operation::Set(value) => {
                    fields.insert(name, owned(value));
                }
                Operation::Unset => {
                    fields.remove(name);
                }
                Operation::Increment(by) => {
                    let sum = match fields.get(name) {
                        None => Some(Bson::Int64(*by)),
                        Some(Bson::Int32(number)) => {
                            i64::from(*number).checked_add(*by).map(Bson::Int64)
                        }
                        Some(Bson::Int64(number)) => number.checked_add(*by).map(Bson::Int64),
                        Some(Bson::Double(number)) => Some(Bson::Double(number + *by as f64)),
                        Some(_) => None,
                    };
                    fields.insert(name, sum.ok_or(Inapplicable)?);
                }
                Operation::Push(values) => {
                    let values = values.iter().map(owned);
                    match fields.get_mut(name) {
                        None => {
                            fields.insert(name, values.collect::<Vec<_>>());
                        }
                        Some(Bson::Array(array)) => array.extend(values),
                        Some(_) => return Err(Inapplicable),
                    }
                }
                Operation::Raise(value) => {
                    let value = owned(value);
                    let old = fields.get(name).map(order);
                    if old.is_none_or(|old| old < order(&value)) {
                        fields.insert(name, value);
                    }
                }
            }
        }
        Ok(Document::from_bson(&whole))
    }
}

/// Names no value.
impl fmt::Debug for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Update({} fields)", self.operations.len())
    }
}

/// An [`Update`] that met a value which it does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inapplicable;

impl fmt::Display for Inapplicable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an increment or a push does not fit the stored value")
    }
}

impl std::error::Error for Inapplicable {}

pub(crate) fn date(moment: Moment) -> bson::DateTime {
    bson::DateTime::from_millis(moment.millis())
}

fn owned(value: &RawBson) -> Bson {
    Bson::try_from(value.clone()).unwrap_or(Bson::Null)
}

/// The session's values, for one of them to be changed: made when there are none, as the server
/// makes them, but not to remove something.
fn values<'a>(
    whole: &'a mut bson::Document,
    operation: &Operation,
) -> Result<Option<&'a mut bson::Document>, Inapplicable> {
    const VALUE: &str = crate::record::field::VALUE;
    let removes = matches!(operation, Operation::Unset);
    if !removes && !whole.contains_key(VALUE) {
        whole.insert(VALUE, bson::Document::new());
    }
    match whole.get_mut(VALUE) {
        Some(Bson::Document(values)) => Ok(Some(values)),
        _ if removes => Ok(None),
        _ => Err(Inapplicable),
    }
}

#[cfg(test)]
mod tests;
