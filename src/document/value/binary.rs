//! Values in the binary encoding: integers are native, everything else is CBOR.

use bson::RawBson;
use bson::raw::RawBsonRef;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{CBOR, EncodeError, MAX_DECODED_LEVELS, decode, integer, opaque, opaque_bytes};
use crate::document::reason;

/// Encodes a value as an integer or as CBOR.
pub(super) fn encode(value: impl Serialize) -> Result<RawBson, EncodeError> {
    let mut bytes = vec![CBOR];
    ciborium::into_writer(&value, &mut bytes).map_err(|error| match error {
        ciborium::ser::Error::Value(message) => EncodeError::Serialize(message),
        ciborium::ser::Error::Io(error) => EncodeError::Serialize(error.to_string()),
    })?;
    // Major types 0 and 1 are the integers. They are native, so that the server can increment them;
    // `from_integers` decodes types that BSON's decoder cannot.
    if bytes.get(1).is_some_and(|first| first >> 5 <= 1)
        && let Ok(number) = ciborium::from_reader::<i64, _>(&bytes[1..])
    {
        return Ok(RawBson::Int64(number));
    }
    Ok(opaque(bytes))
}

/// Returns whether an opaque value is CBOR.
pub(super) fn is_cbor(value: RawBsonRef<'_>) -> bool {
    opaque_bytes(value).is_some_and(|bytes| bytes.first() == Some(&CBOR))
}

/// Decodes CBOR.
pub(super) fn from_cbor<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    use ciborium::de::Error;

    let value = ciborium::de::from_reader_with_recursion_limit(bytes, 2 * MAX_DECODED_LEVELS);
    value.map_err(|error| match error {
        Error::Semantic(_, message) => reason::without_value(&message),
        Error::Io(_) | Error::Syntax(_) => "its bytes are malformed".into(),
        Error::RecursionLimitExceeded => "it nests too deep".into(),
    })
}

/// Decodes a native integer, or a list of them, as the CBOR that [`encode`] had produced.
///
/// BSON's decoder supports neither `i128` nor `u128`, and it expects the human-readable form of a
/// type, which may be text.
pub(super) fn from_integers<T: DeserializeOwned>(value: RawBsonRef<'_>) -> Option<T> {
    let mut bytes = Vec::new();
    let written = match value {
        RawBsonRef::Array(array) => {
            let integers = array.into_iter().map(|element| integer(element.ok()?));
            ciborium::into_writer(&integers.collect::<Option<Vec<_>>>()?, &mut bytes)
        }
        value => ciborium::into_writer(&integer(value)?, &mut bytes),
    };
    written.ok()?;
    from_cbor(&bytes).ok()
}

/// Builds a CBOR array of elements.
pub(super) fn array(elements: Vec<RawBsonRef<'_>>) -> Option<Vec<u8>> {
    let values = elements
        .into_iter()
        .map(|element| decode::<ciborium::Value>(element).ok())
        .collect::<Option<Vec<_>>>()?;
    let mut bytes = Vec::new();
    ciborium::into_writer(&ciborium::Value::Array(values), &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::config::Encoding;
    use crate::document::value::tests::{back, round_trips};
    use crate::document::value::{array, encode, from_elements};

    #[test]
    fn binary_encoding_stores_what_bson_cannot() {
        let above = u64::MAX;
        let keyed = BTreeMap::from([(3_u8, 'x')]);
        let stored = encode(&above, Encoding::Binary).unwrap();
        assert_eq!(back::<u64>(&stored), Some(above));
        let stored = encode(&keyed, Encoding::Binary).unwrap();
        assert_eq!(back::<BTreeMap<u8, char>>(&stored), Some(keyed));
        assert!(encode(&above, Encoding::Document).is_err());
    }

    /// An integer in a compact encoding and text in a human-readable one, as bitflags are.
    #[derive(PartialEq, Debug)]
    struct Flags(u8);

    impl Serialize for Flags {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match serializer.is_human_readable() {
                true => serializer.collect_str(&self.0),
                false => serializer.serialize_u8(self.0),
            }
        }
    }

    impl<'de> Deserialize<'de> for Flags {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            if !deserializer.is_human_readable() {
                return u8::deserialize(deserializer).map(Flags);
            }
            let text = String::deserialize(deserializer)?;
            text.parse().map(Flags).map_err(serde::de::Error::custom)
        }
    }

    #[test]
    fn native_integers_are_decoded_as_types_that_bson_lacks() {
        round_trips(Flags(5));
        round_trips(vec![Flags(1), Flags(2)]);
        let unsigned = encode(&5_u128, Encoding::Binary).unwrap();
        assert_eq!(unsigned, RawBson::Int64(5));
        assert_eq!(back::<u128>(&unsigned), Some(5));
        assert_eq!(back::<Option<u128>>(&unsigned), Some(Some(5)));
        assert_eq!(back::<i128>(&RawBson::Int32(-5)), Some(-5));
        assert_eq!(back::<u128>(&RawBson::Int64(-5)), None);
        assert_eq!(back::<Flags>(&RawBson::Int64(256)), None);
    }

    #[test]
    fn list_of_types_that_bson_lacks_can_be_appended_to() {
        let appended = |whole: RawBson, element: RawBson| {
            let mut elements = array(whole.as_raw_bson_ref()).unwrap();
            elements.push(element);
            from_elements(&elements)
        };
        let wide = |number: u128| encode(&number, Encoding::Binary).unwrap();
        let whole = encode(&vec![1_u128], Encoding::Binary).unwrap();
        let two = appended(whole, wide(2));
        assert_eq!(back::<Vec<u128>>(&two), Some(vec![1, 2]));
        let three = appended(two, wide(u128::MAX));
        assert_eq!(back::<Vec<u128>>(&three), Some(vec![1, 2, u128::MAX]));
        let whole = encode(&vec![Flags(1)], Encoding::Binary).unwrap();
        let flags = appended(whole, encode(&Flags(2), Encoding::Binary).unwrap());
        assert_eq!(back::<Vec<Flags>>(&flags), Some(vec![Flags(1), Flags(2)]));
    }
}
