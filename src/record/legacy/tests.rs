//! What is read as a session of the Python package, and what is not.

use bson::{Bson, bson, doc};
use proptest::prelude::*;

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef";

fn good() -> bson::Document {
    doc! {
        field::ID: ID,
        field::CREATED: 1_700_000_000.25,
        field::ACCESSED: 1_700_000_100.5,
        field::VALUE: { "name": "Bob", "visits": 3_i32 },
    }
}

fn parse(document: &bson::Document) -> Option<LegacySession> {
    LegacySession::parse(&Document::from_bson(document))
}

fn with(name: &str, value: impl Into<Bson>) -> Option<LegacySession> {
    let mut document = good();
    document.insert(name, value);
    parse(&document)
}

#[test]
fn its_four_fields_are_read() {
    let ancestor = parse(&good()).unwrap();
    assert_eq!(ancestor.id.as_str(), ID);
    assert_eq!(ancestor.created.millis(), 1_700_000_000_250);
    assert_eq!(ancestor.accessed.millis(), 1_700_000_100_500);
    let values = [
        (
            Field::of_key("name").unwrap(),
            RawBson::String("Bob".into()),
        ),
        (Field::of_key("visits").unwrap(), RawBson::Int32(3)),
    ];
    assert_eq!(ancestor.values, values);
    assert!(ancestor.csrf.is_none());
}

#[test]
fn none_of_its_fields_may_be_missing() {
    for name in [field::ID, field::CREATED, field::ACCESSED, field::VALUE] {
        let mut document = good();
        document.remove(name);
        assert!(parse(&document).is_none(), "without {name}");
    }
}

#[test]
fn a_field_of_another_type_makes_the_document_no_session() {
    let number = [bson!(5_i32), bson!(5_i64), bson!(5.5)];
    let others = [
        bson!("text"),
        bson!([1]),
        bson!(null),
        bson!(true),
        Bson::DateTime(bson::DateTime::from_millis(5)),
        Bson::MaxKey,
    ];
    for name in [field::CREATED, field::ACCESSED] {
        for value in number.clone() {
            assert!(with(name, value.clone()).is_some(), "{name} as {value}");
        }
        for value in others
            .clone()
            .into_iter()
            .chain([bson!({}), bson!(f64::NAN), bson!(1e300)])
        {
            assert!(with(name, value.clone()).is_none(), "{name} as {value}");
        }
    }
    for value in others.into_iter().chain(number) {
        assert!(
            with(field::VALUE, value.clone()).is_none(),
            "value as {value}"
        );
        assert!(with(field::ID, value.clone()).is_none(), "_id as {value}");
    }
}

#[test]
fn only_its_own_ids_name_its_sessions() {
    for id in [
        "",
        "0123456789ABCDEF0123456789ABCDEF",
        "0123456789abcdef0123456789abcde",
        "0123456789abcdef0123456789abcdef0",
        "0123456789abcdef0123456789abcdeg",
        "AAAAAAAAAAAAAAAAAAAAAA",
        "~all",
    ] {
        assert!(with(field::ID, id).is_none(), "{id:?}");
    }
}

#[test]
fn nothing_is_ever_unpickled() {
    assert!(with("pickled", false).is_some());
    for pickled in [bson!(true), bson!(1), bson!(0), bson!(null), bson!("false")] {
        assert!(
            with("pickled", pickled.clone()).is_none(),
            "pickled: {pickled}"
        );
    }
}

#[test]
fn one_of_ours_is_never_read_by_its_weaker_rules() {
    for token in [bson!("x"), bson!(null), bson!(0)] {
        assert!(with(field::TOKEN, token).is_none());
    }
}

#[test]
fn unknown_fields_are_ignored() {
    assert!(with("unknown", doc! { "of": "somebody else" }).is_some());
    assert!(with(field::EXPIRES, bson!("never")).is_some());
}

#[test]
fn keys_become_ours_whatever_they_are() {
    let values =
        doc! { "a.b": 1, "$set": 2, "100%": 3, "_f_": ["m"], "_f_a.b": ["n"], "": 4, "ключ": 5 };
    let ancestor = with(field::VALUE, values).unwrap();
    let names: Vec<&str> = ancestor
        .values
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let wanted = ["a%2Eb", "%24set", "100%25", "_f_", "_f_a%2Eb", "ключ"];
    assert_eq!(names, wanted, "the empty key alone cannot be one of ours");
    let keys: Vec<_> = names.into_iter().filter_map(Field::key).collect();
    assert_eq!(keys, ["a.b", "$set", "100%", "ключ"]);
}

#[test]
fn its_csrf_token_becomes_the_same_secret_each_time_and_no_key() {
    let token = "d4f1c2";
    let ancestor = with(field::VALUE, doc! { LEGACY_CSRF: token, "a": 1 }).unwrap();
    assert_eq!(ancestor.values.len(), 1);
    assert!(ancestor.csrf.unwrap().matches(&csrf_secret(token)));
    assert!(!csrf_secret("other").matches(&csrf_secret(token)));
    for none in [bson!(""), bson!(5), bson!(null)] {
        let ancestor = with(field::VALUE, doc! { LEGACY_CSRF: none }).unwrap();
        assert!(ancestor.csrf.is_none() && ancestor.values.is_empty());
    }
}

#[test]
fn it_ends_with_the_earlier_of_the_limits_of_today() {
    let ancestor = parse(&good()).unwrap();
    let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
    assert_eq!(ancestor.deadline(None, None), Moment::NEVER);
    assert_eq!(
        ancestor.deadline(Some(minute), None),
        ancestor.accessed.plus(minute)
    );
    assert_eq!(
        ancestor.deadline(Some(hour), Some(minute)),
        ancestor.created.plus(minute)
    );
}

proptest! {
    #[test]
    fn no_bytes_whatever_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(LegacySession::parse(&Document::from_bytes(bytes)).is_none());
    }

    #[test]
    fn no_damage_panics(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut document = good();
        document.insert(field::VALUE, doc! { "a": { "b": [1, "x"] }, LEGACY_CSRF: "t", "_f_": [] });
        let mut bytes = Document::from_bson(&document).into_bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = LegacySession::parse(&Document::from_bytes(bytes)).is_some();
    }
}
