//! What an error of the driver's means for a write: nothing was written, or its outcome is unknown.

use std::fmt;
use std::time::Duration;

use mongodb::error::{Error as Cause, ErrorKind, RETRYABLE_WRITE_ERROR};

use crate::document::Inapplicable;
use crate::error::{Denied, Error, Operation};

// Failures that no error of the driver's describes.

pub(super) const POOL_EXHAUSTED: &str =
    "every connection was in use until the deadline; raise `databases.sessions.max_connections`";
pub(super) const LATE: &str = "no response arrived within `session.deadline`";
pub(super) const EMPTY: &str = "the update changes nothing";
pub(super) const INDEX_BUILD_IN_PROGRESS: &str = "another index build is in progress";
pub(super) const LOST: &str = "the task that sent it ended without a result";
pub(super) const WRITE_CONCERN: &str = "the server did not confirm the write concern";
pub(super) const MISSING_RESULT: &str =
    "the reply of the server lacks the results of some documents";
pub(super) const CONTRADICTION: &str = "the server reply contradicts the documents that are stored";
pub(super) const STANDALONE: &str = "events need a replica set or a sharded cluster, and this MongoDB server is standalone; start it \
    with --replSet (a set of one member is enough)";
pub(super) const MAY_NOT_WATCH: &str = "the database user may not read change streams; grant it the actions `find` and `changeStream` \
    on the collection of the sessions, as the role `read` does";
pub(super) const NO_CHANGE_STREAMS: &str = "the server does not support change streams";

/// An update or a document that cannot be sent.
pub(super) fn bson(operation: Operation, error: impl fmt::Display) -> Error {
    Error::store(
        operation,
        format!("a document could not be encoded: {error}"),
    )
}

/// The server's label for a command that did nothing, whatever its error.
const NOTHING_WRITTEN: &str = "NoWritesPerformed";

/// Duplicate key.
pub(super) const DUPLICATE: i32 = 11000;

/// Another index build is in progress (MongoDB's two codes, and DocumentDB's).
pub(super) const INDEXING: [i32; 3] = [12586, 12587, 40333];

/// The request rate is too large (Azure Cosmos DB): nothing was done, try again later.
pub(super) const THROTTLED: i32 = 16500;
const THROTTLE_DELAY: Duration = Duration::from_millis(100);

/// BadValue, TypeMismatch and PathNotViable: `$inc` beyond its range or not on a number; `$push` not
/// on an array; a value set where there is not a document.
const MISMATCHES: [i32; 3] = [2, 14, 28];

/// The command was refused before any of it was carried out. (BadValue, FailedToParse, Unauthorized,
/// TypeMismatch, AuthenticationFailed, IllegalOperation, CommandNotFound, InvalidOptions,
/// InvalidNamespace, NoReplicationEnabled, CommandNotSupportedOnView, TransactionTooOld,
/// OperationNotSupportedInTransaction, retryable writes not supported, APIVersionError,
/// APIStrictError, ReauthenticationRequired, AtlasError, RequestRateTooLarge, and the parser's own.)
const REFUSED: [i32; 21] = [
    2, 9, 13, 14, 18, 20, 59, 72, 73, 76, 166, 225, 263, 301, 322, 323, 391, 8000, THROTTLED,
    40414, 40415,
];

/// One statement failed, and changed nothing. (PathNotViable, DollarPrefixedFieldName, ImmutableField,
/// DocumentValidationFailure, CannotGrowDocumentInCappedNamespace, BSONObjectTooLarge, DuplicateKey,
/// KeyTooLong, and an update whose result would be too large.)
const STATEMENT_FAILED: [i32; 10] = [
    28, 52, 66, 121, 10003, 10334, DUPLICATE, 17280, 17419, 17420,
];

/// The server takes no transaction numbers. (IllegalOperation of a standalone server,
/// OperationNotSupportedInTransaction, and DocumentDB's "retryable writes are not supported".)
const NO_TRANSACTION_NUMBERS: [i32; 3] = [20, 263, 301];

/// The server is not the primary, or is going to stop.
const NOT_PRIMARY: [i32; 8] = [91, 189, 10058, 10107, 11600, 11602, 13435, 13436];

pub(super) fn code(error: &Cause) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}

/// Returns the error of a command that changed nothing. It distinguishes a server that refused from
/// one that could not be reached.
pub(super) fn failed(operation: Operation, error: Cause) -> Error {
    const UNAUTHORIZED: i32 = 13;
    const AUTHENTICATION_FAILED: i32 = 18;
    let is_login = matches!(&*error.kind, ErrorKind::Authentication { .. });
    let text = masked(&error);
    match code(&error) {
        Some(UNAUTHORIZED) => Error::store(operation, Denied::Right(text)),
        Some(AUTHENTICATION_FAILED) => Error::store(operation, Denied::Login(text)),
        _ if is_login => Error::store(operation, Denied::Login(text)),
        _ => Error::store(operation, text),
    }
}

/// Returns the error of a command that writes.
pub(super) fn writing(operation: Operation, error: Cause, is_unknown: bool) -> Error {
    match is_unknown {
        true => Error::unknown(operation, masked(&error)),
        false => failed(operation, error),
    }
}

/// Returns the error of one statement among several.
pub(super) fn of_statement(operation: Operation, code: i32) -> Error {
    if MISMATCHES.contains(&code) {
        return Inapplicable.into();
    }
    let failure = format!("write error {code}");
    match REFUSED.contains(&code) || STATEMENT_FAILED.contains(&code) {
        true => Error::store(operation, failure),
        false => Error::unknown(operation, failure),
    }
}

/// Whether a statement that failed with this code fails whenever it is sent.
pub(super) fn is_final(code: i32) -> bool {
    MISMATCHES.contains(&code) || STATEMENT_FAILED.contains(&code)
}

/// Whether a command with this number of statements may have taken effect, in part or as a whole. It may,
/// unless the error is known to mean that nothing was written, or nothing was ever sent.
pub(super) fn may_be_done(error: &Cause, statements: usize) -> bool {
    if error.contains_label(NOTHING_WRITTEN) {
        return false;
    }
    match &*error.kind {
        ErrorKind::Command(command) => {
            let refused = REFUSED.contains(&command.code);
            !refused && (statements > 1 || !STATEMENT_FAILED.contains(&command.code))
        }
        // Nothing was sent. (Clearing a pool also ends commands that wait for their reply.)
        ErrorKind::ServerSelection { .. }
        | ErrorKind::SessionsNotSupported
        | ErrorKind::Authentication { .. }
        | ErrorKind::DnsResolve { .. }
        | ErrorKind::InvalidArgument { .. }
        | ErrorKind::InvalidTlsConfig { .. } => false,
        _ => true,
    }
}

/// Whether the server takes no transaction numbers, which services that look like MongoDB may not.
pub(super) fn refuses_numbers(error: &Cause) -> bool {
    matches!(&*error.kind, ErrorKind::SessionsNotSupported)
        || code(error).is_some_and(|code| NO_TRANSACTION_NUMBERS.contains(&code))
}

/// Whether the connection was lost, or the server is not the primary any more: another attempt may
/// meet another server.
pub(super) fn is_transient(error: &Cause) -> bool {
    matches!(
        &*error.kind,
        ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. }
    ) || error.contains_label(RETRYABLE_WRITE_ERROR)
        || code(error).is_some_and(|code| NOT_PRIMARY.contains(&code))
}

/// Returns the pause that the server asks for, if its request rate is exceeded.
pub(super) fn throttled(error: &Cause) -> Option<Duration> {
    match &*error.kind {
        ErrorKind::Command(command) if command.code == THROTTLED => {
            Some(throttle_delay(&command.message))
        }
        _ => None,
    }
}

/// Returns the pause that a message names (`RetryAfterMs=34`), and a usual one where it names none.
pub(super) fn throttle_delay(message: &str) -> Duration {
    let named = message.split_once("RetryAfterMs=").and_then(|(_, rest)| {
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        rest.get(..end)?.parse().ok()
    });
    named.map_or(THROTTLE_DELAY, Duration::from_millis)
}

/// The driver's error without parts that may be secret: the document that a duplicate key's message
/// quotes, the credentials that an address may hold.
fn masked(error: &Cause) -> String {
    match &*error.kind {
        ErrorKind::Command(command) => {
            format!("command error {} {}", command.code, command.code_name)
        }
        _ => error.to_string(),
    }
}
