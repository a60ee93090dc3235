//! What is read as a session, and what is not.

use bson::oid::ObjectId;
use bson::{Binary, Bson, Decimal128, JavaScriptCodeWithScope, Regex, Timestamp, bson, doc};
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::commit::{revocation, tombstone};

impl Record {
    /// The values as they are stored.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&str, RawBsonRef<'_>)> {
        let all = self.values.raw().into_iter().flatten().flatten();
        all.filter(|(name, _)| Field::is_one(name))
    }

    pub(crate) fn csrf(&self) -> &Secret {
        self.csrf.as_ref().expect("a CSRF secret that opens")
    }
}

const REQUIRED: [&str; 7] = [
    field::ID,
    field::CREATED,
    field::ACCESSED,
    field::VALUE,
    field::TOKEN,
    field::CSRF,
    field::EXPIRES,
];
const OPTIONAL: [&str; 8] = [
    field::USER,
    field::TIMEOUT,
    field::LIFETIME,
    field::MAX_AGE,
    field::RENEWED,
    field::SENT,
    field::CLIENT,
    field::IP,
];

fn bytes_of(subtype: BinarySubtype, length: usize) -> Bson {
    let bytes = vec![7; length];
    Bson::Binary(Binary { subtype, bytes })
}

/// A session with every field there is.
fn good() -> bson::Document {
    let bytes = || bytes_of(BinarySubtype::Generic, 32);
    doc! {
        field::ID: "AAAAAAAAAAAAAAAAAAAAAA",
        field::CREATED: 1_700_000_000.25,
        field::ACCESSED: 1_700_000_100.5,
        field::VALUE: { "b": 1_i64, "a": "x" },
        field::TOKEN: bytes(),
        field::CSRF: bytes(),
        field::EXPIRES: bson::DateTime::from_millis(1_700_001_300_500),
        field::USER: 7_i64,
        field::TIMEOUT: 60.5,
        field::LIFETIME: 90.5,
        field::MAX_AGE: false,
        field::RENEWED: bson::DateTime::from_millis(1_700_000_050_000),
        field::SENT: 1_700_000_060.0,
        field::CLIENT: "a browser",
        field::IP: "127.0.0.1",
    }
}

fn parse(document: &bson::Document) -> Option<Record> {
    Record::from_own_form(Document::from_bson(document), None).ok()
}

fn with(name: &str, value: impl Into<Bson>) -> Option<Record> {
    let mut document = good();
    document.insert(name, value);
    parse(&document)
}

/// A value of every BSON type, by the type's name.
fn every_type() -> Vec<(&'static str, Bson)> {
    let scope = JavaScriptCodeWithScope {
        code: "0".into(),
        scope: doc! {},
    };
    vec![
        ("double", bson!(1.5)),
        ("string", bson!("text")),
        ("document", bson!({ "a": 1 })),
        ("array", bson!([1])),
        ("binary", bytes_of(BinarySubtype::Generic, 32)),
        ("opaque", bytes_of(BinarySubtype::UserDefined(0x80), 32)),
        ("undefined", Bson::Undefined),
        ("oid", ObjectId::from_bytes([1; 12]).into()),
        ("boolean", bson!(true)),
        ("false", bson!(false)),
        ("date", bson::DateTime::from_millis(5).into()),
        ("null", Bson::Null),
        (
            "regex",
            Bson::RegularExpression(Regex {
                pattern: "x".into(),
                options: String::new(),
            }),
        ),
        ("code", Bson::JavaScriptCode("0".into())),
        ("symbol", Bson::Symbol("x".into())),
        ("scope", Bson::JavaScriptCodeWithScope(scope)),
        ("int32", bson!(5_i32)),
        (
            "timestamp",
            Bson::Timestamp(Timestamp {
                time: 1,
                increment: 1,
            }),
        ),
        ("int64", bson!(5_i64)),
        ("decimal", Bson::Decimal128(Decimal128::from_bytes([0; 16]))),
        ("max", Bson::MaxKey),
        ("min", Bson::MinKey),
    ]
}

/// The types in which a field is read.
fn types_of(name: &str) -> &'static [&'static str] {
    match name {
        field::ID => &[], // text, but not any
        field::VALUE => &["document"],
        field::TOKEN | field::CSRF => &["binary"],
        field::EXPIRES => &["date"],
        field::CREATED | field::ACCESSED | field::SENT => &["double", "int32", "int64"],
        field::RENEWED => &["double", "int32", "int64", "date"],
        field::TIMEOUT | field::LIFETIME | field::MAX_AGE => &["double", "int32", "int64", "false"],
        field::CLIENT | field::IP => &["string"],
        field::USER => &[
            "double", "string", "document", "binary", "opaque", "oid", "boolean", "false", "date",
            "int32", "int64", "decimal",
        ],
        _ => &[],
    }
}

#[test]
fn what_was_stored_is_read() {
    let record = parse(&good()).unwrap();
    assert_eq!(record.meta.id.as_str(), "AAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(record.meta.times.created.millis(), 1_700_000_000_250);
    assert_eq!(record.meta.times.accessed.millis(), 1_700_000_100_500);
    assert_eq!(record.meta.times.expires.millis(), 1_700_001_300_500);
    assert_eq!(record.token.as_bytes(), &[7; 32]);
    assert_eq!(record.csrf().expose(), &[7; 32]);
    assert_eq!(record.meta.user, Some(RawBson::Int64(7)));
    let own = |millis| Override::Set(Some(Duration::from_millis(millis)));
    assert_eq!(record.meta.times.own.timeout, own(60_500));
    assert_eq!(record.meta.times.own.lifetime, own(90_500));
    assert_eq!(record.meta.times.own.max_age, Override::Set(None));
    assert_eq!(
        record.meta.sent.map(Moment::millis),
        Some(1_700_000_060_000)
    );
    let names: Vec<&str> = record.names().collect();
    assert_eq!(names, ["b", "a"], "values keep their order");
}

#[test]
fn a_list_shows_a_session_that_comes_without_its_values_and_secrets() {
    let mut document = good();
    for name in [field::VALUE, field::TOKEN, field::CSRF] {
        document.remove(name);
    }
    let document = Document::from_bson(&document);
    assert!(Record::from_own_form(document.clone(), None).is_err());
    let meta = Meta::parse(&document).unwrap();
    assert_eq!(meta.id.as_str(), "AAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(meta.times.created.millis(), 1_700_000_000_250);
    assert_eq!(meta.times.accessed.millis(), 1_700_000_100_500);
    assert_eq!(meta.client.agent.as_deref(), Some("a browser"));
    assert_eq!(meta.client.ip.as_deref(), Some("127.0.0.1"));
    let own = Duration::from_millis(90_500);
    assert_eq!(ends_at(&meta, None, None), meta.times.created.plus(own));
}

/// When a session ends under these configured timeouts.
fn ends_at(meta: &Meta, timeout: Option<Duration>, lifetime: Option<Duration>) -> Moment {
    let mut config = Config::default_for(&rocket::Config::DEBUG_PROFILE);
    (config.timeout, config.lifetime) = (timeout, lifetime);
    meta.times.ends_at(&config)
}

#[test]
fn values_are_found_by_an_index_as_they_are_without_one() {
    let text = "x".repeat(100);
    let mut values = bson::Document::new();
    for at in 0..100 {
        values.insert(format!("k{at}"), format!("{at}{text}"));
    }
    let mut document = good();
    document.insert(field::VALUE, values);
    let record = parse(&document).unwrap();
    for _ in 0..3 {
        for at in 0..100 {
            let found = record.stored(&Field::stored(&format!("k{at}")));
            let found = found.and_then(RawBsonRef::as_str);
            assert_eq!(found, Some(format!("{at}{text}").as_str()));
            assert!(record.stored(&Field::stored(&format!("n{at}"))).is_none());
        }
    }
    assert!(record.values.has_index());
}

#[test]
fn what_the_crate_makes_is_read_as_it_was_made() {
    let meta = Meta {
        id: Id::draw().unwrap(),
        times: Times {
            created: Moment::from_millis(1_700_000_000_123),
            accessed: Moment::from_millis(1_700_000_000_124),
            expires: Moment::NEVER,
            own: OwnTimes {
                timeout: Override::Set(None),
                lifetime: Override::Inherit,
                max_age: Override::Set(Some(Duration::from_secs(5))),
            },
        },
        user: Some(RawBson::String("u".into())),
        sent: Some(Moment::from_millis(7)),
        client: Client {
            agent: Some("x".into()),
            ip: Some("::1".into()),
        },
        epoch: Some(-7),
    };
    let token = Secret::draw().unwrap().digest("session");
    let csrf = Secret::draw().unwrap();
    let values = [(Field::of_key("a.b").unwrap(), RawBson::Int64(1))];
    let document = meta.document(&Contents::plain(token.clone(), &csrf, &values));
    let record = Record::from_own_form(document, None).unwrap();
    assert!(record.token.matches(&token) && record.csrf().matches(&csrf));
    let read = &record.meta;
    assert_eq!(read.id, meta.id);
    assert_eq!(read.times, meta.times);
    assert_eq!(read.user, meta.user);
    assert_eq!(read.sent, meta.sent);
    assert_eq!(
        (&read.client.agent, &read.client.ip),
        (&meta.client.agent, &meta.client.ip)
    );
    let stored: Vec<(&str, RawBson)> = record
        .values()
        .map(|(name, value)| (name, value.to_raw_bson()))
        .collect();
    assert_eq!(stored, [("a%2Eb", RawBson::Int64(1))]);
}

#[test]
fn no_field_that_every_session_has_may_be_missing() {
    for name in REQUIRED {
        let mut document = good();
        document.remove(name);
        assert!(parse(&document).is_none(), "without {name}");
    }
}

#[test]
fn every_other_field_may_be_missing() {
    let mut document = good();
    for name in OPTIONAL {
        document.remove(name);
        assert!(parse(&document).is_some(), "without {name}");
    }
    let record = parse(&document).unwrap();
    assert!(record.meta.user.is_none());
    let meta = &record.meta;
    assert!(meta.client.agent.is_none() && meta.client.ip.is_none());
    assert_eq!(meta.times.own, OwnTimes::default());
}

#[test]
fn a_field_of_another_type_makes_the_document_no_session() {
    for name in REQUIRED.into_iter().chain(OPTIONAL) {
        for (kind, value) in every_type() {
            let is_read = with(name, value).is_some();
            assert_eq!(is_read, types_of(name).contains(&kind), "{name} as {kind}");
        }
    }
}

#[test]
fn unknown_fields_of_any_type_are_ignored_and_survive_a_write() {
    for (kind, value) in every_type() {
        let mut document = good();
        document.insert("unknown", value.clone());
        let record = parse(&document).unwrap_or_else(|| panic!("an unknown {kind}"));
        let mut update = Update::default();
        let name = Field::of_key("b").unwrap();
        change(&mut update, name.clone(), Operator::Increment(1));
        let after = record.after(&update, Moment::NEVER).unwrap();
        assert_eq!(
            after.stored(&name).and_then(|value| value.as_i64()),
            Some(2)
        );
        let kept = after
            .values
            .document()
            .get("unknown")
            .unwrap()
            .to_raw_bson();
        assert_eq!(Bson::try_from(kept).unwrap(), value, "{kind}");
    }
}

#[rstest]
#[case("")]
#[case("~AAAAAAAAAAAAAAAAAAAAAA")]
#[case("~all")]
#[case("AAAAAAAAAAAAAAAAAAAAA")]
#[case("AAAAAAAAAAAAAAAAAAAAAAA")]
#[case("AAAAAAAAAAAAAAAAAAAAAB")]
#[case("AAAAAAAAAAAAAAAAAAAA.A")]
#[case("0123456789ABCDEF0123456789ABCDEF")]
fn only_an_id_of_ours_names_a_session(#[case] id: &str) {
    assert!(with(field::ID, id).is_none(), "{id:?}");
}

#[test]
fn times_that_name_no_moment_make_the_document_no_session() {
    for name in [field::CREATED, field::ACCESSED, field::RENEWED, field::SENT] {
        for seconds in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300] {
            assert!(with(name, seconds).is_none(), "{name} as {seconds}");
        }
        assert!(with(name, i64::MAX).is_none() && with(name, i64::MIN).is_none());
        assert!(with(name, 9e9).is_some() && with(name, -9e9).is_some());
        assert!(with(name, 0_i32).is_some());
    }
    let record = with(field::CREATED, 9_000_000_000_i64).unwrap();
    assert_eq!(record.meta.times.created.millis(), 9_000_000_000_000);
}

#[rstest]
fn no_time_however_far_breaks_the_arithmetic(
    #[values(i64::MIN, -1, 0, i64::MAX)] millis: i64,
    #[values(-9e12, 9e12)] seconds: f64,
) {
    let mut document = good();
    document.insert(field::EXPIRES, bson::DateTime::from_millis(millis));
    document.insert(field::ACCESSED, seconds);
    document.insert(field::CREATED, seconds);
    document.insert(field::TIMEOUT, 9e12);
    let record = parse(&document).unwrap();
    let end = ends_at(&record.meta, None, Some(Duration::MAX));
    assert!(end <= record.meta.times.expires, "{millis} {seconds}");
    let _ = end.date();
}

#[test]
fn a_session_ends_with_the_earliest_of_its_limits() {
    let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
    let mut document = good();
    document.remove(field::TIMEOUT);
    document.remove(field::LIFETIME);
    let record = parse(&document).unwrap();
    assert_eq!(ends_at(&record.meta, None, None), record.meta.times.expires);
    assert_eq!(
        ends_at(&record.meta, Some(hour), Some(hour)),
        record.meta.times.expires
    );
    assert_eq!(
        ends_at(&record.meta, Some(minute), None),
        record.meta.times.accessed.plus(minute)
    );
    assert_eq!(
        ends_at(&record.meta, Some(hour), Some(minute)),
        record.meta.times.created.plus(minute)
    );
    // The session's own timeout takes the place of the configured one.
    document.insert(field::TIMEOUT, false);
    let own = parse(&document).unwrap();
    assert_eq!(
        ends_at(&own.meta, Some(minute), None),
        own.meta.times.expires
    );
    // And so does its own absolute timeout.
    document.insert(field::LIFETIME, 1_i32);
    let own = parse(&document).unwrap();
    assert_eq!(
        ends_at(&own.meta, None, Some(hour)).millis(),
        own.meta.times.created.millis() + 1000
    );
    document.insert(field::TIMEOUT, 1_i32);
    document.remove(field::LIFETIME);
    let own = parse(&document).unwrap();
    assert_eq!(
        ends_at(&own.meta, Some(hour), None).millis(),
        own.meta.times.accessed.millis() + 1000
    );
}

#[test]
fn a_duration_is_longer_than_nothing() {
    for name in [field::TIMEOUT, field::LIFETIME, field::MAX_AGE] {
        for bad in [0.0, -1.0, 0.0001, f64::NAN, f64::INFINITY] {
            assert!(with(name, bad).is_none(), "{name} as {bad}");
        }
        for good in [
            bson!(0.001),
            bson!(1_i32),
            bson!(9_000_000_000_i64),
            bson!(false),
        ] {
            assert!(with(name, good.clone()).is_some(), "{name} as {good}");
        }
    }
}

#[test]
fn a_secret_has_its_length_and_no_other() {
    for name in [field::TOKEN, field::CSRF] {
        for length in [0, 16, 31, 33, 64] {
            let value = bytes_of(BinarySubtype::Generic, length);
            assert!(with(name, value).is_none(), "{name} of {length} bytes");
        }
        for subtype in [
            BinarySubtype::Uuid,
            BinarySubtype::Md5,
            BinarySubtype::BinaryOld,
        ] {
            assert!(
                with(name, bytes_of(subtype, 32)).is_none(),
                "{name} as {subtype:?}"
            );
        }
    }
}

#[test]
fn a_document_is_read_as_long_as_mongodb_stores_it() {
    assert!(with("unknown", "x".repeat(15 << 20)).is_some());
    assert!(with("unknown", "x".repeat(17 << 20)).is_none());
    assert!(with(field::VALUE, doc! { "a": "x".repeat(17 << 20) }).is_none());
}

#[test]
fn a_name_that_no_key_has_is_not_ours_to_change() {
    // Another program wrote them: as a path, `a.b` would be part of another value.
    let mut document = good();
    let values = doc! { "a": { "b": 1 }, "a.b": 2, "$set": 3, "": 4, "_f_": [5], "c$d": 6 };
    document.insert(field::VALUE, values);
    let record = parse(&document).unwrap();
    let names: Vec<&str> = record.names().collect();
    assert_eq!(names, ["a", "_f_", "c$d"]);
}

#[test]
fn a_tombstone_is_not_read_as_a_session() {
    let old = Id::parse("AAAAAAAAAAAAAAAAAAAAAA").unwrap();
    let secret = || Secret::draw().unwrap();
    let config = Config::default_for(&rocket::Config::DEBUG_PROFILE);
    let token = Token::new(old.clone(), secret());
    let proof = Contents::new(&token, &secret(), Vec::new(), &config);
    let tombstone = tombstone::Tombstone {
        old: old.clone(),
        by: Id::draw().unwrap(),
        proof: proof.ok().map(|(proof, _)| proof),
        expires: Moment::from_millis(61_500),
    };
    let document = tombstone.document();
    let id = tombstone::id_of(&old);
    assert!(!Filter::sessions().matches(&document) && Filter::id(&id).matches(&document));
    assert!(Record::from_own_form(document, None).is_err());
}

#[test]
fn a_users_revocation_has_one_id_in_every_integer_type() {
    let name = |user: Bson| revocation::of_user(&RawBson::try_from(user).unwrap());
    assert_eq!(name(bson!(5_i32)), name(bson!(5_i64)));
    assert_ne!(name(bson!(5)), name(bson!("5")));
    assert_ne!(name(bson!("a")), name(bson!("b")));
    assert!(!name(bson!("a-secret-name")).contains("secret"));
}

proptest! {
    #[test]
    fn no_bytes_whatever_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Record::from_own_form(Document::from_bytes(bytes), None).is_err());
    }

    /// A stored document with some bytes changed is a session or none, and what is read of it
    /// can be read.
    #[test]
    fn no_damage_panics(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        end in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = Document::from_bson(&good()).into_bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(end) = end {
            bytes.truncate(end.index(bytes.len()));
        }
        if let Ok(record) = Record::from_own_form(Document::from_bytes(bytes), None) {
            let _ = ends_at(&record.meta, Some(Duration::MAX), None).date();
            for (name, value) in record.values() {
                let field = Field::stored(name);
                let _ = (record.stored(&field).is_some(), crate::document::value::size(name, value));
            }
            let mut update = Update::default();
            touch(&mut update, record.meta.times.accessed, record.meta.times.expires);
            let _ = record.after(&update, Moment::NEVER).is_some();
        }
    }
}
