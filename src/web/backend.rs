//! Which store an application's sessions are kept in, and how it is opened at ignition.

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

/// The key of the database's address.
const URL: &str = "databases.sessions.url";

/// Connections, unless `max_connections` says otherwise: more than the driver's own 10, which
/// requests of a busy application would wait for.
const CONNECTIONS: u32 = 32;

/// Where the sessions are kept.
#[derive(Clone)]
pub(super) enum Backend {
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
pub(super) enum OpenError {
    Config(Box<figment::error::Error>),
    /// The application's own pool of this name is not there.
    NoPool(&'static str),
    Says(String, &'static str),
}

impl OpenError {
    pub(super) fn report(self) {
        match self {
            OpenError::Config(error) => config::report(*error),
            OpenError::NoPool(name) => {
                rocket::error!("Sessions: the database pool {name:?} is not attached");
                rocket::info_!("Attach it: `rocket.attach(Db::init())`.");
            }
            OpenError::Says(problem, remedy) => {
                rocket::error!("Sessions: {problem}");
                rocket::info_!("{remedy}");
            }
        }
    }

    /// A complaint about one key, which says where its value stands.
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
    pub(super) async fn open(
        &self,
        rocket: &Rocket<Build>,
        config: &Config,
        clock: &Clock,
    ) -> Result<Opened, OpenError> {
        let figment = rocket.figment();
        match self {
            Backend::Memory => Ok(memory(clock)),
            Backend::Store(store) => Ok(Opened {
                store: Arc::clone(store),
                warnings: Vec::new(),
            }),
            Backend::Toml => {
                if figment.contains(URL) {
                    return from_toml(figment, config).await;
                }
                if figment.profile() != rocket::Config::DEBUG_PROFILE {
                    return Err(OpenError::Says(
                        format!("`{URL}` is missing in the {} profile", figment.profile()),
                        "Set it in Rocket.toml: [default.databases.sessions] \
                         url = \"mongodb://host/database\"",
                    ));
                }
                rocket::warn!("No `{URL}`: sessions are kept in memory.");
                rocket::info_!("They end with this process; other profiles refuse to launch so.");
                Ok(memory(clock))
            }
            Backend::Collection(collection) => {
                let strength = WriteGuarantees::of(collection);
                strength.check("the collection's options", |problem| {
                    OpenError::Says(problem, "Give it a write concern of a majority, or none.")
                })?;
                Ok(Opened {
                    warnings: strength.warnings("the collection's options"),
                    store: mongo(collection, config, CONNECTIONS, true),
                })
            }
            Backend::Database { name, client } => {
                let client = client(rocket).ok_or(OpenError::NoPool(name))?;
                let url_key = format!("databases.{name}.url");
                let key = format!("databases.{name}.max_connections");
                // What rocket_db_pools gives a pool that says nothing.
                let workers = figment.extract_inner::<u32>("workers").unwrap_or(8);
                let connections = figment.extract_inner::<u32>(&key);
                let connections = connections.unwrap_or(workers.saturating_mul(4));
                let collection = in_client(&client, figment, config, &url_key)?;
                let strength = WriteGuarantees::of(&collection);
                let place = format!("`{url_key}`");
                strength.check(&place, |problem| {
                    OpenError::of_key(figment, &url_key, problem)
                })?;
                let mut warnings = strength.warnings(&place);
                // The client tells nothing of this itself.
                let mut may_repeat = true;
                if let Ok(url) = figment.extract_inner::<String>(&url_key)
                    && let Ok(options) = ClientOptions::parse(&url).await
                {
                    may_repeat = repeats(&options);
                    warnings.extend(exposures(&options));
                }
                Ok(Opened {
                    warnings,
                    store: mongo(&collection, config, connections, may_repeat),
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
    repeats: bool,
) -> Arc<dyn Store> {
    let (deadline, share) = (config.deadline, config.share);
    let store = MongoStore::new(collection, deadline, connections, share);
    Arc::new(match repeats {
        true => store,
        false => store.without_repeats(),
    })
}

/// Whether a write may be sent again.
fn repeats(options: &ClientOptions) -> bool {
    options.retry_writes != Some(false)
}

async fn from_toml(figment: &Figment, config: &Config) -> Result<Opened, OpenError> {
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
            OpenError::Config(Box::new(error))
        })?;
    let connections = u32::try_from(pool.max_connections).unwrap_or(u32::MAX);
    let refused = |error: mongodb::error::Error| {
        let problem = pool::without_credentials(&error, &pool.url);
        OpenError::of_key(figment, URL, problem)
    };
    let mut options = MongoPool::options(&pool).await.map_err(refused)?;
    // Nothing may start after the deadline, and choosing a server comes before anything. A little
    // before, so that a write which found none is known to have changed nothing.
    let patience = options.server_selection_timeout.unwrap_or(config.deadline);
    options.server_selection_timeout = Some(patience.min(config.deadline.mul_f64(0.9)));
    let connect = options.connect_timeout.unwrap_or(config.deadline);
    options.connect_timeout = Some(connect.min(config.deadline));
    let exposures = exposures(&options);
    let repeats = repeats(&options);
    let client = Client::with_options(options).map_err(refused)?;
    let collection = in_client(&client, figment, config, URL)?;
    let strength = WriteGuarantees::of(&collection);
    let place = format!("`{URL}`");
    strength.check(&place, |problem| OpenError::of_key(figment, URL, problem))?;
    let mut warnings = strength.warnings(&place);
    warnings.extend(exposures);
    Ok(Opened {
        store: mongo(&collection, config, connections, repeats),
        warnings,
    })
}

fn in_client(
    client: &Client,
    figment: &Figment,
    config: &Config,
    url_key: &str,
) -> Result<Collection<RawDocumentBuf>, OpenError> {
    let database = match &config.database {
        Some(name) => client.database(name),
        None => client.default_database().ok_or_else(|| {
            let problem = "it names no database, and `session.database` is not set; \
                           write mongodb://host:port/database";
            OpenError::of_key(figment, url_key, problem.to_owned())
        })?,
    };
    Ok(database.collection(&config.collection))
}

/// How sure a write of the collection is, and where it is read, as its address has it.
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

    /// Refuses what no promise can be kept with.
    fn check(&self, place: &str, refusal: impl Fn(String) -> OpenError) -> Result<(), OpenError> {
        match &self.concern {
            Some(concern) if concern.w == Some(Acknowledgment::Nodes(0)) => Err(refusal(format!(
                "`w=0` in {place}: no write would be acknowledged, so that nothing could be \
                 promised; leave it out, or say w=majority"
            ))),
            _ => Ok(()),
        }
    }

    /// What is weaker than the crate's own choice, by name.
    fn warnings(&self, place: &str) -> Vec<String> {
        let mut warnings = Vec::new();
        let concern = self.concern.as_ref();
        match concern.and_then(|concern| concern.w.clone()) {
            Some(Acknowledgment::Nodes(nodes)) => warnings.push(format!(
                "`w={nodes}` in {place}: an acknowledged login, logout or change can be lost when \
                 the primary fails; leave it out, or say w=majority"
            )),
            Some(Acknowledgment::Custom(name)) => warnings.push(format!(
                "`w={name}` in {place}: whether it covers a majority is not known here"
            )),
            _ => {}
        }
        if concern.and_then(|concern| concern.journal) == Some(false) {
            warnings.push(format!(
                "`journal=false` in {place}: an acknowledged change can be lost when a server \
                 fails; leave it out"
            ));
        }
        if let Some(SelectionCriteria::ReadPreference(preference)) = &self.criteria
            && !matches!(preference, ReadPreference::Primary)
        {
            warnings.push(format!(
                "`readPreference` in {place} is ignored: sessions are read from the primary, or a \
                 logout could be overlooked"
            ));
        }
        warnings
    }
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
             `tlsAllowInvalidCertificates`): whoever is on the way can be it; name its authority in \
             `tlsCAFile`",
        ),
        (
            is_remote && options.credential.is_none(),
            "the database is on another machine, without credentials; add a user to the URL",
        ),
        (
            !repeats(options),
            "`retryWrites=false` in the database's URL: every election and every lost connection \
             is a 503; leave it out",
        ),
    ];
    let warnings = warnings.into_iter().filter(|(is_so, _)| *is_so);
    warnings.map(|(_, warning)| warning.to_owned()).collect()
}
