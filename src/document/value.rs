//! Encoding of single values: a serde type becomes BSON and is decoded again.
//!
//! A stored value shows its own encoding, so that both encodings can be read at any time:
//!
//! * [Native BSON](native) is stored as it is.
//! * An opaque value is Binary of subtype 0x80. Its first byte says what follows: [CBOR](binary) (`c`),
//!   a BSON document that holds the value (`b`), or a sealed value (`s`, see [`seal`](crate::seal)).
//!   `b` is for values that cannot be stored as native BSON: a name inside begins with `$` (MongoDB 4.4
//!   refuses it in `$set`), or the value or an element of it is an application's own Binary of
//!   subtype 0x80.

mod binary;
mod list;
mod native;

use std::fmt;
use std::sync::Arc;

use bson::raw::RawBsonRef;
use bson::spec::{BinarySubtype, ElementType};
use bson::{RawBson, RawDocument};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Encoding;
use crate::document::compare::whole;
use crate::document::depth::{self, Limit};
use crate::document::key::Field;
use crate::error::Error;
use crate::seal;
use list::{decode_list, has_opaque_element};
use native::holder;

pub(crate) use list::{array, element_encoding, from_elements, has_element, is_in, list_encoding};

const OPAQUE: BinarySubtype = BinarySubtype::UserDefined(0x80);
const CBOR: u8 = b'c';
const BSON: u8 = b'b';

/// Levels of a stored value that are decoded: more than [`depth::MAX_LEVELS`], which are written,
/// and few enough for any thread's stack.
const MAX_DECODED_LEVELS: usize = depth::MAX_LEVELS + 6;

/// The longest principal that a login stores.
const MAX_PRINCIPAL_BYTES: usize = 8 << 10;

/// A value as a request sees it: the stored bytes, or the result of a change.
pub(crate) enum Value<'a> {
    Stored(RawBsonRef<'a>),
    Made(RawBson),
}

impl Value<'_> {
    pub(crate) fn as_ref(&self) -> RawBsonRef<'_> {
        match self {
            Value::Stored(value) => *value,
            Value::Made(value) => value.as_raw_bson_ref(),
        }
    }

    pub(crate) fn into_owned(self) -> RawBson {
        match self {
            Value::Stored(value) => value.to_raw_bson(),
            Value::Made(value) => value,
        }
    }
}

/// Why a value cannot be encoded.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum EncodeError {
    /// The value nests deeper than [`depth::MAX_LEVELS`].
    TooDeep,
    /// The value holds an integer above `i64::MAX`, and the encoding is native BSON.
    IntegerTooLarge,
    /// The value holds a map whose keys are not strings, and the encoding is native BSON.
    KeyNotAString,
    /// A name inside the value contains NUL.
    NulInName,
    /// The value's `Serialize` failed, or it used a type that the encoding lacks. Holds the message.
    Serialize(String),
}

impl EncodeError {
    fn reason(&self) -> &'static str {
        match self {
            EncodeError::TooDeep => "it nests deeper than 64 levels",
            EncodeError::IntegerTooLarge => {
                "BSON has no integer above i64::MAX; use `session.encoding = \"binary\"`"
            }
            EncodeError::KeyNotAString => {
                "a map's keys must be strings; use `session.encoding = \"binary\"` for others"
            }
            EncodeError::NulInName => "a name inside it contains NUL",
            EncodeError::Serialize(_) => {
                "its `Serialize` failed or used a type that the encoding lacks"
            }
        }
    }

    /// Returns the error that the application sees, with serde's message as its source.
    pub(crate) fn at(self, field: &Field) -> Error {
        Error::Encode {
            key: field.display(),
            reason: self.reason(),
            source: match self {
                EncodeError::Serialize(message) => Some(Arc::new(SerializeMessage(message))),
                _ => None,
            },
        }
    }
}

/// The message of a failed `Serialize`. It is the application's text, so it is escaped and cut short
/// where it is displayed: a log line stays one line.
#[derive(Debug)]
struct SerializeMessage(String);

impl fmt::Display for SerializeMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX_CHARS: usize = 200;
        for c in self.0.chars().take(MAX_CHARS) {
            write!(f, "{}", c.escape_debug())?;
        }
        if self.0.chars().nth(MAX_CHARS).is_some() {
            f.write_str("…")?;
        }
        Ok(())
    }
}

impl std::error::Error for SerializeMessage {}

/// Encodes a value. It calls the value's `Serialize` once.
pub(crate) fn encode<T: Serialize + ?Sized>(
    value: &T,
    encoding: Encoding,
) -> Result<RawBson, EncodeError> {
    let limit = Limit::new();
    let encoded = match encoding {
        Encoding::Document => native::encode(limit.apply(value)),
        Encoding::Binary => binary::encode(limit.apply(value)),
    };
    if limit.is_exceeded() {
        return Err(EncodeError::TooDeep);
    }
    encoded
}

/// A principal is a value that equality can be asked of: not null (which matches "missing"), not
/// an array (whose elements would match), nothing that is code or a pattern.
pub(crate) fn principal(value: RawBsonRef<'_>) -> Option<RawBsonRef<'_>> {
    match value {
        RawBsonRef::String(_)
        | RawBsonRef::Int32(_)
        | RawBsonRef::Int64(_)
        | RawBsonRef::Double(_)
        | RawBsonRef::Boolean(_)
        | RawBsonRef::ObjectId(_)
        | RawBsonRef::Binary(_)
        | RawBsonRef::Decimal128(_)
        | RawBsonRef::DateTime(_)
        | RawBsonRef::Document(_) => Some(value),
        _ => None,
    }
}

/// Encodes a principal. `None` when its `Serialize` fails, when it is null, and when it is longer
/// than [`MAX_PRINCIPAL_BYTES`].
///
/// The database compares principals for equality. Null would match documents without a principal,
/// and an array would match each of its elements, so an array is stored as an opaque value.
pub(crate) fn encode_principal<T: Serialize + ?Sized>(user: &T) -> Option<RawBson> {
    let value = encode(user, Encoding::Document).ok()?;
    let value = match &value {
        RawBson::Array(_) => native::in_holder(value.as_raw_bson_ref()),
        _ => value,
    };
    principal(value.as_raw_bson_ref())?;
    (size("", value.as_raw_bson_ref()) <= MAX_PRINCIPAL_BYTES).then_some(value)
}

/// Decodes a value.
///
/// # Errors
///
/// Why the value is not of that type, without the value.
pub(crate) fn decode<T: DeserializeOwned>(value: RawBsonRef<'_>) -> Result<T, String> {
    if let Some(bytes) = opaque_bytes(value) {
        return match bytes.split_first() {
            Some((&CBOR, bytes)) => binary::from_cbor(bytes),
            // The server did not check the nesting of these bytes, and the decoder recurses.
            Some((&BSON, bytes)) if native::is_shallow(bytes) => native::from_holder(bytes),
            Some((&BSON, _)) => Err("it nests too deep".into()),
            _ => Err("its bytes are of no known encoding".into()),
        };
    }
    match value {
        RawBsonRef::Array(array) if has_opaque_element(array) => decode_list(array),
        value => native::from_holder(holder(value).as_bytes())
            .or_else(|error| binary::from_integers(value).ok_or(error)),
    }
}

/// Decodes the principal of a session, if there is one.
///
/// # Errors
///
/// [`Error::Decode`] when it is not a `T`.
pub(crate) fn decode_principal<T: DeserializeOwned>(
    user: Option<&RawBson>,
) -> Result<Option<T>, Error> {
    let Some(user) = user.map(RawBson::as_raw_bson_ref) else {
        return Ok(None);
    };
    let decoded = decode(user).map_err(|reason| Error::Decode {
        key: "(the principal)".to_owned(),
        wanted: std::any::type_name::<T>(),
        found: kind(user),
        reason,
    });
    decoded.map(Some)
}

/// Returns whether a value is null, in either encoding.
pub(crate) fn is_null(value: RawBsonRef<'_>) -> bool {
    value == RawBsonRef::Null
        || (is_opaque(value) && matches!(decode(value), Ok(ciborium::Value::Null)))
}

/// Returns what a document or an array holds.
pub(super) fn inside(value: RawBsonRef<'_>) -> Option<&RawDocument> {
    match value {
        RawBsonRef::Document(document) => Some(document),
        RawBsonRef::Array(array) => RawDocument::from_bytes(array.as_bytes()).ok(),
        _ => None,
    }
}

/// Returns the bytes of an opaque value.
fn opaque_bytes(value: RawBsonRef<'_>) -> Option<&[u8]> {
    match value {
        RawBsonRef::Binary(binary) if binary.subtype == OPAQUE => Some(binary.bytes),
        _ => None,
    }
}

/// Returns whether the value is opaque to the server, which can replace it but neither increment it
/// nor push to it.
pub(crate) fn is_opaque(value: RawBsonRef<'_>) -> bool {
    opaque_bytes(value).is_some()
}

fn opaque(bytes: Vec<u8>) -> RawBson {
    RawBson::Binary(bson::Binary {
        subtype: OPAQUE,
        bytes,
    })
}

/// Returns sealed bytes as a value that can be stored.
pub(crate) fn sealed(bytes: Vec<u8>) -> RawBson {
    opaque(bytes)
}

/// Returns the bytes of a sealed value, or `None` if the value is not sealed.
pub(crate) fn sealed_bytes(value: RawBsonRef<'_>) -> Option<&[u8]> {
    opaque_bytes(value).filter(|bytes| seal::is_sealed(bytes))
}

/// Returns the value as an integer, in whichever encoding it is stored.
pub(crate) fn integer(value: RawBsonRef<'_>) -> Option<i64> {
    match is_opaque(value) {
        true => decode(value).ok(),
        false => whole(value),
    }
}

/// Returns whether two values are stored as the same bytes. Every NaN is the same as every other,
/// as it is for the server, and 0.0 differs from -0.0.
pub(crate) fn same(a: RawBsonRef<'_>, b: RawBsonRef<'_>) -> bool {
    match (a, b) {
        (RawBsonRef::Int64(a), RawBsonRef::Int64(b)) => a == b,
        (RawBsonRef::String(a), RawBsonRef::String(b)) => a == b,
        (RawBsonRef::Double(a), RawBsonRef::Double(b)) => {
            a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
        }
        _ => {
            a.element_type() == b.element_type()
                && length(a) == length(b)
                && holder(a).as_bytes() == holder(b).as_bytes()
        }
    }
}

/// Returns the bytes that a value takes in a document: its type, the name, NUL, and the value.
pub(crate) fn size(name: &str, value: RawBsonRef<'_>) -> usize {
    2 + name.len() + length(value)
}

/// Returns an upper bound of the bytes that a value takes in an array, where its name is its index.
pub(crate) fn element_size(value: RawBsonRef<'_>) -> usize {
    const MAX_INDEX_DIGITS: usize = 8;
    2 + MAX_INDEX_DIGITS + length(value)
}

/// Returns the bytes that a value takes without type and name (<https://bsonspec.org/spec.html>).
fn length(value: RawBsonRef<'_>) -> usize {
    match value {
        RawBsonRef::Double(_)
        | RawBsonRef::Int64(_)
        | RawBsonRef::DateTime(_)
        | RawBsonRef::Timestamp(_) => 8,
        RawBsonRef::Int32(_) => 4,
        RawBsonRef::Boolean(_) => 1,
        RawBsonRef::Null | RawBsonRef::Undefined | RawBsonRef::MinKey | RawBsonRef::MaxKey => 0,
        RawBsonRef::String(text) => text.len() + 5,
        RawBsonRef::Document(document) => document.as_bytes().len(),
        RawBsonRef::Array(array) => array.as_bytes().len(),
        RawBsonRef::Binary(binary) if binary.subtype != BinarySubtype::BinaryOld => {
            binary.bytes.len() + 5
        }
        RawBsonRef::ObjectId(_) => 12,
        RawBsonRef::Decimal128(_) => 16,
        // The rarer types are encoded to be measured; `holder` adds its own name and framing.
        rare => holder(rare).as_bytes().len() - 8,
    }
}

/// Returns the name of a value's type, for error messages.
pub(crate) fn kind(value: RawBsonRef<'_>) -> &'static str {
    match value.element_type() {
        ElementType::Double => "a double",
        ElementType::String => "a string",
        ElementType::EmbeddedDocument => "a document",
        ElementType::Array => "an array",
        ElementType::Binary if is_opaque(value) => "an opaque value of another type",
        ElementType::Binary => "binary",
        ElementType::Boolean => "a boolean",
        ElementType::DateTime => "a date",
        ElementType::Null => "null",
        ElementType::Int32 | ElementType::Int64 => "an integer",
        ElementType::ObjectId => "an ObjectId",
        _ => "of a rarer BSON type",
    }
}

#[cfg(test)]
mod tests;
