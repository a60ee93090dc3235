//! The one way of a write: `insert`, `update`, `delete` and `findAndModify` as raw commands, where
//! every attempt is seen.
//!
//! On a replica set or a sharded cluster a command carries a server session and a transaction number,
//! so that the same bytes can be sent again after a lost reply and take effect once (retryable
//! writes). Elsewhere, and for commands that change many documents, nothing is sent again that may have
//! taken effect. The driver sends a raw command once: `attempts` sends it again.

use std::time::Duration;

use bson::{RawArrayBuf, RawBson, RawDocumentBuf as Raw, rawdoc};
use mongodb::bson::{Bson, Document as ReplyBody, RawDocumentBuf};
use mongodb::error::{Error as Cause, RETRYABLE_WRITE_ERROR};
use mongodb::options::{Acknowledgment, WriteConcern};
use rocket::tokio;
use rocket::tokio::time::Instant;

use super::client::{Client, RETRY_DELAY, from_driver, left_millis};
use super::error::{self, writing};
use super::server_session::ServerSession;
use crate::document::{Document, Filter, Update};
use crate::error::{Error, Operation, Result};
use crate::store::Durability;

#[derive(Clone, Copy)]
pub(super) enum Verb {
    Insert,
    Update,
    Delete,
}

impl Verb {
    /// The command's own name, and that of its list of statements.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Verb::Insert => ("insert", "documents"),
            Verb::Update => ("update", "updates"),
            Verb::Delete => ("delete", "deletes"),
        }
    }
}

/// A document to insert, or a change or deletion of one.
pub(super) struct Statement(Raw);

impl Statement {
    pub(super) fn insert(document: Document, operation: Operation) -> Result<Self> {
        Raw::from_bytes(document.into_bytes())
            .map(Statement)
            .map_err(|error| error::bson(operation, error))
    }

    pub(super) fn update(filter: &Filter, update: &Update) -> Self {
        Statement(rawdoc! { "q": filter.to_raw(), "u": update.to_raw() })
    }

    /// Changes all documents that the filter chooses.
    pub(super) fn update_all(filter: &Filter, update: &Update) -> Self {
        Statement(rawdoc! { "q": filter.to_raw(), "u": update.to_raw(), "multi": true })
    }

    /// Changes the document by a pipeline, or makes it.
    pub(super) fn upsert(filter: &Filter, pipeline: RawArrayBuf) -> Self {
        Statement(rawdoc! { "q": filter.to_raw(), "u": pipeline, "upsert": true })
    }

    /// Deletes one document, or all that the filter chooses.
    pub(super) fn delete(filter: &Filter, all: bool) -> Self {
        Statement(rawdoc! { "q": filter.to_raw(), "limit": i32::from(!all) })
    }

    pub(super) fn len(&self) -> usize {
        self.0.as_bytes().len()
    }
}

/// The options of a write, beside its statements.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) operation: Operation,
    /// `None`: it may be lost.
    pub(super) durability: Option<Durability>,
    pub(super) until: Instant,
    /// The first statement that fails ends the command.
    pub(super) ordered: bool,
    /// The command may be numbered: each statement is about one document.
    pub(super) single: bool,
}

impl Terms {
    pub(super) fn new(
        operation: Operation,
        durability: impl Into<Option<Durability>>,
        until: Instant,
    ) -> Self {
        Terms {
            operation,
            durability: durability.into(),
            until,
            ordered: false,
            single: true,
        }
    }
}

/// The outcomes of a command's statements, as its reply has them.
pub(super) struct Outcomes {
    /// The code of each that failed: [`code_in_doubt`] where an earlier attempt may have done it.
    pub(super) errors: Vec<Option<i32>>,
    /// How many were inserted or deleted, or have found their document.
    pub(super) done: usize,
}

impl Outcomes {
    /// Returns how many found their document, of a command with one statement.
    pub(super) fn of_one(self, operation: Operation) -> Result<usize> {
        match self.errors.as_slice() {
            [Some(code)] => Err(error::of_statement(operation, *code)),
            _ => Ok(self.done),
        }
    }
}

/// Sends statements in one command, and again those that the server asks to send later.
pub(super) async fn send(
    client: &Client,
    verb: Verb,
    statements: &[Statement],
    terms: Terms,
) -> Result<Outcomes> {
    let mut outcomes = Outcomes {
        errors: vec![None; statements.len()],
        done: 0,
    };
    let mut pending: Vec<usize> = (0..statements.len()).collect();
    loop {
        let some = pending.iter().filter_map(|&at| statements.get(at));
        let command = command(client, verb, some, terms);
        let reply = write(client, command, pending.len(), terms).await;
        let reply = reply.and_then(|reply| parse(&reply, pending.len(), terms.operation));
        let has_begun = pending.len() < statements.len();
        let reply = reply.map_err(|error| error.partly_done_if(has_begun))?;
        outcomes.done += reply.done;
        let (mut again, mut pause) = (Vec::new(), Duration::ZERO);
        for failed in reply.errors {
            let Some(&at) = pending.get(failed.index) else {
                continue;
            };
            outcomes.errors[at] = Some(failed.code);
            if failed.code == error::THROTTLED {
                pause = pause.max(failed.pause);
                again.push(at);
            }
        }
        if again.is_empty() || Instant::now() + pause >= terms.until {
            return Ok(outcomes);
        }
        if let (true, Some(&first)) = (terms.ordered, again.first()) {
            again.extend(first + 1..statements.len()); // which were not tried
        }
        tokio::time::sleep(pause).await;
        again.iter().for_each(|&at| outcomes.errors[at] = None);
        pending = again;
    }
}

/// Deletes one document by `findAndModify`. Returns it as it was at its end.
pub(super) async fn take(
    client: &Client,
    filter: &Filter,
    terms: Terms,
) -> Result<Option<Document>> {
    let (name, query) = (client.sessions.name(), filter.to_raw());
    let command = rawdoc! { "findAndModify": name, "query": query, "remove": true };
    let reply = write(client, command, 1, terms).await?;
    parse(&reply, 1, terms.operation)?;
    match reply.body.get("value") {
        Some(Bson::Document(last)) => {
            let bytes = RawDocumentBuf::try_from(last);
            let missing = |_| Error::unknown(terms.operation, error::MISSING_RESULT);
            bytes.map(|bytes| Some(from_driver(bytes))).map_err(missing)
        }
        _ => Ok(None),
    }
}

/// A reply, and whether an earlier attempt of the same command may have taken effect.
struct Reply {
    body: ReplyBody,
    in_doubt: bool,
}

/// Writes a command: numbered where the server deduplicates, and without a number where it takes none.
async fn write(client: &Client, mut command: Raw, count: usize, terms: Terms) -> Result<Reply> {
    let _permit = client.permit(terms.operation, terms.until).await?;
    let topology = client.topology(terms.operation, terms.until).await?;
    if let Some(concern) = client.write_concern(topology, terms.durability) {
        command.append("writeConcern", written(&concern));
    }
    let mut is_numbered = terms.single && topology.deduplicates();
    loop {
        // The permit, the topology or an earlier attempt may have taken long.
        if Instant::now() >= terms.until {
            return Err(Error::store(terms.operation, error::LATE));
        }
        let mut server_session = None;
        if is_numbered {
            let taken = client.server_sessions.take(client.sessions.client()).await;
            let failed = |error| writing(terms.operation, error, false);
            server_session = taken.map_err(failed)?;
        }
        let is_new = server_session
            .as_ref()
            .is_some_and(|session| !session.is_proven);
        let attempts = attempts(
            client,
            &command,
            count,
            terms.until,
            server_session.as_mut(),
        )
        .await;
        let may_be_running = attempts.may_be_running;
        if let Some(server_session) = server_session {
            client.server_sessions.give(server_session, may_be_running);
        }
        return match attempts.last {
            Ok(body) => Ok(Reply {
                body,
                in_doubt: attempts.in_doubt,
            }),
            // Nothing was written, so that it can be done without a number: this time, and always.
            Err(error) if is_new && attempts.count == 1 && error::refuses_numbers(&error) => {
                client.server_sessions.close();
                is_numbered = false;
                continue;
            }
            Err(error) => {
                let error = attempts.doubt.unwrap_or(error);
                Err(writing(terms.operation, error, attempts.in_doubt))
            }
        };
    }
}

/// How the attempts of one command ended.
struct Attempts {
    last: mongodb::error::Result<ReplyBody>,
    count: usize,
    /// There was an attempt that may have taken effect, whatever the last one says.
    in_doubt: bool,
    /// The first error of such an attempt.
    doubt: Option<Cause>,
    /// An attempt may be running still, because its end was not seen.
    may_be_running: bool,
}

async fn attempts(
    client: &Client,
    command: &Raw,
    statements: usize,
    until: Instant,
    mut server_session: Option<&mut ServerSession>,
) -> Attempts {
    let number = server_session.as_mut().map(|session| session.next());
    let (mut count, mut in_doubt, mut may_be_running) = (0, false, false);
    let mut doubt = None;
    loop {
        count += 1;
        let transaction = server_session.as_deref_mut().zip(number);
        let last = attempt(client, command, until, transaction).await;
        let pause = match &last {
            Ok(body) if server_session.is_some() && is_retryable(body) => Some(RETRY_DELAY),
            Ok(_) => None,
            Err(error) => {
                let may_be_done = error::may_be_done(error, statements);
                may_be_running |= may_be_done && error::code(error).is_none();
                if may_be_done {
                    in_doubt = true;
                    doubt.get_or_insert_with(|| error.clone());
                }
                let is_transient = error::is_transient(error);
                if is_transient {
                    client.forget_topology();
                }
                let again = is_transient && server_session.is_some();
                error::throttled(error).or(again.then_some(RETRY_DELAY))
            }
        };
        match pause {
            Some(pause) if Instant::now() + pause < until => {
                in_doubt |= last.is_ok();
                tokio::time::sleep(pause).await;
            }
            _ => {
                return Attempts {
                    last,
                    count,
                    in_doubt,
                    doubt,
                    may_be_running,
                };
            }
        }
    }
}

/// Sends the command once. It may take no longer than there is time.
async fn attempt(
    client: &Client,
    command: &Raw,
    until: Instant,
    transaction: Option<(&mut ServerSession, i64)>,
) -> mongodb::error::Result<ReplyBody> {
    let mut command = command.clone();
    if let Some((_, number)) = &transaction {
        command.append("txnNumber", *number);
    }
    command.append("maxTimeMS", left_millis(until));
    // It crosses as bytes, for the driver may be built with another version of the bson crate.
    let command = RawDocumentBuf::from_bytes(command.into_bytes())
        .map_err(|error| Cause::custom(error.to_string()))?;
    let run = client.database.run_raw_command(command);
    match transaction {
        Some((server_session, _)) => {
            let body = run.session(&mut *server_session.session).await;
            server_session.is_proven |= body.is_ok();
            body
        }
        None => run.await,
    }
}

/// Whether the server says, in a reply that is otherwise good, that the same command can be sent
/// again.
fn is_retryable(body: &ReplyBody) -> bool {
    let parts = [Some(body), body.get_document("writeConcernError").ok()];
    parts
        .into_iter()
        .flatten()
        .filter_map(|part| part.get_array("errorLabels").ok())
        .flatten()
        .any(|label| label.as_str() == Some(RETRYABLE_WRITE_ERROR))
}

struct Parsed {
    errors: Vec<Failed>,
    done: usize,
}

struct Failed {
    index: usize,
    code: i32,
    pause: Duration,
}

/// Returns the code of a statement that failed although an earlier attempt may have done it: a negative
/// one. The server has no negative codes, so that no list of known codes has it: the outcome of this
/// statement is unknown ([`error::of_statement`]), and [`send`] does not send it again.
fn code_in_doubt(code: i32) -> i32 {
    -code.saturating_abs()
}

/// Reads the outcomes of `count` statements; an error of the whole makes everything unknown.
///
/// The outcomes of statements without an error are known even if an earlier attempt may have taken effect:
/// only a numbered command is sent again then, and the server reports for each statement what either
/// attempt did. An ordered command ends at its first error, and its only caller
/// (`insert::insert_in_order`) fails with the error of that statement, and so with an unknown outcome.
fn parse(reply: &Reply, count: usize, operation: Operation) -> Result<Parsed> {
    let body = &reply.body;
    let unknown = |failure: &'static str| Err(Error::unknown(operation, failure));
    if body.contains_key("writeConcernError") {
        return unknown(error::WRITE_CONCERN);
    }
    let mut errors = Vec::new();
    let failed = body.get_array("writeErrors").map(Vec::as_slice);
    for error in failed.unwrap_or_default() {
        let Some(error) = error.as_document() else {
            return unknown(error::MISSING_RESULT);
        };
        let index = usize::try_from(number(error, "index")).unwrap_or(usize::MAX);
        let code = i32::try_from(number(error, "code")).unwrap_or(0);
        if index >= count {
            return unknown(error::MISSING_RESULT);
        }
        let code = match reply.in_doubt {
            true => code_in_doubt(code),
            false => code,
        };
        let pause = error::throttle_delay(error.get_str("errmsg").unwrap_or_default());
        errors.push(Failed { index, code, pause });
    }
    let done = usize::try_from(number(body, "n")).unwrap_or(0);
    Ok(Parsed { errors, done })
}

fn command<'a>(
    client: &Client,
    verb: Verb,
    statements: impl Iterator<Item = &'a Statement>,
    terms: Terms,
) -> Raw {
    let mut list = RawArrayBuf::new();
    statements.for_each(|statement| list.push(statement.0.clone()));
    let (name, statements) = verb.names();
    rawdoc! { name: client.sessions.name(), statements: list, "ordered": terms.ordered }
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

fn number(document: &ReplyBody, name: &str) -> i64 {
    match document.get(name) {
        Some(Bson::Int32(number)) => i64::from(*number),
        Some(Bson::Int64(number)) => *number,
        Some(Bson::Double(number)) => *number as i64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    const OPERATION: Operation = Operation::ChangeSession;

    /// Parses the reply to three statements, of which the second failed with this code.
    fn parse_failure(code: i32, in_doubt: bool) -> Parsed {
        let body = doc! { "ok": 1.0, "n": 2, "writeErrors": [{ "index": 1, "code": code }] };
        let parsed = parse(&Reply { body, in_doubt }, 3, OPERATION);
        parsed.expect("the outcomes of three statements")
    }

    #[test]
    fn statement_that_fails_after_a_lost_reply_is_unknown_by_itself() {
        const MISMATCH: i32 = 14;
        for code in [error::DUPLICATE, error::THROTTLED, MISMATCH, 0, -1] {
            let parsed = parse_failure(code, true);
            let [failed] = parsed.errors.as_slice() else {
                panic!("{code}: {} errors", parsed.errors.len());
            };
            assert_eq!((parsed.done, failed.index), (2, 1), "{code}");
            let known = [error::DUPLICATE, error::THROTTLED];
            assert!(!known.contains(&failed.code), "{code}: {}", failed.code);
            assert!(!error::is_final(failed.code), "{code}: {}", failed.code);
            let error = error::of_statement(OPERATION, failed.code);
            assert!(matches!(error, Error::Unknown { .. }), "{code}: {error:?}");
        }
    }

    #[test]
    fn statement_that_fails_at_the_only_attempt_keeps_its_code() {
        let parsed = parse_failure(error::DUPLICATE, false);
        let codes: Vec<_> = parsed.errors.iter().map(|failed| failed.code).collect();
        assert_eq!(codes, [error::DUPLICATE]);
    }

    #[test]
    fn write_concern_that_fails_makes_every_statement_unknown() {
        let body = doc! { "ok": 1.0, "n": 3, "writeConcernError": { "code": 64 } };
        let in_doubt = false;
        let parsed = parse(&Reply { body, in_doubt }, 3, OPERATION).map(|parsed| parsed.done);
        assert!(matches!(parsed, Err(Error::Unknown { .. })), "{parsed:?}");
    }
}
