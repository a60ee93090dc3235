//! The `update` command: one for any number of statements.
//!
//! On a replica set or a sharded cluster it carries a logical session and a transaction number, so
//! that the same bytes can be sent again after a lost reply and take effect once (retryable writes).

use std::time::Duration;

use bson::{RawArrayBuf, RawBson, RawDocumentBuf as Raw, rawdoc};
use mongodb::bson::{Document as Answer, RawDocumentBuf};
use mongodb::error::{Error as Cause, ErrorKind, RETRYABLE_WRITE_ERROR};
use mongodb::options::{Acknowledgment, WriteConcern};
use rocket::tokio;
use rocket::tokio::time::Instant;

use super::failure::{self, Failure};
use super::lanes::Lane;
use super::{Inner, Topology, left};
use crate::document::{Filter, Update};
use crate::error::{Error, Result};
use crate::store::Updated;

/// The pause before the same command is sent again.
const AGAIN: Duration = Duration::from_millis(50);

const DOING: &str = "changing a session";

/// A change of one document.
pub(super) struct Statement(Raw);

impl Statement {
    pub(super) fn new(filter: &Filter, update: &Update) -> Self {
        let mut statement = Raw::new();
        statement.append("q", filter.to_raw());
        statement.append("u", update.to_raw());
        Statement(statement)
    }

    pub(super) fn len(&self) -> usize {
        self.0.as_bytes().len()
    }
}

/// What became of one of several statements, as far as the answer says.
pub(super) type Outcomes = Vec<Option<Result<Updated>>>;

/// Sends the command; the same bytes again, where the server can tell that they are the same.
pub(super) async fn send<'a>(
    store: &Inner,
    statements: impl IntoIterator<Item = &'a Statement>,
    concern: Option<WriteConcern>,
    until: Instant,
) -> mongodb::error::Result<Answer> {
    let command = command(store, statements, concern.as_ref(), until);
    let mut lane = match store.topology() {
        // Numbers mean nothing to a standalone server, and what it is not known to be it may be.
        Topology::Standalone | Topology::Unknown => None,
        Topology::ReplicaSet | Topology::Sharded => store.lanes.take(store).await?,
    };
    let result = attempts(store, &command, until, lane.as_mut()).await;
    let Some(lane) = lane else {
        return result;
    };
    let is_refused = matches!(&result, Err(error) if refuses_numbers(error));
    store.lanes.give(lane, result.is_err());
    if !is_refused {
        return result;
    }
    // Nothing was done: without a number, then, from now on.
    store.lanes.close();
    attempts(store, &command, until, None).await
}

async fn attempts(
    store: &Inner,
    command: &Raw,
    until: Instant,
    mut lane: Option<&mut Lane>,
) -> mongodb::error::Result<Answer> {
    let mut command = command.clone();
    if let Some(lane) = lane.as_mut() {
        command.append("txnNumber", lane.next());
    }
    // It crosses as bytes, for the driver may be built with another version of the bson crate.
    let command = RawDocumentBuf::from_bytes(command.into_bytes())
        .map_err(|error| Cause::custom(error.to_string()))?;
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

/// The errors of single statements, and how many have found their document; an error of the whole
/// makes everything unknown.
pub(super) fn outcomes(answer: &Answer, count: usize) -> Result<(Outcomes, usize)> {
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
    let matched = usize::try_from(number(answer, "n")).unwrap_or(0);
    Ok((results, matched))
}

fn command<'a>(
    store: &Inner,
    statements: impl IntoIterator<Item = &'a Statement>,
    concern: Option<&WriteConcern>,
    until: Instant,
) -> Raw {
    let mut updates = RawArrayBuf::new();
    for statement in statements {
        updates.push(statement.0.clone());
    }
    let mut command = rawdoc! {
        "update": store.sessions.name(),
        "updates": updates,
        "ordered": false,
        "maxTimeMS": i64::try_from(left(until).as_millis()).unwrap_or(i64::MAX),
    };
    if let Some(concern) = concern {
        command.append("writeConcern", written(concern));
    }
    command
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
