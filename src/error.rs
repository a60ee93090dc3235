//! The errors of the crate. Their texts say what to do next.

use std::fmt;
use std::sync::Arc;

use rocket::http::Status;
use rocket::request::Request;
use rocket::response::{self, Responder};

/// A `Result` whose error is this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause of an error, kept whole and shared, so that an [`Error`] can be cloned.
pub type Cause = Arc<dyn std::error::Error + Send + Sync + 'static>;

/// What the crate was doing when the store failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Loading a session.
    LoadSession,
    /// Storing a new session.
    CreateSession,
    /// Changing a stored session.
    ChangeSession,
    /// Ending one session.
    EndSession,
    /// Ending several sessions.
    EndSessions,
    /// Recording a revocation, so that logins in progress end.
    RevokeSessions,
    /// Listing sessions, or looking for tombstones and revocations.
    FindSessions,
    /// Counting sessions.
    CountSessions,
    /// Recording that sessions were used.
    RecordUse,
    /// Creating or repairing the indexes.
    MakeIndexes,
    /// Asking whether the store can be reached.
    ReachStore,
    /// Committing a session with the response.
    Commit,
    /// Looking whether the sessions of open streams have ended.
    FollowSessions,
    /// Reading what happens to sessions.
    WatchSessions,
}

impl Operation {
    /// Returns what the operation does, and the privilege actions of MongoDB that it needs
    /// (<https://www.mongodb.com/docs/manual/reference/privilege-actions/>).
    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Operation::LoadSession => ("loading a session", "`find`"),
            Operation::CreateSession => ("creating a session", "`insert`"),
            Operation::ChangeSession => ("changing a session", "`update`"),
            Operation::EndSession => ("ending a session", "`remove`"),
            Operation::EndSessions => ("ending sessions", "`remove`"),
            Operation::RevokeSessions => ("revoking sessions", "`insert` and `update`"),
            Operation::FindSessions => ("finding sessions", "`find`"),
            Operation::CountSessions => ("counting sessions", "`find`"),
            Operation::RecordUse => ("recording that sessions were used", "`update`"),
            Operation::MakeIndexes => (
                "making the session indexes",
                "`createIndex`, `listIndexes`, `dropIndex` and `collMod`",
            ),
            Operation::ReachStore => ("reaching the session store", "`find`"),
            Operation::Commit => (
                "committing a session",
                "`find`, `insert`, `update` and `remove`",
            ),
            Operation::FollowSessions => ("following sessions", "`find`"),
            Operation::WatchSessions => ("watching sessions", "`find` and `changeStream`"),
        }
    }

    /// Whether the operation changes nothing.
    pub(crate) fn only_reads(self) -> bool {
        matches!(
            self,
            Operation::LoadSession
                | Operation::FindSessions
                | Operation::CountSessions
                | Operation::ReachStore
                | Operation::FollowSessions
                | Operation::WatchSessions
        )
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.texts().0)
    }
}

/// The error type of this crate.
///
/// As a [`Responder`] an error logs itself and responds with its [`status`](Error::status), through
/// the application's catchers. So a handler can simply use `?`. No variant holds a token, a hash or
/// a stored value: an error can be logged as it is.
///
/// ```
/// # use rocket::get;
/// use rocket_mongo_session::{Error, Session};
///
/// #[get("/")]
/// fn index(session: &Session) -> Result<String, Error> {
///     let name: Option<String> = session.get("name")?;
///     Ok(name.unwrap_or_default())
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The database failed or refused, and the operation that failed changed nothing. Status 503.
    ///
    /// The text distinguishes a database that cannot be reached from one that refuses: it names the
    /// right that the database user lacks.
    #[non_exhaustive]
    Store {
        /// What was being done.
        operation: Operation,
        /// What the database said.
        source: Cause,
    },
    /// The outcome of a write is unknown. It was or will be applied completely, or not at all.
    /// Status 503.
    ///
    /// It did not end within the configured `deadline`, or the connection was lost.
    #[non_exhaustive]
    Unknown {
        /// What was being done.
        operation: Operation,
        /// What the database said, when it said anything.
        source: Option<Cause>,
    },
    /// The session ended while the request ran: it was logged out, revoked, replaced or expired. The
    /// change was dropped, since a session that has ended is never brought back. Status 401.
    ///
    /// Also when another request replaced the session's secret
    /// ([`renew`](crate::Session::renew), [`elevate`](crate::Session::elevate)), from calls that need
    /// the current one: [`modify`](crate::Session::modify), a [`pop`](crate::Queue::pop),
    /// [`revoke_others`](crate::Sessions::revoke_others), and [`save`](crate::Session::save) of a
    /// `renew`, an `elevate`, or of times or a CSRF secret alone. That session continues under its new
    /// cookie.
    Gone,
    /// The change comes too late: the session was stored with the response already, as it is in a
    /// stream. Call [`save`](crate::Session::save) before the stream starts. Status 500.
    Sealed,
    /// The name cannot be a key or a flash queue's name: it is empty or contains NUL. Status 500.
    #[non_exhaustive]
    BadKey {
        /// The name, cut to 64 characters.
        key: String,
    },
    /// The stored value is not of the type asked for. Status 500.
    ///
    /// It was left as it is; only a [`pop`](crate::Queue::pop) empties its queue anyway.
    #[non_exhaustive]
    Decode {
        /// The key, as the application names it.
        key: String,
        /// The type asked for.
        wanted: &'static str,
        /// What is stored, in BSON's terms.
        found: &'static str,
        /// Serde's message, such as "missing field `name`", without what is stored: a value in it is
        /// left out, and so is the message of the type's own `Deserialize`.
        reason: String,
    },
    /// The value cannot be stored in the configured `encoding`. Status 500.
    #[non_exhaustive]
    Encode {
        /// The key, as the application names it.
        key: String,
        /// Why not, and what would help.
        reason: &'static str,
        /// The message of the value's `Serialize`, where that failed.
        source: Option<Cause>,
    },
    /// The session's data would exceed the configured `max_bytes`. What is stored stays. Status 500.
    #[non_exhaustive]
    TooLarge {
        /// The limit, in bytes of the stored data.
        limit: usize,
    },
    /// [`increment`](crate::Session::increment) met a value that is not an integer or would leave
    /// the range of `i64`, or [`push`](crate::Session::push) met a value that is not a list. Status
    /// 500.
    #[non_exhaustive]
    Mismatch {
        /// The key, as the application names it.
        key: String,
        /// What does not fit.
        reason: &'static str,
    },
    /// An invalid user (principal): null, or longer than 8 KiB. Status 500.
    BadUser,
    /// A duration that cannot be a timeout (zero, or above 100 years) or a cookie's life (below one
    /// second, or above 400 days). Status 500.
    BadDuration,
    /// The address is not a path of this site, as a browser reads it, so it cannot be returned to
    /// ([`set_return_to`](crate::Session::set_return_to)). The browser sent it, hence status 400.
    BadReturnTo,
    /// A request of another site with an unsafe method (POST and the like) was refused
    /// (`trusted_origins` allows some). Status 403.
    CrossSite,
    /// The request is outside of the cookie's `path`, where a session cookie would overwrite the one
    /// of the paths inside. Status 500.
    OutsidePath,
    /// A cross-site request without a session cookie tried to write: a new session's cookie would
    /// overwrite the one that the browser held back (`SameSite`). Only a login may create a session
    /// there. Status 403.
    CrossSiteWrite,
    /// The configuration that [`Sessions::connect`](crate::Sessions::connect) was given would refuse a
    /// launch. Status 500.
    #[non_exhaustive]
    Configuration {
        /// What is wrong, and where.
        reason: String,
    },
    /// The values of the session are sealed (`seal = true`): only a request with its cookie reads and
    /// writes them. Status 500.
    #[non_exhaustive]
    SealedValues {
        /// The session's id.
        id: String,
    },
    /// No session fairing is attached: `rocket.attach(Sessions::fairing())`, or
    /// `Sessions::fairing_of::<K>()` for a further kind. Status 500.
    NotAttached,
    /// A call that needs another `transport` than the section of its kind names. Status 500.
    #[non_exhaustive]
    WrongTransport {
        /// What was called.
        call: &'static str,
        /// The transport that it needs.
        needs: &'static str,
    },
    /// A session with `transport = "bearer"` got a new token that the request did not hand out by
    /// [`issue_token`](crate::Session::issue_token). Nothing was stored. Status 500.
    TokenNotIssued,
    /// [`testing::sign_in`](crate::testing::sign_in) was given a client that keeps no cookies. Status
    /// 500.
    UntrackedClient,
    /// The operating system gave no random bytes. Status 503.
    Randomness(String),
}

impl Error {
    /// Returns the status that the error responds with.
    ///
    /// 503 for [`Store`](Error::Store), [`Unknown`](Error::Unknown) and
    /// [`Randomness`](Error::Randomness), 403 for [`CrossSite`](Error::CrossSite) and
    /// [`CrossSiteWrite`](Error::CrossSiteWrite), 401 for [`Gone`](Error::Gone), 400 for
    /// [`BadReturnTo`](Error::BadReturnTo), 500 for the rest.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Error::Store { .. } | Error::Unknown { .. } | Error::Randomness(_) => {
                Status::ServiceUnavailable
            }
            Error::CrossSite | Error::CrossSiteWrite => Status::Forbidden,
            Error::Gone => Status::Unauthorized,
            Error::BadReturnTo => Status::BadRequest,
            _ => Status::InternalServerError,
        }
    }

    /// The error of an operation of which a part was carried out before it failed.
    pub(crate) fn partly_done(self) -> Self {
        match self {
            Error::Store { operation, source } => Error::Unknown {
                operation,
                source: Some(source),
            },
            other => other,
        }
    }

    /// The error of an operation that had carried a part out, or had not.
    pub(crate) fn partly_done_if(self, has_begun: bool) -> Self {
        match has_begun {
            true => self.partly_done(),
            false => self,
        }
    }

    /// The error of an operation that ended without a result: a write may have taken effect.
    pub(crate) fn without_result(operation: Operation, source: &'static str) -> Self {
        Error::store(operation, source).partly_done_if(!operation.only_reads())
    }

    /// Writes the error and its causes to the log, in one line.
    pub(crate) fn log(&self) {
        let mut causes = String::new();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            causes += &format!("; caused by: {cause}");
            source = cause.source();
        }
        rocket::error!("Session: {self}{causes}.");
    }
}

/// Public for stores outside of the crate alone.
#[doc(hidden)]
impl Error {
    /// Returns an [`Error::Store`]: the operation failed and changed nothing.
    pub fn store(
        operation: Operation,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let source = Arc::from(source.into());
        Error::Store { operation, source }
    }

    /// Returns an [`Error::Unknown`]: the outcome of the write is unknown.
    pub fn unknown(
        operation: Operation,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let source = Some(Arc::from(source.into()));
        Error::Unknown { operation, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Store { operation, source } => match source.downcast_ref::<Denied>() {
                Some(denied) => write!(f, "{operation} failed: {}", denied.advice(*operation)),
                None => write!(
                    f,
                    "{operation} failed: the session store could not be reached, or reported an error"
                ),
            },
            Error::Unknown {
                operation,
                source: None,
            } => write!(
                f,
                "{operation} did not end within `session.deadline`; it may still take effect"
            ),
            Error::Unknown { operation, .. } => {
                write!(
                    f,
                    "{operation} failed with an unknown outcome; it may have taken effect"
                )
            }
            Error::Gone => {
                f.write_str("the session ended while the request ran; its changes were dropped")
            }
            Error::Sealed => f.write_str(
                "the response was already committed; call `Session::save` before a stream starts",
            ),
            Error::BadKey { key } if key.is_empty() => {
                f.write_str("a session key must not be empty")
            }
            Error::BadKey { key } => {
                write!(f, "the session key {key:?} contains NUL, which no key may contain")
            }
            Error::Decode {
                key,
                wanted,
                found,
                reason,
            } => write!(
                f,
                "the session's value of {key:?} is {found}, which cannot be read as `{wanted}`: \
                 {reason}"
            ),
            Error::Encode { key, reason, .. } => {
                write!(
                    f,
                    "the value for the session key {key:?} cannot be stored: {reason}"
                )
            }
            Error::TooLarge { limit } => write!(
                f,
                "the session's data would exceed {limit} bytes (`session.max_bytes`)"
            ),
            Error::Mismatch { key, reason } if key.is_empty() => f.write_str(reason),
            Error::Mismatch { key, reason } => {
                write!(
                    f,
                    "the session key {key:?} cannot be changed in this way: {reason}"
                )
            }
            Error::BadUser => {
                f.write_str("a principal must be a value other than null, of at most 8 KiB")
            }
            Error::BadDuration => f.write_str(
                "a session's timeout must be longer than zero and at most 100 years, and a cookie's \
                 life between one second and 400 days",
            ),
            Error::BadReturnTo => f.write_str(
                "the address is not a path of this site, as a browser reads it, so it was not kept \
                 to return to",
            ),
            Error::CrossSite => f.write_str(
                "a cross-site request was refused; list its origin in `session.trusted_origins` \
                 if it may change sessions",
            ),
            Error::OutsidePath => f.write_str(
                "the request is outside of the session cookie's path (`session.path`), so no \
                 session can be changed; move the route below it, or set `session.path` to a path that \
                 Rocket sees",
            ),
            Error::CrossSiteWrite => f.write_str(
                "a cross-site request without a session cookie cannot create a session, except by \
                 a login; check `Session::why_new` before writing, or write only on pages that other \
                 sites do not link to",
            ),
            Error::Configuration { reason } => {
                write!(f, "the session configuration cannot be used: {reason}")
            }
            Error::SealedValues { id } => write!(
                f,
                "the values of session {id} are sealed; change them in a request of its browser, or set \
                 `session.seal = false` for sessions that jobs have to change"
            ),
            Error::NotAttached => f.write_str(
                "no session fairing is attached; add `.attach(Sessions::fairing())`, or \
                 `.attach(Sessions::fairing_of::<K>())` for a further kind of session",
            ),
            Error::WrongTransport { call, needs } => write!(
                f,
                "`{call}` needs `transport = {needs:?}` in the section of the kind of session"
            ),
            Error::TokenNotIssued => f.write_str(
                "a bearer session got a new token that the request did not hand out, so nothing was \
                 stored; call `Session::issue_token` after `login`, `elevate`, `renew` and what \
                 creates a session",
            ),
            Error::UntrackedClient => f.write_str(
                "the local client did not keep the session cookie; make it with `Client::tracked`",
            ),
            Error::Randomness(reason) => {
                write!(f, "the operating system gave no random bytes: {reason}")
            }
        }
    }
}

/// The cause of an [`Error::Store`] where the database was reached and refused. Holds the server's
/// words.
#[derive(Debug)]
pub(crate) enum Denied {
    /// The user lacks a right.
    Right(String),
    /// The user or the password is wrong.
    Login(String),
}

impl Denied {
    /// Returns what is missing, for the error of an operation.
    fn advice(&self, operation: Operation) -> String {
        match self {
            Denied::Right(_) => format!(
                "the database user lacks a right; it needs {} on the session collection",
                operation.texts().1
            ),
            Denied::Login(_) => "the database refused the user or the password in \
                `databases.sessions.url`"
                .into(),
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Denied::Right(text) | Denied::Login(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Denied {}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Store { source, .. } => Some(source.as_ref()),
            Error::Unknown { source, .. } | Error::Encode { source, .. } => {
                source.as_ref().map(|source| source.as_ref() as _)
            }
            _ => None,
        }
    }
}

impl<'r> Responder<'r, 'static> for Error {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        // The guard that refused the request has logged why.
        if !matches!(self, Error::CrossSite) {
            self.log();
        }
        Err(self.status())
    }
}
