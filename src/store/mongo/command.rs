//! The commands `insert` and `update`: one for any number of statements.
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

use super::error::{self, Failure};
use super::server_session::ServerSession;
use super::{Inner, Topology, left};
use crate::document::{Document, Filter, Update};
use crate::error::{Error, Result};

/// The pause before the same command is sent again.
const AGAIN: Duration = Duration::from_millis(50);

/// Which command it is.
#[derive(Clone, Copy)]
pub(super) enum Verb {
    Insert,
    Update,
}

impl Verb {
    pub(super) fn doing(self) -> &'static str {
        match self {
            Verb::Insert => "creating a session",
            Verb::Update => "changing a session",
        }
    }

    /// The command's own name, and that of its list of statements.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Verb::Insert => ("insert", "documents"),
            Verb::Update => ("update", "updates"),
        }
    }
}

/// A document to insert, or a change of one.
pub(super) struct Statement(Raw);

impl Statement {
    pub(super) fn insert(document: Document) -> Result<Self> {
        let doing = Verb::Insert.doing();
        Raw::from_bytes(document.into_bytes())
            .map(Statement)
            .map_err(|error| Error::store(doing, Failure::Bson(error.to_string())))
    }

    pub(super) fn update(filter: &Filter, update: &Update) -> Self {
        let mut statement = Raw::new();
        statement.append("q", filter.to_raw());
        statement.append("u", update.to_raw());
        Statement(statement)
    }

    pub(super) fn len(&self) -> usize {
        self.0.as_bytes().len()
    }
}

/// What an answer says of the statements of its command.
pub(super) struct Outcomes {
    /// The code of each that failed.
    pub(super) errors: Vec<Option<i32>>,
    /// How many were inserted, or have found their document.
    pub(super) done: usize,
}

/// Sends the command; the same one again, where the server can tell that it is the same.
pub(super) async fn send<'a>(
    store: &Inner,
    verb: Verb,
    statements: impl IntoIterator<Item = &'a Statement> + Clone,
    concern: Option<WriteConcern>,
    until: Instant,
) -> mongodb::error::Result<Answer> {
    let command = || command(store, verb, statements.clone(), concern.as_ref());
    let mut server_session = match store.topology() {
        // Numbers mean nothing to a standalone server, and what it is not known to be it may be.
        Topology::Standalone | Topology::Unknown => None,
        Topology::ReplicaSet | Topology::Sharded => store.server_sessions.take(store).await?,
    };
    let result = attempts(store, command(), until, server_session.as_mut()).await;
    let Some(server_session) = server_session else {
        return result;
    };
    let may_go_on = matches!(&result, Err(error) if error::may_go_on(error));
    store.server_sessions.give(server_session, may_go_on);
    if !matches!(&result, Err(error) if refuses_numbers(error)) {
        return result;
    }
    // Nothing was done: without a number, then, from now on.
    store.server_sessions.close();
    attempts(store, command(), until, None).await
}

async fn attempts(
    store: &Inner,
    (mut command, count): (Raw, usize),
    until: Instant,
    mut server_session: Option<&mut ServerSession>,
) -> mongodb::error::Result<Answer> {
    if let Some(server_session) = server_session.as_mut() {
        command.append("txnNumber", server_session.next());
    }
    // What an earlier attempt came to that may have been carried out, whatever the last one says.
    let mut open = None;
    loop {
        let run = store.database.run_raw_command(limited(&command, until)?);
        let result = match server_session.as_mut() {
            Some(server_session) => run.session(&mut **server_session.session).await,
            None => run.await,
        };
        let may_be_done = match &result {
            Ok(_) => true,
            Err(error) => error::may_be_done(error, count),
        };
        let again = server_session.is_some() && should_repeat(&result);
        if !again || Instant::now() + AGAIN >= until {
            return match open {
                Some(first) if !may_be_done => first,
                _ => result,
            };
        }
        if may_be_done {
            open.get_or_insert(result);
        }
        // An election takes seconds; a few attempts a second find its end soon enough.
        tokio::time::sleep(AGAIN).await;
    }
}

/// The command of one attempt, which may take no longer than there is time.
fn limited(command: &Raw, until: Instant) -> mongodb::error::Result<RawDocumentBuf> {
    let mut command = command.clone();
    let limit = i64::try_from(left(until).as_millis()).unwrap_or(i64::MAX);
    command.append("maxTimeMS", limit);
    // It crosses as bytes, for the driver may be built with another version of the bson crate.
    RawDocumentBuf::from_bytes(command.into_bytes())
        .map_err(|error| Cause::custom(error.to_string()))
}

/// Whether the server takes no transaction numbers, which services that look like MongoDB may not.
fn refuses_numbers(error: &Cause) -> bool {
    const ILLEGAL_OPERATION: i32 = 20;
    match &*error.kind {
        ErrorKind::Command(command) => {
            let message = command.message.to_ascii_lowercase();
            command.code == ILLEGAL_OPERATION
                || message.contains("txnnumber")
                || message.contains("retryable writes")
        }
        ErrorKind::SessionsNotSupported => true,
        _ => false,
    }
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

/// What became of so many statements; an error of the whole makes everything unknown.
pub(super) fn outcomes(verb: Verb, answer: &Answer, count: usize) -> Result<Outcomes> {
    if answer.contains_key("writeConcernError") {
        return Err(Error::unknown(verb.doing(), Failure::WriteConcern));
    }
    let open = || Error::unknown(verb.doing(), Failure::Unsaid);
    let mut codes = vec![None; count];
    let errors = answer.get_array("writeErrors").map(Vec::as_slice);
    for error in errors.unwrap_or_default() {
        let error = error.as_document().ok_or_else(open)?;
        let index = usize::try_from(number(error, "index")).unwrap_or(usize::MAX);
        let code = i32::try_from(number(error, "code")).unwrap_or(0);
        *codes.get_mut(index).ok_or_else(open)? = Some(code);
    }
    Ok(Outcomes {
        errors: codes,
        done: usize::try_from(number(answer, "n")).unwrap_or(0),
    })
}

/// The command, but for what each attempt adds, and the number of its statements.
fn command<'a>(
    store: &Inner,
    verb: Verb,
    statements: impl IntoIterator<Item = &'a Statement>,
    concern: Option<&WriteConcern>,
) -> (Raw, usize) {
    let (mut list, mut count) = (RawArrayBuf::new(), 0);
    for statement in statements {
        list.push(statement.0.clone());
        count += 1;
    }
    let (name, statements) = verb.names();
    let mut command = rawdoc! {
        name: store.sessions.name(),
        statements: list,
        "ordered": false,
    };
    if let Some(concern) = concern {
        command.append("writeConcern", written(concern));
    }
    (command, count)
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
