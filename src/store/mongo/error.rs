//! What the driver's errors mean: surely nothing happened, or nobody knows.

use std::fmt;

use mongodb::error::{Error as Cause, ErrorKind, WriteFailure};

use crate::error::Error;

/// A failure that no error of the driver's describes.
#[derive(Debug)]
pub(super) enum Failure {
    PoolExhausted,
    Late,
    Empty,
    Indexing,
    Bson(String),
    WriteConcern,
    Unsaid,
    Statement(i32),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::PoolExhausted => f.write_str(
                "every connection was in use until the deadline; raise \
                 `databases.sessions.max_connections`",
            ),
            Failure::Late => f.write_str("no answer came within `session.deadline`"),
            Failure::Empty => f.write_str("an update that changes nothing"),
            Failure::Indexing => f.write_str("they are being made just now"),
            Failure::Bson(reason) => write!(f, "a document could not be encoded: {reason}"),
            Failure::WriteConcern => {
                f.write_str("the server could not say that a majority has the write")
            }
            Failure::Unsaid => f.write_str("the server did not say what became of each document"),
            Failure::Statement(code) => write!(f, "write error {code}"),
        }
    }
}

impl std::error::Error for Failure {}

/// The driver's word for a command that surely did nothing, whatever its error.
const NOTHING_WRITTEN: &str = "NoWritesPerformed";
/// Duplicate key.
pub(super) const DUPLICATE: i32 = 11000;
/// `$inc` beyond its range or on no number; `$push` on no array; a value set in what is no document.
const MISFITS: [i32; 3] = [2, 14, 28];
/// The server gave up, was interrupted or is no longer the primary, or could not be reached by a
/// router: it may have carried the write out before. (HostUnreachable, HostNotFound,
/// MaxTimeMSExpired, WriteConcernFailed, NetworkTimeout, ShutdownInProgress,
/// FailedToSatisfyReadPreference, PrimarySteppedDown, NetworkInterfaceExceededTimeLimit,
/// ExceededTimeLimit, SocketException, NotWritablePrimary, Interrupted, …)
const OPEN: [i32; 19] = [
    6, 7, 50, 64, 89, 91, 133, 189, 202, 262, 9001, 10058, 10107, 11600, 11601, 11602, 13388,
    13435, 13436,
];

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

/// The error of a command that carries so many statements.
pub(super) fn of_batch(doing: &'static str, error: Cause, count: usize) -> Error {
    let is_open = may_be_done(&error, count);
    let masked = Masked::from(error);
    if is_open {
        Error::unknown(doing, masked)
    } else {
        Error::store(doing, masked)
    }
}

/// Whether a command of so many statements may have taken effect, in part or as a whole.
pub(super) fn may_be_done(error: &Cause, count: usize) -> bool {
    match &*error.kind {
        // It may have stopped in the middle.
        ErrorKind::Command(_) if count > 1 => !error.contains_label(NOTHING_WRITTEN),
        _ => is_open(error),
    }
}

/// Whether a command with this error may be under way still: nobody has heard of its end.
pub(super) fn may_go_on(error: &Cause) -> bool {
    is_open(error) && !matches!(&*error.kind, ErrorKind::Command(_))
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
pub(super) fn is_open(error: &Cause) -> bool {
    if error.contains_label(NOTHING_WRITTEN) {
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
        ErrorKind::Write(WriteFailure::WriteError(write)) => OPEN.contains(&write.code),
        // Nothing was sent. (A pool that is cleared also ends what waits for its reply.)
        ErrorKind::ServerSelection { .. }
        | ErrorKind::SessionsNotSupported
        | ErrorKind::Authentication { .. }
        | ErrorKind::DnsResolve { .. }
        | ErrorKind::InvalidArgument { .. }
        | ErrorKind::InvalidTlsConfig { .. } => false,
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
