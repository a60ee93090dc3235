//! Ages by the server's clock, and the revocation documents whose `at` that clock sets.

use std::time::Duration;

use bson::RawDocumentBuf as Raw;
use mongodb::bson::{Bson, Document as Query, RawDocumentBuf, doc};
use mongodb::error::{Error as Cause, ErrorKind, WriteFailure};
use rocket::futures::TryStreamExt;

use super::error::{DUPLICATE, reading, writing};
use super::{Inner, Optional, bytes_out, left, primary};
use crate::error::Result;
use crate::record::field;
use crate::store::{Aged, Durability, REVOCATION_LIFETIME};

const AT: &str = "at";
/// The name of the computed field. No stored document has one of this name.
const AGE: &str = "age";

pub(super) async fn ages(store: &Inner, ids: Vec<String>) -> Result<Vec<Aged>> {
    const OPERATION: &str = "finding sessions";
    let until = store.until();
    let _place = store.place(OPERATION, until).await?;
    let found = store
        .sessions
        .find(doc! { "_id": { "$in": ids } })
        .projection(projection())
        .max_time(left(until))
        .selection_criteria(primary())
        .await
        .map_err(|error| reading(OPERATION, error))?;
    let found: Vec<RawDocumentBuf> = found
        .try_collect()
        .await
        .map_err(|error| reading(OPERATION, error))?;
    Ok(found.into_iter().map(aged).collect())
}

/// The fields that a tombstone, a revocation or a renewal is judged by, and the age. (MongoDB 4.4
/// is the first to compute in the projection of a find.)
fn projection() -> Query {
    let at = doc! { "$ifNull": [format!("${}", AT), format!("${}", field::RENEWED)] };
    let is = |kind: &str| doc! { "$eq": [{ "$type": "$$at" }, kind] };
    let since = |date: Bson| doc! { "$subtract": ["$$NOW", date] };
    // MongoDB before 6.0 converts no timestamp to a date, but writes it as one.
    let text = doc! { "$dateToString": { "date": "$$at" } };
    let date = doc! { "$dateFromString": { "dateString": text } };
    // What is stored as a number (older versions did) has no age.
    let age = doc! { "$switch": {
        "branches": [
            { "case": is("date"), "then": since("$$at".into()) },
            { "case": is("timestamp"), "then": since(date.into()) },
        ],
        "default": Bson::Null,
    } };
    let age = doc! { "$let": { "vars": { "at": at }, "in": age } };
    let mut projection: Query = Aged::FIELDS
        .iter()
        .map(|name| ((*name).to_owned(), 1.into()))
        .collect();
    projection.insert(AGE, age);
    projection
}

fn aged(document: RawDocumentBuf) -> Aged {
    let document = bytes_out(document);
    let millis = document.get(AGE).and_then(|age| age.as_i64());
    let mut rest = Raw::new();
    for (name, value) in document.raw().into_iter().flatten().flatten() {
        if name != AGE {
            rest.append_ref(name, value);
        }
    }
    Aged {
        document: crate::document::Document::from_raw(rest),
        age: millis.map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0))),
    }
}

pub(super) async fn put_revocation(store: &Inner, id: &str) -> Result<()> {
    const OPERATION: &str = "revoking sessions";
    let until = store.until();
    let _place = store.place(OPERATION, until).await?;
    let lifetime = i64::try_from(REVOCATION_LIFETIME.as_millis()).unwrap_or(i64::MAX);
    let set = doc! { "$set": {
        AT: "$$NOW",
        field::EXPIRES: { "$add": ["$$NOW", lifetime] },
    } };
    loop {
        let upsert = store
            .sessions
            .update_one(doc! { "_id": id }, vec![set.clone()])
            .upsert(true)
            .optional(store.write_concern(Durability::Identity), |u, c| {
                u.write_concern(c)
            })
            .await;
        match upsert {
            Ok(_) => return Ok(()),
            // Another upsert inserted the document in between. Now it is there to be updated.
            Err(error) if is_duplicate(&error) => {}
            Err(error) => return Err(writing(OPERATION, error)),
        }
    }
}

fn is_duplicate(error: &Cause) -> bool {
    matches!(&*error.kind, ErrorKind::Write(WriteFailure::WriteError(write)) if write.code == DUPLICATE)
}
