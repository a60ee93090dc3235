//! Semantics of filters and updates in process. The conformance suite compares them with a server.

use bson::{Bson, RawBson, bson, doc};
use rstest::rstest;

use super::compare::equal;
use super::*;

/// The present of these tests.
pub(super) const NOW: Moment = Moment::from_millis(1_700_000_000_123);

fn document(value: bson::Document) -> Document {
    Document::from_bson(&doc! { "_id": "x", "created": 1.0, "value": value })
}

fn raw(value: Bson) -> RawBson {
    RawBson::try_from(value).unwrap()
}

fn are_equal(a: Bson, b: Bson) -> bool {
    let (a, b) = (raw(a), raw(b));
    let forth = equal(a.as_raw_bson_ref(), b.as_raw_bson_ref());
    assert_eq!(forth, equal(b.as_raw_bson_ref(), a.as_raw_bson_ref()));
    forth
}

/// An update of the value of one name.
fn change(name: &str, operator: Operator) -> Update {
    let mut update = Update::default();
    update.insert(Path::Value(Field::stored(name)), operator);
    update
}

fn parsed(bytes: &[u8]) -> bson::Document {
    bson::from_slice(bytes).unwrap()
}

#[test]
fn one_of_those_that_a_filter_chooses_meets_its_other_conditions() {
    let ids = vec!["a".to_owned(), "b".to_owned()];
    let theirs = Filter::sessions().except("c").within(ids);
    let theirs = theirs.equals("user", raw(bson!("bob")));
    let one = Filter::id("b").equals("user", raw(bson!("bob")));
    assert_eq!(theirs.of_one("b").to_raw(), one.to_raw());
}

#[test]
fn numbers_are_equal_by_value_in_every_type() {
    for one in [bson!(1_i32), bson!(1_i64), bson!(1.0)] {
        for other in [bson!(1_i32), bson!(1_i64), bson!(1.0)] {
            assert!(are_equal(one.clone(), other));
        }
        assert!(!are_equal(one.clone(), bson!(true)));
        assert!(!are_equal(one, bson!("1")));
    }
    assert!(are_equal(bson!(0.0), bson!(-0.0)));
    assert!(are_equal(bson!(f64::NAN), bson!(f64::NAN)));
    assert!(!are_equal(bson!(f64::NAN), bson!(0)));
}

#[test]
fn integers_differ_from_the_nearest_double() {
    let edge = 1_i64 << 53;
    assert!(are_equal(bson!(edge), bson!(edge as f64)));
    assert!(!are_equal(bson!(edge + 1), bson!(edge as f64)));
    assert!(!are_equal(bson!(i64::MAX), bson!(i64::MAX as f64)));
    assert!(are_equal(bson!(i64::MIN), bson!(i64::MIN as f64)));
    assert!(!are_equal(bson!(1), bson!(1.5)));
}

#[test]
fn documents_and_arrays_are_equal_by_their_elements() {
    assert!(are_equal(
        bson!({ "a": 1_i32, "b": [1.0] }),
        bson!({ "a": 1_i64, "b": [1_i64] })
    ));
    assert!(!are_equal(
        bson!({ "a": 1, "b": 2 }),
        bson!({ "b": 2, "a": 1 })
    ));
    assert!(!are_equal(bson!({ "a": 1 }), bson!({ "b": 1 })));
    assert!(!are_equal(bson!({ "a": 1 }), bson!({ "a": 1, "b": 2 })));
    assert!(!are_equal(bson!([1, 2]), bson!([1])));
    assert!(!are_equal(bson!([1]), bson!(1)));
    assert!(!are_equal(bson!([1]), bson!({ "0": 1 })));
}

#[test]
fn older_compares_fractions_of_a_millisecond() {
    let older = |seconds: f64| {
        let filter = Filter::all().older("created", Moment::from_millis(1000));
        filter.matches(&Document::from_bson(
            &doc! { "_id": "x", "created": seconds },
        ))
    };
    assert!(older(0.9999) && older(-1e300));
    assert!(!older(1.0) && !older(1.0001) && !older(f64::NAN));
}

#[rstest]
#[case(bson!(1_i32), Some(Bson::Int64(3)))]
#[case(bson!(i64::from(i32::MAX)), Some(Bson::Int64((1 << 31) + 1)))]
#[case(bson!(0.5), Some(Bson::Double(2.5)))]
#[case(bson!(i64::MAX - 1), None)]
#[case(bson!(null), None)]
#[case(bson!("1"), None)]
#[case(bson!([1]), None)]
#[case(bson!(true), None)]
fn increment_widens_the_type_to_hold_the_sum(#[case] before: Bson, #[case] sum: Option<Bson>) {
    let before = document(doc! { "n": before });
    let after = change("n", Operator::Increment(2)).apply(&before, NOW).ok();
    let after = after.map(|after| parsed(after.as_bytes()).remove("value").unwrap());
    assert_eq!(after, sum.map(|sum| bson!({ "n": sum })));
}

#[test]
fn raise_never_lowers_a_time() {
    let raised = |before: Option<Bson>, to: Bson| {
        let mut document = doc! { "_id": "x" };
        if let Some(before) = before {
            document.insert("t", before);
        }
        let mut update = Update::default();
        update.raise("t", raw(to));
        let after = update.apply(&Document::from_bson(&document), NOW).unwrap();
        Bson::try_from(after.get("t").unwrap().to_raw_bson()).unwrap()
    };
    let date = |millis| Bson::DateTime(bson::DateTime::from_millis(millis));
    assert_eq!(raised(None, bson!(2.0)), bson!(2.0));
    assert_eq!(raised(Some(bson!(1_i32)), bson!(2.0)), bson!(2.0));
    assert_eq!(raised(Some(bson!(3_i64)), bson!(2.0)), bson!(3_i64));
    assert_eq!(raised(Some(bson!(2_i64)), bson!(2.0)), bson!(2_i64));
    assert_eq!(raised(Some(bson!(f64::NAN)), bson!(2.0)), bson!(2.0));
    assert_eq!(raised(Some(bson!(null)), bson!(2.0)), bson!(2.0));
    // The server orders strings after numbers.
    assert_eq!(raised(Some(bson!("x")), bson!(2.0)), bson!("x"));
    assert_eq!(raised(Some(date(5)), date(6)), date(6));
    assert_eq!(raised(Some(date(6)), date(5)), date(6));
    assert_eq!(raised(Some(bson!(1e300)), date(0)), date(0));
}

#[test]
fn set_creates_a_missing_value_document_and_refuses_another_type() {
    let set = change("a", Operator::Set(RawBson::Int64(1)));
    let unset = change("a", Operator::Unset);
    let none = Document::from_bson(&doc! { "_id": "x" });
    assert_eq!(unset.apply(&none, NOW), Ok(none.clone()));
    let made = Document::from_bson(&doc! { "_id": "x", "value": { "a": 1_i64 } });
    assert_eq!(set.apply(&none, NOW), Ok(made));
    let other = Document::from_bson(&doc! { "_id": "x", "value": "text" });
    assert_eq!(set.apply(&other, NOW), Err(Inapplicable));
    assert_eq!(unset.apply(&other, NOW), Ok(other.clone()));
}

/// The crate's own values have no such names, but other applications' may: they are read as Extended JSON by
/// serde.
#[test]
fn values_that_an_update_does_not_change_stay_as_they_are() {
    for other in [
        bson!({ "$oid": "5f5f5f5f5f5f5f5f5f5f5f5f" }),
        bson!({ "$oid": "not an id" }),
        bson!({ "$date": "yesterday" }),
        bson!({ "$numberLong": "5" }),
        bson!({ "a": 1, "$oid": "5f5f5f5f5f5f5f5f5f5f5f5f", "b": 2 }),
        bson!([{ "deep": { "$date": "x" } }]),
    ] {
        let before = document(doc! { "k": 1_i64, "other": other.clone() });
        let set = change("k", Operator::Set(RawBson::Int64(2)));
        let after = set.apply(&before, NOW).unwrap();
        assert_eq!(
            after,
            document(doc! { "k": 2_i64, "other": other.clone() }),
            "{other}"
        );
        let mut touched = Update::default();
        touched.raise("created", 2.0);
        assert!(touched.apply(&before, NOW).is_ok(), "{other}");
    }
}

#[test]
fn set_now_sets_the_moment_of_the_update() {
    let mut update = Update::default();
    update.set_now("renewed");
    let before = Document::from_bson(&doc! { "_id": "x", "renewed": 1.0 });
    let after = update.apply(&before, NOW).unwrap();
    let expected = doc! { "_id": "x", "renewed": date(NOW) };
    assert_eq!(after, Document::from_bson(&expected));
    let rendered = doc! { "$currentDate": { "renewed": true } };
    assert_eq!(parsed(&update.to_bson()), rendered);
}

#[test]
fn equals_or_missing_takes_missing_and_null_for_the_value() {
    let filter = Filter::all().equals_or_missing("token", RawBson::Int64(7));
    let matches = |fields: bson::Document| filter.matches(&Document::from_bson(&fields));
    assert!(
        matches(doc! { "token": 7 }) && matches(doc! {}) && matches(doc! { "token": Bson::Null })
    );
    assert!(!matches(doc! { "token": 8 }));
    let rendered = doc! { "token": { "$in": [Bson::Null, 7_i64] } };
    assert_eq!(parsed(&filter.to_bson()), rendered);
}

#[test]
fn last_operation_of_a_path_wins() {
    let mut update = Update::default();
    for operation in [
        Operator::Increment(1),
        Operator::Unset,
        Operator::Set(RawBson::Null),
    ] {
        update.insert(Path::Value(Field::stored("a")), operation);
    }
    update.raise("expires", 1.0);
    update.set("expires", 2.0);
    let rendered = doc! { "$set": { "expires": 2.0, "value.a": Bson::Null } };
    assert_eq!(parsed(&update.to_bson()), rendered);
}

#[test]
fn debug_prints_no_value() {
    let secret = || RawBson::String("hunter2".into());
    let mut update = Update::default();
    update.set("user", secret());
    let filter = Filter::id("hunter2").equals("user", secret());
    let shown = format!(
        "{update:?} {filter:?} {:?}",
        document(doc! { "a": "hunter2" })
    );
    assert!(!shown.contains("hunter2"), "{shown}");
}
