//! The changes that a request makes to single values: pure, no I/O, no Rocket.

use std::collections::HashSet;

use bson::RawBson;
use bson::raw::RawBsonRef;
use indexmap::IndexMap;

use crate::document::Operation;
use crate::key::Field;
use crate::value;

/// What a request does to one value. Whatever it does, in whatever order, folds to one of these,
/// so that one path never occurs twice in an update.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    Set(RawBson),
    Unset,
    /// Right under concurrent requests: the server adds.
    Add(i64),
    /// Right under concurrent requests: the server appends.
    Append(Vec<RawBson>),
}

/// Why a change does not fit the value that it meets.
pub(crate) type Misfit = &'static str;

const NOT_AN_INTEGER: Misfit = "its value is not an integer";
const NOT_AN_ARRAY: Misfit = "its value is not an array";
const OUT_OF_RANGE: Misfit = "the sum leaves the range of i64";

impl Change {
    /// The value after the change, when `stored` is the value before it.
    pub(crate) fn apply(&self, stored: Option<RawBsonRef<'_>>) -> Result<Option<RawBson>, Misfit> {
        Ok(Some(match (self, stored) {
            (Change::Set(value), _) => value.clone(),
            (Change::Unset, _) => return Ok(None),
            (Change::Add(by), None) => RawBson::Int64(*by),
            (Change::Add(by), Some(stored)) => {
                let number = value::integer(stored).ok_or(NOT_AN_INTEGER)?;
                RawBson::Int64(number.checked_add(*by).ok_or(OUT_OF_RANGE)?)
            }
            (Change::Append(more), None) => value::from_elements(more),
            (Change::Append(more), Some(stored)) => {
                let mut elements = value::array(stored).ok_or(NOT_AN_ARRAY)?;
                elements.extend_from_slice(more);
                value::from_elements(&elements)
            }
        }))
    }

    /// The one change that does what `self` and then `next` do.
    pub(crate) fn then(&self, next: Change) -> Result<Change, Misfit> {
        Ok(match (self, next) {
            (_, next @ (Change::Set(_) | Change::Unset)) => next,
            (Change::Add(a), Change::Add(b)) => Change::Add(a.checked_add(b).ok_or(OUT_OF_RANGE)?),
            (Change::Append(a), Change::Append(b)) => {
                Change::Append(a.iter().cloned().chain(b).collect())
            }
            (Change::Add(_), Change::Append(_)) => return Err(NOT_AN_ARRAY),
            (Change::Append(_), Change::Add(_)) => return Err(NOT_AN_INTEGER),
            (before @ (Change::Set(_) | Change::Unset), next) => {
                let value = before.apply(None)?;
                match next.apply(value.as_ref().map(RawBson::as_raw_bson_ref))? {
                    Some(value) => Change::Set(value),
                    None => Change::Unset,
                }
            }
        })
    }

    /// Whether the outcome depends on what is stored, so that the server must carry it out.
    pub(crate) fn is_relative(&self) -> bool {
        matches!(self, Change::Add(_) | Change::Append(_))
    }

    /// What is left to do of this change when `sent`, an earlier stage of it, has been done.
    fn since(&self, sent: &Change) -> Option<Change> {
        match (self, sent) {
            _ if self == sent => None,
            (Change::Add(all), Change::Add(done)) => Some(Change::Add(all.checked_sub(*done)?)),
            (Change::Append(all), Change::Append(done)) => {
                Some(Change::Append(all.get(done.len()..)?.to_vec()))
            }
            _ => Some(self.clone()),
        }
    }

    pub(crate) fn operation(&self) -> Operation {
        match self {
            Change::Set(value) => Operation::Set(value.clone()),
            Change::Unset => Operation::Unset,
            Change::Add(by) => Operation::Increment(*by),
            Change::Append(more) => Operation::Push(more.clone()),
        }
    }
}

/// The changes of one request, at most one a field, in the order in which fields were first met.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes(IndexMap<Field, Change>);

impl Changes {
    pub(crate) fn get(&self, field: &Field) -> Option<&Change> {
        self.0.get(field)
    }

    pub(crate) fn put(&mut self, field: Field, change: Change) {
        self.0.insert(field, change);
    }

    pub(crate) fn take(&mut self, field: &Field) -> Option<Change> {
        self.0.shift_remove(field)
    }

    /// What values become by these changes: those that stay, in their order, and then new ones.
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
            // A change that does not fit was refused when it was made.
            let value = change.apply(Some(value.as_raw_bson_ref())).ok().flatten();
            met.insert(field.clone());
            all.extend(value.map(|value| (field, value)));
        }
        let new = self.0.iter().filter(|(field, _)| !met.contains(*field));
        all.extend(new.filter_map(|(field, change)| {
            let value = change.apply(None).ok().flatten()?;
            Some((field.clone(), value))
        }));
        all
    }

    /// These changes and then those; a later one that does not fit the earlier wins alone.
    pub(crate) fn and_then(mut self, later: Changes) -> Changes {
        for (field, change) in later.0 {
            let whole = match self.get(&field) {
                Some(before) => before.then(change.clone()).unwrap_or(change),
                None => change,
            };
            self.put(field, whole);
        }
        self
    }

    /// What is left to do when the changes `sent`, an earlier stage of these, have been done.
    pub(crate) fn without(self, sent: &Changes) -> Vec<(Field, Change)> {
        let left = self.0.into_iter().filter_map(|(field, change)| {
            let rest = match sent.get(&field) {
                Some(done) => change.since(done),
                None => Some(change),
            };
            rest.map(|rest| (field, rest))
        });
        left.collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those whose outcome depends on what is stored.
    pub(crate) fn relative(&self) -> Changes {
        let relative = self.iter().filter(|(_, change)| change.is_relative());
        let relative = relative.map(|(field, change)| (field.clone(), change.clone()));
        Changes(relative.collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Field, &Change)> {
        self.0.iter()
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
            // Not below zero: there, increments could fit one by one whose sum is no i64.
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
                let together = match &folded {
                    Some(before) => before.then(next.clone()),
                    None => Ok(next.clone()),
                };
                let applied = together.clone().and_then(|change| {
                    change.apply(stored.as_ref().map(RawBson::as_raw_bson_ref))
                });
                prop_assert_eq!(by_hand.is_ok(), applied.is_ok());
                if let (Ok(by_hand), Ok(applied), Ok(together)) = (by_hand, applied, together) {
                    prop_assert_eq!(&by_hand, &applied);
                    value = by_hand;
                    folded = Some(together);
                }
            }
        }
    }
}
