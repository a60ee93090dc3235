//! How many bytes the values take, and whether a change still fits.

use std::collections::HashSet;

use bson::RawBson;
use bson::raw::RawBsonRef;

use super::State;
use crate::document::key::Field;
use crate::document::value::{self, Value};
use crate::error::Error;
use crate::state::changes::Change;

impl State {
    /// The size of the values after a change.
    ///
    /// Appending to a list that the request changes already does not look at its elements: a client
    /// may have sent any number of elements.
    pub(super) fn size_after(&self, field: &Field, change: &Change) -> Result<usize, Error> {
        let appends = matches!(
            self.changes.get(field),
            Some(Change::Append(_) | Change::Set(RawBson::Array(_)))
        );
        let estimate = match change {
            Change::Append(more) if appends => {
                let more = more.iter().map(RawBson::as_raw_bson_ref);
                self.size + more.map(value::element_size).sum::<usize>()
            }
            change => {
                let (old, new) = self.sizes(field, change)?;
                let sum = self.size.saturating_sub(old) + new;
                if new <= old {
                    return Ok(sum);
                }
                sum
            }
        };
        // Appending nothing fits even where others have made the session too large.
        if estimate <= self.max_bytes || estimate == self.size {
            return Ok(estimate);
        }
        // The estimate may be a few bytes too large, so the values are counted.
        let (old, new) = self.sizes(field, change)?;
        let exact = self.measure().saturating_sub(old) + new;
        if exact > self.max_bytes {
            let limit = self.max_bytes;
            return Err(Error::TooLarge { limit });
        }
        Ok(exact)
    }

    /// The bytes that a value takes before and after a change.
    fn sizes(&self, field: &Field, change: &Change) -> Result<(usize, usize), Error> {
        let new = match change {
            Change::Set(value) => size_of(field, value.as_raw_bson_ref()),
            Change::Unset => 0,
            relative => {
                let seen = self.seen(field);
                let value = seen.and_then(|seen| relative.apply(seen.as_ref().map(Value::as_ref)));
                let value = value.map_err(|mismatch| mismatch.of(field))?;
                value.map_or(0, |value| size_of(field, value.as_raw_bson_ref()))
            }
        };
        Ok((self.seen_size(field), new))
    }

    /// The bytes that a value takes, as this request sees it. A stored value that the request does not
    /// change is not opened for that. Where the request's change does not fit it, the stored value
    /// counts.
    fn seen_size(&self, field: &Field) -> usize {
        let seen = self.last_change(field).map(|_| self.seen(field));
        match seen {
            Some(Ok(seen)) => seen.map_or(0, |value| size_of(field, value.as_ref())),
            None | Some(Err(_)) => self.base.size_of(field),
        }
    }

    /// Whether a write of the field may fail, or may have been stored: its stored value is not known.
    pub(super) fn is_open(&self, field: &Field) -> bool {
        self.in_flight().changes.get(field).is_some() || self.doubts.has(field)
    }

    /// Whether the changes of a field leave it as it is.
    pub(super) fn is_unchanged(&self, field: &Field) -> bool {
        let Some(change) = self.changes.get(field) else {
            return true;
        };
        if self.is_open(field) {
            return false; // whether this one changes anything is not known
        }
        if matches!(change, Change::Append(more) if !more.is_empty()) {
            return false; // without a look at the elements, as in `size_after`
        }
        let Ok(under) = self.under(field) else {
            return false;
        };
        let under = under.as_ref().map(Value::as_ref);
        match (change, under) {
            (Change::Unset, None) => true,
            (Change::Set(value), Some(under)) => value::same(under, value.as_raw_bson_ref()),
            (Change::Append(_), Some(under)) => matches!(under, RawBsonRef::Array(_)),
            (Change::Add(_), Some(under)) => {
                let sum = change.apply(Some(under)).ok().flatten();
                sum.is_some_and(|sum| value::same(under, sum.as_raw_bson_ref()))
            }
            _ => false,
        }
    }

    /// How many bytes the values take, as this request sees them.
    pub(super) fn measure(&self) -> usize {
        let in_flight = self.in_flight().changes.fields();
        let touched: HashSet<&Field> = in_flight.chain(self.changes.fields()).collect();
        touched.into_iter().fold(self.base.size(), |sum, field| {
            (sum + self.seen_size(field)).saturating_sub(self.base.size_of(field))
        })
    }
}

impl State {
    /// By how much the pending changes make the values longer than the stored ones.
    pub(crate) fn pending_growth(&self) -> isize {
        self.measure() as isize - self.base.size() as isize
    }
}

fn size_of(field: &Field, value: RawBsonRef<'_>) -> usize {
    value::size(field.as_str(), value)
}
