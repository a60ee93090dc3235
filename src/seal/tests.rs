//! The bytes of version 1, against vectors that another implementation made, and what must not open.

use proptest::prelude::*;
use rocket::serde::json::{self, Value};
use rstest::rstest;

use super::*;

const COOKIE: &str = "session";
const ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";
const OTHER_ID: &str = "BAAAAAAAAAAAAAAAAAAAAA";
const NONCE: [u8; NONCE_BYTES] = [9; NONCE_BYTES];

fn vectors() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/seal/version_1_vectors.json"
    );
    json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn text<'v>(of: &'v Value, name: &str) -> &'v str {
    of[name].as_str().unwrap()
}

fn bytes(of: &Value, name: &str) -> Vec<u8> {
    let text = text(of, name);
    let pairs = (0..text.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn key_of(bytes: &[u8]) -> Key {
    Key::new(Zeroizing::new(bytes.try_into().unwrap()))
}

fn data_key() -> Key {
    key_of(&[1; 32])
}

fn value(id: &'static str, field: &'static str) -> Place<'static> {
    Place::Value { id, field }
}

#[test]
fn version_1_seals_and_opens_the_bytes_of_its_vectors() {
    let all = vectors();
    let (id, cookie_name) = (text(&all, "id"), text(&all, "cookie_name"));
    let secret: [u8; 32] = bytes(&all, "secret").try_into().unwrap();
    let wrapping = Key::wrapping(&secret, cookie_name, id).unwrap();
    assert_eq!(wrapping.0.as_slice(), bytes(&all, "wrapping_key"));
    let data_key = key_of(&bytes(&all, "data_key"));
    let mut seen = 0;
    for vector in all["vectors"].as_array().unwrap() {
        let place = match text(vector, "place") {
            "data key" => Place::DataKey,
            "csrf" => Place::Csrf { id },
            _ => Place::Value {
                id,
                field: text(vector, "field"),
            },
        };
        let key = match text(vector, "key") {
            "wrapping" => &wrapping,
            _ => &data_key,
        };
        assert_eq!(place.associated_data(), bytes(vector, "data"), "{vector}");
        let nonce = bytes(vector, "nonce").try_into().unwrap();
        let (plain, sealed) = (bytes(vector, "text"), bytes(vector, "sealed"));
        assert_eq!(key.seal(&nonce, place, &plain).unwrap(), sealed, "{vector}");
        assert_eq!(*key.open(place, &sealed).unwrap(), plain, "{vector}");
        assert_eq!(sealed.len(), plain.len() + OVERHEAD_BYTES);
        assert!(is_sealed(&sealed));
        if let Place::DataKey = place {
            assert_eq!(wrapping.wrap(&nonce, &data_key).unwrap(), sealed);
            let unwrapped = wrapping.unwrap(&sealed).unwrap();
            assert_eq!(unwrapped.0.as_slice(), data_key.0.as_slice());
        }
        seen += 1;
    }
    assert_eq!(seen, 9);
}

/// A short text, so that every bit is tried.
#[test]
fn truncated_extended_and_flipped_bytes_do_not_open() {
    let (key, place) = (data_key(), value(ID, "n"));
    let sealed = key.seal(&NONCE, place, b"text").unwrap();
    assert!(key.open(place, &sealed).is_some());
    for length in 0..sealed.len() {
        assert!(key.open(place, &sealed[..length]).is_none(), "{length}");
        assert!(key.open(place, &sealed[length + 1..]).is_none(), "{length}");
    }
    for more in [0, 1, 0xff] {
        assert!(key.open(place, &[&sealed[..], &[more]].concat()).is_none());
        assert!(key.open(place, &[&[more], &sealed[..]].concat()).is_none());
    }
    for bit in 0..sealed.len() * 8 {
        let mut flipped = sealed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(key.open(place, &flipped).is_none(), "bit {bit}");
    }
}

#[test]
fn nothing_opens_in_another_place() {
    let key = data_key();
    let places = [
        Place::DataKey,
        Place::Csrf { id: ID },
        Place::Csrf { id: OTHER_ID },
        Place::Csrf { id: "" },
        value(ID, "n"),
        value(ID, "m"),
        value(ID, ""),
        value(OTHER_ID, "n"),
        // The same characters, divided at another point.
        value("AAAAAAAAAAAAAAAAAAAAA", "An"),
        value("AAAAAAAAAAAAAAAAAAAAAAn", ""),
    ];
    for (at, place) in places.into_iter().enumerate() {
        let sealed = key.seal(&NONCE, place, &[7; 32]).unwrap();
        for (other, elsewhere) in places.into_iter().enumerate() {
            let opens = key.open(elsewhere, &sealed).is_some();
            assert_eq!(opens, at == other, "{at} in {other}");
        }
        assert!(key_of(&[2; 32]).open(place, &sealed).is_none());
    }
}

#[rstest]
#[case(2, COOKIE, ID)]
#[case(1, "admin", ID)]
#[case(1, COOKIE, OTHER_ID)]
// The same characters, divided at another point.
#[case(1, "sessionA", &ID[1..])]
fn wrapped_key_opens_with_its_secret_cookie_and_session_alone(
    #[case] secret: u8,
    #[case] cookie: &str,
    #[case] id: &str,
) {
    let wrapping = |secret: u8, cookie, id| Key::wrapping(&[secret; 32], cookie, id).unwrap();
    let wrapped = wrapping(1, COOKIE, ID).wrap(&NONCE, &data_key()).unwrap();
    assert!(wrapping(1, COOKIE, ID).unwrap(&wrapped).is_some());
    assert!(wrapping(secret, cookie, id).unwrap(&wrapped).is_none());
}

#[test]
fn another_version_does_not_open() {
    let (key, place) = (data_key(), value(ID, "n"));
    let sealed = key.seal(&NONCE, place, b"text").unwrap();
    for version in [0, 2, b'1'] {
        let mut other = sealed.clone();
        other[1] = version;
        assert!(is_sealed(&other), "not a value of another kind");
        assert!(key.open(place, &other).is_none());
    }
}

#[rstest]
#[case(0)]
#[case(31)]
#[case(33)]
#[case(64)]
fn wrapped_bytes_of_another_length_are_no_key(#[case] length: usize) {
    let wrapping = Key::wrapping(&[1; 32], COOKIE, ID).unwrap();
    let text = vec![1; length];
    let sealed = wrapping.seal(&NONCE, Place::DataKey, &text).unwrap();
    assert!(wrapping.unwrap(&sealed).is_none(), "{length}");
}

proptest! {
    #[test]
    fn every_text_round_trips_and_no_other_bytes_open(
        text in prop::collection::vec(any::<u8>(), 0..300),
        other in prop::collection::vec(any::<u8>(), 0..300),
        nonce in any::<[u8; NONCE_BYTES]>(),
    ) {
        let (key, place) = (data_key(), value(ID, "n"));
        let sealed = key.seal(&nonce, place, &text).unwrap();
        prop_assert_eq!(&*key.open(place, &sealed).unwrap(), &text);
        prop_assert!(key.open(place, &other).is_none());
        let other = [&HEADER[..], &other].concat();
        prop_assert!(key.open(place, &other).is_none());
    }
}

#[test]
fn key_is_wiped_and_not_printed() {
    macro_rules! has_no {
        ($type:ty, $trait:path) => {{
            trait Not<A> {
                fn is_not() {}
            }
            impl<T: ?Sized> Not<()> for T {}
            struct Has;
            impl<T: $trait + ?Sized> Not<Has> for T {}
            <$type as Not<_>>::is_not();
        }};
    }
    has_no!(Key, std::fmt::Debug);
    has_no!(Key, std::fmt::Display);
    has_no!(Key, Clone);
    has_no!(Key, PartialEq);
    has_no!(Key, rocket::serde::Serialize);
    fn wiped<T: zeroize::ZeroizeOnDrop>(_: &T) {}
    wiped(&data_key().0);
    // The expanded keys, by the features in Cargo.toml.
    wiped(&aes::Aes256::new(&[0; 32].into()));
    wiped(&sha2::Sha256::default());
}
