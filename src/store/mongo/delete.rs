//! The ends of sessions, and the revocation documents that end logins.

use bson::rawdoc;
use mongodb::bson::doc;
use mongodb::options::{FindOptions, ReadConcern};
use rocket::tokio::time::Instant;

use super::client::{Client, Topology, to_driver};
use super::command::{self, Outcomes, Statement, Terms, Verb};
use super::error;
use crate::document::{Document, Filter};
use crate::error::{Operation, Result};
use crate::store::{Durability, REVOCATION_LIFETIME, Step};

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
pub(super) async fn delete_all(client: &Client, filter: &Filter) -> Result<u64> {
    const FOUND_AT_ONCE: u32 = 1000;
    let until = client.until();
    let topology = client.topology(BULK_OPERATION, until).await?;
    if !topology.moves_documents() {
        return delete_many(client, vec![Statement::delete(filter, true)], false, until).await;
    }
    let mut deleted = 0;
    loop {
        let step = delete_step(client, topology, filter, FOUND_AT_ONCE, until).await;
        let step = step.map_err(|error| error.partly_done_if(deleted > 0))?;
        deleted += step.deleted;
        if step.is_last {
            return Ok(deleted);
        }
    }
}

/// Deletes `limit` of those that the filter chooses, in whatever order its index finds them.
pub(super) async fn delete_some(client: &Client, filter: &Filter, limit: u32) -> Result<Step> {
    let until = client.until();
    let topology = client.topology(BULK_OPERATION, until).await?;
    delete_step(client, topology, filter, limit, until).await
}

/// Finds the ids, and deletes those documents.
///
/// On a sharded cluster each is deleted by its id, because every shard carries out a deletion of many by
/// itself: a document that moves meanwhile would be missed by both, and the reply would not say so.
///
/// There a step whose find is not full repeats it with read concern `majority`. This finds documents
/// whose deletion by another process the majority of a shard does not have yet: a failover could bring
/// them back. The deletion of such an id matches nothing, and waits for the majority, too. The first find
/// is local, because it also finds logins that the majority does not have yet. If the second one is not
/// full, the step is the last, whatever it found: those are deleted now, and sessions that are created
/// later are not looked for.
async fn delete_step(
    client: &Client,
    topology: Topology,
    filter: &Filter,
    limit: u32,
    until: Instant,
) -> Result<Step> {
    let limit = limit.max(1); // the server would take 0 for "no limit"
    let found = find_ids(client, filter, limit, ReadConcern::local(), until).await?;
    let (is_last, count) = (found.is_last, found.ids.len());
    let deleted = delete_found(client, topology, filter, found.ids, until).await?;
    if !is_last || !topology.moves_documents() {
        return Ok(Step { deleted, is_last });
    }
    let left = limit.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
    let concern = ReadConcern::majority();
    let has_begun = deleted > 0;
    let found = find_ids(client, filter, left.max(1), concern, until).await;
    let Found { ids, is_last } = found.map_err(|error| error.partly_done_if(has_begun))?;
    let more = delete_found(client, topology, filter, ids, until).await;
    let more = more.map_err(|error| error.partly_done_if(has_begun))?;
    let deleted = deleted + more;
    Ok(Step { deleted, is_last })
}

/// The ids that one find returned.
struct Found {
    ids: Vec<String>,
    /// There were no more.
    is_last: bool,
}

async fn find_ids(
    client: &Client,
    filter: &Filter,
    limit: u32,
    concern: ReadConcern,
    until: Instant,
) -> Result<Found> {
    let query = to_driver(&filter.to_bson(), BULK_OPERATION)?;
    let options = FindOptions::builder()
        .projection(doc! { "_id": 1 })
        .limit(i64::from(limit))
        .batch_size(limit.min(i32::MAX.unsigned_abs()))
        .read_concern(concern)
        .build();
    let found = client.find(BULK_OPERATION, until, query, options).await?;
    // Documents of another application, whose ids may not be strings, are not deleted.
    let ids = found.iter().filter_map(Document::id).map(str::to_owned);
    let ids: Vec<String> = ids.collect();
    let is_last = ids.is_empty() || found.len() < usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(Found { ids, is_last })
}

async fn delete_found(
    client: &Client,
    topology: Topology,
    filter: &Filter,
    ids: Vec<String>,
    until: Instant,
) -> Result<u64> {
    let moves = topology.moves_documents();
    if ids.is_empty() && moves {
        return Ok(0);
    }
    // With no ids it matches nothing, and waits until the majority has what others have deleted.
    let statements = match moves {
        true => {
            let each = ids.iter();
            let each = each.map(|id| Statement::delete(&filter.of_one(id), false));
            each.collect()
        }
        false => vec![Statement::delete(&filter.clone().within(ids), true)],
    };
    delete_many(client, statements, moves, until).await
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

/// Stores the server's present time, whether the document is there or not.
pub(super) async fn put_revocation(client: &Client, id: &str) -> Result<()> {
    const OPERATION: Operation = Operation::RevokeSessions;
    let terms = Terms::new(OPERATION, Durability::Identity, client.until());
    let lifetime = i64::try_from(REVOCATION_LIFETIME.as_millis()).unwrap_or(i64::MAX);
    let mut pipeline = bson::RawArrayBuf::new();
    pipeline.push(rawdoc! { "$set": {
        "at": "$$NOW",
        "expires": { "$add": ["$$NOW", lifetime] },
    } });
    let statements = [Statement::upsert(&Filter::id(id), pipeline)];
    loop {
        let sent = command::send(client, Verb::Update, &statements, terms).await?;
        match sent.errors.as_slice() {
            // Another upsert inserted the document in between. Now it is there to be updated.
            [Some(error::DUPLICATE)] => {}
            _ => return sent.of_one(OPERATION).map(drop),
        }
    }
}
