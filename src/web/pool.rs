//! [`MongoPool`]: the client of `mongodb` 3 as a pool of rocket_db_pools, whose own feature needs
//! `mongodb` 2.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use mongodb::Client;
use mongodb::options::ClientOptions;
use rocket::figment::Figment;
use rocket_db_pools::{Config, Error, Pool};

/// A MongoDB connection pool for rocket_db_pools' `#[derive(Database)]`, which dereferences to the
/// [`Client`] of `mongodb` 3.
///
/// (The pool that rocket_db_pools itself has is for `mongodb` 2.) An application that uses MongoDB can
/// share one pool with its sessions.
///
/// It has rocket_db_pools' keys: `url`, `max_connections` (by default 4 for each of Rocket's
/// `workers`), `min_connections`, `connect_timeout` (5) and `idle_timeout`, in seconds. The first
/// operation opens the first connection, so an application starts while its database is down.
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
pub struct MongoPool(Client);

impl MongoPool {
    /// Returns the options of the URL, overridden by those of the pool's section.
    pub(crate) async fn options(config: &Config) -> mongodb::error::Result<ClientOptions> {
        let mut options = ClientOptions::parse(&config.url).await?;
        options.min_pool_size = config.min_connections;
        options.max_pool_size = Some(u32::try_from(config.max_connections).unwrap_or(u32::MAX));
        options.max_idle_time = config.idle_timeout.map(Duration::from_secs);
        options.connect_timeout = Some(Duration::from_secs(config.connect_timeout));
        options.server_selection_timeout = Some(Duration::from_secs(config.connect_timeout));
        Ok(options)
    }
}

impl From<Client> for MongoPool {
    fn from(client: Client) -> Self {
        MongoPool(client)
    }
}

impl Deref for MongoPool {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0
    }
}

/// Shows nothing, because a client's own `Debug` can show credentials.
impl fmt::Debug for MongoPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoPool").finish_non_exhaustive()
    }
}

/// Says why a URL cannot be used. If it has credentials the driver's message is left out, because it
/// may quote a part of them, such as a password that is not percent-encoded.
pub(crate) fn without_credentials(error: &mongodb::error::Error, url: &str) -> String {
    if url.contains('@') {
        "the URL cannot be used; the driver's message is not shown, because the URL has credentials \
         (check that every `:`, `/`, `?`, `#`, `[`, `]`, `@` and `%` of the user and the password is \
         percent-encoded, as %3A, %2F, ...)"
            .to_owned()
    } else {
        format!("the URL cannot be used: {error}")
    }
}

#[rocket::async_trait]
impl Pool for MongoPool {
    type Connection = Client;
    type Error = Error<mongodb::error::Error>;

    async fn init(figment: &Figment) -> Result<Self, Self::Error> {
        let config: Config = figment.extract()?;
        // rocket_db_pools logs the error.
        let masked = |error| {
            let text = without_credentials(&error, &config.url);
            Error::Init(mongodb::error::Error::custom(text))
        };
        let options = Self::options(&config).await.map_err(masked)?;
        Client::with_options(options).map(MongoPool).map_err(masked)
    }

    async fn get(&self) -> Result<Client, Self::Error> {
        Ok(self.0.clone())
    }

    /// Does nothing. Rocket calls it when shutdown begins, while requests are still running whose
    /// sessions have to be committed; the connections close with the process.
    async fn close(&self) {}
}
