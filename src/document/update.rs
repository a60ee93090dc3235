//! What a write changes in a document.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bson::{RawBson, RawDocument, RawDocumentBuf};
use indexmap::IndexMap;

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

    fn apply(&self, fields: &mut Fields, name: &str, now: Moment) -> Result<(), Inapplicable> {
        let value = match self {
            Operator::Unset => {
                fields.shift_remove(name);
                return Ok(());
            }
            Operator::Push(values) => match fields.get_mut(name) {
                Some(RawBson::Array(array)) => {
                    values.iter().for_each(|value| array.push(value.clone()));
                    return Ok(());
                }
                Some(_) => return Err(Inapplicable),
                None => from_elements(values),
            },
            Operator::Set(value) => value.clone(),
            Operator::Increment(by) => sum(fields.get(name), *by).ok_or(Inapplicable)?,
            Operator::Raise(value) => {
                let place = |value: &RawBson| order(value.as_raw_bson_ref());
                let old = fields.get(name);
                if old.is_some_and(|old| place(old) >= place(value)) {
                    return Ok(());
                }
                value.clone()
            }
            Operator::Now => RawBson::DateTime(date(now)),
        };
        fields.insert(name.to_owned(), value);
        Ok(())
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

    /// Applies the update to a document at the moment `now`, completely or not at all. Values that it does
    /// not change are copied as bytes: they may be anything that another application has stored.
    pub(crate) fn apply(&self, document: &Document, now: Moment) -> Result<Document, Inapplicable> {
        let mut whole = fields_of(document.raw().ok_or(Inapplicable)?)?;
        let mut values = match whole.get(VALUE) {
            Some(RawBson::Document(values)) if self.fields().next().is_some() => {
                Some(fields_of(values)?)
            }
            _ => None,
        };
        for (path, operator) in self.operations.iter() {
            match path {
                Path::Meta(name) => operator.apply(&mut whole, name, now)?,
                Path::Value(field) => {
                    if values.is_none() {
                        // The server makes a missing document of values, but not to remove something.
                        match operator {
                            Operator::Unset => continue,
                            _ if whole.contains_key(VALUE) => return Err(Inapplicable),
                            _ => {}
                        }
                    }
                    operator.apply(values.get_or_insert_default(), field.as_str(), now)?;
                }
            }
        }
        if let Some(values) = values {
            whole.insert(VALUE.to_owned(), RawBson::Document(raw_of(values)));
        }
        Ok(Document::from_raw(raw_of(whole)))
    }
}

/// The fields of a document, in their order.
type Fields = IndexMap<String, RawBson>;

fn fields_of(document: &RawDocument) -> Result<Fields, Inapplicable> {
    let fields = document.into_iter();
    let fields = fields.map(|field| field.map(|(name, value)| (name.into(), value.to_raw_bson())));
    fields.collect::<Result<_, _>>().map_err(|_| Inapplicable)
}

fn raw_of(fields: Fields) -> RawDocumentBuf {
    fields.into_iter().collect()
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
fn sum(stored: Option<&RawBson>, by: i64) -> Option<RawBson> {
    match stored {
        None => Some(RawBson::Int64(by)),
        Some(RawBson::Int32(number)) => i64::from(*number).checked_add(by).map(RawBson::Int64),
        Some(RawBson::Int64(number)) => number.checked_add(by).map(RawBson::Int64),
        Some(RawBson::Double(number)) => Some(RawBson::Double(number + by as f64)),
        Some(_) => None,
    }
}
