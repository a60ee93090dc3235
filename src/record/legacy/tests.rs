//! What is read as a session of the Python package, and what its first write makes of it.

use bson::{Bson, bson, doc};
use proptest::prelude::*;
use rstest::rstest;

use std::time::Duration;

use super::*;
use crate::record::Record;

const ID: &str = "0123456789abcdef0123456789abcdef";
const COOKIE: &str = "session";
const IDLE: Duration = Duration::from_secs(1200);
const NOW: Moment = Moment::from_millis(1_700_000_200_000);

fn good() -> bson::Document {
    doc! {
        field::ID: ID,
        field::CREATED: 1_700_000_000.25,
        field::ACCESSED: 1_700_000_100_i32,
        field::VALUE: { "name": "Bob", "visits": 3_i32 },
        "pickled": false,
    }
}

fn with(name: &str, value: impl Into<Bson>) -> bson::Document {
    let mut document = good();
    document.insert(name, value);
    document
}

fn with_values(values: bson::Document) -> bson::Document {
    with(field::VALUE, values)
}

fn read_by(
    document: &bson::Document,
    idle: Option<Duration>,
    absolute: Option<Duration>,
) -> Option<(Record, Option<Arc<Upgrade>>)> {
    let mut config = config();
    (config.timeout, config.lifetime) = (idle, absolute);
    let (document, upgrade) = read(Document::from_bson(document), &config, NOW)?;
    Some((Record::from_own_form(document, None).ok()?, upgrade))
}

fn config() -> Config {
    let mut config = Config::default_for(&rocket::Config::DEBUG_PROFILE);
    config.timeout = Some(IDLE);
    config
}

fn read_good(document: &bson::Document) -> Option<(Record, Option<Arc<Upgrade>>)> {
    read_by(document, Some(IDLE), None)
}

fn is_session(document: &bson::Document) -> bool {
    read_good(document).is_some()
}

fn key(name: &str) -> Field {
    Field::of_key(name).unwrap()
}

fn number(record: &Record, name: &str) -> Option<i64> {
    match record.stored(&key(name))? {
        RawBsonRef::Int32(number) => Some(number.into()),
        RawBsonRef::Int64(number) => Some(number),
        other => panic!("{other:?}"),
    }
}

fn names(record: &Record) -> Vec<&str> {
    record.names().collect()
}

fn token() -> Token {
    Token::bare(Id::parse(ID).unwrap())
}

fn stored(document: &Document) -> bson::Document {
    bson::from_slice(document.as_bytes()).unwrap()
}

/// The document as the store has it after a write.
fn written(document: &bson::Document, update: &Update) -> bson::Document {
    stored(&update.apply(&Document::from_bson(document), NOW).unwrap())
}

/// A first write that sets these keys.
fn set(document: &bson::Document, keys: &[(&str, i32)]) -> bson::Document {
    let (_, upgrade) = read_good(document).unwrap();
    let mut update = Update::default();
    for (name, value) in keys {
        let operation = Operator::Set(RawBson::Int32(*value));
        update.insert(Path::Value(key(name)), operation);
    }
    if let Some(upgrade) = upgrade {
        upgrade.complete(&mut update);
    }
    written(document, &update)
}

// ---- reading

#[test]
fn a_document_of_the_package_is_read_as_one_of_ours() {
    let (record, upgrade) = read_good(&good()).unwrap();
    assert_eq!(record.meta.id.as_str(), ID);
    assert_eq!(record.meta.times.created.millis(), 1_700_000_000_250);
    assert_eq!(record.meta.times.accessed.millis(), 1_700_000_100_000);
    assert_eq!(
        record.meta.times.expires,
        record.meta.times.accessed.plus(IDLE)
    );
    assert!(record.token.matches(&token().digest(COOKIE)));
    assert_eq!(names(&record), ["name", "visits"]);
    assert!(upgrade.is_some());
}

#[test]
fn requests_that_read_at_once_agree_on_everything() {
    for document in [good(), with_values(doc! { LEGACY_CSRF: "d4f1c2" })] {
        let (a, b) = (
            read_good(&document).unwrap().0,
            read_good(&document).unwrap().0,
        );
        assert!(a.token.matches(&b.token) && a.csrf().matches(b.csrf()));
        assert_eq!(a.meta.times.expires, b.meta.times.expires);
    }
}

#[rstest]
#[case("")]
#[case("0123456789ABCDEF0123456789ABCDEF")]
#[case("0123456789abcdef0123456789abcde")]
#[case("0123456789abcdef0123456789abcdef0")]
#[case("0123456789abcdef0123456789abcdeg")]
#[case("AAAAAAAAAAAAAAAAAAAAAA")]
#[case("~0123456789abcdef0123456789abcdef")]
#[case("~all")]
fn another_form_of_id_is_not_read(#[case] id: &str) {
    assert!(!is_session(&with(field::ID, id)), "{id:?}");
}

#[rstest]
#[case(field::ID)]
#[case(field::CREATED)]
#[case(field::ACCESSED)]
#[case(field::VALUE)]
fn a_missing_field_makes_the_document_malformed(#[case] name: &str) {
    let mut document = good();
    document.remove(name);
    assert!(!is_session(&document), "without {name}");
}

#[test]
fn a_document_without_the_pickled_field_is_read() {
    let mut document = good();
    document.remove("pickled");
    assert!(is_session(&document), "the README's four fields");
}

#[test]
fn a_field_of_another_type_makes_the_document_malformed() {
    let numbers = [bson!(5_i32), bson!(5_i64), bson!(5.5)];
    let others = [
        bson!("text"),
        bson!([1]),
        bson!(null),
        bson!(true),
        Bson::DateTime(bson::DateTime::from_millis(5)),
        Bson::MaxKey,
    ];
    for name in [field::CREATED, field::ACCESSED] {
        for value in &numbers {
            assert!(is_session(&with(name, value.clone())), "{name} as {value}");
        }
        let more = [
            bson!({}),
            bson!(f64::NAN),
            bson!(f64::INFINITY),
            bson!(1e300),
        ];
        for value in others.iter().chain(&more) {
            assert!(!is_session(&with(name, value.clone())), "{name} as {value}");
        }
    }
    for value in others.iter().chain(&numbers) {
        for name in [field::VALUE, field::ID, field::TOKEN] {
            assert!(!is_session(&with(name, value.clone())), "{name} as {value}");
        }
    }
    for value in others.iter().filter(|value| value.as_array().is_none()) {
        assert!(!is_session(&with(RENAMED, value.clone())), "{value}");
    }
}

#[rstest]
#[case(bson!(true))]
#[case(bson!(1))]
#[case(bson!(0))]
#[case(bson!(null))]
#[case(bson!("false"))]
fn a_pickled_document_is_not_read(#[case] pickled: Bson) {
    assert!(!is_session(&with("pickled", pickled)));
}

#[test]
fn unknown_fields_stay() {
    let document = with("unknown", doc! { "of": "another application" });
    assert!(is_session(&document));
    assert!(set(&document, &[("a", 1)]).contains_key("unknown"));
}

#[test]
fn keys_are_read_under_our_names() {
    let values = doc! {
        "a.b": 1, "$set": 2, "100%": 3, "_f_": ["m"], "_f_a.b": ["n"], "": 4, "ключ": 5,
        "_csrft_x": 6, "%25": 7,
    };
    let (record, _) = read_good(&with_values(values)).unwrap();
    let wanted = [
        "a%2Eb",
        "%24set",
        "100%25",
        "_f_",
        "_f_a%2Eb",
        "ключ",
        "%5Fcsrft_x",
        "%2525",
    ];
    assert_eq!(
        names(&record),
        wanted,
        "the empty key alone is not one of ours"
    );
    let keys: Vec<_> = wanted.into_iter().filter_map(Field::key).collect();
    assert_eq!(keys, ["a.b", "$set", "100%", "ключ", "_csrft_x", "%25"]);
}

#[test]
fn the_csrf_secret_follows_from_the_packages_token() {
    let csrf = |values| read_good(&with_values(values)).unwrap().0.csrf().clone();
    assert!(csrf(doc! { LEGACY_CSRF: "d4f1c2" }).matches(&csrf_secret("d4f1c2")));
    assert!(!csrf_secret("other").matches(&csrf_secret("d4f1c2")));
    let of_id = csrf(doc! {});
    for none in [bson!(""), bson!(5), bson!(null)] {
        assert!(csrf(doc! { LEGACY_CSRF: none }).matches(&of_id));
    }
    assert!(!of_id.matches(&csrf_secret(ID)) && !of_id.matches(&csrf_secret("")));
    let (record, _) = read_good(&with_values(doc! { LEGACY_CSRF: "t", "a": 1 })).unwrap();
    let keys: Vec<_> = names(&record).into_iter().filter_map(Field::key).collect();
    assert_eq!(keys, ["a"], "the token is not a key");
}

#[test]
fn a_document_expires_by_the_earlier_of_todays_limits() {
    let expires = |idle, absolute| {
        read_by(&good(), idle, absolute)
            .unwrap()
            .0
            .meta
            .times
            .expires
    };
    let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
    let (created, accessed) = (
        Moment::from_millis(1_700_000_000_250),
        Moment::from_millis(1_700_000_100_000),
    );
    assert_eq!(expires(None, None), Moment::NEVER);
    assert_eq!(expires(Some(hour), None), accessed.plus(hour));
    assert_eq!(expires(None, Some(hour)), created.plus(hour));
    assert_eq!(expires(Some(hour), Some(minute)), created.plus(minute));
    // A read has stored a date.
    let date = Moment::from_millis(1_700_000_900_000);
    let document = with(field::EXPIRES, Bson::DateTime(super::date(date)));
    assert_eq!(read_good(&document).unwrap().0.meta.times.expires, date);
}

#[test]
fn a_last_use_further_ahead_than_the_session_lives_is_not_believed() {
    let expires = |ahead: f64, idle| {
        let document = with(field::ACCESSED, NOW.seconds() + ahead);
        read_by(&document, idle, None).unwrap().0.meta.times.expires
    };
    assert_eq!(expires(1200.0, Some(IDLE)), NOW.plus(IDLE).plus(IDLE));
    assert!(expires(1200.5, Some(IDLE)) < NOW);
    assert!(expires(9e9, Some(IDLE)) < NOW);
    assert_eq!(expires(9e9, None), Moment::NEVER, "without a timeout");
}

// ---- the first write

#[test]
fn the_first_write_makes_a_document_of_ours() {
    let after = set(&good(), &[("name", 1)]);
    let bytes = |name: &str| after.get_binary_generic(name).unwrap().clone();
    assert_eq!(bytes(field::TOKEN), token().digest(COOKIE).as_bytes());
    assert_eq!(bytes(field::CSRF).len(), 32);
    assert!(after.get_datetime(field::EXPIRES).is_ok() && !after.contains_key(RENAMED));
    assert_eq!(after.get_str(field::ID), Ok(ID));
    assert_eq!(after.get_f64(field::CREATED), Ok(1_700_000_000.25));
    let values = after.get_document(field::VALUE).unwrap();
    assert_eq!(values, &doc! { "name": 1, "visits": 3 });

    // It is read as it is.
    let bytes = Document::from_bson(&after);
    let (again, upgrade) = read(bytes.clone(), &config(), NOW).unwrap();
    assert!(upgrade.is_none() && again == bytes);
    let record = Record::from_own_form(again, None).unwrap();
    assert!(record.token.matches(&token().digest(COOKIE)));
    assert!(record.csrf().matches(read_good(&good()).unwrap().0.csrf()));
}

#[test]
fn a_write_sets_what_it_sets_itself() {
    let (_, upgrade) = read_good(&good()).unwrap();
    let (drawn, expires) = ([7; 32], Moment::from_millis(1_700_000_300_000));
    let mut update = Update::default();
    update.set(field::TOKEN, binary(&drawn));
    update.set(field::CSRF, binary(&drawn));
    update.set(field::EXPIRES, date(expires));
    upgrade.unwrap().complete(&mut update);
    let record =
        Record::from_own_form(Document::from_bson(&written(&good(), &update)), None).unwrap();
    assert!(record.token.matches(&Digest::from_bytes(drawn)));
    assert!(record.csrf().matches(&Secret::from_bytes(drawn)));
    assert_eq!(record.meta.times.expires, expires);
}

#[test]
fn a_write_takes_no_secret_back_that_was_replaced_since_it_read() {
    let (_, upgrade) = read_good(&good()).unwrap();
    let mut renewal = Update::default();
    let drawn = Secret::draw().unwrap();
    renewal.set(field::TOKEN, binary(drawn.digest(COOKIE).as_bytes()));
    renewal.set(field::CSRF, binary(drawn.expose()));
    let renewed = written(&good(), &renewal);
    let mut update = Update::default();
    update.insert(Path::Value(key("late")), Operator::Set(RawBson::Int32(1)));
    upgrade.unwrap().complete(&mut update);
    // In memory only what is missing is stored; the server compares bytes.
    let operators = stored(&Document::from_raw(update.to_raw()));
    let max = operators.get_document("$max").unwrap();
    for name in [field::TOKEN, field::CSRF] {
        assert!(
            max.get_binary_generic(name).unwrap()[..8] == [0; 8],
            "{name}"
        );
        assert!(renewed.get_binary_generic(name).unwrap()[..8] > [0; 8][..]);
    }
    let after = written(&renewed, &update);
    for name in [field::TOKEN, field::CSRF] {
        assert_eq!(after.get(name), renewed.get(name), "{name}");
    }
    assert_eq!(
        after.get_document(field::VALUE).unwrap().get_i32("late"),
        Ok(1)
    );
}

#[test]
fn a_renewed_session_is_not_opened_by_its_id() {
    let secret = Secret::draw().unwrap();
    let digest = secret.digest(COOKIE);
    let mut document = set(&good(), &[("a", 1)]);
    assert!(is_opened_by_its_id(&Document::from_bson(&document)));
    document.insert(
        field::TOKEN,
        Bson::try_from(binary(digest.as_bytes())).unwrap(),
    );
    let (record, upgrade) = read_good(&document).unwrap();
    assert!(record.token.matches(&digest) && !record.token.matches(&token().digest(COOKIE)));
    assert!(upgrade.is_none());
    assert!(!is_opened_by_its_id(&Document::from_bson(&document)));
}

#[test]
fn a_stored_session_is_opened_by_its_id_or_not() {
    let is_opened = |document: &bson::Document| is_opened_by_its_id(&Document::from_bson(document));
    assert!(is_opened(&good()));
    assert!(is_opened(&with(field::TOKEN, "malformed")));
    assert!(!is_opened(&with(field::ID, "AAAAAAAAAAAAAAAAAAAAAA")));
    assert!(!is_opened(&with(field::ID, "~all")));
}

#[test]
fn a_write_of_the_package_makes_the_document_legacy_again() {
    let upgraded = set(&with_values(doc! { "100%": 1 }), &[("100%", 2)]);
    // It replaces the whole document with what it has read: our name is a key of its own.
    let values = upgraded.get_document(field::VALUE).unwrap().clone();
    let (record, upgrade) = read_good(&with_values(values)).unwrap();
    assert_eq!(names(&record), ["100%2525"]);
    assert!(upgrade.is_some());
}

// ---- names

#[test]
fn a_write_renames_the_keys_that_it_touches() {
    let document = with_values(doc! { "50%": 50, "100%": 100, "plain": 1 });
    let after = set(&document, &[("100%", 101)]);
    let values = after.get_document(field::VALUE).unwrap();
    assert_eq!(values, &doc! { "50%": 50, "plain": 1, "100%25": 101 });
    let (record, _) = read_good(&after).unwrap();
    assert_eq!(number(&record, "50%"), Some(50));
    assert_eq!(number(&record, "100%"), Some(101));
    let after = set(&after, &[("50%", 51), ("new.one", 7)]);
    let values = after.get_document(field::VALUE).unwrap();
    assert_eq!(
        values,
        &doc! { "plain": 1, "100%25": 101, "50%25": 51, "new%2Eone": 7 }
    );
    let (record, _) = read_good(&after).unwrap();
    for (name, value) in [("50%", 51), ("100%", 101), ("plain", 1), ("new.one", 7)] {
        assert_eq!(number(&record, name), Some(value), "{name}");
    }
}

#[test]
fn a_name_that_reads_as_ours_stays_the_packages_until_it_is_written() {
    let document = with_values(doc! { "%2E": 1, "a%2Eb": 2, "x": 3 });
    let after = set(&document, &[("x", 4)]);
    let (record, upgrade) = read_good(&after).unwrap();
    assert_eq!(number(&record, "%2E"), Some(1));
    assert_eq!(number(&record, "a%2Eb"), Some(2));
    assert_eq!(number(&record, "."), None);
    assert!(upgrade.is_some(), "names are left");
    let after = set(&after, &[("a%2Eb", 5), ("c.d", 6)]);
    let (record, _) = read_good(&after).unwrap();
    for (name, value) in [("%2E", 1), ("a%2Eb", 5), ("x", 4), ("c.d", 6)] {
        assert_eq!(number(&record, name), Some(value), "{name}");
    }
}

#[test]
fn a_name_that_no_update_can_say_is_ignored_once_it_is_written() {
    let document = with_values(doc! { "a.b": 1, "$set": 2, "_f_a.b": ["old"] });
    let (record, upgrade) = read_good(&document).unwrap();
    assert_eq!(number(&record, "a.b"), Some(1));
    let mut update = Update::default();
    let queue = Field::of_queue("a.b").unwrap();
    update.insert(Path::Value(key("a.b")), Operator::Set(RawBson::Int32(9)));
    update.insert(Path::Value(key("$set")), Operator::Unset);
    update.insert(Path::Value(queue.clone()), Operator::Unset);
    upgrade.unwrap().complete(&mut update);
    let operators = stored(&Document::from_raw(update.to_raw()));
    let unset = operators.get_document("$unset").unwrap();
    assert_eq!(
        unset.keys().collect::<Vec<_>>(),
        ["value.%24set", "value._f_a%2Eb"]
    );
    let after = written(&document, &update);
    let (record, _) = read_good(&after).unwrap();
    assert_eq!(number(&record, "a.b"), Some(9));
    assert_eq!(number(&record, "$set"), None);
    assert!(record.stored(&queue).is_none());
}

#[test]
fn a_removed_key_is_gone_under_both_names() {
    let document = with_values(doc! { "100%": 1 });
    let (_, upgrade) = read_good(&document).unwrap();
    let mut update = Update::default();
    update.insert(Path::Value(key("100%")), Operator::Unset);
    upgrade.unwrap().complete(&mut update);
    let after = written(&document, &update);
    assert!(after.get_document(field::VALUE).unwrap().is_empty());
    assert!(names(&read_good(&after).unwrap().0).is_empty());
}

#[test]
fn keys_whose_names_meet_are_both_kept_by_a_write_of_both() {
    let document = with_values(doc! { "%": 1, "%25": 2 });
    let after = set(&document, &[("%", 3), ("%25", 4)]);
    let (record, _) = read_good(&after).unwrap();
    assert_eq!(
        (number(&record, "%"), number(&record, "%25")),
        (Some(3), Some(4))
    );
    assert_eq!(names(&record).len(), 2);
}

#[test]
fn a_write_renames_a_key_of_the_package_and_no_other() {
    let document = with_values(doc! { "100%": 1, "plain": 2, "%25": 3, "a.b": 4 });
    let (_, upgrade) = read_good(&document).unwrap();
    let upgrade = upgrade.unwrap();
    for (name, renames) in [
        ("100%", true),
        ("%25", true),
        ("a.b", true),
        ("%", true), // the package has another key under our name of it
        ("plain", false),
        ("new", false),
        ("new%", false),
    ] {
        assert_eq!(upgrade.renames(&key(name)), renames, "{name}");
    }
    let after = set(&document, &[("100%", 5)]);
    let (_, upgrade) = read_good(&after).unwrap();
    assert!(!upgrade.unwrap().renames(&key("100%")));
}

#[rstest]
#[case("100%", "100%25")]
#[case("plain", "plain")]
#[case("%25", "%2525")]
#[case("new", "new")]
fn a_compare_and_set_sees_a_change_under_either_name(#[case] name: &str, #[case] other: &str) {
    let document = with_values(doc! { "100%": 1, "plain": 2, "%25": 3 });
    let (ours, upgrade) = read(Document::from_bson(&document), &config(), NOW).unwrap();
    let record = Record::from_own_form(ours, upgrade).unwrap();
    let filter = record.with_same_value(Filter::id(ID), &key(name));
    let matches =
        |values: bson::Document| filter.matches(&Document::from_bson(&with_values(values)));
    let before = document.get_document(field::VALUE).unwrap();
    assert!(matches(before.clone()), "{name}");
    let mut renamed = before.clone();
    renamed.insert(other, 9);
    assert!(!matches(renamed), "{name}, written under our name");
    if before.contains_key(name) {
        let mut changed = before.clone();
        changed.insert(name, 9);
        assert!(!matches(changed.clone()), "{name}, changed");
        changed.remove(name);
        assert!(!matches(changed), "{name}, removed");
    }
}

#[test]
fn the_token_is_the_same_while_it_is_absent_or_this_one() {
    let (document, upgrade) = read(Document::from_bson(&good()), &config(), NOW).unwrap();
    let record = Record::from_own_form(document, upgrade).unwrap();
    assert!(record.token.matches(&token().digest(COOKIE)));
    let filter = record.with_same_token(Filter::id(ID));
    let matches = |document: &bson::Document| filter.matches(&Document::from_bson(document));
    assert!(matches(&good()));
    assert!(matches(&set(&good(), &[("a", 1)])));
    let other = Secret::draw().unwrap().digest(COOKIE);
    let other = Bson::try_from(binary(other.as_bytes())).unwrap();
    assert!(!matches(&with(field::TOKEN, other)));
}

// ---- anything

fn name() -> impl Strategy<Value = String> {
    let of_each_others_names = &["%", "%25", "%2525", "%252525", "a.b", "a%2Eb", "a%252Eb"];
    prop_oneof![
        "[a%25E._$]{0,6}",
        "_f_[%25.]{0,3}",
        "[a-z]{1,3}",
        prop::sample::select(&of_each_others_names[..]).prop_map(str::to_owned),
    ]
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let document = Document::from_bytes(bytes);
        prop_assert!(!is_opened_by_its_id(&document));
        prop_assert!(read(document, &config(), NOW).is_none());
    }

    #[test]
    fn no_damage_panics(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let values = doc! { "a": { "b": [1, "x"] }, LEGACY_CSRF: "t", "_f_": [], "%": 1 };
        let mut document = with_values(values);
        document.insert(RENAMED, vec!["%25", "x"]);
        let mut bytes = Document::from_bson(&document).into_bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let document = Document::from_bytes(bytes);
        let _ = is_opened_by_its_id(&document);
        if let Some((document, upgrade)) = read(document, &config(), NOW) {
            let _ = Record::from_own_form(document, None).is_ok();
            if let Some(upgrade) = upgrade {
                upgrade.complete(&mut Update::default());
            }
        }
    }

    /// Writes of any keys leave a session that reads as a map of keys to values would.
    #[test]
    fn writes_change_the_keys_that_they_name(
        python in prop::collection::btree_map(name(), 0..9_i32, 0..6),
        writes in prop::collection::vec(
            prop::collection::btree_map(name(), prop::option::of(10..99_i32), 0..4),
            0..4,
        ),
    ) {
        let fields = |name: &str| match name.strip_prefix(FLASH) {
            Some(queue) => Field::of_queue(queue).ok(),
            None => Field::of_key(name).ok(),
        };
        let mut expected = BTreeMap::new();
        let mut document = with_values(doc! {});
        for (name, value) in &python {
            let values = document.get_document_mut(field::VALUE).unwrap();
            values.insert(name.clone(), *value);
            if let Some(field) = fields(name) {
                expected.insert(field, *value);
            }
        }
        for write in &writes {
            let write = write.iter().filter_map(|(name, value)| Some((fields(name)?, value)));
            let write: BTreeMap<_, _> = write.collect();
            let (_, upgrade) = read_good(&document).unwrap();
            let mut update = Update::default();
            for (field, value) in &write {
                let operation = value.map_or(Operator::Unset, |v| Operator::Set(RawBson::Int32(v)));
                update.insert(Path::Value(field.clone()), operation);
            }
            if let Some(upgrade) = upgrade {
                upgrade.complete(&mut update);
            }
            document = written(&document, &update);
            for (field, value) in write {
                match value {
                    Some(value) => expected.insert(field, *value),
                    None => expected.remove(&field),
                };
            }
            let (record, _) = read_good(&document).unwrap();
            let read: BTreeMap<_, _> = record
                .values()
                .map(|(name, value)| (Field::stored(name), value.as_i32().unwrap()))
                .collect();
            prop_assert_eq!(read, expected.clone());
        }
    }
}
