use std::collections::BTreeMap;
use std::net::IpAddr;

use bson::{Bson, RawDocumentBuf, bson, doc};
use proptest::prelude::*;
use rstest::rstest;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::document::depth::tests::Nested;

const BOTH: [Encoding; 2] = [Encoding::Document, Encoding::Binary];

pub(super) fn back<T: DeserializeOwned>(value: &RawBson) -> Option<T> {
    decode(value.as_raw_bson_ref()).ok()
}

#[track_caller]
pub(super) fn round_trips<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: T) {
    for encoding in BOTH {
        let stored = encode(&value, encoding).unwrap();
        assert_eq!(back::<T>(&stored).as_ref(), Some(&value), "{encoding:?}");
    }
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Thing {
    name: String,
    at: IpAddr,
    more: Option<Box<Thing>>,
    #[serde(flatten)]
    rest: BTreeMap<String, f64>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
#[serde(untagged)]
enum Either {
    Number(i32),
    Text(String),
}

#[test]
fn common_types_round_trip_in_both_encodings() {
    round_trips(None::<i32>);
    round_trips(Some(5));
    round_trips(true);
    for number in [0, 1, -1, 1 << 31, (1 << 53) + 1, i64::MIN, i64::MAX] {
        round_trips(number);
    }
    round_trips(0.1_f64);
    round_trips(f64::INFINITY);
    round_trips(String::new());
    round_trips("NUL \0 inside, ünïcode".to_owned());
    round_trips(vec![1, 2, 3]);
    round_trips(Vec::<String>::new());
    round_trips((1, "two".to_owned(), 3.5));
    round_trips(BTreeMap::from([("a.b".to_owned(), 1), (String::new(), 2)]));
    round_trips(vec![Either::Number(1), Either::Text("x".into())]);
    round_trips(IpAddr::from([127, 0, 0, 1]));
    round_trips(Thing {
        name: "x".into(),
        at: IpAddr::from([1; 16]),
        more: None,
        rest: BTreeMap::from([("y".to_owned(), 2.0)]),
    });
    assert!(
        back::<f64>(&encode(&f64::NAN, Encoding::Document).unwrap())
            .unwrap()
            .is_nan()
    );
}

#[test]
fn decode_of_an_integer_keeps_the_first_error() {
    let number = RawBson::Int64(5);
    let number = number.as_raw_bson_ref();
    let first = native::from_holder::<String>(holder(number).as_bytes());
    assert!(first.is_err());
    assert_eq!(decode::<String>(number), first);
}

#[test]
fn array_of_encoded_elements_is_decoded_as_one_array() {
    let element = |n: u64| encode(&n, Encoding::Binary).unwrap();
    let mixed = from_elements(&[element(1), element(u64::MAX), RawBson::Int32(7)]);
    assert_eq!(back::<Vec<u64>>(&mixed), Some(vec![1, u64::MAX, 7]));
    assert_eq!(array(mixed.as_raw_bson_ref()).unwrap().len(), 3);
    let whole = encode(&vec!["a", "b"], Encoding::Binary).unwrap();
    let parts = from_elements(&array(whole.as_raw_bson_ref()).unwrap());
    assert_eq!(
        back::<Vec<String>>(&parts),
        Some(vec!["a".into(), "b".into()])
    );
}

/// An element with a human-readable form, and with names that a client chooses.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
struct Entry {
    ip: IpAddr,
    args: BTreeMap<String, String>,
}

impl Entry {
    fn named(name: &str) -> Self {
        Entry {
            ip: IpAddr::from([1, 2, 3, 4]),
            args: BTreeMap::from([(name.to_owned(), "x".to_owned())]),
        }
    }

    fn stored(&self) -> RawBson {
        encode(self, Encoding::Document).unwrap()
    }
}

#[rstest]
#[case(["a", "$a"])]
#[case(["$a", "a"])]
#[case(["$a", "$b"])]
fn list_with_an_operator_name_in_one_element_is_decoded(#[case] names: [&str; 2]) {
    let entries = names.map(Entry::named);
    let pushed = from_elements(&entries.clone().map(|entry| entry.stored()));
    assert_eq!(back::<Vec<Entry>>(&pushed), Some(entries.to_vec()));
    // Set whole, and then appended to.
    let whole = encode(&entries, Encoding::Document).unwrap();
    assert!(is_opaque(whole.as_raw_bson_ref()));
    assert!(has_element(whole.as_raw_bson_ref(), &entries[1].stored()));
    let mut elements = array(whole.as_raw_bson_ref()).unwrap();
    let more = Entry::named("$more");
    elements.push(more.stored());
    let [first, second] = entries;
    let all = vec![first, second, more];
    assert_eq!(back::<Vec<Entry>>(&from_elements(&elements)), Some(all));
}

#[test]
fn decode_returns_none_for_another_type() {
    let stored = encode("text", Encoding::Document).unwrap();
    assert_eq!(back::<u32>(&stored), None);
}

#[rstest]
#[case(&[])]
#[case(&[CBOR])]
#[case(&[BSON, 1, 2])]
#[case(&[9])]
#[case(&[CBOR, 0x9f])]
fn decode_returns_none_for_torn_bytes(#[case] payload: &[u8]) {
    let torn = opaque(payload.to_vec());
    assert_eq!(back::<u32>(&torn), None);
}

#[test]
fn encode_refuses_deep_values_and_nul_in_names() {
    let mut deep = bson!([]);
    for _ in 0..70 {
        deep = Bson::Array(vec![deep]);
    }
    for encoding in BOTH {
        assert!(encode(&deep, encoding).is_err());
    }
    assert!(encode(&BTreeMap::from([("a\0b", 1)]), Encoding::Document).is_err());
}

/// Serializes as a list, once. A second time it fails.
struct Once(std::cell::Cell<Option<Vec<i32>>>);

impl Serialize for Once {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let items = self.0.take();
        let items = items.ok_or_else(|| serde::ser::Error::custom("serialized\n\"twice\""))?;
        serializer.collect_seq(items)
    }
}

#[test]
fn encode_serializes_a_value_once() {
    for encoding in BOTH {
        let once = Once(Some(vec![1, 2]).into());
        let stored = encode(&once, encoding).unwrap();
        assert_eq!(back::<Vec<i32>>(&stored), Some(vec![1, 2]));
    }
}

#[test]
fn encode_keeps_the_message_of_a_failed_serialize_on_one_line() {
    let field = Field::of_key("a").unwrap();
    for encoding in BOTH {
        let failed = encode(&Once(None.into()), encoding).unwrap_err();
        assert!(matches!(failed, EncodeError::Serialize(_)), "{failed:?}");
        let error = failed.at(&field);
        let source = std::error::Error::source(&error).expect("a source");
        assert_eq!(source.to_string(), r#"serialized\n\"twice\""#);
    }
    let long = EncodeError::Serialize("é".repeat(1000)).at(&field);
    let source = std::error::Error::source(&long).expect("a source");
    assert_eq!(source.to_string(), "é".repeat(200) + "…");
}

#[test]
fn encode_refuses_a_million_levels_in_both_encodings() {
    for encoding in BOTH {
        assert!(encode(&Nested(64), encoding).is_ok());
        for levels in [65, 1_000_000] {
            let refused = encode(&Nested(levels), encoding);
            assert_eq!(refused, Err(EncodeError::TooDeep), "{levels}");
        }
    }
}

#[test]
fn every_nan_is_the_same_and_the_zeros_differ() {
    let negative = f64::from_bits(f64::NAN.to_bits() | 1 << 63);
    let (nan, other_nan) = (RawBson::Double(f64::NAN), RawBson::Double(negative));
    for list in [&nan, &other_nan].map(|element| vec![RawBson::Int32(1), element.clone()]) {
        assert!(is_in(&list, &nan) && is_in(&list, &other_nan));
        let stored = from_elements(&list);
        assert!(has_element(stored.as_raw_bson_ref(), &nan));
        let zero = RawBson::Double(0.0);
        assert!(!is_in(&list, &zero) && !is_in(&[zero], &RawBson::Double(-0.0)));
    }
    let opaque = encode(&[f64::NAN], Encoding::Binary).unwrap();
    let element = encode(&f64::NAN, Encoding::Binary).unwrap();
    assert!(has_element(opaque.as_raw_bson_ref(), &element));
}

#[test]
fn size_is_the_growth_of_a_document() {
    let mut document = RawDocumentBuf::new();
    let empty = document.as_bytes().len();
    let value = encode(&doc! {"x": [1, 2, 3]}, Encoding::Document).unwrap();
    document.append("name", value.clone());
    assert_eq!(
        document.as_bytes().len() - empty,
        size("name", value.as_raw_bson_ref())
    );
}

proptest! {
    #[test]
    fn decode_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let torn = opaque(bytes);
        let _ = back::<Bson>(&torn);
        let _ = back::<Vec<String>>(&torn);
        let _ = integer(torn.as_raw_bson_ref());
    }
}

#[test]
fn decode_of_deep_bytes_does_not_overflow_the_stack() {
    let nested = |levels: usize| {
        let mut bytes = 5_i32.to_le_bytes().to_vec();
        bytes.push(0);
        for _ in 0..levels {
            // A document around it, whose one field is `v`.
            let length = i32::try_from(bytes.len() + 8).unwrap();
            let mut around = length.to_le_bytes().to_vec();
            around.extend([3, b'v', 0]);
            around.append(&mut bytes);
            around.push(0);
            bytes = around;
        }
        bytes
    };
    for (levels, reads) in [(64, true), (300, false), (10_000, false)] {
        let value = opaque([&[BSON][..], &nested(levels)].concat());
        assert_eq!(back::<Bson>(&value).is_some(), reads, "{levels}");
        let mut cbor = vec![CBOR];
        cbor.extend(vec![0x81; 100_000]);
        let value = opaque(cbor);
        assert_eq!(back::<Bson>(&value), None);
    }
}
