//! The handle of an application's sessions outside of Rocket: for jobs and the command line.

use std::sync::Arc;

use rocket::figment::Figment;

use crate::admin::Sessions;
use crate::clock::Clock;
use crate::commit::Core;
use crate::config::{Config, MAIN_SECTION};
use crate::error::{Error, Result};
use crate::stats::ConnectionCounters;
use crate::store::deferred::Source;
use crate::web::backend;
use crate::web::kind::check_name;

impl Sessions {
    /// Returns the handle of the sessions that an application with this configuration has, without
    /// Rocket: for jobs and command-line tools.
    ///
    /// It reads the same sections as [`fairing`](Sessions::fairing), `[default.databases.sessions]` and
    /// `[default.session]`, and needs `databases.sessions.url` in every profile: sessions in the
    /// memory of another process cannot be reached. It connects to nothing yet, so it also succeeds
    /// while the database is down; [`ping`](Sessions::ping) shows whether it is reachable. It starts
    /// no background work: the application maintains the indexes.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] for everything that would refuse a launch.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use rocket_mongo_session::{Error, Sessions};
    ///
    /// #[rocket::main]
    /// async fn main() -> Result<(), Error> {
    ///     let figment = rocket::Config::figment(); // Rocket.toml and ROCKET_ variables
    ///     let sessions = Sessions::connect(&figment).await?;
    ///     println!("live sessions: {}", sessions.count().await?);
    ///     Ok(())
    /// }
    /// ```
    #[doc(alias("job", "cron", "command line"))]
    pub async fn connect(figment: &Figment) -> Result<Sessions> {
        connect(figment, MAIN_SECTION.to_owned()).await
    }

    /// Returns the handle of a further [`Kind`](crate::Kind) by its name, as
    /// [`connect`](Sessions::connect) does for `&Session`.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] for everything that would refuse a launch, and for a name that no
    /// kind can have.
    pub async fn connect_kind(figment: &Figment, name: &str) -> Result<Sessions> {
        check_name(name).map_err(refused)?;
        connect(figment, format!("{MAIN_SECTION}_{name}")).await
    }

    pub(super) fn new(
        config: Config,
        store: Source,
        clock: Clock,
        connections: Arc<ConnectionCounters>,
    ) -> Self {
        Sessions {
            core: Arc::new(Core::new(config, store, clock, connections)),
        }
    }
}

async fn connect(figment: &Figment, section: String) -> Result<Sessions> {
    let config = Config::from_section(figment, section)
        .map_err(|error| refused(backend::OpenError::Config(error)))?;
    let clock = Clock::default();
    let opened = backend::open_configured(figment, &config).await;
    let opened = opened.map_err(refused)?;
    Ok(Sessions::new(
        config,
        opened.store,
        clock,
        opened.connections,
    ))
}

fn refused(error: backend::OpenError) -> Error {
    Error::Configuration {
        reason: error.to_string(),
    }
}
