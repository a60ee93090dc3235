//! Lists: arrays of native BSON, of opaque elements, or one opaque value.

use bson::raw::RawBsonRef;
use bson::{RawArray, RawBson};
use serde::de::DeserializeOwned;

use super::native::{from_holder, held, holder, storable};
use super::{binary, decode, encode, is_opaque, native, same};
use crate::config::Encoding;

fn elements(array: &RawArray) -> Option<Vec<RawBsonRef<'_>>> {
    array.into_iter().collect::<Result<_, _>>().ok()
}

pub(super) fn has_opaque_element(array: &RawArray) -> bool {
    array.into_iter().flatten().any(is_opaque)
}

/// Decodes a list with opaque elements, which `push` builds.
///
/// As CBOR only if an element is CBOR: a client may have chosen the name that put one element into
/// a holder, and a type with a human-readable form of its own is decoded from native BSON only.
pub(super) fn decode_list<T: DeserializeOwned>(list: &RawArray) -> Result<T, String> {
    const MALFORMED: &str = "an element of the list is malformed";
    let elements = elements(list).ok_or(MALFORMED)?;
    if elements.iter().copied().any(binary::is_cbor) {
        return binary::from_cbor(&binary::array(elements).ok_or(MALFORMED)?);
    }
    let native = native::array(elements).ok_or(MALFORMED)?;
    from_holder(holder(RawBsonRef::Array(&native)).as_bytes())
}

/// Returns the encoding of a list's elements, where they show it. New elements are encoded in the
/// same way: a type with a human-readable form of its own (an IP address, for example) can be decoded
/// only if all elements of the list have one encoding.
pub(crate) fn list_encoding(list: RawBsonRef<'_>) -> Option<Encoding> {
    match list {
        RawBsonRef::Array(array) => array.into_iter().flatten().find_map(element_encoding),
        list if is_opaque(list) => element_encoding(list),
        _ => None,
    }
}

pub(crate) fn element_encoding(element: RawBsonRef<'_>) -> Option<Encoding> {
    match element {
        // The same in both, but for types that bson lacks (`decode`).
        RawBsonRef::Int64(_) => None,
        element if binary::is_cbor(element) => Some(Encoding::Binary),
        _ => Some(Encoding::Document),
    }
}

/// Returns the elements of an array, each as it is stored, in whichever encoding the array is.
pub(crate) fn array(value: RawBsonRef<'_>) -> Option<Vec<RawBson>> {
    match value {
        RawBsonRef::Array(array) => Some(
            elements(array)?
                .into_iter()
                .map(|element| element.to_raw_bson())
                .collect(),
        ),
        value if is_opaque(value) => match held(value) {
            // Its elements stay native BSON, as those that are appended to it are.
            Some(RawBsonRef::Array(array)) => {
                Some(elements(array)?.into_iter().map(storable).collect())
            }
            Some(_) => None,
            None => decode::<Vec<ciborium::Value>>(value)
                .ok()?
                .iter()
                .map(|element| encode(element, Encoding::Binary).ok())
                .collect(),
        },
        _ => None,
    }
}

/// Returns whether a list contains an element that is the [`same`].
pub(crate) fn has_element(list: RawBsonRef<'_>, element: &RawBson) -> bool {
    match list {
        RawBsonRef::Array(list) => {
            let element = element.as_raw_bson_ref();
            list.into_iter().flatten().any(|other| same(other, element))
        }
        list => array(list).is_some_and(|list| is_in(&list, element)),
    }
}

/// Returns whether one of the elements is the [`same`]. `==` would not find NaN.
pub(crate) fn is_in(elements: &[RawBson], element: &RawBson) -> bool {
    let element = element.as_raw_bson_ref();
    let mut elements = elements.iter().map(RawBson::as_raw_bson_ref);
    elements.any(|other| same(other, element))
}

/// Builds an array of elements.
pub(crate) fn from_elements(elements: &[RawBson]) -> RawBson {
    RawBson::Array(elements.iter().cloned().collect())
}
