//! The doctor's own client.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rocket::tokio::time::timeout;
use rocket_mongo_session::mongodb::bson::{Document, doc};
use rocket_mongo_session::mongodb::error::{Error, ErrorKind, WriteFailure};
use rocket_mongo_session::mongodb::event::EventHandler;
use rocket_mongo_session::mongodb::event::cmap::CmapEvent;
use rocket_mongo_session::mongodb::options::{ClientOptions, ServerAddress, Tls};
use rocket_mongo_session::mongodb::{Client, Database};

use super::report::Outcome;
use crate::failure::{Failure, with_causes};

/// How long the doctor waits for a server.
const PATIENCE: Duration = Duration::from_secs(10);
/// No command of a check takes longer, whatever the network does.
pub const COMMAND: Duration = Duration::from_secs(15);
/// As many connections as an application has where Rocket.toml says nothing.
const POOL: u32 = 32;

pub struct Connection {
    pub client: Client,
    pub options: ClientOptions,
    /// Connections that have been made, with their login, and those that failed.
    pub ready: Arc<AtomicU32>,
    /// `retryWrites=false` in the URL.
    pub is_unnumbered: bool,
}

/// Opens a client. Connects to nothing yet.
pub async fn open(url: &str) -> Result<Connection, Failure> {
    // Its errors quote no credentials.
    rocket_mongo_session::parse_url(url).map_err(Failure::Configuration)?;
    let invalid = |error: Error| {
        Failure::Configuration(format!("the database's URL: {}", with_causes(&error)))
    };
    let parsed = timeout(COMMAND, ClientOptions::parse(url)).await;
    let late = |_| Failure::Database("the name of the database's host was not resolved".to_owned());
    let mut options = parsed.map_err(late)?.map_err(invalid)?;
    let ready = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&ready);
    options.app_name = Some("rocket-mongo-session".to_owned());
    for limit in [
        &mut options.server_selection_timeout,
        &mut options.connect_timeout,
    ] {
        *limit = Some(limit.unwrap_or(PATIENCE).min(PATIENCE));
    }
    options.max_pool_size = Some(options.max_pool_size.unwrap_or(POOL).max(2));
    options.cmap_event_handler = Some(EventHandler::callback(move |event| {
        if let CmapEvent::ConnectionReady(_) = event {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }));
    Ok(Connection {
        client: Client::with_options(options.clone()).map_err(invalid)?,
        is_unnumbered: options.retry_writes == Some(false),
        options,
        ready,
    })
}

impl Connection {
    /// Returns the database that the URL names.
    pub fn database(&self) -> Result<Database, Failure> {
        self.client.default_database().ok_or_else(|| {
            let text = "the URL names no database; write mongodb://host:port/database";
            Failure::Configuration(text.to_owned())
        })
    }

    /// Asks the server who it is: the first thing that needs a connection.
    pub async fn hello(&self) -> Result<Document, Failure> {
        let admin = self.client.database("admin");
        let hello = timeout(COMMAND, admin.run_command(doc! { "hello": 1 })).await;
        let hello = match hello {
            Ok(Ok(hello)) => hello,
            Ok(Err(error)) => {
                return Err(Failure::Database(format!(
                    "cannot connect: {}",
                    with_causes(&error)
                )));
            }
            Err(_) => return Err(Failure::Database("cannot connect: no reply".to_owned())),
        };
        Ok(hello)
    }

    /// The servers of the URL, without credentials.
    pub fn hosts(&self) -> String {
        let hosts = self.options.hosts.iter().map(ToString::to_string);
        hosts.collect::<Vec<_>>().join(",")
    }

    pub fn has_tls(&self) -> bool {
        matches!(self.options.tls, Some(Tls::Enabled(_)))
    }

    /// Whether all servers are on this machine.
    pub fn is_local(&self) -> bool {
        self.options.hosts.iter().all(|host| match host {
            ServerAddress::Tcp { host, .. } => {
                host == "localhost"
                    || host
                        .parse::<std::net::IpAddr>()
                        .is_ok_and(|ip| ip.is_loopback())
            }
            _ => true, // a socket of this machine
        })
    }

    /// The connections of the doctor's pool.
    pub fn pool_size(&self) -> u32 {
        self.options.max_pool_size.unwrap_or(POOL)
    }
}

/// Runs a command, for `COMMAND` at most; on failure its code and text.
pub async fn ask(database: &Database, command: Document) -> Result<Document, Refused> {
    reply(database.run_command(command).into_future()).await
}

/// Waits for the reply to a call, for `COMMAND` at most.
pub async fn reply<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Refused> {
    match timeout(COMMAND, call).await {
        Ok(reply) => reply.map_err(|error| Refused::of(&error)),
        Err(_) => Err(Refused {
            code: None,
            text: format!("no reply in {} s", COMMAND.as_secs()),
        }),
    }
}

/// Why a command was not carried out.
#[derive(Clone, Debug)]
pub struct Refused {
    pub code: Option<i32>,
    pub text: String,
}

impl Refused {
    fn of(error: &Error) -> Self {
        let text = match error.kind.as_ref() {
            ErrorKind::Command(error) => error.message.clone(),
            _ => with_causes(error),
        };
        Refused {
            code: code(error),
            text: text.replace('\n', " "),
        }
    }

    pub fn is_unauthorized(&self) -> bool {
        self.code == Some(13)
    }

    /// The outcome of a check whose command was refused.
    pub fn outcome(&self) -> Outcome {
        match self.is_unauthorized() {
            true => Outcome::NotTried,
            false => Outcome::Broken,
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.code {
            Some(code) => write!(f, "refused with code {code}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// The code that the server refused with.
pub fn code(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(error) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => Some(error.code),
        _ => None,
    }
}
