//! What can go wrong, said so that whoever reads it knows what to do next.

use std::fmt;
use std::sync::Arc;

use rocket::http::Status;
use rocket::request::Request;
use rocket::response::{self, Responder};

/// A `Result` whose error is this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause of an error, kept whole and shared, so that an [`Error`] can be cloned.
pub type Cause = Arc<dyn std::error::Error + Send + Sync + 'static>;

/// Everything that a call of this crate can fail with.
///
/// No variant holds a token, a hash or a stored value, so an error can be logged as it is. As a
/// [`Responder`] an error logs itself and answers with its [`status`](Error::status), so that the
/// application's catchers speak: a handler may simply use `?`.
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
    /// The store could not be asked, or refused. Nothing is known to have changed.
    Store {
        /// What was being done, as "loading a session".
        doing: &'static str,
        /// What the store said.
        source: Cause,
    },
    /// An operation did not end within the configured `deadline`, or its outcome is unknown for
    /// another reason (a handler that dropped its `save` half-way): it may take effect later, all
    /// of it or nothing of it.
    Unknown {
        /// What was being done.
        doing: &'static str,
        /// What the store said, when it said anything.
        source: Option<Cause>,
    },
    /// The session ended while the request ran (logged out, revoked or expired), and the change
    /// was dropped: a session that ended is never brought back.
    Gone,
    /// The answer was committed already; a change made after it (in a stream) cannot be kept.
    /// Call [`save`](crate::Session::save) before the stream starts.
    Sealed,
    /// The name cannot be a key: it is empty or contains NUL.
    BadKey,
    /// The stored value is not of the type asked for. It was left as it is.
    Decode {
        /// The key, as the application names it.
        key: String,
        /// The type asked for.
        wanted: &'static str,
        /// What is stored, in BSON's terms.
        found: &'static str,
    },
    /// The value cannot be stored in the configured `encoding`.
    Encode {
        /// The key, as the application names it.
        key: String,
        /// Why not, and what would help.
        reason: &'static str,
    },
    /// The session's data would grow past the configured `max_bytes`.
    TooLarge {
        /// The limit, in bytes of the stored data.
        limit: usize,
    },
    /// [`increment`](crate::Session::increment) would leave the range of `i64`, or
    /// [`push`](crate::Session::push) or `increment` met a value that is no array or integer.
    Mismatch {
        /// The key, as the application names it.
        key: String,
        /// What does not fit.
        reason: &'static str,
    },
    /// A principal that cannot be one: null, or longer than 8 KiB.
    BadUser,
    /// A duration that cannot be a timeout or a cookie's life: zero or longer than 400 days for a
    /// cookie, zero or beyond the calendar for a timeout.
    BadDuration,
    /// A cross-site request with an unsafe method was refused (`trusted_origins` allows some).
    CrossSite,
    /// No session fairing is attached: `rocket.attach(Sessions::fairing())`.
    NotAttached,
    /// The operating system gave no random bytes.
    Randomness(String),
}

impl Error {
    /// The status that an error answers with: 503 for the store, 403 for a cross-site request,
    /// 500 otherwise.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Error::Store { .. } | Error::Unknown { .. } | Error::Randomness(_) => {
                Status::ServiceUnavailable
            }
            Error::CrossSite => Status::Forbidden,
            _ => Status::InternalServerError,
        }
    }

    /// For stores of others: an operation that failed and surely changed nothing.
    pub fn store(
        doing: &'static str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Error::Store {
            doing,
            source: Arc::new(source),
        }
    }

    /// For stores of others: an operation of which nobody knows whether it took effect.
    pub fn unknown(
        doing: &'static str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Error::Unknown {
            doing,
            source: Some(Arc::new(source)),
        }
    }

    /// A write that its caller dropped before it had ended.
    pub(crate) fn left() -> Self {
        Error::unknown("changing a session", Left)
    }

    /// Writes the error and its causes to the log, in one line each.
    pub(crate) fn log(&self) {
        rocket::error!("Session: {self}.");
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            rocket::error_!("caused by: {cause}");
            source = cause.source();
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Store { doing, .. } => {
                write!(f, "{doing} failed: the session store could not be asked")
            }
            Error::Unknown {
                doing,
                source: None,
            } => write!(
                f,
                "{doing} did not end within `session.deadline`; it may still take effect"
            ),
            Error::Unknown { doing, .. } => {
                write!(
                    f,
                    "{doing} failed with an unknown outcome; it may have taken effect"
                )
            }
            Error::Gone => {
                f.write_str("the session ended while the request ran; its changes were dropped")
            }
            Error::Sealed => f.write_str(
                "the answer was committed already; call `Session::save` before a stream starts",
            ),
            Error::BadKey => f.write_str("a session key must not be empty or contain NUL"),
            Error::Decode { key, wanted, found } => write!(
                f,
                "the session's value of {key:?} is {found}, which cannot be read as `{wanted}`"
            ),
            Error::Encode { key, reason } => {
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
                "a session's timeout must be longer than zero, and a cookie's life between one \
                 second and 400 days",
            ),
            Error::CrossSite => f.write_str(
                "a cross-site request was refused; list its origin in `session.trusted_origins` \
                 if it may change sessions",
            ),
            Error::NotAttached => {
                f.write_str("no session fairing is attached; add `.attach(Sessions::fairing())`")
            }
            Error::Randomness(reason) => {
                write!(f, "the operating system gave no random bytes: {reason}")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Store { source, .. } => Some(source.as_ref()),
            Error::Unknown { source, .. } => source.as_ref().map(|source| source.as_ref() as _),
            _ => None,
        }
    }
}

/// Names a cause that no library's error describes: a type with one text.
macro_rules! cause {
    ($name:ident, $text:literal) => {
        #[derive(Debug)]
        struct $name;

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str($text)
            }
        }

        impl std::error::Error for $name {}
    };
}
pub(crate) use cause;

cause!(
    Left,
    "the handler dropped a `save`, `modify` or pop before it had ended"
);

impl<'r> Responder<'r, 'static> for Error {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        self.log();
        Err(self.status())
    }
}
