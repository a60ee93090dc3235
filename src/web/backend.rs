//! The backend: where sessions are stored, and how that store is opened at ignition.

use std::sync::Arc;

use mongodb::bson::RawDocumentBuf;
use mongodb::options::{
    Acknowledgment, ClientOptions, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection};
use rocket::figment::providers::Serialized;
use rocket::figment::{self, Figment};
use rocket::{Build, Rocket};
use rocket_db_pools::Config as PoolConfig;

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::store::mongo::MongoStore;
use crate::web::pool::{self, MongoPool};

const URL_KEY: &str = "databases.sessions.url";

/// The default of `max_connections`. The driver's own default of 10 makes requests of a busy
/// application wait.
const DEFAULT_CONNECTIONS: u32 = 32;

/// Where sessions are stored.
#[derive(Clone)]
pub(super) enum Backend {
    /// As Rocket.toml says: in `databases.sessions`, or in memory.
    Toml,
    /// In a collection of the application's own client.
    Collection(Collection<RawDocumentBuf>),
    /// In the application's own database pool.
    Database {
        name: &'static str,
        client: fn(&Rocket<Build>) -> Option<Client>,
    },
    Memory,
    #[cfg(feature = "unstable-store")]
    Store(Arc<dyn Store>),
}

pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    /// Logged at launch in every profile but debug.
    pub(super) warnings: Vec<String>,
}

/// Why the store could not be opened.
pub(super) enum OpenError {
    /// A bad value or key of the configuration.
    Config(Box<figment::error::Error>),
    /// The application's database pool of this name is not attached.
    NoPool(&'static str),
    /// Another problem, and what to do about it.
    Other(String, &'static str),
}

impl OpenError {
    /// Writes the error to the log.
    pub(super) fn report(self) {
        match self {
            OpenError::Config(error) => config::report(*error),
            OpenError::NoPool(name) => {
                rocket::error!("Sessions: the database pool {name:?} is not attached");
                rocket::info_!("Attach it: `rocket.attach(Db::init())`.");
            }
            OpenError::Other(problem, remedy) => {
                rocket::error!("Sessions: {problem}");
                rocket::info_!("{remedy}");
            }
        }
    }

    /// Makes an error about one key, which names the profile and file that its value comes from.
    fn of_key(figment: &Figment, key: &str, problem: String) -> Self {
        let mut error = figment::error::Error::from(problem);
        error.profile = Some(figment.profile().clone());
        if let Ok(value) = figment.find_value(key) {
            error.profile = value.tag().profile().or(error.profile);
            error.metadata = figment.get_metadata(value.tag()).cloned();
        }
        error.path = key.split('.').map(str::to_owned).collect();
        OpenError::Config(Box::new(error))
    }
}

impl Backend {
    /// Opens the store. Connects to nothing: the database may be down at launch.
    pub(super) async fn open(
        &self,
        rocket: &Rocket<Build>,
        config: &Config,
        clock: &Clock,
    ) -> Result<Opened, OpenError> {
        let figment = rocket.figment();
        refuse_plural_section(figment)?;
        match self {
            Backend::Memory => Ok(memory(clock)),
            #[cfg(feature = "unstable-store")]
            Backend::Store(store) => Ok(Opened {
                store: Arc::clone(store),
                warnings: Vec::new(),
            }),
            Backend::Toml => {
                if figment.contains(URL_KEY) {
                    return from_toml(figment, config).await;
                }
                if figment.profile() != rocket::Config::DEBUG_PROFILE {
                    return Err(OpenError::Other(
                        format!(
                            "`{URL_KEY}` is missing in the {} profile",
                            figment.profile()
                        ),
                        "Set it in Rocket.toml: [default.databases.sessions] \
                         url = \"mongodb://host/database\"",
                    ));
                }
                rocket::warn!("Sessions: `{URL_KEY}` is not set, so sessions are kept in memory");
                rocket::info_!("They end with this process. Other profiles refuse to launch.");
                Ok(memory(clock))
            }
            Backend::Collection(collection) => {
                let guarantees = WriteGuarantees::of(collection);
                guarantees.check("the collection's options", |problem| {
                    OpenError::Other(problem, "Give it a majority write concern, or none.")
                })?;
                Ok(Opened {
                    warnings: guarantees.warnings("the collection's options"),
                    store: mongo(collection, config, DEFAULT_CONNECTIONS, true),
                })
            }
            Backend::Database { name, client } => {
                let client = client(rocket).ok_or(OpenError::NoPool(name))?;
                let url_key = format!("databases.{name}.url");
                let key = format!("databases.{name}.max_connections");
                // The default of rocket_db_pools.
                let workers = figment.extract_inner::<u32>("workers").unwrap_or(8);
                let connections = figment.extract_inner::<u32>(&key);
                let connections = connections.unwrap_or(workers.saturating_mul(4));
                let collection = in_client(&client, figment, config, &url_key)?;
                let guarantees = WriteGuarantees::of(&collection);
                let place = format!("`{url_key}`");
                guarantees.check(&place, |problem| {
                    OpenError::of_key(figment, &url_key, problem)
                })?;
                let mut warnings = guarantees.warnings(&place);
                // A client does not tell its own options, so they are read from the URL again.
                let mut retry_writes = true;
                if let Ok(url) = figment.extract_inner::<String>(&url_key)
                    && let Ok(options) = ClientOptions::parse(&url).await
                {
                    retry_writes = has_retryable_writes(&options);
                    warnings.extend(url_warnings(&options));
                }
                Ok(Opened {
                    warnings,
                    store: mongo(&collection, config, connections, retry_writes),
                })
            }
        }
    }
}

fn memory(clock: &Clock) -> Opened {
    Opened {
        store: Arc::new(MemoryStore::with_clock(clock)),
        warnings: Vec::new(),
    }
}

fn mongo(
    collection: &Collection<RawDocumentBuf>,
    config: &Config,
    connections: u32,
    retry_writes: bool,
) -> Arc<dyn Store> {
    let (deadline, share) = (config.deadline, config.share);
    let store = MongoStore::new(collection, deadline, connections, share);
    Arc::new(if retry_writes {
        store
    } else {
        store.without_repeats()
    })
}

/// A section `[*.sessions]` is a slip of the pen: no key of it would be read.
fn refuse_plural_section(figment: &Figment) -> Result<(), OpenError> {
    if !figment.contains("sessions") {
        return Ok(());
    }
    let problem = "no such section; the keys of sessions belong into `[default.session]`, and the \
                   database's URL into `[default.databases.sessions]`";
    Err(OpenError::of_key(figment, "sessions", problem.to_owned()))
}

fn has_retryable_writes(options: &ClientOptions) -> bool {
    options.retry_writes != Some(false)
}

async fn from_toml(figment: &Figment, config: &Config) -> Result<Opened, OpenError> {
    const SECTION: &str = "databases.sessions";
    let pool: PoolConfig = figment
        .focus(SECTION)
        // Joined as defaults: every file wins over them.
        .join(Serialized::default("max_connections", DEFAULT_CONNECTIONS))
        .join(Serialized::default("connect_timeout", 5))
        .extract()
        .map_err(|mut error: figment::error::Error| {
            // Focusing removed the section's name from the error's path.
            error
                .path
                .splice(0..0, SECTION.split('.').map(str::to_owned));
            OpenError::Config(Box::new(error))
        })?;
    let connections = u32::try_from(pool.max_connections).unwrap_or(u32::MAX);
    let bad_url = |error: mongodb::error::Error| {
        let problem = pool::without_credentials(&error, &pool.url);
        OpenError::of_key(figment, URL_KEY, problem)
    };
    let mut options = MongoPool::options(&pool).await.map_err(bad_url)?;
    // Selecting a server ends before the deadline, so that a write which found none is known to have
    // changed nothing.
    let selection = options.server_selection_timeout.unwrap_or(config.deadline);
    options.server_selection_timeout = Some(selection.min(config.deadline.mul_f64(0.9)));
    let connect = options.connect_timeout.unwrap_or(config.deadline);
    options.connect_timeout = Some(connect.min(config.deadline));
    let url_warnings = url_warnings(&options);
    let retry_writes = has_retryable_writes(&options);
    let client = Client::with_options(options).map_err(bad_url)?;
    let collection = in_client(&client, figment, config, URL_KEY)?;
    let guarantees = WriteGuarantees::of(&collection);
    let place = format!("`{URL_KEY}`");
    guarantees.check(&place, |problem| {
        OpenError::of_key(figment, URL_KEY, problem)
    })?;
    let mut warnings = guarantees.warnings(&place);
    warnings.extend(url_warnings);
    Ok(Opened {
        store: mongo(&collection, config, connections, retry_writes),
        warnings,
    })
}

/// Returns the configured collection: in `session.database`, or else in the database of the URL.
fn in_client(
    client: &Client,
    figment: &Figment,
    config: &Config,
    url_key: &str,
) -> Result<Collection<RawDocumentBuf>, OpenError> {
    let database = match &config.database {
        Some(name) => client.database(name),
        None => client.default_database().ok_or_else(|| {
            let url = figment.extract_inner::<String>(url_key).unwrap_or_default();
            OpenError::of_key(figment, url_key, missing_database(&url))
        })?,
    };
    Ok(database.collection(&config.collection))
}

fn missing_database(url: &str) -> String {
    let form = if url.starts_with("mongodb+srv://") {
        "mongodb+srv://host/database"
    } else {
        "mongodb://host:port/database"
    };
    format!("it names no database; write {form}, or set `session.database`")
}

/// The write concern and read preference that are configured on the collection.
struct WriteGuarantees {
    concern: Option<WriteConcern>,
    criteria: Option<SelectionCriteria>,
}

impl WriteGuarantees {
    fn of(collection: &Collection<RawDocumentBuf>) -> Self {
        WriteGuarantees {
            concern: collection.write_concern().cloned(),
            criteria: collection.selection_criteria().cloned(),
        }
    }

    /// Refuses unacknowledged writes.
    fn check(&self, place: &str, refusal: impl Fn(String) -> OpenError) -> Result<(), OpenError> {
        match &self.concern {
            Some(concern) if concern.w == Some(Acknowledgment::Nodes(0)) => Err(refusal(format!(
                "`w=0` in {place}: writes would not be acknowledged, and could be lost without an \
                 error; remove it, or set w=majority"
            ))),
            _ => Ok(()),
        }
    }

    /// Returns a warning for each option that is weaker than the crate's own choice.
    fn warnings(&self, place: &str) -> Vec<String> {
        let mut warnings = Vec::new();
        let concern = self.concern.as_ref();
        match concern.and_then(|concern| concern.w.clone()) {
            Some(Acknowledgment::Nodes(nodes)) => warnings.push(format!(
                "`w={nodes}` in {place}: an acknowledged login, logout or change can be lost when \
                 the primary fails; remove it, or set w=majority"
            )),
            Some(Acknowledgment::Custom(name)) => warnings.push(format!(
                "`w={name}` in {place}: make sure that this write concern covers a majority"
            )),
            _ => {}
        }
        if concern.and_then(|concern| concern.journal) == Some(false) {
            warnings.push(format!(
                "`journal=false` in {place}: an acknowledged change can be lost when a server \
                 fails; remove it"
            ));
        }
        if let Some(SelectionCriteria::ReadPreference(preference)) = &self.criteria
            && !matches!(preference, ReadPreference::Primary)
        {
            warnings.push(format!(
                "`readPreference` in {place} is ignored: sessions are always read from the primary, \
                 because a secondary may not know of a logout yet"
            ));
        }
        warnings
    }
}

/// Returns a warning for each option of the URL that exposes the database or weakens writes.
fn url_warnings(options: &ClientOptions) -> Vec<String> {
    use mongodb::options::{ServerAddress, Tls};
    let is_remote = options.hosts.iter().any(|host| match host {
        ServerAddress::Tcp { host, .. } => {
            let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            host != "localhost" && !address.is_ok_and(|address| address.is_loopback())
        }
        _ => false,
    });
    let unchecked = matches!(&options.tls, Some(Tls::Enabled(tls))
        if tls.allow_invalid_certificates == Some(true));
    let is_plain = !matches!(options.tls, Some(Tls::Enabled(_)));
    let warnings = [
        (
            is_remote && is_plain,
            "the database is on another machine, without TLS; add tls=true",
        ),
        (
            unchecked,
            "the database's certificate is not checked (`tlsInsecure`, \
             `tlsAllowInvalidCertificates`), so anybody on the network can pose as the database; name \
             its certificate authority in `tlsCAFile`",
        ),
        (
            is_remote && options.credential.is_none(),
            "the database is on another machine, without credentials; add a user to the URL",
        ),
        (
            !has_retryable_writes(options),
            "`retryWrites=false` in the database's URL: a write during an election or on a lost \
             connection is not repeated, and its request is answered with 503; remove it if the \
             database supports retryable writes",
        ),
    ];
    let warnings = warnings.into_iter().filter(|(applies, _)| *applies);
    warnings.map(|(_, warning)| warning.to_owned()).collect()
}

#[cfg(test)]
mod tests;
