//! Updates that travel together: one `update` command for all that wait. Only updates that ask for
//! nothing but the `_id` share.

use std::collections::HashSet;
use std::sync::Arc;

use mongodb::bson::{RawDocumentBuf, doc};
use mongodb::error::Error as Cause;
use rocket::futures::TryStreamExt;
use rocket::tokio::time::Instant;

use super::batch::{Together, Waiting};
use super::batched_write::{self, Batched, Job, Shared};
use super::command::{Outcomes, Statement, Verb};
use super::error::{self, Failure, reading, writing};
use super::{Inner, Optional, Topology, changes, left, query};
use crate::document::{Filter, Update};
use crate::error::{Error, Result};
use crate::store::{Durability, Updated};

/// Update commands that may be under way before updates begin to share. One, because a command
/// costs a replica set most: measured on three nodes and two processors at 32 connections, CPU time
/// of the application and of all nodes for a read and a write, in µs: by hand 1782; one 1044; two
/// 1304; four 1385. On a standalone server at 8 and 32 connections: by hand 513 and 534; one 323 and
/// 179; two 474 and 215; four 612 and 289.
pub(super) const FEW: usize = 1;

const OPERATION: &str = "changing a session";

pub(super) struct Commit;

impl Shared for Commit {
    /// The session's id.
    type Note = String;
    type Done = Updated;

    const VERB: Verb = Verb::Update;

    fn of(store: &Inner) -> &Together<Batched<Self>> {
        &store.commits
    }

    async fn settle(
        store: &Inner,
        batch: &[Waiting<Batched<Self>>],
        outcomes: Outcomes,
        until: Instant,
    ) -> Result<Vec<Result<Updated>>> {
        let Outcomes { errors, done } = outcomes;
        let of_code = |code| Err(error::of_statement(OPERATION, code));
        let mut results: Vec<_> = errors.into_iter().map(|code| code.map(of_code)).collect();
        let failed = results.iter().filter(|result| result.is_some()).count();
        let missed = batch.len().saturating_sub(done + failed);
        if missed > 0 {
            settle(store, batch, missed, until, &mut results).await?;
        }
        let applied = |result: Option<_>| result.unwrap_or(Ok(Updated::Applied));
        Ok(results.into_iter().map(applied).collect())
    }
}

pub(super) async fn update(
    store: &Arc<Inner>,
    filter: Filter,
    update: Update,
    durability: Durability,
) -> Result<Updated> {
    let until = store.until();
    if update.is_empty() {
        // As a command it would replace the document by nothing.
        return Err(Error::store(OPERATION, Failure::Empty));
    }
    if store.topology() == Topology::Unknown {
        return by_driver(store, filter, update, durability, until).await;
    }
    let statement = Statement::update(&filter, &update);
    let alone = |statement| alone(store, statement, durability, until);
    match filter.only_id() {
        Some(id) if store.share && durability == Durability::Data => {
            let note = id.to_owned();
            batched_write::join::<Commit, _>(store, until, Job { note, statement }, alone).await
        }
        _ => alone(statement).await,
    }
}

async fn alone(
    store: &Inner,
    statement: Statement,
    durability: Durability,
    until: Instant,
) -> Result<Updated> {
    let outcomes = batched_write::alone(store, Verb::Update, statement, durability, until).await?;
    match outcomes.errors.as_slice() {
        [Some(code)] => Err(error::of_statement(OPERATION, *code)),
        _ => Ok(Updated::of(outcomes.done > 0)),
    }
}

/// While the server is not known: the driver knows by itself whether the command can be sent again.
async fn by_driver(
    store: &Inner,
    filter: Filter,
    update: Update,
    durability: Durability,
    until: Instant,
) -> Result<Updated> {
    let _place = store.place(OPERATION, until).await?;
    let (filter, update) = (query(&filter, OPERATION)?, changes(&update, OPERATION)?);
    let update = store.sessions.update_one(filter, update);
    let concern = store.write_concern(durability);
    let update = update.optional(concern, |u, c| u.write_concern(c));
    let result = update.await.map_err(|error| writing(OPERATION, error))?;
    Ok(Updated::of(result.matched_count > 0))
}

/// Fewer matched than were sent: some sessions had ended. Ids never return, so who is there now
/// was there then, and its update was applied. Who is not there has ended: before its update, or
/// since, which the number of those that were missed often tells. Where it does not, the session
/// counts as ended before; to an answer's own commit it makes no difference, and who is told the
/// outcome travels alone ([`Filter::alone`]).
async fn settle(
    store: &Inner,
    batch: &[Waiting<Batched<Commit>>],
    missed: usize,
    until: Instant,
    results: &mut [Option<Result<Updated>>],
) -> Result<()> {
    let ids: Vec<&str> = batch
        .iter()
        .map(|waiting| waiting.job.note.as_str())
        .collect();
    let open = |error: Cause| error::half_way(reading(OPERATION, error));
    let there = store
        .sessions
        .find(doc! { "_id": { "$in": &ids } })
        .projection(doc! { "_id": 1 })
        .selection_criteria(super::primary())
        .max_time(left(until))
        .await
        .map_err(open)?;
    let there: Vec<RawDocumentBuf> = there.try_collect().await.map_err(open)?;
    let there: HashSet<String> = there
        .into_iter()
        .filter_map(|document| super::bytes_out(document).id().map(str::to_owned))
        .collect();
    let absent: Vec<usize> = (0..batch.len())
        .filter(|&index| results[index].is_none() && !there.contains(ids[index]))
        .collect();
    let settled = ended(&absent, &ids, missed);
    for (&index, is_gone) in absent.iter().zip(settled) {
        let updated = if is_gone {
            Updated::Gone
        } else {
            Updated::Applied
        };
        results[index] = Some(Ok(updated));
    }
    Ok(())
}

/// Which of the absent had ended before their update, when `missed` of the updates found nothing.
fn ended(absent: &[usize], ids: &[&str], missed: usize) -> Vec<bool> {
    let is_one = absent.windows(2).all(|pair| ids[pair[0]] == ids[pair[1]]);
    // The updates of one session are done in their order, so those after its end are the last.
    let before = if is_one {
        absent.len().saturating_sub(missed)
    } else {
        0
    };
    (0..absent.len()).map(|at| at >= before).collect()
}

#[cfg(test)]
mod tests {
    use super::ended;

    #[test]
    fn what_is_absent_had_ended_when_as_many_were_missed() {
        assert_eq!(ended(&[0, 2], &["a", "b", "c"], 2), [true; 2]);
    }

    #[test]
    fn of_one_session_that_ended_the_last_updates_were_missed() {
        assert_eq!(
            ended(&[0, 2, 3], &["a", "b", "a", "a"], 2),
            [false, true, true]
        );
    }

    #[test]
    fn of_several_that_are_absent_all_count_as_ended() {
        assert_eq!(ended(&[0, 1], &["a", "b"], 1), [true; 2]);
    }
}
