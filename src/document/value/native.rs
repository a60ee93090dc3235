//! Values in native BSON, by the serde support of `bson`.

use bson::raw::RawBsonRef;
use bson::serde_helpers::HumanReadable;
use bson::{RawArrayBuf, RawBson, RawDocument, RawDocumentBuf};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::list::has_opaque_element;
use super::{BSON, EncodeError, MAX_DECODED_LEVELS, inside, is_opaque, opaque, opaque_bytes};
use crate::document::reason;

/// A document with one field, since the BSON encoder and decoder take documents only. The
/// human-readable forms turn UUIDs and addresses into text that can be read and queried.
#[derive(Serialize, Deserialize)]
struct Holder<T> {
    #[serde(bound(deserialize = "T: DeserializeOwned"))]
    v: HumanReadable<T>,
}

/// Encodes a value as it is [`storable`].
pub(super) fn encode(value: impl Serialize) -> Result<RawBson, EncodeError> {
    use bson::ser::Error::{
        InvalidCString, InvalidDocumentKey, SerializationError, UnsignedIntegerExceededRange,
    };

    let holder = Holder {
        v: HumanReadable(value),
    };
    let document = bson::to_raw_document_buf(&holder).map_err(|error| match error {
        UnsignedIntegerExceededRange(_) => EncodeError::IntegerTooLarge,
        InvalidDocumentKey(_) => EncodeError::KeyNotAString,
        InvalidCString(_) => EncodeError::NulInName,
        SerializationError { message, .. } => EncodeError::Serialize(message),
        error => EncodeError::Serialize(error.to_string()),
    })?;
    let value = match document.get("v") {
        Ok(value) => value.unwrap_or(RawBsonRef::Null),
        Err(error) => return Err(EncodeError::Serialize(error.to_string())),
    };
    Ok(storable(value))
}

/// Returns a native value as it is stored: as it is, or in a holder (`b`).
pub(super) fn storable(value: RawBsonRef<'_>) -> RawBson {
    let is_ambiguous = match value {
        RawBsonRef::Array(array) => has_opaque_element(array),
        value => is_opaque(value),
    };
    match is_ambiguous || has_operator_names(value) {
        true => in_holder(value),
        false => value.to_raw_bson(),
    }
}

/// Returns whether any name inside starts with `$`.
///
/// The search keeps its own stack, since a stored document may nest deeper than
/// [`MAX_LEVELS`](crate::document::depth::MAX_LEVELS).
fn has_operator_names(value: RawBsonRef<'_>) -> bool {
    let mut stack: Vec<&RawDocument> = inside(value).into_iter().collect();
    while let Some(document) = stack.pop() {
        for (name, value) in document.iter().flatten() {
            if name.starts_with('$') {
                return true;
            }
            stack.extend(inside(value));
        }
    }
    false
}

/// Returns the document with one field that holds a value.
pub(super) fn holder(value: RawBsonRef<'_>) -> RawDocumentBuf {
    let mut document = RawDocumentBuf::new();
    document.append_ref("v", value);
    document
}

/// Returns a native value as an opaque one.
pub(super) fn in_holder(value: RawBsonRef<'_>) -> RawBson {
    opaque([&[BSON][..], holder(value).as_bytes()].concat())
}

/// Returns the native value in an opaque value's holder; `None` if it has none, or nests too deep.
pub(super) fn held(value: RawBsonRef<'_>) -> Option<RawBsonRef<'_>> {
    match opaque_bytes(value)?.split_first()? {
        (&BSON, bytes) if is_shallow(bytes) => {
            RawDocument::from_bytes(bytes).ok()?.get("v").ok()?
        }
        _ => None,
    }
}

/// Builds an array of elements, without their holders.
pub(super) fn array(elements: Vec<RawBsonRef<'_>>) -> Option<RawArrayBuf> {
    let native = elements
        .into_iter()
        .map(|element| match is_opaque(element) {
            true => held(element),
            false => Some(element),
        });
    native.map(|element| Some(element?.to_raw_bson())).collect()
}

/// Decodes the value in a holder.
pub(super) fn from_holder<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let holder = bson::from_slice::<Holder<T>>(bytes);
    let holder = holder.map_err(|error| reason::without_value(&error.to_string()))?;
    Ok(holder.v.0)
}

/// Returns whether a document nests at most [`MAX_DECODED_LEVELS`] deep.
pub(super) fn is_shallow(bytes: &[u8]) -> bool {
    let mut level: Vec<&RawDocument> = RawDocument::from_bytes(bytes).into_iter().collect();
    for _ in 0..MAX_DECODED_LEVELS {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    use bson::{Bson, bson};

    use super::*;
    use crate::config::Encoding;
    use crate::document::value::tests::{back, round_trips};
    use crate::document::value::{CBOR, encode};

    #[test]
    fn document_encoding_is_native_bson() {
        assert_eq!(
            encode("Bob", Encoding::Document),
            Ok(RawBson::String("Bob".into()))
        );
        let address = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(
            encode(&address, Encoding::Document),
            Ok(RawBson::String("127.0.0.1".into()))
        );
    }

    #[test]
    fn bson_types_are_stored_as_themselves() {
        let date = bson::DateTime::from_millis(1_700_000_000_123);
        let id = bson::oid::ObjectId::new();
        assert_eq!(
            encode(&date, Encoding::Document),
            Ok(RawBson::DateTime(date))
        );
        assert_eq!(encode(&id, Encoding::Document), Ok(RawBson::ObjectId(id)));
        assert_eq!(back(&RawBson::DateTime(date)), Some(date));
        assert_eq!(back(&RawBson::ObjectId(id)), Some(id));
    }

    #[test]
    fn operator_names_are_stored_verbatim_as_opaque_values() {
        for value in [
            bson!({"$ref": 1, "a.b": 2, "": 3, "__proto__": 4}),
            bson!({"deep": [{"$where": "1"}]}),
        ] {
            let stored = encode(&value, Encoding::Document).unwrap();
            assert!(is_opaque(stored.as_raw_bson_ref()));
            assert_eq!(back::<Bson>(&stored), Some(value));
        }
        let map = BTreeMap::from([("$oid".to_owned(), "not an id".to_owned())]);
        round_trips(map);
        assert_eq!(
            encode("$$NOW", Encoding::Document),
            Ok(RawBson::String("$$NOW".into()))
        );
    }

    #[test]
    fn binary_of_subtype_80_from_the_application_is_wrapped() {
        let own = Bson::try_from(opaque(vec![CBOR, 1])).unwrap();
        for value in [own.clone(), bson!([own.clone(), 1]), bson!([[own]])] {
            let stored = encode(&value, Encoding::Document).unwrap();
            assert_eq!(back::<Bson>(&stored), Some(value));
        }
    }
}
