//! What the suite stores: documents as the crate makes them, with values of every kind.

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, RawBson, doc};

use super::{Failure, text};
use crate::clock::{Clock, Moment};
use crate::document::key::Field;
use crate::document::{Operator, Path, date};
use crate::error::{Error, Result};
use crate::record::field;
use crate::store::{Document, Durability, Filter, Inserted, Store, Touch, Update, Updated};

pub(super) const DATA: Durability = Durability::Data;

/// The suite's present: a document of a real clock is not swept while it is tried.
pub(super) fn now() -> Moment {
    Clock::default().now()
}

pub(super) fn at(seconds: i64) -> Moment {
    Moment::from_millis(now().millis() + seconds * 1000)
}

/// An id in the form of a session's, which sorts by its number.
pub(super) fn id(number: u32) -> String {
    format!("session-{number:04}-AAAAAAAAA")
}

/// A session's document with a value of every kind.
pub(super) fn session(id: &str) -> bson::Document {
    let (created, binary) = (at(-60), |subtype| Binary {
        subtype,
        bytes: vec![7; 32],
    });
    doc! {
        field::ID: id,
        field::CREATED: created.seconds(),
        field::ACCESSED: created.seconds(),
        field::VALUE: {
            "number": 5_i64,
            "small": 5_i32,
            "half": 0.5,
            "text": "ünïcode, and NUL \0",
            "flag": true,
            "nothing": Bson::Null,
            "list": [1_i64, "two", [3_i64]],
            "inner": { "b": 1_i64, "a": { "list": [] } },
            "bytes": binary(BinarySubtype::Generic),
            "opaque": binary(BinarySubtype::UserDefined(0x80)),
            "date": date(created),
            "oid": ObjectId::from_bytes([1; 12]),
            "a%2Eb": "a dot",
            "%24set": "an operator",
            "ключ": "another script",
            "0": "a digit",
            "_f_": ["a message"],
        },
        field::TOKEN: binary(BinarySubtype::Generic),
        field::CSRF: binary(BinarySubtype::Generic),
        field::EXPIRES: date(at(86_400)),
        field::USER: 7_i64,
        "unknown": { "of": "another program" },
    }
}

pub(super) fn raw(document: &bson::Document) -> Document {
    Document::from_bson(document)
}

/// The fields of a document that a list shows at least.
pub(super) fn listed(document: &Document) -> Document {
    let unlisted = [field::VALUE, field::TOKEN, field::CSRF];
    document.only(|name| !unlisted.contains(&name))
}

pub(super) fn a_tombstone(number: u32, seconds: i64) -> Document {
    let id = format!("~{}", id(number));
    raw(&doc! { field::ID: id, "at": date(at(seconds)), field::EXPIRES: date(at(86_400)) })
}

/// Stores one session, and gives it as it was stored.
pub(super) async fn stored(store: &dyn Store, number: u32) -> Result<bson::Document, Failure> {
    let document = session(&id(number));
    put(store, &document).await?;
    Ok(document)
}

/// Stores 30 sessions: user 0 has those whose numbers are 0, 3, 6 and so on, user 1 has 1, 4, 7, and
/// user 2 has 2, 5, 8.
pub(super) async fn store_ten_of_each_user(store: &dyn Store) -> Result<(), Failure> {
    for number in 0..30_u32 {
        let mut document = session(&id(number));
        document.insert(field::USER, i64::from(number % 3));
        put(store, &document).await?;
    }
    Ok(())
}

pub(super) async fn put(store: &dyn Store, document: &bson::Document) -> Result<(), Failure> {
    stores(store, vec![raw(document)], DATA).await
}

/// Inserts documents; fails unless all of them were stored.
pub(super) async fn stores(
    store: &dyn Store,
    documents: Vec<Document>,
    durability: Durability,
) -> Result<(), Failure> {
    let created = store.insert(documents, durability).await?;
    must!(
        created == Inserted::Stored,
        "insert said {created:?} of documents that did not exist"
    );
    Ok(())
}

/// Updates the session of this number; fails unless the update was applied.
pub(super) async fn changes(store: &dyn Store, number: u32, update: Update) -> Result<(), Failure> {
    let updated = store.update(Filter::id(&id(number)), update, DATA).await?;
    must!(
        updated == Updated::Applied,
        "an update by id said {updated:?}"
    );
    Ok(())
}

/// Fails unless the store holds exactly this under its id.
pub(super) async fn holds(store: &dyn Store, wanted: &bson::Document) -> Result<(), Failure> {
    holds_raw(store, &raw(wanted)).await
}

/// Fails unless the store holds exactly these bytes under their id.
pub(super) async fn holds_raw(store: &dyn Store, wanted: &Document) -> Result<(), Failure> {
    let id = wanted.id().unwrap_or_default();
    match store.load(id).await? {
        Some(found) if found == *wanted => Ok(()),
        Some(found) => {
            let (found, wanted) = (text(&found), text(wanted));
            Err(Failure::new(format!("it holds {found} and not {wanted}")))
        }
        None => Err(Failure::new(format!("{id} is gone"))),
    }
}

/// Fails if there is a document of this id, for `load` or for `count`.
pub(super) async fn lacks(store: &dyn Store, id: &str, after: &str) -> Result<(), Failure> {
    let loaded = store.load(id).await?.is_some();
    let counted = store.count(Filter::id(id)).await? > 0;
    must!(!loaded && !counted, "{after}, there is a document of {id}");
    Ok(())
}

pub(super) fn path(name: &str) -> Path {
    Path::Value(Field::stored(name))
}

pub(super) fn set(name: &str, value: impl Into<RawBson>) -> Update {
    change(name, Operator::Set(value.into()))
}

pub(super) fn change(name: &str, operator: Operator) -> Update {
    let mut update = Update::default();
    update.insert(path(name), operator);
    update
}

pub(super) fn is(filter: Filter, name: &str, value: Option<RawBson>) -> Filter {
    filter.still(Path::Value(Field::stored(name)), value)
}

pub(super) fn touch(id: &str, accessed: Moment, expires: Moment) -> Touch {
    Touch {
        id: id.to_owned(),
        accessed,
        expires,
    }
}

/// One value of a stored session, as an integer.
pub(super) fn integer(document: &Document, name: &str) -> Option<i64> {
    let value = document.get(field::VALUE)?.as_document()?;
    value.get(name).ok()??.as_i64()
}

pub(super) fn is_mismatch<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Mismatch { .. }))
}
