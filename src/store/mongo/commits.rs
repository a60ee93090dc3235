//! Updates that travel together: one `update` command for all that wait.
//!
//! Only updates that ask for nothing but the `_id` share. On a replica set or a sharded cluster
//! the command carries a logical session and a transaction number, so that the same bytes can be
//! sent again after a lost reply and take effect once (retryable writes).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bson::{RawArrayBuf, RawBson, RawDocumentBuf as Raw, rawdoc};
use mongodb::bson::{Document as Answer, RawDocumentBuf, doc};
use mongodb::error::{Error as Cause, ErrorKind, RETRYABLE_WRITE_ERROR};
use mongodb::options::{Acknowledgment, WriteConcern};
use rocket::futures::TryStreamExt;
use rocket::tokio;
use rocket::tokio::time::Instant;

use super::failure::{self, Failure};
use super::lanes::Lane;
use super::together::{self, Kind, Together, Turn, Waiting, Way};
use super::{Inner, Topology, left, reading};
use crate::document::{Filter, Update};
use crate::error::{Error, Result};
use crate::store::{Durability, Updated};

/// Update commands that may be under way before updates begin to share. One, because a command
/// costs a replica set most: measured on three nodes and two processors at 32 connections, CPU time
/// of the application and of all nodes for a read and a write, in µs: by hand 1782; one 1044; two
/// 1304; four 1385. On a standalone server at 8 and 32 connections: by hand 513 and 534; one 323 and
/// 179; two 474 and 215; four 612 and 289.
pub(super) const FEW: usize = 1;

/// The pause before the same command is sent again.
const AGAIN: Duration = Duration::from_millis(50);

const DOING: &str = "changing a session";

/// One update that waits.
pub(super) struct Job {
    id: String,
    update: Raw,
}

/// What became of one of several updates.
type Outcomes = Vec<Option<Result<Updated>>>;

pub(super) struct Commit;

impl Kind for Commit {
    type Job = Job;
    type Reply = Result<Updated>;

    fn of(store: &Inner) -> &Together<Self> {
        &store.commits
    }

    async fn run(turn: Turn<Self>, batch: Vec<Waiting<Self>>) {
        let store = Arc::clone(&turn.store);
        let (results, batch) = turn.over(write(&store, batch)).await;
        match results {
            Ok(replies) => {
                for (waiting, reply) in batch.into_iter().zip(replies) {
                    // Who is not there any more does not mind.
                    let _ = waiting.reply.send(reply);
                }
            }
            Err(error) => {
                store.commits.failed();
                for waiting in batch {
                    let _ = waiting.reply.send(Err(error.clone()));
                }
            }
        }
    }
}

pub(super) async fn update(
    store: &Arc<Inner>,
    filter: Filter,
    update: Update,
    durability: Durability,
) -> Result<Updated> {
    let until = Instant::now() + store.deadline;
    let shares = store.share && durability == Durability::Data && !update.is_empty();
    let id = match filter.only_id() {
        Some(id) if shares => id.to_owned(),
        _ => return store.update_alone(filter, update, durability, until).await,
    };
    let bytes = update.to_raw();
    let size = bytes.as_bytes().len();
    let job = || Job { id, update: bytes };
    match together::join::<Commit>(store, until, size, job) {
        Way::Alone(turn) => {
            let alone = store.update_alone(filter, update, durability, until);
            turn.over(alone).await
        }
        Way::Apart => store.update_alone(filter, update, durability, until).await,
        Way::With(answer) => match answer.await {
            Ok(result) => result,
            // Its task has gone: nobody knows what it did.
            Err(_) => Err(Error::Unknown {
                doing: DOING,
                source: None,
            }),
        },
    }
}

/// Writes a batch and says what became of each update, or that nobody knows. Those that have come
/// too late by the time there is a connection are answered at once, and are not in it any more.
async fn write(
    store: &Inner,
    batch: Vec<Waiting<Commit>>,
) -> (Result<Vec<Result<Updated>>>, Vec<Waiting<Commit>>) {
    // The batch may go on as long as the most patient of those who wait.
    let latest = batch.iter().map(|waiting| waiting.until).max();
    let until = latest.unwrap_or_else(Instant::now);
    let _place = match store.place(DOING, until).await {
        Ok(place) => place,
        Err(error) => return (Err(error), batch),
    };
    let now = Instant::now();
    let (batch, late): (Vec<_>, Vec<_>) = batch.into_iter().partition(|one| one.until > now);
    for waiting in late {
        let error = Error::store(DOING, Failure::PoolExhausted);
        let _ = waiting.reply.send(Err(error));
    }
    let results = match batch.is_empty() {
        true => Ok(Vec::new()),
        false => write_now(store, &batch, until).await,
    };
    (results, batch)
}

async fn write_now(
    store: &Inner,
    batch: &[Waiting<Commit>],
    until: Instant,
) -> Result<Vec<Result<Updated>>> {
    let answer = send(store, batch, until).await?;
    let mut results = errors_in(&answer, batch.len())?;
    let failed = results.iter().filter(|result| result.is_some()).count();
    let matched = usize::try_from(number(&answer, "n")).unwrap_or(0);
    let missed = batch.len().saturating_sub(matched + failed);
    if missed > 0 {
        settle(store, batch, missed, &mut results).await?;
    }
    let applied = |result: Option<_>| result.unwrap_or(Ok(Updated::Applied));
    Ok(results.into_iter().map(applied).collect())
}

/// Sends the command; the same bytes again, where the server can tell that they are the same.
async fn send(store: &Inner, batch: &[Waiting<Commit>], until: Instant) -> Result<Answer> {
    let mut lane = match store.topology() {
        // Numbers mean nothing to a standalone server, and what it is not known to be it may be.
        Topology::Standalone | Topology::Unknown => None,
        Topology::ReplicaSet | Topology::Sharded => store.lanes.take(store).await?,
    };
    let result = attempts(store, batch, until, lane.as_mut()).await;
    if let Some(lane) = lane {
        let is_refused = matches!(&result, Err(error) if refuses_numbers(error));
        store.lanes.give(lane, result.is_err());
        if is_refused {
            // Nothing was done: without a number, then, from now on.
            store.lanes.close();
            let result = attempts(store, batch, until, None).await;
            return result.map_err(|error| failure::of_batch(DOING, error));
        }
    }
    result.map_err(|error| failure::of_batch(DOING, error))
}

async fn attempts(
    store: &Inner,
    batch: &[Waiting<Commit>],
    until: Instant,
    mut lane: Option<&mut Lane>,
) -> mongodb::error::Result<Answer> {
    let number = lane.as_mut().map(|lane| lane.next());
    let command = command(store, batch, until, number)?;
    // An earlier attempt that may have been carried out, whatever the last one says.
    let mut open = None;
    loop {
        let run = store.database.run_raw_command(command.clone());
        let result = match lane.as_mut() {
            Some(lane) => run.session(&mut **lane.session).await,
            None => run.await,
        };
        let again = lane.is_some() && should_repeat(&result);
        if !again || Instant::now() + AGAIN >= until {
            return match (result, open) {
                (Err(error), Some(first)) if !failure::is_open(&error) => Err(first),
                (result, _) => result,
            };
        }
        if let Err(error) = result
            && failure::is_open(&error)
        {
            open.get_or_insert(error);
        }
        // An election takes seconds; a few attempts a second find its end soon enough.
        tokio::time::sleep(AGAIN).await;
    }
}

/// Whether the server takes no transaction numbers, which services that look like MongoDB may not.
fn refuses_numbers(error: &Cause) -> bool {
    const ILLEGAL_OPERATION: i32 = 20;
    matches!(&*error.kind, ErrorKind::Command(command) if command.code == ILLEGAL_OPERATION)
}

/// Whether the same command, sent again, may end better without taking effect twice.
fn should_repeat(result: &mongodb::error::Result<Answer>) -> bool {
    match result {
        Err(error) => is_network(error) || error.contains_label(RETRYABLE_WRITE_ERROR),
        // The server says so inside a reply that is otherwise good, too.
        Ok(answer) => [Some(answer), answer.get_document("writeConcernError").ok()]
            .into_iter()
            .flatten()
            .filter_map(|part| part.get_array("errorLabels").ok())
            .flatten()
            .any(|label| label.as_str() == Some(RETRYABLE_WRITE_ERROR)),
    }
}

fn is_network(error: &Cause) -> bool {
    matches!(
        &*error.kind,
        ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. }
    )
}

/// The errors of single statements; an error of the whole makes everything unknown.
fn errors_in(answer: &Answer, count: usize) -> Result<Outcomes> {
    if answer.contains_key("writeConcernError") {
        return Err(Error::unknown(DOING, Failure::WriteConcern));
    }
    let mut results: Outcomes = (0..count).map(|_| None).collect();
    let errors = answer.get_array("writeErrors").map(Vec::as_slice);
    for error in errors.unwrap_or_default() {
        let Some(error) = error.as_document() else {
            return Err(Error::unknown(DOING, Failure::WriteConcern));
        };
        let index = usize::try_from(number(error, "index")).unwrap_or(usize::MAX);
        let code = i32::try_from(number(error, "code")).unwrap_or(0);
        match results.get_mut(index) {
            Some(result) => *result = Some(Err(failure::of_statement(DOING, code))),
            None => return Err(Error::unknown(DOING, Failure::WriteConcern)),
        }
    }
    Ok(results)
}

/// Fewer matched than were sent: some sessions had ended. Ids never return, so who is there now
/// was there then, and its update was applied. Who is not there has ended: before its update, or
/// since, which the number of those that were missed often tells. Where it does not, the session
/// counts as ended before; to an answer's own commit it makes no difference, and who is told the
/// outcome travels alone ([`Filter::alone`]).
async fn settle(
    store: &Inner,
    batch: &[Waiting<Commit>],
    missed: usize,
    results: &mut Outcomes,
) -> Result<()> {
    let ids: Vec<&str> = batch
        .iter()
        .map(|waiting| waiting.job.id.as_str())
        .collect();
    let open = |error: Cause| failure::half_way(reading(DOING, error));
    let there = store
        .sessions
        .find(doc! { "_id": { "$in": &ids } })
        .projection(doc! { "_id": 1 })
        .selection_criteria(super::primary())
        .max_time(store.deadline)
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

fn command(
    store: &Inner,
    batch: &[Waiting<Commit>],
    until: Instant,
    number: Option<i64>,
) -> mongodb::error::Result<RawDocumentBuf> {
    let mut statements = RawArrayBuf::new();
    for Waiting { job, .. } in batch {
        let mut statement = rawdoc! { "q": { "_id": job.id.as_str() } };
        statement.append_ref("u", job.update.as_ref());
        statements.push(statement);
    }
    let mut command = rawdoc! {
        "update": store.sessions.name(),
        "updates": statements,
        "ordered": false,
        "maxTimeMS": i64::try_from(left(until).as_millis()).unwrap_or(i64::MAX),
    };
    if let Some(concern) = store.write_concern(Durability::Data) {
        command.append("writeConcern", written(&concern));
    }
    if let Some(number) = number {
        command.append("txnNumber", number);
    }
    // They cross as bytes, for the driver may be built with another version of the bson crate.
    RawDocumentBuf::from_bytes(command.into_bytes()).map_err(torn)
}

fn torn(error: impl std::fmt::Display) -> Cause {
    Cause::custom(error.to_string())
}

fn written(concern: &WriteConcern) -> Raw {
    let mut document = Raw::new();
    match &concern.w {
        Some(Acknowledgment::Nodes(nodes)) => document.append("w", i64::from(*nodes)),
        Some(Acknowledgment::Majority) => document.append("w", "majority"),
        Some(Acknowledgment::Custom(name)) => document.append("w", name.as_str()),
        _ => {}
    }
    if let Some(journal) = concern.journal {
        document.append("j", RawBson::Boolean(journal));
    }
    if let Some(limit) = concern.w_timeout {
        let millis = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
        document.append("wtimeout", millis);
    }
    document
}

fn number(document: &Answer, name: &str) -> i64 {
    match document.get(name) {
        Some(mongodb::bson::Bson::Int32(number)) => i64::from(*number),
        Some(mongodb::bson::Bson::Int64(number)) => *number,
        _ => 0,
    }
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
