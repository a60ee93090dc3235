//! Values as the server compares them.

use bson::RawDocument;
use bson::raw::RawBsonRef;

use super::value::{inside, same};

/// Where a value stands in the server's order, as far as `$max` is used: of times, as doubles or
/// dates, against whatever stands in their place, and of binaries where nothing does.
pub(super) fn order(value: RawBsonRef<'_>) -> (u8, f64) {
    match value {
        RawBsonRef::MinKey | RawBsonRef::Undefined | RawBsonRef::Null => (0, 0.0),
        RawBsonRef::Double(number) if number.is_nan() => (1, f64::NEG_INFINITY),
        RawBsonRef::Double(number) => (1, number),
        RawBsonRef::Int32(number) => (1, f64::from(number)),
        RawBsonRef::Int64(number) => (1, number as f64),
        RawBsonRef::Decimal128(_) => (1, f64::NEG_INFINITY),
        RawBsonRef::DateTime(date) => (3, date.timestamp_millis() as f64),
        RawBsonRef::Timestamp(_)
        | RawBsonRef::RegularExpression(_)
        | RawBsonRef::DbPointer(_)
        | RawBsonRef::JavaScriptCode(_)
        | RawBsonRef::JavaScriptCodeWithScope(_)
        | RawBsonRef::MaxKey => (4, 0.0),
        _ => (2, 0.0),
    }
}

/// Returns the number that a value is compared as; `None` if it is not a number.
pub(crate) fn number(value: RawBsonRef<'_>) -> Option<f64> {
    value.as_f64().or_else(|| Some(whole(value)? as f64))
}

/// Equality as the server sees it: numbers by their value, also inside of documents and arrays;
/// everything else as stored.
pub(super) fn equal(a: RawBsonRef<'_>, b: RawBsonRef<'_>) -> bool {
    use RawBsonRef::{Array, Document, Double, Int32, Int64};

    match (a, b) {
        (Int32(_) | Int64(_), Int32(_) | Int64(_)) => whole(a) == whole(b),
        (Double(a), Double(b)) => a == b || (a.is_nan() && b.is_nan()),
        // Exact: as a double, the integer might be rounded to its neighbour.
        (Double(double), other) | (other, Double(double)) => whole(other)
            .is_some_and(|whole| double.fract() == 0.0 && double as i128 == i128::from(whole)),
        (Document(a), Document(b)) => all_equal(a, b, true),
        (Array(_), Array(_)) => inside(a)
            .zip(inside(b))
            .is_some_and(|(a, b)| all_equal(a, b, false)),
        _ => same(a, b),
    }
}

/// Returns the number of a native integer.
pub(super) fn whole(value: RawBsonRef<'_>) -> Option<i64> {
    value.as_i64().or_else(|| value.as_i32().map(i64::from))
}

/// Whether two documents have equal values in the same order, and under the same names.
fn all_equal(a: &RawDocument, b: &RawDocument, are_named: bool) -> bool {
    let (mut a, mut b) = (a.into_iter(), b.into_iter());
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(Ok((name, a))), Some(Ok((other, b)))) => {
                if (are_named && name != other) || !equal(a, b) {
                    return false;
                }
            }
            _ => return false,
        }
    }
}
