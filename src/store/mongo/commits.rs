//! Updates that travel together: one `update` command for all that wait.
//!
//! Only updates that ask for nothing but the `_id` share. On a replica set or a sharded cluster
//! the command carries a logical session and a transaction number, so that the same bytes can be
//! sent again after a lost reply and take effect once (retryable writes).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bson::{RawArrayBuf, RawBson, RawDocument, RawDocumentBuf as Raw, rawdoc};
use mongodb::ClientSession;
use mongodb::bson::{Document as Answer, RawDocumentBuf, doc};
use mongodb::error::{Error as Cause, ErrorKind, RETRYABLE_WRITE_ERROR};
use mongodb::options::{Acknowledgment, WriteConcern};
use rocket::futures::TryStreamExt;
use rocket::tokio;
use rocket::tokio::time::Instant;

use super::failure::{self, Failure};
use super::together::{Reply, Waiting, Way};
use super::{Inner, Topology, writing};
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
    update: Vec<u8>,
}

/// A driver's session that this store keeps for its lifetime. It is never given back: the driver
/// would use it again with transaction numbers below ours, which the server refuses (error 225).
pub(super) struct Lane {
    session: Option<ClientSession>,
    number: i64,
}

impl Drop for Lane {
    fn drop(&mut self) {
        std::mem::forget(self.session.take());
    }
}

pub(super) async fn update(
    store: &Arc<Inner>,
    filter: Filter,
    update: Update,
    durability: Durability,
) -> Result<Updated> {
    let id = match filter.only_id() {
        Some(id) if store.share && durability == Durability::Data => id.to_owned(),
        _ => return store.update_alone(filter, update, durability).await,
    };
    let until = Instant::now() + store.deadline;
    let bytes = update.to_bson();
    let size = bytes.len();
    let job = || Job { id, update: bytes };
    match store.commits.join(until, size, job) {
        Way::Alone => {
            let _turn = Turn(Arc::clone(store));
            store.update_alone(filter, update, durability).await
        }
        Way::With(answer) => match answer.await {
            Ok(Ok(Reply::Updated(updated))) => Ok(updated),
            Ok(Err(error)) => Err(error),
            // Its task has gone: nobody knows what it did.
            Ok(Ok(_)) | Err(_) => Err(Error::Unknown {
                doing: DOING,
                source: None,
            }),
        },
    }
}

/// A command that is under way. However it ends, the next one follows.
struct Turn(Arc<Inner>);

impl Drop for Turn {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return; // nothing can follow in a runtime that ends
        };
        if let Some(batch) = self.0.commits.next() {
            runtime.spawn(together(Turn(Arc::clone(&self.0)), batch));
        }
    }
}

async fn together(turn: Turn, batch: Vec<Waiting<Job>>) {
    let result = write(&turn.0, &batch).await;
    drop(turn);
    match result {
        Ok(replies) => {
            for (waiting, reply) in batch.into_iter().zip(replies) {
                // Who is not there any more does not mind.
                let _ = waiting.reply.send(reply.map(Reply::Updated));
            }
        }
        Err(error) => {
            for waiting in batch {
                let _ = waiting.reply.send(Err(error.clone()));
            }
        }
    }
}

/// Writes a batch and says what became of each update, or that nobody knows.
async fn write(store: &Inner, batch: &[Waiting<Job>]) -> Result<Vec<Result<Updated>>> {
    let _place = store.place(DOING).await?;
    // The batch may go on as long as the most patient of those who wait.
    let latest = batch.iter().map(|waiting| waiting.until).max();
    let until = latest.unwrap_or_else(Instant::now);
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
async fn send(store: &Inner, batch: &[Waiting<Job>], until: Instant) -> Result<Answer> {
    let concern = store.write_concern(Durability::Data);
    let mut lane = match store.topology() {
        // Numbers mean nothing to a standalone server, and what it is not known to be it may be.
        Topology::Standalone | Topology::Unknown => None,
        Topology::ReplicaSet | Topology::Sharded => Some(store.take_lane().await?),
    };
    let number = lane.as_mut().map(|lane| {
        lane.number += 1;
        lane.number
    });
    let command = command(store, batch, concern.as_ref(), number)?;
    let result = loop {
        let run = store.database.run_raw_command(command.clone());
        let session = lane.as_mut().and_then(|lane| lane.session.as_mut());
        let can_repeat = session.is_some();
        let result = match session {
            Some(session) => run.session(session).await,
            None => run.await,
        };
        let repeat = can_repeat && Instant::now() < until && should_repeat(&result);
        if !repeat {
            break result;
        }
        // An election takes seconds; a few attempts a second find its end soon enough.
        tokio::time::sleep(AGAIN).await;
    };
    if let Some(lane) = lane {
        store.give_lane(lane);
    }
    result.map_err(|error| match writing(DOING, error) {
        // No statement's own error arrives in this way.
        Error::Mismatch { .. } => Error::store(DOING, Failure::Refused),
        error => error,
    })
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
fn errors_in(answer: &Answer, count: usize) -> Result<Vec<Option<Result<Updated>>>> {
    if answer.contains_key("writeConcernError") {
        return Err(Error::unknown(DOING, Failure::WriteConcern));
    }
    let mut results: Vec<Option<Result<Updated>>> = (0..count).map(|_| None).collect();
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
    batch: &[Waiting<Job>],
    missed: usize,
    results: &mut [Option<Result<Updated>>],
) -> Result<()> {
    let ids: Vec<&str> = batch
        .iter()
        .map(|waiting| waiting.job.id.as_str())
        .collect();
    let open = |error: Cause| Error::unknown(DOING, Failure::Settling(error.to_string()));
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
    batch: &[Waiting<Job>],
    concern: Option<&WriteConcern>,
    number: Option<i64>,
) -> Result<RawDocumentBuf> {
    let torn = |reason: String| Error::store(DOING, Failure::Bson(reason));
    let mut statements = RawArrayBuf::new();
    for Waiting { job, .. } in batch {
        let update = RawDocument::from_bytes(&job.update).map_err(|e| torn(e.to_string()))?;
        statements.push(rawdoc! {
            "q": { "_id": job.id.as_str() },
            "u": update.to_raw_document_buf(),
        });
    }
    let mut command = rawdoc! {
        "update": store.sessions.name(),
        "updates": statements,
        "ordered": false,
        "maxTimeMS": i64::try_from(store.deadline.as_millis()).unwrap_or(i64::MAX),
    };
    if let Some(concern) = concern {
        command.append("writeConcern", written(concern));
    }
    if let Some(number) = number {
        command.append("txnNumber", number);
    }
    RawDocumentBuf::from_bytes(command.into_bytes()).map_err(|e| torn(e.to_string()))
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

impl Inner {
    async fn take_lane(&self) -> Result<Lane> {
        let lane = self.lanes.lock().ok().and_then(|mut lanes| lanes.pop());
        if let Some(lane) = lane {
            return Ok(lane);
        }
        let session = self.sessions.client().start_session().await;
        let session = session.map_err(|error| super::reading(DOING, error))?;
        // The driver may have used this session before, with small numbers of its own.
        let number = 1 << 32;
        Ok(Lane {
            session: Some(session),
            number,
        })
    }

    fn give_lane(&self, lane: Lane) {
        if let Ok(mut lanes) = self.lanes.lock() {
            lanes.push(lane);
        }
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
