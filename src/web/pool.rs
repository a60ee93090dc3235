//! `MongoPool`: the driver's client as a pool of rocket_db_pools, whose own feature is tied to an
//! older driver.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use mongodb::Client;
use mongodb::options::ClientOptions;
use rocket::figment::Figment;
use rocket_db_pools::{Config, Error, Pool};

/// A pool of MongoDB connections for rocket_db_pools' `#[derive(Database)]`. It dereferences to the
/// [`Client`] of `mongodb` 3.x.
///
/// (The pool of rocket_db_pools' own is of `mongodb` 2.) An application that uses MongoDB itself can
/// share one pool with its sessions:
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
///
/// It takes rocket_db_pools' keys: `url`, `max_connections` (where nothing is said, 4 for each of
/// Rocket's `workers`), `min_connections`, `connect_timeout` (5) and `idle_timeout`, in seconds. No
/// connection is opened before the first operation, so an application starts without its database.
#[derive(Clone)]
pub struct MongoPool(Client);

impl MongoPool {
    /// Reads the options of a URL, and the pool's own over them.
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

/// Shows nothing: a client's own `Debug` can hold credentials.
impl fmt::Debug for MongoPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoPool").finish_non_exhaustive()
    }
}

/// Why an address cannot be used. Where it holds credentials the driver's own words are left out:
/// they may quote a part of them, as of a password that is not percent-encoded.
pub(crate) fn without_credentials(error: &mongodb::error::Error, url: &str) -> String {
    if url.contains('@') {
        "the URL cannot be used; what is wrong with it is not repeated, because it holds credentials \
         (is a `:`, `/`, `?`, `#`, `[`, `]`, `@` or `%` of the user or the password written as it \
         is, and not as %3A, %2F, ..?)"
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
        // rocket_db_pools prints what went wrong.
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

    /// Does nothing. Rocket calls it when shutdown begins, while requests are still under way
    /// whose sessions have to be committed; the connections close with the process.
    async fn close(&self) {}
}
