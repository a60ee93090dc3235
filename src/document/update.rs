//! What a write changes in a document.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bson::{Bson, RawBson, RawDocumentBuf};

use super::compare::order;
use super::key::Field;
use super::value::from_elements;
use super::{Document, Path, VALUE, date};
#[cfg(feature = "unstable-store")]
use crate::clock::Clock;
use crate::clock::Moment;
use crate::error::Result;

/// What a write changes in a document: single fields, and nothing else of it.
#[derive(Clone, Default)]
pub struct Update {
    /// By path, since MongoDB adds new fields in that order, and one path at most once. Shared, so that
    /// a clone copies no value.
    operations: Arc<BTreeMap<Path, Operator>>,
}

#[derive(Clone)]
pub(crate) enum Operator {
    Set(RawBson),
    Unset,
    Increment(i64),
    Push(Vec<RawBson>),
    /// Set, unless what is stored is greater.
    Raise(RawBson),
    /// Set to the present time, by the clock of the store.
    Now,
}

impl Operator {
    fn operator(&self) -> &'static str {
        match self {
            Operator::Set(_) => "$set",
            Operator::Unset => "$unset",
            Operator::Increment(_) => "$inc",
            Operator::Push(_) => "$push",
            Operator::Raise(_) => "$max",
            Operator::Now => "$currentDate",
        }
    }

    fn operand(&self) -> RawBson {
        match self {
            Operator::Set(value) | Operator::Raise(value) => value.clone(),
            Operator::Unset | Operator::Now => RawBson::Boolean(true),
            Operator::Increment(by) => RawBson::Int64(*by),
            Operator::Push(values) => {
                let values = from_elements(values);
                RawBson::Document(RawDocumentBuf::from_iter([("$each", values)]))
            }
        }
    }
}

impl Update {
    pub(crate) fn insert(&mut self, path: Path, operation: Operator) {
        Arc::make_mut(&mut self.operations).insert(path, operation);
    }

    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<RawBson>) {
        self.insert(Path::Meta(name), Operator::Set(value.into()));
    }

    pub(crate) fn unset(&mut self, name: &'static str) {
        self.insert(Path::Meta(name), Operator::Unset);
    }

    pub(crate) fn raise(&mut self, name: &'static str, value: impl Into<RawBson>) {
        self.insert(Path::Meta(name), Operator::Raise(value.into()));
    }

    /// Sets a field to the present time, by the clock of the store.
    pub(crate) fn set_now(&mut self, name: &'static str) {
        self.insert(Path::Meta(name), Operator::Now);
    }

    pub(crate) fn sets_now(&self) -> bool {
        let mut operations = self.operations.values();
        operations.any(|operation| matches!(operation, Operator::Now))
    }

    /// Replaces each value that it sets.
    pub(crate) fn map_set(
        mut self,
        mut map: impl FnMut(&Path, RawBson) -> Result<RawBson>,
    ) -> Result<Self> {
        for (path, operation) in Arc::make_mut(&mut self.operations) {
            if let Operator::Set(value) = operation {
                *value = map(path, std::mem::replace(value, RawBson::Null))?;
            }
        }
        Ok(self)
    }

    /// Whether it sets a field or a value.
    pub(crate) fn sets(&self, mut is_it: impl FnMut(&Path) -> bool) -> bool {
        let mut operations = self.operations.iter();
        operations.any(|(path, operation)| matches!(operation, Operator::Set(_)) && is_it(path))
    }

    /// Adds another update's operations; where both name a path, the other's counts.
    pub(crate) fn merge(&mut self, other: &Update) {
        let others = BTreeMap::clone(&other.operations);
        Arc::make_mut(&mut self.operations).extend(others);
    }

    pub(crate) fn contains(&self, path: &Path) -> bool {
        self.operations.contains_key(path)
    }

    /// The values that it changes.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &Field> {
        self.operations.keys().filter_map(|path| match path {
            Path::Value(field) => Some(field),
            Path::Meta(_) => None,
        })
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The update as MongoDB's update document, in BSON bytes. Only `$set`, `$unset`, `$inc`,
    /// `$push`, `$max` and `$currentDate` occur in it.
    #[cfg(any(test, feature = "unstable-store"))]
    #[must_use]
    pub fn to_bson(&self) -> Vec<u8> {
        self.to_raw().into_bytes()
    }

    pub(crate) fn to_raw(&self) -> RawDocumentBuf {
        const OPERATORS: [&str; 6] = ["$set", "$unset", "$inc", "$push", "$max", "$currentDate"];
        let mut update = RawDocumentBuf::new();
        for operator in OPERATORS {
            let its = self.operations.iter();
            let mut its = its
                .filter(|(_, operation)| operation.operator() == operator)
                .peekable();
            if its.peek().is_some() {
                let fields = its.map(|(path, operation)| (path.render(), operation.operand()));
                update.append(operator, fields.collect::<RawDocumentBuf>());
            }
        }
        update
    }

    /// Carries the update out on a document, all of it or nothing, as MongoDB does; `clock` gives the
    /// present time.
    ///
    /// # Errors
    ///
    /// When an increment or a push meets a value of another type, or an integer would
    /// leave the range of `i64`.
    #[cfg(feature = "unstable-store")]
    pub fn apply_by(&self, document: &Document, clock: &Clock) -> Result<Document, Inapplicable> {
        self.apply(document, clock.now())
    }

    /// Applies the update to a document at the moment `now`, completely or not at all.
    pub(crate) fn apply(&self, document: &Document, now: Moment) -> Result<Document, Inapplicable> {
        let mut whole: bson::Document =
            bson::from_slice(document.as_bytes()).map_err(|_| Inapplicable)?;
        for (path, operation) in self.operations.iter() {
            let (fields, name) = match path {
                Path::Meta(name) => (&mut whole, *name),
                Path::Value(field) => match values(&mut whole, operation)? {
                    Some(values) => (values, field.as_str()),
                    None => continue,
                },
            };
            match operation {
                Operator::Set(value) => {
                    fields.insert(name, owned(value));
                }
                Operator::Unset => {
                    fields.remove(name);
                }
                Operator::Increment(by) => {
                    fields.insert(name, sum(fields.get(name), *by).ok_or(Inapplicable)?);
                }
                Operator::Push(values) => {
                    let values = values.iter().map(owned);
                    match fields.get_mut(name) {
                        None => {
                            fields.insert(name, values.collect::<Vec<_>>());
                        }
                        Some(Bson::Array(array)) => array.extend(values),
                        Some(_) => return Err(Inapplicable),
                    }
                }
                Operator::Raise(value) => {
                    let value = owned(value);
                    let old = fields.get(name).map(order);
                    if old.is_none_or(|old| old < order(&value)) {
                        fields.insert(name, value);
                    }
                }
                Operator::Now => {
                    fields.insert(name, date(now));
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

/// Adds to a stored number. `None` if it is not a number, or the sum leaves the range of `i64`.
fn sum(stored: Option<&Bson>, by: i64) -> Option<Bson> {
    match stored {
        None => Some(Bson::Int64(by)),
        Some(Bson::Int32(number)) => i64::from(*number).checked_add(by).map(Bson::Int64),
        Some(Bson::Int64(number)) => number.checked_add(by).map(Bson::Int64),
        Some(Bson::Double(number)) => Some(Bson::Double(number + by as f64)),
        Some(_) => None,
    }
}

fn owned(value: &RawBson) -> Bson {
    Bson::try_from(value.clone()).unwrap_or(Bson::Null)
}

/// The session's values, for one of them to be changed: made when there are none, as the server
/// makes them, but not to remove something.
fn values<'a>(
    whole: &'a mut bson::Document,
    operation: &Operator,
) -> Result<Option<&'a mut bson::Document>, Inapplicable> {
    let removes = matches!(operation, Operator::Unset);
    if !removes && !whole.contains_key(VALUE) {
        whole.insert(VALUE, bson::Document::new());
    }
    match whole.get_mut(VALUE) {
        Some(Bson::Document(values)) => Ok(Some(values)),
        _ if removes => Ok(None),
        _ => Err(Inapplicable),
    }
}
