//! One stored value: how a serde type becomes BSON and comes back.
//!
//! A value says its own encoding, so that both can be read at any time. Native BSON is itself. An
//! opaque value is Binary of subtype 0x80 whose first byte names what follows: CBOR (`c`), or a
//! BSON document that holds the value (`b`) when native BSON cannot stand where it would be
//! stored: a `$`-leading name inside (MongoDB 4.4 refuses it in `$set`), or an application's own
//! Binary 0x80.

use bson::raw::RawBsonRef;
use bson::serde_helpers::HumanReadable;
use bson::spec::{BinarySubtype, ElementType};
use bson::{RawArray, RawArrayBuf, RawBson, RawDocument, RawDocumentBuf};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::Encoding;
use crate::document::depth;

const OPAQUE: BinarySubtype = BinarySubtype::UserDefined(0x80);
const CBOR: u8 = b'c';
const BSON: u8 = b'b';

/// A value as somebody sees it: as it is stored, or made of it.
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

/// A value under one name, which is how the BSON encoder and decoder meet single values. The
/// human-readable forms make dates, UUIDs and addresses text that can be read and queried.
#[derive(Serialize, Deserialize)]
struct Holder<T> {
    #[serde(bound(deserialize = "T: DeserializeOwned"))]
    v: HumanReadable<T>,
}

/// Encodes a value, or says why it cannot be.
pub(crate) fn encode<T: Serialize + ?Sized>(
    value: &T,
    encoding: Encoding,
) -> Result<RawBson, &'static str> {
    if !depth::is_within(value) {
        return Err("it nests deeper than 64 levels");
    }
    match encoding {
        Encoding::Document => native(value),
        Encoding::Binary => binary(value),
    }
}

fn native<T: Serialize + ?Sized>(value: &T) -> Result<RawBson, &'static str> {
    let holder = Holder {
        v: HumanReadable(value),
    };
    let document = bson::to_raw_document_buf(&holder).map_err(|error| match error {
        bson::ser::Error::UnsignedIntegerExceededRange(_) => {
            "an integer above i64::MAX has no place in BSON; use `session.encoding = \"binary\"`"
        }
        bson::ser::Error::InvalidDocumentKey(_) => {
            "a map's keys must be strings; use `session.encoding = \"binary\"` for others"
        }
        bson::ser::Error::InvalidCString(_) => "a name inside it contains NUL",
        _ => "its `Serialize` failed or gave a type that BSON lacks; try `session.encoding = \"binary\"`",
    })?;
    let Ok(Some(value)) = document.get("v") else {
        return Err("it serializes to nothing");
    };
    if is_opaque(value) || has_operator_names(value) {
        return Ok(opaque(BSON, document.as_bytes()));
    }
    Ok(value.to_raw_bson())
}

/// Encodes a principal: a value that equality can be asked of, so neither null (which would match
/// "missing") nor an array (whose elements would match), which is kept opaque instead.
pub(crate) fn encode_principal<T: Serialize + ?Sized>(user: &T) -> Option<RawBson> {
    const LONGEST: usize = 8 << 10;
    let value = encode(user, Encoding::Document).ok()?;
    let value = match &value {
        RawBson::Array(_) => opaque(BSON, holder(value.as_raw_bson_ref()).as_bytes()),
        _ => value,
    };
    principal(value.as_raw_bson_ref())?;
    (size("", value.as_raw_bson_ref()) <= LONGEST).then_some(value)
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

fn binary<T: Serialize + ?Sized>(value: &T) -> Result<RawBson, &'static str> {
    let mut bytes = vec![CBOR];
    ciborium::into_writer(value, &mut bytes).map_err(|_| "its `Serialize` failed")?;
    // Major types 0 and 1 are the integers.
    if bytes.get(1).is_some_and(|first| first >> 5 <= 1)
        && let Ok(number) = ciborium::from_reader::<i64, _>(&bytes[1..])
    {
        return Ok(RawBson::Int64(number));
    }
    Ok(RawBson::Binary(bson::Binary {
        subtype: OPAQUE,
        bytes,
    }))
}

/// Decodes a value, or `None` when it is not of that type.
pub(crate) fn decode<T: DeserializeOwned>(value: RawBsonRef<'_>) -> Option<T> {
    match value {
        RawBsonRef::Binary(binary) if binary.subtype == OPAQUE => {
            match binary.bytes.split_first() {
                Some((&CBOR, bytes)) => from_cbor(bytes),
                // No server has looked inside: the decoder recurses, and its stack is finite.
                Some((&BSON, bytes)) if is_shallow(bytes) => from_holder(bytes),
                _ => None,
            }
        }
        RawBsonRef::Array(array) if elements(array)?.iter().any(|e| is_opaque(*e)) => {
            from_cbor(&array_as_cbor(array)?)
        }
        value => from_holder(holder(value).as_bytes()),
    }
}

fn from_holder<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    bson::from_slice::<Holder<T>>(bytes)
        .ok()
        .map(|holder| holder.v.0)
}

/// Levels that are decoded: more than are written, few enough for any thread's stack.
const DEEPEST: usize = 70;

/// Whether a document nests no deeper than that.
fn is_shallow(bytes: &[u8]) -> bool {
    let mut level: Vec<&RawDocument> = RawDocument::from_bytes(bytes).into_iter().collect();
    for _ in 0..DEEPEST {
        let values = level
            .into_iter()
            .flatten()
            .flatten()
            .map(|(_, value)| value);
        level = values.filter_map(inside).collect();
        if level.is_empty() {
            return true;
        }
    }
    false
}

/// What a document or an array holds.
fn inside(value: RawBsonRef<'_>) -> Option<&RawDocument> {
    match value {
        RawBsonRef::Document(document) => Some(document),
        RawBsonRef::Array(array) => RawDocument::from_bytes(array.as_bytes()).ok(),
        _ => None,
    }
}

fn from_cbor<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    ciborium::de::from_reader_with_recursion_limit(bytes, 2 * DEEPEST).ok()
}

fn holder(value: RawBsonRef<'_>) -> RawDocumentBuf {
    let mut document = RawDocumentBuf::new();
    document.append_ref("v", value);
    document
}

fn opaque(kind: u8, bytes: &[u8]) -> RawBson {
    let mut payload = Vec::with_capacity(bytes.len() + 1);
    payload.push(kind);
    payload.extend_from_slice(bytes);
    RawBson::Binary(bson::Binary {
        subtype: OPAQUE,
        bytes: payload,
    })
}

fn elements(array: &RawArray) -> Option<Vec<RawBsonRef<'_>>> {
    array.into_iter().collect::<Result<_, _>>().ok()
}

/// An array with opaque elements (what `push` builds) as one CBOR array.
fn array_as_cbor(array: &RawArray) -> Option<Vec<u8>> {
    let values = elements(array)?
        .into_iter()
        .map(decode::<ciborium::Value>)
        .collect::<Option<Vec<_>>>()?;
    let mut bytes = Vec::new();
    ciborium::into_writer(&ciborium::Value::Array(values), &mut bytes).ok()?;
    Some(bytes)
}

/// Whether the value can only be replaced whole: the server cannot count in it or push to it.
pub(crate) fn is_opaque(value: RawBsonRef<'_>) -> bool {
    matches!(value, RawBsonRef::Binary(binary) if binary.subtype == OPAQUE)
}

/// Whether any name inside starts with `$`. The walk keeps its own stack: a stored document may
/// nest deeper than what we write.
fn has_operator_names(value: RawBsonRef<'_>) -> bool {
    let mut open: Vec<&RawDocument> = inside(value).into_iter().collect();
    while let Some(document) = open.pop() {
        for (name, value) in document.iter().flatten() {
            if name.starts_with('$') {
                return true;
            }
            open.extend(inside(value));
        }
    }
    false
}

/// How the elements of a list are encoded, where they say it: what is appended goes with them, so
/// that one list is one encoding. (Types that show people another form than programs, an address
/// for example, could not be told apart element by element.)
pub(crate) fn list_encoding(list: RawBsonRef<'_>) -> Option<Encoding> {
    match list {
        RawBsonRef::Array(array) => array.into_iter().flatten().find_map(element_encoding),
        list => is_opaque(list).then(|| element_encoding(list)).flatten(),
    }
}

pub(crate) fn element_encoding(element: RawBsonRef<'_>) -> Option<Encoding> {
    match element {
        RawBsonRef::Int64(_) => None, // the same in both
        RawBsonRef::Binary(binary) if is_opaque(element) && binary.bytes.first() == Some(&CBOR) => {
            Some(Encoding::Binary)
        }
        _ => Some(Encoding::Document),
    }
}

/// The integer that a value is, whichever way it is stored.
pub(crate) fn integer(value: RawBsonRef<'_>) -> Option<i64> {
    match value {
        RawBsonRef::Int32(number) => Some(number.into()),
        RawBsonRef::Int64(number) => Some(number),
        value if is_opaque(value) => decode(value),
        _ => None,
    }
}

/// The elements that a value has as an array, each as stored, whichever way it is stored.
pub(crate) fn array(value: RawBsonRef<'_>) -> Option<Vec<RawBson>> {
    match value {
        RawBsonRef::Array(array) => Some(
            elements(array)?
                .into_iter()
                .map(|element| element.to_raw_bson())
                .collect(),
        ),
        value if is_opaque(value) => decode::<Vec<ciborium::Value>>(value)?
            .iter()
            .map(|element| encode(element, Encoding::Binary).ok())
            .collect(),
        _ => None,
    }
}

/// Whether a list holds an element that is stored in the same way.
pub(crate) fn has_element(list: RawBsonRef<'_>, element: &RawBson) -> bool {
    match list {
        RawBsonRef::Array(list) => {
            let element = element.as_raw_bson_ref();
            list.into_iter().flatten().any(|other| same(other, element))
        }
        list => array(list).is_some_and(|list| list.contains(element)),
    }
}

/// An array of such elements.
pub(crate) fn from_elements(elements: &[RawBson]) -> RawBson {
    let mut array = RawArrayBuf::new();
    for element in elements {
        array.push(element.clone());
    }
    RawBson::Array(array)
}

/// Bytes that two values share when they are the same value, stored in the same way.
pub(crate) fn same(a: RawBsonRef<'_>, b: RawBsonRef<'_>) -> bool {
    match (a, b) {
        (RawBsonRef::Int64(a), RawBsonRef::Int64(b)) => a == b,
        (RawBsonRef::String(a), RawBsonRef::String(b)) => a == b,
        _ => {
            a.element_type() == b.element_type()
                && length(a) == length(b)
                && holder(a).as_bytes() == holder(b).as_bytes()
        }
    }
}

/// How many bytes a value takes under a name: its type, the name, NUL, and itself.
pub(crate) fn size(name: &str, value: RawBsonRef<'_>) -> usize {
    2 + name.len() + length(value)
}

/// How many bytes a value takes at the end of an array, or a few more: its name is a number.
pub(crate) fn element_size(value: RawBsonRef<'_>) -> usize {
    const LONGEST_NAME: usize = 8;
    2 + LONGEST_NAME + length(value)
}

/// How many bytes a value takes by itself (bsonspec.org).
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
        // The rarer ones as they are encoded: `holder` adds its own name and framing.
        rare => holder(rare).as_bytes().len() - 8,
    }
}

/// What a value is, in words.
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
