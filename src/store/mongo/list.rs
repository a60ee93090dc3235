//! Calls about many documents: lists, counts and ages.

use std::time::Duration;

use bson::RawDocumentBuf as Raw;
use mongodb::bson::{Bson, Document as Query, RawDocumentBuf, doc};
use mongodb::options::ReadConcern;
use rocket::futures::TryStreamExt;

use super::client::{Client, from_driver, left, primary, to_driver};
use crate::document::{Document, Filter};
use crate::error::{Operation, Result};
use crate::record::{Times, field};
use crate::store::Aged;

const FINDING: Operation = Operation::FindSessions;

pub(super) async fn find(
    client: &Client,
    filter: &Filter,
    skip: u64,
    limit: u32,
) -> Result<Vec<Document>> {
    if limit == 0 {
        return Ok(Vec::new()); // which the server would take for "no limit"
    }
    let filter = to_driver(&filter.to_bson(), FINDING)?;
    // A router adds the two, and the sum is an `i64`.
    let skip = skip.min(i64::MAX.unsigned_abs() - u64::from(limit));
    let until = client.until();
    let find = async || {
        let find = client.sessions.find(filter.clone());
        // What a list does not show can be a megabyte a session.
        let find = find.projection(doc! { "value": 0, "token": 0, "csrf": 0 });
        let find = find.sort(doc! { "created": 1, "_id": 1 });
        let find = find.skip(skip).limit(limit.into()).max_time(left(until));
        let found = find.selection_criteria(primary()).await?;
        found.try_collect::<Vec<RawDocumentBuf>>().await
    };
    let found = client.read(FINDING, until, find).await?;
    Ok(found.into_iter().map(from_driver).collect())
}

pub(super) async fn count(client: &Client, filter: &Filter) -> Result<u64> {
    const OPERATION: Operation = Operation::CountSessions;
    let filter = to_driver(&filter.to_bson(), OPERATION)?;
    let until = client.until();
    let count = async || {
        let count = client.sessions.count_documents(filter.clone());
        count
            .max_time(left(until))
            .selection_criteria(primary())
            .await
    };
    client.read(OPERATION, until, count).await
}

/// How many ids one find asks for: with the ids of the driver's form, half a megabyte.
const MAX_IDS: usize = 20_000;

/// The times of any number of sessions, with a find for each 20,000 of them. `is_final`: as the
/// majority of a replica set has them, so that no failover takes a deletion back.
pub(super) async fn times(
    client: &Client,
    ids: Vec<String>,
    is_final: bool,
) -> Result<Vec<Document>> {
    const OPERATION: Operation = Operation::FollowSessions;
    let until = client.until();
    let has_majority = is_final && client.topology(OPERATION, until).await?.deduplicates();
    let concern = has_majority.then(ReadConcern::majority);
    let fields = Times::FIELDS.iter();
    let projection: Query = fields.map(|name| ((*name).to_owned(), 1.into())).collect();
    let mut documents = Vec::with_capacity(ids.len());
    for some in ids.chunks(MAX_IDS) {
        let count = u32::try_from(some.len()).unwrap_or(u32::MAX);
        let filter = doc! { "_id": { "$in": some } };
        let find = async || {
            let find = client.sessions.find(filter.clone());
            let find = find.projection(projection.clone()).max_time(left(until));
            // All of them at once, where the server's own first batch would hold a hundred.
            let find = find.batch_size(count.saturating_add(1));
            let find = match &concern {
                Some(concern) => find.read_concern(concern.clone()),
                None => find,
            };
            let found = find.selection_criteria(primary()).await?;
            found.try_collect::<Vec<RawDocumentBuf>>().await
        };
        let found = client.read(OPERATION, until, find).await?;
        documents.extend(found.into_iter().map(from_driver));
    }
    Ok(documents)
}

/// The name of the computed field. No stored document has one of this name.
const AGE: &str = "age";

pub(super) async fn ages(client: &Client, ids: Vec<String>) -> Result<Vec<Aged>> {
    let until = client.until();
    let filter = doc! { "_id": { "$in": ids } };
    let find = async || {
        let find = client.sessions.find(filter.clone());
        let find = find.projection(with_age()).max_time(left(until));
        let found = find.selection_criteria(primary()).await?;
        found.try_collect::<Vec<RawDocumentBuf>>().await
    };
    let found = client.read(FINDING, until, find).await?;
    Ok(found.into_iter().map(aged).collect())
}

/// The fields that a tombstone, a revocation or a renewal is outcomes by, and the age. (MongoDB 4.4
/// is the first to compute in the projection of a find.)
fn with_age() -> Query {
    let at = doc! { "$ifNull": ["$at", format!("${}", field::RENEWED)] };
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
    let fields = Aged::FIELDS
        .iter()
        .map(|name| ((*name).to_owned(), 1.into()));
    let mut projection: Query = fields.collect();
    projection.insert(AGE, age);
    projection
}

fn aged(document: RawDocumentBuf) -> Aged {
    let document = from_driver(document);
    let millis = document.get(AGE).and_then(|age| age.as_i64());
    let mut rest = Raw::new();
    for (name, value) in document.raw().into_iter().flatten().flatten() {
        if name != AGE {
            rest.append_ref(name, value);
        }
    }
    Aged {
        document: Document::from_raw(rest),
        age: millis.map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0))),
    }
}
