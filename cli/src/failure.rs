//! Why a command failed, and its exit code.

use std::io::{self, ErrorKind, Write, stderr};
use std::process::ExitCode;

use rocket_mongo_session::Error;

/// A promise of the deployment is broken, or the session does not exist.
pub const NO: u8 = 1;
/// The arguments are wrong (`EX_USAGE`; clap's own 2 would be the database's).
pub const USAGE: u8 = 64;

/// The exit codes, as `--help` shows them.
pub const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    a promise is broken (doctor), or the session does not exist (show, revoke ID)
  2    the database cannot be reached or refuses, or doctor had no time; what was done stays done
  3    the configuration is invalid or names no database
  4    nothing was ended: the question was not answered with yes, and --yes was not given
  64   the arguments are wrong
  130  interrupted by Ctrl-C, after the batch that was running; the same command continues";

#[derive(Debug)]
pub enum Failure {
    Usage(String),
    Configuration(String),
    Database(String),
    Declined(String),
    NotFound(String),
    Interrupted(String),
    Output(io::Error),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => USAGE,
            Failure::Configuration(_) => 3,
            Failure::Database(_) => 2,
            Failure::Declined(_) => 4,
            Failure::NotFound(_) => NO,
            Failure::Interrupted(_) => 130,
            // `… | head` has read enough.
            Failure::Output(error) if error.kind() == ErrorKind::BrokenPipe => 0,
            Failure::Output(_) => 2,
        }
    }

    /// Tells it on stderr.
    pub fn report(self) -> ExitCode {
        let code = self.code();
        // The terminal may have been closed, which is not worth a panic.
        let _ = match &self {
            Failure::Output(error) if code != 0 => writeln!(stderr(), "error: {error}"),
            Failure::Output(_) => Ok(()),
            Failure::NotFound(text) | Failure::Interrupted(text) => writeln!(stderr(), "{text}"),
            Failure::Usage(text)
            | Failure::Configuration(text)
            | Failure::Database(text)
            | Failure::Declined(text) => writeln!(stderr(), "error: {text}"),
        };
        ExitCode::from(code)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Failure::Output(error.into())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Configuration { reason, .. } => Failure::Configuration(reason),
            Error::BadUser => Failure::Usage(
                "--user: no login can have this user (null, or longer than a user may be)".into(),
            ),
            error => Failure::Database(with_causes(&error)),
        }
    }
}

/// An error and its causes, in one line.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text.replace('\n', " ")
}
