//! What the driver's errors mean: surely nothing happened, or nobody knows.

use std::fmt;

use mongodb::error::{Error as Cause, ErrorKind, WriteFailure};

use crate::error::Error;

/// A failure that no error of the driver's describes.
#[derive(Debug)]
pub(super) enum Failure {
    PoolExhausted,
    Bson(String),
    Refused,
    WriteConcern,
    Settling(String),
    Statement(i32),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::PoolExhausted => f.write_str(
                "every connection was in use until the deadline; raise \
                 `databases.sessions.max_connections`",
            ),
            Failure::Bson(reason) => write!(f, "a document could not be encoded: {reason}"),
            Failure::Refused => f.write_str("the server refused the command"),
            Failure::WriteConcern => {
                f.write_str("the server could not say that a majority has the write")
            }
            Failure::Settling(reason) => {
                write!(f, "it could not be seen what was written: {reason}")
            }
            Failure::Statement(code) => write!(f, "write error {code}"),
        }
    }
}

impl std::error::Error for Failure {}

/// Duplicate key.
const DUPLICATE: i32 = 11000;
/// `$inc` beyond its range or on no number; `$push` on no array; a value set in what is no document.
const MISFITS: [i32; 3] = [2, 14, 28];
/// The server gave up, was interrupted or is no longer the primary: it may have carried the write
/// out before. (MaxTimeMSExpired, InterruptedAtShutdown, …, the write concern's own.)
const OPEN: [i32; 10] = [50, 64, 91, 189, 10107, 11600, 11602, 13435, 13436, 10058];

pub(super) fn reading(doing: &'static str, error: Cause) -> Error {
    Error::store(doing, Masked::from(error))
}

pub(super) fn writing(doing: &'static str, error: Cause) -> Error {
    match &*error.kind {
        ErrorKind::Write(WriteFailure::WriteError(write)) if MISFITS.contains(&write.code) => {
            misfit()
        }
        ErrorKind::Command(command) if MISFITS.contains(&command.code) => misfit(),
        _ if is_open(&error) => Error::unknown(doing, Masked::from(error)),
        _ => Error::store(doing, Masked::from(error)),
    }
}

/// The error of one statement among several.
pub(super) fn of_statement(doing: &'static str, code: i32) -> Error {
    if MISFITS.contains(&code) {
        return misfit();
    }
    let failure = Failure::Statement(code);
    if OPEN.contains(&code) {
        Error::unknown(doing, failure)
    } else {
        Error::store(doing, failure)
    }
}

fn misfit() -> Error {
    crate::document::Inapplicable.into()
}

/// Whether the one document of an insert exists already.
pub(super) fn is_duplicate(error: &Cause) -> bool {
    matches!(
        &*error.kind,
        ErrorKind::Write(WriteFailure::WriteError(write)) if write.code == DUPLICATE
    )
}

/// Where an insert of many, in order, met a document that exists already, when that is all that
/// went wrong.
pub(super) fn duplicate_of_many(error: &Cause) -> Option<usize> {
    match &*error.kind {
        ErrorKind::InsertMany(insert) if insert.write_concern_error.is_none() => {
            match insert.write_errors.as_deref() {
                Some([write]) if write.code == DUPLICATE => Some(write.index),
                _ => None,
            }
        }
        _ => None,
    }
}

/// A failure after a part of the operation was carried out.
pub(super) fn half_way(error: Error) -> Error {
    match error {
        Error::Store { doing, source } => Error::Unknown {
            doing,
            source: Some(source),
        },
        other => other,
    }
}

/// Whether a write with this error may have taken effect.
fn is_open(error: &Cause) -> bool {
    if error.contains_label("NoWritesPerformed") {
        return false;
    }
    match &*error.kind {
        ErrorKind::Write(WriteFailure::WriteConcernError(_)) => true,
        // What stands before the one that failed is stored.
        ErrorKind::InsertMany(insert) => {
            let errors = insert.write_errors.as_deref().unwrap_or_default();
            insert.write_concern_error.is_some() || errors.iter().any(|write| write.index > 0)
        }
        ErrorKind::Command(command) => OPEN.contains(&command.code),
        // Nothing was sent.
        ErrorKind::ServerSelection { .. }
        | ErrorKind::Authentication { .. }
        | ErrorKind::DnsResolve { .. }
        | ErrorKind::InvalidArgument { .. }
        | ErrorKind::ConnectionPoolCleared { .. } => false,
        ErrorKind::Write(WriteFailure::WriteError(_)) => false,
        _ => true,
    }
}

/// The driver's error without what may be secret in it: the document that a duplicate key's
/// message quotes, the credentials that an address may hold.
#[derive(Debug)]
struct Masked(String);

impl From<Cause> for Masked {
    fn from(error: Cause) -> Self {
        let text = match &*error.kind {
            ErrorKind::Write(WriteFailure::WriteError(write)) => {
                format!("write error {}", write.code)
            }
            ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => {
                format!("write concern error {} {}", concern.code, concern.code_name)
            }
            ErrorKind::InsertMany(_) => "an insert failed".to_owned(),
            ErrorKind::Command(command) => {
                format!("command error {} {}", command.code, command.code_name)
            }
            _ => error.to_string(),
        };
        Masked(text)
    }
}

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Masked {}
