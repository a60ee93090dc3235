//! Which store an application's sessions are kept in, and how it is opened at ignition.

use std::sync::Arc;

use mongodb::bson::RawDocumentBuf;
use mongodb::options::{Acknowledgment, ClientOptions, ReadPreference, SelectionCriteria};
use mongodb::{Client, Collection};
use rocket::figment::providers::Serialized;
use rocket::figment::{self, Figment};
use rocket::{Build, Rocket};
use rocket_db_pools::Config as PoolConfig;

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::pool::MongoPool;
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::store::mongo::MongoStore;

/// Connections, unless `max_connections` says otherwise: more than the driver's own 10, which
/// requests of a busy application would wait for.
const CONNECTIONS: u32 = 32;

/// Where the store comes from.
#[derive(Clone)]
pub(super) enum Origin {
    Toml,
    Collection(Collection<RawDocumentBuf>),
    Database {
        name: &'static str,
        client: fn(&Rocket<Build>) -> Option<Client>,
    },
    Memory,
    Store(Arc<dyn Store>),
}

pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    /// What is dangerous outside the debug profile.
    pub(super) warnings: Vec<String>,
}

/// Why a store could not be opened.
pub(super) enum Refusal {
    Config(Box<figment::error::Error>),
    Says(String, &'static str),
}

impl Refusal {
    pub(super) fn report(self) {
        match self {
            Refusal::Config(error) => config::report(*error),
            Refusal::Says(problem, remedy) => {
                rocket::error!("Sessions: {problem}");
                rocket::info_!("{remedy}");
            }
        }
    }
}

impl Origin {
    pub(super) async fn open(
        &self,
        rocket: &Rocket<Build>,
        config: &Config,
        clock: &Clock,
    ) -> Result<Opened, Refusal> {
        let is_debug = rocket.figment().profile() == rocket::Config::DEBUG_PROFILE;
        match self {
            Origin::Memory => Ok(memory(clock)),
            Origin::Store(store) => Ok(Opened {
                store: Arc::clone(store),
                warnings: Vec::new(),
            }),
            Origin::Toml => {
                if rocket.figment().contains("databases.sessions.url") {
                    return from_toml(rocket.figment(), config).await;
                }
                if !is_debug {
                    return Err(Refusal::Says(
                        format!(
                            "`databases.sessions.url` is missing in the {} profile",
                            rocket.figment().profile()
                        ),
                        "Set it in Rocket.toml: [default.databases.sessions] \
                         url = \"mongodb://host/database\"",
                    ));
                }
                rocket::warn!("No `databases.sessions.url`: sessions are kept in memory.");
                rocket::info_!("They end with this process; other profiles refuse to launch so.");
                Ok(memory(clock))
            }
            Origin::Collection(collection) => Ok(Opened {
                warnings: weaknesses(
                    collection
                        .write_concern()
                        .and_then(|concern| concern.w.clone()),
                    collection.selection_criteria(),
                ),
                store: mongo(collection, config, CONNECTIONS),
            }),
            Origin::Database { name, client } => {
                let client = client(rocket).ok_or_else(|| {
                    Refusal::Says(
                        format!("the database pool {name:?} is not attached"),
                        "Attach it: `rocket.attach(Db::init())`.",
                    )
                })?;
                let key = format!("databases.{name}.max_connections");
                // What rocket_db_pools gives a pool that says nothing.
                let workers = rocket
                    .figment()
                    .extract_inner::<u32>("workers")
                    .unwrap_or(8);
                let connections = rocket.figment().extract_inner::<u32>(&key);
                let connections = connections.unwrap_or(workers.saturating_mul(4));
                let collection = in_client(&client, config)?;
                Ok(Opened {
                    warnings: weaknesses(
                        collection
                            .write_concern()
                            .and_then(|concern| concern.w.clone()),
                        collection.selection_criteria(),
                    ),
                    store: mongo(&collection, config, connections),
                })
            }
        }
    }
}

fn memory(clock: &Clock) -> Opened {
    Opened {
        store: Arc::new(MemoryStore::with_clock(clock.clone())),
        warnings: Vec::new(),
    }
}

fn mongo(
    collection: &Collection<RawDocumentBuf>,
    config: &Config,
    connections: u32,
) -> Arc<dyn Store> {
    Arc::new(MongoStore::new(
        collection,
        config.deadline,
        connections,
        config.share,
    ))
}

async fn from_toml(figment: &Figment, config: &Config) -> Result<Opened, Refusal> {
    const SECTION: &str = "databases.sessions";
    let pool: PoolConfig = figment
        .focus(SECTION)
        // As defaults: a bare pair is of the global profile, which every file yields to.
        .join(Serialized::default("max_connections", CONNECTIONS))
        .join(Serialized::default("connect_timeout", 5))
        .extract()
        .map_err(|mut error: figment::error::Error| {
            // Focusing dropped the section's name from the error's path.
            error
                .path
                .splice(0..0, SECTION.split('.').map(str::to_owned));
            Refusal::Config(Box::new(error))
        })?;
    let connections = u32::try_from(pool.max_connections).unwrap_or(u32::MAX);
    let remedy = "It is `databases.sessions.url`, as mongodb://host:port/database.";
    let options = MongoPool::options(&pool).await.map_err(|error| {
        Refusal::Says(without_credentials(&error.to_string(), &pool.url), remedy)
    })?;
    let mut options = options;
    // Nothing may start after the deadline, and choosing a server comes before anything. A little
    // before, so that a write which found none is known to have changed nothing.
    let patience = options.server_selection_timeout.unwrap_or(config.deadline);
    options.server_selection_timeout = Some(patience.min(config.deadline.mul_f64(0.9)));
    let connect = options.connect_timeout.unwrap_or(config.deadline);
    options.connect_timeout = Some(connect.min(config.deadline));
    let mut warnings = weaknesses(
        options
            .write_concern
            .as_ref()
            .and_then(|concern| concern.w.clone()),
        options.selection_criteria.as_ref(),
    );
    warnings.extend(exposures(&options));
    let client = Client::with_options(options).map_err(|error| {
        Refusal::Says(without_credentials(&error.to_string(), &pool.url), remedy)
    })?;
    let collection = in_client(&client, config)?;
    Ok(Opened {
        store: mongo(&collection, config, connections),
        warnings,
    })
}

fn in_client(client: &Client, config: &Config) -> Result<Collection<RawDocumentBuf>, Refusal> {
    let database = match &config.database {
        Some(name) => client.database(name),
        None => client.default_database().ok_or_else(|| {
            Refusal::Says(
                "the URL names no database, and `session.database` is not set".into(),
                "Name one: mongodb://host:port/database, or [default.session] database = \"…\"",
            )
        })?,
    };
    Ok(database.collection(&config.collection))
}

/// What the address makes weaker than the crate's own choice, by name.
fn weaknesses(
    acknowledgment: Option<Acknowledgment>,
    criteria: Option<&SelectionCriteria>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    match acknowledgment {
        Some(Acknowledgment::Nodes(nodes)) => warnings.push(format!(
            "`w={nodes}` in the database's URL: an acknowledged login, logout or change can be \
             lost when the primary fails; leave it out, or say w=majority."
        )),
        Some(Acknowledgment::Custom(name)) => warnings.push(format!(
            "`w={name}` in the database's URL: whether it covers a majority is not known here."
        )),
        _ => {}
    }
    if let Some(SelectionCriteria::ReadPreference(preference)) = criteria
        && !matches!(preference, ReadPreference::Primary)
    {
        warnings.push(
            "`readPreference` in the database's URL is ignored: sessions are read from the \
             primary, or a logout could be overlooked."
                .to_owned(),
        );
    }
    warnings
}

/// A server elsewhere that anybody on the way could read, or write to.
fn exposures(options: &ClientOptions) -> Vec<String> {
    use mongodb::options::{ServerAddress, Tls};
    let is_remote = options.hosts.iter().any(|host| match host {
        ServerAddress::Tcp { host, .. } => {
            let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            host != "localhost" && !address.is_ok_and(|address| address.is_loopback())
        }
        _ => false,
    });
    let mut warnings = Vec::new();
    if is_remote && !matches!(options.tls, Some(Tls::Enabled(_))) {
        warnings.push("the database is on another machine, without TLS; add tls=true.".to_owned());
    }
    if is_remote && options.credential.is_none() {
        warnings.push(
            "the database is on another machine, without credentials; add a user to the URL."
                .to_owned(),
        );
    }
    warnings
}

/// An error's text, unless it quotes what stands between the scheme and the host.
fn without_credentials(text: &str, url: &str) -> String {
    let credentials = url
        .split_once("://")
        .and_then(|(_, rest)| rest.rsplit_once('@'))
        .map_or("", |(credentials, _)| credentials);
    let quotes = credentials
        .split(':')
        .any(|part| !part.is_empty() && text.contains(part));
    if quotes {
        "the URL cannot be used (its text is not repeated, because it holds credentials)".into()
    } else {
        format!("the URL cannot be used: {text}")
    }
}
