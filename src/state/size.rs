//! How many bytes the values take, and whether a change still fits.

use std::collections::HashSet;

use bson::RawBson;
use bson::raw::RawBsonRef;

use super::State;
use crate::document::key::Field;
use crate::document::value::{self, Value};
use crate::state::changes::Change;

impl State {
    /// The size of the values after a change, or why it cannot be: what does not fit there, or that
    /// it is too large.
    pub(super) fn size_after(
        &self,
        field: &Field,
        change: &Change,
    ) -> Result<usize, Option<&'static str>> {
        let size = |value: RawBsonRef<'_>| value::size(field.as_str(), value);
        // Appending to what takes it anyway needs no look at all that is there.
        let takes_more = matches!(
            self.changes.get(field),
            Some(Change::Append(_) | Change::Set(RawBson::Array(_)))
        );
        let (sum, grows) = match change {
            Change::Append(more) if takes_more => {
                let more = more.iter().map(RawBson::as_raw_bson_ref);
                (
                    self.size + more.map(value::element_size).sum::<usize>(),
                    true,
                )
            }
            change => {
                let seen = self.seen(field);
                let seen = seen.as_ref().map(Value::as_ref);
                let old = seen.map_or(0, size);
                let new = match change {
                    Change::Set(value) => size(value.as_raw_bson_ref()),
                    Change::Unset => 0,
                    relative => {
                        let value = relative.apply(seen).map_err(Some)?;
                        value.map_or(0, |value| size(value.as_raw_bson_ref()))
                    }
                };
                (self.size.saturating_sub(old) + new, new > old)
            }
        };
        if !grows || sum <= self.max_bytes {
            return Ok(sum);
        }
        // It may be too large: so now what is there is counted.
        let seen = self.seen(field);
        let seen = seen.as_ref().map(Value::as_ref);
        let value = change.apply(seen).map_err(Some)?;
        let new = value.map_or(0, |value| size(value.as_raw_bson_ref()));
        let exact = self.measure().saturating_sub(seen.map_or(0, size)) + new;
        if exact > self.max_bytes {
            Err(None)
        } else {
            Ok(exact)
        }
    }

    /// Whether what was done to a field leaves it as it is.
    pub(super) fn is_no_change(&self, field: &Field) -> bool {
        let under = self.under(field);
        let under = under.as_ref().map(Value::as_ref);
        match (self.changes.get(field), under) {
            (None, _) | (Some(Change::Unset), None) => true,
            (Some(Change::Set(value)), Some(under)) => value::same(under, value.as_raw_bson_ref()),
            (Some(Change::Append(more)), Some(under)) if more.is_empty() => {
                matches!(under, RawBsonRef::Array(_))
            }
            (Some(add @ Change::Add(_)), Some(under)) => {
                let sum = add.apply(Some(under)).ok().flatten();
                sum.is_some_and(|sum| value::same(under, sum.as_raw_bson_ref()))
            }
            _ => false,
        }
    }

    /// How many bytes the values take, as this request sees them.
    pub(super) fn measure(&self) -> usize {
        let sent = self.sent.iter().flat_map(|sent| sent.changes.fields());
        let touched: HashSet<&Field> = sent.chain(self.changes.fields()).collect();
        touched.into_iter().fold(self.base.size(), |sum, field| {
            let now = self.seen(field);
            let now = now.map_or(0, |value| size_of(field, value.as_ref()));
            let stored = self.base.get(field);
            (sum + now).saturating_sub(stored.map_or(0, |value| size_of(field, value)))
        })
    }

    /// By how much the values are longer than the stored ones, but for those of one field.
    pub(crate) fn growth_beside(&self, field: &Field) -> isize {
        let stored = |value: Option<RawBsonRef<'_>>| value.map_or(0, |value| size_of(field, value));
        let now = self.seen(field);
        let own = stored(now.as_ref().map(Value::as_ref)) as isize;
        let all = self.measure() as isize - self.base.size() as isize;
        all - (own - stored(self.base.get(field)) as isize)
    }
}

fn size_of(field: &Field, value: RawBsonRef<'_>) -> usize {
    value::size(field.as_str(), value)
}
