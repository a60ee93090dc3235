//! [`MongoPool`]: the client of `mongodb` 3 as a pool of rocket_db_pools, whose own feature needs
//! `mongodb` 2.

use std::ops::Deref;
use std::sync::Arc;

use mongodb::Client;
use mongodb::options::{ClientOptions, ConnectionString};
use rocket::figment::Figment;
use rocket_db_pools::{Error, Pool};

pub(super) use self::settings::Settings;
use crate::debug::opaque_debug;
use crate::stats::ConnectionCounters;

pub(super) mod command_tracing;
mod events;
mod settings;
pub(super) mod url;

#[cfg(feature = "unstable-store")]
pub use url::parse as parse_url;

/// A MongoDB connection pool for rocket_db_pools' `#[derive(Database)]`, which dereferences to the
/// [`Client`] of `mongodb` 3.
///
/// (The pool that rocket_db_pools itself has is for `mongodb` 2.) An application that uses MongoDB can
/// share one pool with its sessions.
///
/// It has rocket_db_pools' keys: `url`, `max_connections` (by default 4 for each of Rocket's
/// `workers`), `min_connections`, `connect_timeout` (5) and `idle_timeout` (180), in seconds. Where a
/// key is not set, the option of the URL counts (`maxPoolSize`, `minPoolSize`, `connectTimeoutMS` and
/// `serverSelectionTimeoutMS`, `maxIdleTimeMS`). The first operation opens the first connection, so an
/// application starts while its database is down. (The name of a `mongodb+srv://` URL has to be
/// resolved at launch. The pool that `Sessions::fairing` opens by itself resolves it later as well.)
///
/// # Examples
///
/// ```
/// use rocket_db_pools::Database;
/// use rocket_mongo_session::{MongoPool, Sessions};
///
/// #[derive(Database)]
/// #[database("main")]
/// struct Main(MongoPool);
///
/// # fn build() -> rocket::Rocket<rocket::Build> {
/// rocket::build()
///     .attach(Main::init())
///     .attach(Sessions::in_database::<Main>())
/// # }
/// ```
#[derive(Clone)]
#[doc(alias = "connection pool")]
pub struct MongoPool {
    client: Client,
    /// `None` for a client that the application made itself.
    pub(super) config: Option<Arc<PoolConfig>>,
}

/// The configuration of a pool, and the counters of its connections.
pub(super) struct PoolConfig {
    pub(super) url: ConnectionString,
    pub(super) settings: Settings,
    pub(super) counters: Arc<ConnectionCounters>,
}

impl PoolConfig {
    /// Opens a client: resolves the name of a `mongodb+srv://` URL and connects to nothing.
    pub(super) async fn open(&self) -> mongodb::error::Result<Client> {
        let mut options = ClientOptions::parse(self.url.clone()).await?;
        self.settings.apply(&mut options);
        options.cmap_event_handler = Some(events::handler(Arc::clone(&self.counters)));
        Client::with_options(options)
    }
}

impl From<Client> for MongoPool {
    fn from(client: Client) -> Self {
        MongoPool {
            client,
            config: None,
        }
    }
}

impl Deref for MongoPool {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

opaque_debug!(MongoPool);

#[rocket::async_trait]
impl Pool for MongoPool {
    type Connection = Client;
    type Error = Error<mongodb::error::Error>;

    async fn init(figment: &Figment) -> Result<Self, Self::Error> {
        // rocket_db_pools logs the error.
        let failed = |problem: String| Error::Init(mongodb::error::Error::custom(problem));
        let address: String = figment.extract_inner("url")?;
        let url = url::parse(&address).map_err(failed)?;
        let settings =
            Settings::read(figment, &url, None).map_err(|error| Error::Config(*error))?;
        if let Some(problem) = url::missing_file(&url).await {
            return Err(failed(problem));
        }
        let config = PoolConfig {
            url,
            settings,
            counters: Arc::default(),
        };
        let client = config.open().await;
        let client = client.map_err(|error| failed(url::explain(&error, &address)))?;
        Ok(MongoPool {
            client,
            config: Some(Arc::new(config)),
        })
    }

    async fn get(&self) -> Result<Client, Self::Error> {
        Ok(self.client.clone())
    }

    /// Does nothing. Rocket calls it when shutdown begins, while requests are still running whose
    /// sessions have to be committed; the connections close with the process.
    async fn close(&self) {}
}
