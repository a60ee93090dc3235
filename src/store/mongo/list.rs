//! Calls about many documents: lists, counts and ages.

use std::time::Duration;

use mongodb::bson::{Bson, Document as Query, doc};
use mongodb::options::{FindOptions, ReadConcern};

use super::client::{Client, left, primary, to_driver};
use crate::document::{Document, Filter};
use crate::error::{Operation, Result};
use crate::record::{Times, field};
use crate::store::{Aged, Order};

const FINDING: Operation = Operation::FindSessions;

pub(super) async fn find(
    client: &Client,
    filter: &Filter,
    order: Order,
    skip: u64,
    limit: u32,
) -> Result<Vec<Document>> {
    if limit == 0 {
        return Ok(Vec::new()); // which the server would take for "no limit"
    }
    let filter = to_driver(&filter.to_bson(), FINDING)?;
    // A router adds the two, and the sum is an `i64`.
    let skip = skip.min(i64::MAX.unsigned_abs() - u64::from(limit));
    let order = match order {
        Order::OldestFirst => doc! { "created": 1, "_id": 1 },
        Order::NewestFirst => doc! { "created": -1, "_id": -1 },
        Order::Id => doc! { "_id": 1 },
    };
    let options = FindOptions::builder()
        // The fields that a list does not show can be a megabyte a session.
        .projection(doc! { "value": 0, "token": 0, "csrf": 0, "seal": 0 })
        .sort(order)
        // The default is 101 documents a round trip. The server takes an `i32`.
        .batch_size(limit.min(i32::MAX.unsigned_abs()))
        .skip(skip)
        .limit(i64::from(limit))
        .build();
    let until = client.until();
    let query = || (filter.clone(), options.clone());
    client.find(FINDING, until, query).await
}

pub(super) async fn estimated_count(client: &Client) -> Result<u64> {
    let until = client.until();
    let count = async || {
        let count = client.sessions.estimated_document_count();
        let count = count.max_time(left(until));
        let count = count.read_concern(ReadConcern::local());
        count.selection_criteria(primary()).await
    };
    client.read(Operation::CountSessions, until, count).await
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
            .read_concern(ReadConcern::local())
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
    ids: &[String],
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
        let query = || {
            let mut options = FindOptions::builder()
                .projection(projection.clone())
                // All of them at once, where the server's own first batch would hold a hundred.
                .batch_size(count.saturating_add(1))
                .build();
            options.read_concern.clone_from(&concern);
            (doc! { "_id": { "$in": some } }, options)
        };
        documents.extend(client.find(OPERATION, until, query).await?);
    }
    Ok(documents)
}

/// The name of the computed field. No stored document has one of this name.
const AGE: &str = "age";

pub(super) async fn ages(client: &Client, ids: Vec<String>) -> Result<Vec<Aged>> {
    let until = client.until();
    let query = || {
        let options = FindOptions::builder().projection(with_age());
        (doc! { "_id": { "$in": &ids } }, options.build())
    };
    let found = client.find(FINDING, until, query).await?;
    Ok(found.into_iter().map(aged).collect())
}

/// The fields of [`Aged::FIELDS`], and the age. (MongoDB 4.4 is the first to compute in the projection
/// of a find.)
fn with_age() -> Query {
    let at = doc! { "$ifNull": ["$at", format!("${}", field::RENEWED)] };
    let is = |kind: &str| doc! { "$eq": [{ "$type": "$$at" }, kind] };
    let since = |date: Bson| doc! { "$subtract": ["$$NOW", date] };
    // MongoDB before 6.0 converts no timestamp to a date, but writes it as one.
    let text = doc! { "$dateToString": { "date": "$$at" } };
    let date = doc! { "$dateFromString": { "dateString": text } };
    // A time that is stored as a number (older versions did) has no age.
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

fn aged(document: Document) -> Aged {
    let millis = document.get(AGE).and_then(|age| age.as_i64());
    Aged {
        document: document.only(|name| name != AGE),
        age: millis.map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0))),
    }
}
