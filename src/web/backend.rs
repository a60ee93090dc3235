//! The backend: where sessions are stored, and how that store is opened at ignition.

use std::fmt;
use std::sync::Arc;

use mongodb::Collection;
use mongodb::bson::RawDocumentBuf;
use mongodb::options::{
    Acknowledgment, ConnectionString, ReadPreference, SelectionCriteria, WriteConcern,
};
use rocket::figment::{self, Figment};
use rocket::tokio::time::timeout;
use rocket::{Build, Rocket};

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::stats::ConnectionCounters;
use crate::store::Store;
use crate::store::deferred::{Deferred, Source};
use crate::store::memory::MemoryStore;
use crate::store::mongo::MongoStore;
use crate::web::pool::{MongoPool, PoolConfig, Settings, url};

const SECTION: &str = "databases.sessions";
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
        find_pool: fn(&Rocket<Build>) -> Option<MongoPool>,
    },
    Memory,
    #[cfg(feature = "unstable-store")]
    Store(Arc<dyn Store>),
}

pub(super) struct Opened {
    pub(super) store: Source,
    /// `database.collection`, or `None` in memory.
    pub(super) namespace: Option<String>,
    /// Logged at launch in every profile but debug.
    pub(super) warnings: Vec<String>,
    /// The settings of the connection pool, for the launch output.
    pub(super) pool_line: Option<String>,
    pub(super) connections: Arc<ConnectionCounters>,
}

impl Opened {
    fn new(store: Source) -> Self {
        Opened {
            store,
            namespace: None,
            warnings: Vec::new(),
            pool_line: None,
            connections: Arc::default(),
        }
    }

    /// A store in MongoDB. `pool` is `None` for a client that the application made itself.
    fn in_mongo(
        store: Source,
        namespace: String,
        warnings: Vec<String>,
        pool: Option<&PoolConfig>,
    ) -> Self {
        let mut opened = Opened::new(store);
        opened.namespace = Some(namespace);
        opened.warnings = warnings;
        if let Some(pool) = pool {
            opened.warnings.extend(url::warnings(&pool.url));
            opened.pool_line = Some(pool.settings.line());
            opened.connections = Arc::clone(&pool.counters);
        }
        opened
    }
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

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Config(error) => error.fmt(f),
            OpenError::NoPool(name) => write!(f, "the database pool {name:?} is not attached"),
            OpenError::Other(problem, remedy) => write!(f, "{problem}. {remedy}"),
        }
    }
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
    pub(super) fn of_key(figment: &Figment, key: &str, problem: String) -> Self {
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
            Backend::Store(store) => Ok(Opened::new(Source::Open(Arc::clone(store)))),
            Backend::Toml => {
                let is_debug = figment.profile() == rocket::Config::DEBUG_PROFILE;
                if figment.contains(URL_KEY) || !is_debug {
                    return open_configured(figment, config).await;
                }
                rocket::warn!("Sessions: `{URL_KEY}` is not set, so sessions are kept in memory");
                rocket::info_!("They end with this process. Other profiles refuse to launch.");
                Ok(memory(clock))
            }
            Backend::Collection(collection) => {
                let place = "the collection's options";
                let warnings = WriteGuarantees::of(collection).check(place, |problem| {
                    OpenError::Other(problem, "Give it a majority write concern, or none.")
                })?;
                let store = Source::Open(mongo(collection, config, None));
                let namespace = collection.namespace().to_string();
                Ok(Opened::in_mongo(store, namespace, warnings, None))
            }
            Backend::Database { name, find_pool } => {
                let pool = find_pool(rocket).ok_or(OpenError::NoPool(name))?;
                open_in_pool(figment, config, name, &pool)
            }
        }
    }
}

/// Opens the store that `databases.sessions` names.
pub(super) async fn open_configured(
    figment: &Figment,
    config: &Config,
) -> Result<Opened, OpenError> {
    refuse_plural_section(figment)?;
    if figment.contains(URL_KEY) {
        return from_toml(figment, config).await;
    }
    Err(OpenError::Other(
        format!(
            "`{URL_KEY}` is missing in the {} profile",
            figment.profile()
        ),
        "Set it in Rocket.toml: [default.databases.sessions] url = \"mongodb://host/database\"",
    ))
}

fn memory(clock: &Clock) -> Opened {
    Opened::new(Source::Open(Arc::new(MemoryStore::with_clock(clock))))
}

fn mongo(
    collection: &Collection<RawDocumentBuf>,
    config: &Config,
    pool: Option<&PoolConfig>,
) -> Arc<dyn Store> {
    let connections = pool.map_or(DEFAULT_CONNECTIONS, |pool| pool.settings.connections());
    let (deadline, share) = (config.deadline, config.share);
    let kind = config.kind();
    let store = MongoStore::of_kind(collection, deadline, connections, share, kind);
    Arc::new(match pool {
        Some(pool) if !url::has_retryable_writes(&pool.url) => store.without_repeats(),
        _ => store,
    })
}

/// Opens the store in the application's own database pool.
fn open_in_pool(
    figment: &Figment,
    config: &Config,
    name: &str,
    pool: &MongoPool,
) -> Result<Opened, OpenError> {
    let url_key = format!("databases.{name}.url");
    let database = database_name(figment, config, &url_key, || {
        Some(pool.default_database()?.name().to_owned())
    })?;
    let collection = pool.database(&database).collection(&config.collection);
    let guarantees = WriteGuarantees::of(&collection);
    let warnings = guarantees.check(&format!("`{url_key}`"), |problem| {
        OpenError::of_key(figment, &url_key, problem)
    })?;
    let pool = pool.config.as_deref();
    let store = Source::Open(mongo(&collection, config, pool));
    let namespace = collection.namespace().to_string();
    Ok(Opened::in_mongo(store, namespace, warnings, pool))
}

/// A section `[*.sessions]` is a slip of the pen: no key of it would be read. Every profile is looked
/// at, because the one that is selected in production is not the one of the developer's machine.
fn refuse_plural_section(figment: &Figment) -> Result<(), OpenError> {
    let selected = figment.profile().clone();
    for profile in std::iter::once(selected).chain(figment.profiles().cloned()) {
        let figment = figment.clone().select(profile);
        if figment.contains("sessions") {
            let problem = "no such section; the keys of sessions belong into `[default.session]`, and \
                           the database's URL into `[default.databases.sessions]`";
            return Err(OpenError::of_key(&figment, "sessions", problem.to_owned()));
        }
    }
    Ok(())
}

async fn from_toml(figment: &Figment, config: &Config) -> Result<Opened, OpenError> {
    let refused = |problem| OpenError::of_key(figment, URL_KEY, problem);
    let section = figment.focus(SECTION);
    let in_section = |mut error: figment::error::Error| {
        // Focusing removed the section's name from the error's path.
        error
            .path
            .splice(0..0, SECTION.split('.').map(str::to_owned));
        OpenError::Config(Box::new(error))
    };
    let address: String = section.extract_inner("url").map_err(in_section)?;
    let url = url::parse(&address).map_err(refused)?;
    let settings = Settings::read(&section, &url, Some(DEFAULT_CONNECTIONS));
    let mut settings = settings.map_err(|error| in_section(*error))?;
    settings.limit(config.deadline);
    if let Some(problem) = url::missing_file(&url).await {
        return Err(refused(problem));
    }
    let database = database_name(figment, config, URL_KEY, || url.default_database.clone())?;
    let place = format!("`{URL_KEY}`");
    let warnings = WriteGuarantees::of_url(&url).check(&place, refused)?;
    let target = Arc::new(Target {
        pool: PoolConfig {
            url,
            settings,
            counters: Arc::default(),
        },
        database,
        config: config.clone(),
    });
    let store = target.open_or_defer(&address).await.map_err(refused)?;
    let (namespace, pool) = (target.namespace(), Some(&target.pool));
    Ok(Opened::in_mongo(store, namespace, warnings, pool))
}

/// The collection that `[databases.sessions]` and `[session]` name.
struct Target {
    pool: PoolConfig,
    database: String,
    config: Config,
}

impl Target {
    fn namespace(&self) -> String {
        format!("{}.{}", self.database, self.config.collection)
    }

    async fn open(&self) -> mongodb::error::Result<Arc<dyn Store>> {
        let database = self.pool.open().await?.database(&self.database);
        let collection = database.collection(&self.config.collection);
        Ok(mongo(&collection, &self.config, Some(&self.pool)))
    }

    /// Opens the store, now or, if the host name cannot be resolved, as soon as it can be. The error
    /// shows no credentials of the address.
    async fn open_or_defer(self: &Arc<Self>, address: &str) -> Result<Source, String> {
        // The resolver's own patience is longer than a launch should take.
        let problem = match timeout(self.pool.settings.connect_timeout(), self.open()).await {
            Ok(Ok(store)) => return Ok(Source::Open(store)),
            Ok(Err(error)) if url::is_unresolved(&error) => url::explain(&error, address),
            Ok(Err(error)) => return Err(url::explain(&error, address)),
            Err(_) => "the name of the database's host was not resolved in time".to_owned(),
        };
        rocket::warn!("Sessions: {problem}");
        rocket::info_!("Until it is resolved, requests that use a session are answered with 503.");
        let target = Arc::clone(self);
        let open = move || {
            let target = Arc::clone(&target);
            async move { target.open().await.ok() }
        };
        let description = format!("in MongoDB, collection `{}`", self.namespace());
        let deferred = Deferred::new(open, description);
        Ok(Source::Deferred(Arc::new(deferred)))
    }
}

/// Returns `session.database`, or else the database of the URL.
fn database_name(
    figment: &Figment,
    config: &Config,
    url_key: &str,
    of_url: impl FnOnce() -> Option<String>,
) -> Result<String, OpenError> {
    config.database.clone().or_else(of_url).ok_or_else(|| {
        let url = figment.extract_inner::<String>(url_key).unwrap_or_default();
        OpenError::of_key(figment, url_key, missing_database(&url))
    })
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

    fn of_url(url: &ConnectionString) -> Self {
        let preference = url.read_preference.clone();
        WriteGuarantees {
            concern: url.write_concern.clone(),
            criteria: preference.map(SelectionCriteria::ReadPreference),
        }
    }

    /// Refuses unacknowledged writes. Returns a warning for each option that is weaker than the
    /// crate's own choice.
    fn check(
        &self,
        place: &str,
        refusal: impl FnOnce(String) -> OpenError,
    ) -> Result<Vec<String>, OpenError> {
        let mut warnings = Vec::new();
        let concern = self.concern.as_ref();
        match concern.and_then(|concern| concern.w.as_ref()) {
            Some(Acknowledgment::Nodes(0)) => {
                return Err(refusal(format!(
                    "`w=0` in {place}: writes would not be acknowledged, and could be lost without an \
                     error; remove it, or set w=majority"
                )));
            }
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
        Ok(warnings)
    }
}

#[cfg(test)]
mod tests;
