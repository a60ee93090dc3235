//! The changes that a request makes to single values: pure, no I/O, no Rocket.

use std::collections::{BTreeMap, HashMap, HashSet};

use bson::RawBson;
use bson::raw::RawBsonRef;

use crate::document::Operator;
use crate::document::key::Field;
use crate::document::value;
use crate::error::Error;
use crate::record::sealer::Unreadable;

/// A request's change of one value. Several changes, in any order, fold into one of these, so that
/// one path never occurs twice in an update.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    Set(RawBson),
    Unset,
    /// Exact under concurrent requests: the server adds.
    Add(i64),
    /// Exact under concurrent requests: the server appends.
    Append(Vec<RawBson>),
}

/// Why a change cannot be applied to the value that it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    NotAnInteger,
    NotAnArray,
    OutOfRange,
    /// It is sealed and does not open.
    Unreadable,
}

impl From<Unreadable> for Mismatch {
    fn from(_: Unreadable) -> Self {
        Mismatch::Unreadable
    }
}

impl Mismatch {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Mismatch::NotAnInteger => "its value is not an integer",
            Mismatch::NotAnArray => "its value is not an array",
            Mismatch::OutOfRange => "the sum leaves the range of i64",
            Mismatch::Unreadable => "its sealed value does not open",
        }
    }

    pub(crate) fn of(self, field: &Field) -> Error {
        if self == Mismatch::Unreadable {
            return Unreadable.of(field);
        }
        Error::Mismatch {
            key: field.display(),
            reason: self.reason(),
        }
    }
}

impl Change {
    /// The value after the change, when `stored` is the value before it.
    pub(crate) fn apply(
        &self,
        stored: Option<RawBsonRef<'_>>,
    ) -> Result<Option<RawBson>, Mismatch> {
        Ok(Some(match (self, stored) {
            (Change::Set(value), _) => value.clone(),
            (Change::Unset, _) => return Ok(None),
            (Change::Add(by), None) => RawBson::Int64(*by),
            (Change::Add(by), Some(stored)) => {
                let number = value::integer(stored).ok_or(Mismatch::NotAnInteger)?;
                RawBson::Int64(number.checked_add(*by).ok_or(Mismatch::OutOfRange)?)
            }
            (Change::Append(more), None) => value::from_elements(more),
            (Change::Append(more), Some(stored)) => {
                let mut elements = value::array(stored).ok_or(Mismatch::NotAnArray)?;
                elements.extend_from_slice(more);
                value::from_elements(&elements)
            }
        }))
    }

    /// Folds `next` into this change, which then does what both did one after the other. In place: a
    /// request may append one by one the elements that a client sent. After a mismatch nothing has
    /// changed.
    pub(crate) fn fold(&mut self, next: Change) -> Result<(), Mismatch> {
        match (&mut *self, next) {
            (_, next @ (Change::Set(_) | Change::Unset)) => *self = next,
            (Change::Add(sum), Change::Add(by)) => {
                *sum = sum.checked_add(by).ok_or(Mismatch::OutOfRange)?;
            }
            (Change::Append(all), Change::Append(more)) => all.extend(more),
            (Change::Add(_), Change::Append(_)) => return Err(Mismatch::NotAnArray),
            (Change::Append(_), Change::Add(_)) => return Err(Mismatch::NotAnInteger),
            (Change::Set(RawBson::Array(all)), Change::Append(more)) => {
                more.into_iter().for_each(|element| all.push(element));
            }
            (before @ (Change::Set(_) | Change::Unset), next) => {
                let value = before.apply(None)?;
                let value = next.apply(value.as_ref().map(RawBson::as_raw_bson_ref))?;
                *self = value.map_or(Change::Unset, Change::Set);
            }
        }
        Ok(())
    }

    /// Whether the outcome depends on the stored value, so that the server must carry it out.
    pub(crate) fn is_relative(&self) -> bool {
        matches!(self, Change::Add(_) | Change::Append(_))
    }

    pub(crate) fn operation(&self) -> Operator {
        match self {
            Change::Set(value) => Operator::Set(value.clone()),
            Change::Unset => Operator::Unset,
            Change::Add(by) => Operator::Increment(*by),
            Change::Append(more) => Operator::Push(more.clone()),
        }
    }
}

/// The changes of one request, at most one a field, in the order in which fields were first met.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    by_field: HashMap<Field, (u64, Change)>,
    /// The fields by when they were met: a request may take back as many as it has made.
    order: BTreeMap<u64, Field>,
}

impl Changes {
    pub(crate) fn get(&self, field: &Field) -> Option<&Change> {
        self.by_field.get(field).map(|(_, change)| change)
    }

    pub(crate) fn get_mut(&mut self, field: &Field) -> Option<&mut Change> {
        self.by_field.get_mut(field).map(|(_, change)| change)
    }

    pub(crate) fn put(&mut self, field: Field, change: Change) {
        if let Some(old) = self.get_mut(&field) {
            *old = change;
            return;
        }
        let last = self.order.last_key_value();
        let at = last.map_or(0, |(last, _)| last + 1);
        self.order.insert(at, field.clone());
        self.by_field.insert(field, (at, change));
    }

    pub(crate) fn remove(&mut self, field: &Field) {
        if let Some((at, _)) = self.by_field.remove(field) {
            self.order.remove(&at);
        }
    }

    pub(crate) fn retain(&mut self, mut stays: impl FnMut(&Field) -> bool) {
        self.order.retain(|_, field| {
            let stays = stays(field);
            if !stays {
                self.by_field.remove(field);
            }
            stays
        });
    }

    /// Returns values as they are after these changes: those that stay, in their order, and then new
    /// ones.
    pub(crate) fn after(
        &self,
        values: impl IntoIterator<Item = (Field, RawBson)>,
    ) -> Vec<(Field, RawBson)> {
        let (mut all, mut met) = (Vec::new(), HashSet::new());
        for (field, value) in values {
            let Some(change) = self.get(&field) else {
                all.push((field, value));
                continue;
            };
            // One that does not fit is refused at the commit.
            let value = change.apply(Some(value.as_raw_bson_ref())).ok().flatten();
            met.insert(field.clone());
            all.extend(value.map(|value| (field, value)));
        }
        let new = self.iter().filter(|(field, _)| !met.contains(*field));
        all.extend(new.filter_map(|(field, change)| {
            let value = change.apply(None).ok().flatten()?;
            Some((field.clone(), value))
        }));
        all
    }

    /// Returns the fields that have a value after these changes: those that stay, in their order, and
    /// then new ones.
    pub(crate) fn fields_after(&self, mut fields: Vec<Field>) -> Vec<Field> {
        if self.is_empty() {
            return fields;
        }
        let stored: HashSet<&Field> = fields.iter().collect();
        let stays = |field: &Field| !matches!(self.get(field), Some(Change::Unset));
        let changed = self.fields().filter(|field| stays(field));
        let new = changed.filter(|field| !stored.contains(field));
        let new: Vec<Field> = new.cloned().collect();
        fields.retain(stays);
        fields.extend(new);
        fields
    }

    /// These changes and then those; a later one that does not fit the earlier wins alone.
    pub(crate) fn and_then(mut self, mut later: Changes) -> Changes {
        for field in std::mem::take(&mut later.order).into_values() {
            let Some((_, change)) = later.by_field.remove(&field) else {
                continue;
            };
            match self.get_mut(&field) {
                Some(before) => {
                    if before.fold(change.clone()).is_err() {
                        *before = change;
                    }
                }
                None => self.put(field, change),
            }
        }
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_field.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Field, &Change)> {
        let fields = self.order.values();
        fields.filter_map(|field| Some((field, self.get(field)?)))
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = &Field> {
        self.order.values()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (-3_i64..3).prop_map(|n| Change::Set(RawBson::Int64(n))),
            Just(Change::Set(RawBson::String("text".into()))),
            prop::collection::vec(0_i32..3, 0..3).prop_map(|v| {
                let elements: Vec<_> = v.into_iter().map(RawBson::Int32).collect();
                Change::Set(value::from_elements(&elements))
            }),
            Just(Change::Unset),
            prop_oneof![-3_i64..3, Just(i64::MAX)].prop_map(Change::Add),
            (0_i32..9).prop_map(|n| Change::Append(vec![RawBson::Int32(n)])),
        ]
    }

    fn stored() -> impl Strategy<Value = Option<RawBson>> {
        prop_oneof![
            Just(None),
            // Not below zero: there, increments could fit one by one whose sum is not an i64.
            (0_i64..3).prop_map(|n| Some(RawBson::Int64(n))),
            Just(Some(RawBson::String("text".into()))),
            Just(Some(value::from_elements(&[RawBson::Int32(1)]))),
        ]
    }

    proptest! {
        /// Folding is exact: one change does what the two would have done one after the other.
        #[test]
        fn folded_changes_do_what_they_did_one_by_one(
            stored in stored(),
            changes in prop::collection::vec(change(), 1..6),
        ) {
            let mut value = stored.clone();
            let mut folded: Option<Change> = None;
            for next in changes {
                let by_hand = next.apply(value.as_ref().map(RawBson::as_raw_bson_ref));
                let both = match folded.clone() {
                    Some(mut whole) => whole.fold(next.clone()).map(|()| whole),
                    None => Ok(next.clone()),
                };
                let applied = both.clone().and_then(|change| {
                    change.apply(stored.as_ref().map(RawBson::as_raw_bson_ref))
                });
                prop_assert_eq!(by_hand.is_ok(), applied.is_ok());
                if let (Some(before), Err(_)) = (&folded, &both) {
                    let mut untouched = before.clone();
                    prop_assert!(untouched.fold(next).is_err());
                    prop_assert_eq!(&untouched, before, "a mismatch changes nothing");
                }
                if let (Ok(by_hand), Ok(applied), Ok(both)) = (by_hand, applied, both) {
                    prop_assert_eq!(&by_hand, &applied);
                    value = by_hand;
                    folded = Some(both);
                }
            }
        }
    }
}
