//! The ends of sessions.

use mongodb::bson::doc;
use mongodb::options::{FindOptions, ReadConcern};
use rocket::tokio::time::Instant;

use super::client::{Client, to_driver};
use super::command::{self, Outcomes, Statement, Terms, Verb};
use super::error;
use crate::document::{Document, Filter};
use crate::error::{Operation, Result};
use crate::store::{Durability, Step};

const SINGLE_OPERATION: Operation = Operation::EndSession;
const BULK_OPERATION: Operation = Operation::EndSessions;

/// Deletes the one document that the filter chooses.
pub(super) async fn delete(client: &Client, filter: &Filter) -> Result<bool> {
    let terms = Terms::new(SINGLE_OPERATION, Durability::Identity, client.until());
    let statement = Statement::delete(filter, false);
    let sent = command::send(client, Verb::Delete, &[statement], terms).await?;
    Ok(sent.of_one(SINGLE_OPERATION)? > 0)
}

/// Deletes it, and gives it as it was at its end.
pub(super) async fn take(client: &Client, filter: &Filter) -> Result<Option<Document>> {
    let terms = Terms::new(SINGLE_OPERATION, Durability::Identity, client.until());
    command::take(client, filter, terms).await
}

/// Deletes all that the filter chooses.
///
/// On a sharded cluster it looks for them again with read concern `majority` in the end. That finds documents
/// whose deletion by another process the majority of a shard does not have yet: a failover could bring
/// them back. The deletion of such an id matches nothing, and waits for the majority, too. The first finds
/// are local, because these also find logins that the majority does not have yet.
pub(super) async fn delete_all(client: &Client, filter: &Filter) -> Result<u64> {
    const FOUND_AT_ONCE: u32 = 1000;
    let until = client.until();
    let topology = client.topology(BULK_OPERATION, until).await?;
    if !topology.moves_documents() {
        return delete_many(client, vec![Statement::delete(filter, true)], false, until).await;
    }
    let mut deleted = 0;
    for concern in [ReadConcern::local(), ReadConcern::majority()] {
        loop {
            let step = delete_step(client, filter, FOUND_AT_ONCE, concern.clone(), until).await;
            let step = step.map_err(|error| error.partly_done_if(deleted > 0))?;
            deleted += step.deleted;
            if step.is_last {
                break;
            }
        }
    }
    Ok(deleted)
}

/// Deletes `limit` of those that the filter chooses, in whatever order its index finds them.
pub(super) async fn delete_some(client: &Client, filter: &Filter, limit: u32) -> Result<Step> {
    let until = client.until();
    delete_step(client, filter, limit, ReadConcern::local(), until).await
}

/// Finds the ids, and deletes those documents.
///
/// On a sharded cluster each is deleted by its id, because every shard carries out a deletion of many by
/// itself: a document that moves meanwhile would be missed by both, and the reply would not say so.
async fn delete_step(
    client: &Client,
    filter: &Filter,
    limit: u32,
    concern: ReadConcern,
    until: Instant,
) -> Result<Step> {
    let topology = client.topology(BULK_OPERATION, until).await?;
    let limit = limit.max(1); // the server would take 0 for "no limit"
    let query = to_driver(&filter.to_bson(), BULK_OPERATION)?;
    let options = FindOptions::builder()
        .projection(doc! { "_id": 1 })
        .limit(i64::from(limit))
        .batch_size(limit.min(i32::MAX.unsigned_abs()))
        .read_concern(concern)
        .build();
    let query = || (query.clone(), options.clone());
    let found = client.find(BULK_OPERATION, until, query).await?;
    // Documents of another application, whose ids may not be strings, are not deleted.
    let ids: Vec<&str> = found.iter().filter_map(Document::id).collect();
    let is_last = ids.is_empty() || found.len() < usize::try_from(limit).unwrap_or(usize::MAX);
    let deleted = match (ids.is_empty(), topology.moves_documents()) {
        (true, _) => 0,
        (_, true) => {
            let each = ids.iter();
            let each = each.map(|id| Statement::delete(&filter.of_one(id), false));
            delete_many(client, each.collect(), true, until).await?
        }
        (_, false) => {
            let ids = ids.into_iter().map(str::to_owned);
            let found = filter.clone().within(ids.collect());
            delete_many(client, vec![Statement::delete(&found, true)], false, until).await?
        }
    };
    Ok(Step { deleted, is_last })
}

/// `single`: each statement is about one document.
async fn delete_many(
    client: &Client,
    statements: Vec<Statement>,
    single: bool,
    until: Instant,
) -> Result<u64> {
    let terms = Terms::new(BULK_OPERATION, Durability::Identity, until);
    let terms = Terms { single, ..terms };
    let Outcomes { errors, done } = command::send(client, Verb::Delete, &statements, terms).await?;
    match errors.into_iter().flatten().next() {
        // It may have stopped after some of them.
        Some(code) => Err(error::of_statement(BULK_OPERATION, code).partly_done()),
        None => Ok(done as u64),
    }
}
