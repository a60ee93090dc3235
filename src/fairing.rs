//! How sessions meet Rocket: ignition, liftoff, the answer, shutdown.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rocket::config::LogLevel;
use rocket::fairing::{Fairing, Info, Kind, Result as Ignition};
use rocket::tokio;
use rocket::tokio::sync::Notify;
use rocket::{Build, Orbit, Request, Response, Rocket, async_trait};
use rocket_db_pools::Database;

use crate::clock::Clock;
use crate::commit::run::Committer;
use crate::config::{self, Config};
use crate::pool::MongoPool;
use crate::sessions::Sessions;
use crate::stats::Counters;
use crate::store::Store;
use crate::store::bounded::Bounded;

mod answer;
mod database;

use database::Origin;

/// The fairing that gives an application its sessions; made by the constructors of [`Sessions`].
///
/// It commits after every other response fairing of the application, so that what those change in
/// the session is kept, too. Attach it before those that ask for the session themselves; otherwise
/// it can be attached anywhere.
pub struct SessionFairing {
    origin: Origin,
    clock: Clock,
}

impl Sessions {
    /// Sessions as Rocket.toml has them: the pool from `[default.databases.sessions]`, the rest from
    /// `[default.session]`. Without a `databases.sessions.url` the debug profile keeps sessions in
    /// memory and says so; any other profile refuses to launch.
    ///
    /// ```no_run
    /// # use rocket::launch;
    /// # use rocket_mongo_session::Sessions;
    /// #[launch]
    /// fn rocket() -> _ {
    ///     rocket::build().attach(Sessions::fairing())
    /// }
    /// ```
    #[must_use]
    pub fn fairing() -> SessionFairing {
        SessionFairing::new(Origin::Toml)
    }

    /// Sessions in a collection that the application has already, as the ancestor takes it. Its
    /// client's server selection timeout should not exceed `session.deadline`; `collection` and
    /// `database` in Rocket.toml are not asked.
    #[must_use]
    pub fn in_collection<T: Send + Sync>(collection: mongodb::Collection<T>) -> SessionFairing {
        let sessions = collection.clone_with_type();
        SessionFairing::new(Origin::Collection(sessions))
    }

    /// Sessions in the database of the application's own pool, so that both share it (see
    /// [`MongoPool`]). `Db::init()` may be attached before or after.
    #[must_use]
    pub fn in_database<Db: Database<Pool = MongoPool>>() -> SessionFairing {
        SessionFairing::new(Origin::Database {
            name: Db::NAME,
            client: |rocket| rocket.state::<Db>().map(|db| mongodb::Client::clone(db)),
        })
    }

    /// Sessions in the memory of this process, whatever the profile: for tests.
    #[must_use]
    pub fn in_memory() -> SessionFairing {
        SessionFairing::new(Origin::Memory)
    }

    /// Sessions in a [`Store`] of the application's own.
    #[must_use]
    pub fn with_store(store: impl Store) -> SessionFairing {
        SessionFairing::new(Origin::Store(Arc::new(store)))
    }
}

impl SessionFairing {
    fn new(origin: Origin) -> Self {
        SessionFairing {
            origin,
            clock: Clock::system(),
        }
    }

    /// Lets sessions live by a clock that a test moves
    /// ([`testing::Clock`](crate::testing::Clock)).
    #[must_use]
    pub fn with_clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }
}

impl fmt::Debug for SessionFairing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionFairing").finish_non_exhaustive()
    }
}

#[async_trait]
impl Fairing for SessionFairing {
    fn info(&self) -> Info {
        Info {
            name: "Sessions",
            kind: Kind::Ignite | Kind::Response,
        }
    }

    /// Two ignite levels deep lies what must come last: a stage that another fairing attaches
    /// while igniting would otherwise run its response half after ours.
    async fn on_ignite(&self, rocket: Rocket<Build>) -> Ignition {
        let config = match Config::from(rocket.figment()) {
            Ok(config) => config,
            Err(error) => {
                config::report(*error);
                return Err(rocket);
            }
        };
        Ok(rocket.attach(Stage {
            origin: self.origin.clone(),
            clock: self.clock.clone(),
            config: Arc::new(config),
        }))
    }

    /// The first half of the answer. Response fairings that are attached after this one may use the
    /// session as handlers do.
    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        if let Some(sessions) = request.rocket().state::<Sessions>() {
            answer::judge(sessions, request, response);
        }
    }
}

/// Opens the store, after every pool of the application has been attached.
struct Stage {
    origin: Origin,
    clock: Clock,
    config: Arc<Config>,
}

#[async_trait]
impl Fairing for Stage {
    fn info(&self) -> Info {
        Info {
            name: "Session Store",
            kind: Kind::Ignite,
        }
    }

    async fn on_ignite(&self, rocket: Rocket<Build>) -> Ignition {
        if rocket.state::<Sessions>().is_some() {
            rocket::error!("Two session fairings are attached; attach one.");
            return Err(rocket);
        }
        let opened = match self.origin.open(&rocket, &self.config, &self.clock).await {
            Ok(opened) => opened,
            Err(reason) => {
                reason.report();
                return Err(rocket);
            }
        };
        let stats = Arc::new(Counters::default());
        let sessions = Sessions {
            committer: Committer {
                store: Bounded::new(opened.store, self.config.deadline, Arc::clone(&stats)),
                config: Arc::clone(&self.config),
                clock: self.clock.clone(),
                stats,
            },
            look_after: Arc::new(Notify::new()),
        };
        let lives = Lives {
            sessions: sessions.clone(),
            warnings: opened.warnings,
        };
        Ok(rocket.manage(sessions).attach(lives))
    }
}

/// The sessions of a running application.
struct Lives {
    sessions: Sessions,
    warnings: Vec<String>,
}

#[async_trait]
impl Fairing for Lives {
    fn info(&self) -> Info {
        Info {
            name: "Session Commit",
            kind: Kind::Liftoff | Kind::Response | Kind::Shutdown,
        }
    }

    async fn on_liftoff(&self, rocket: &Rocket<Orbit>) {
        let committer = &self.sessions.committer;
        rocket::info!("Sessions:");
        rocket::info_!("kept: {}", committer.store.describe());
        for (key, value) in committer.config.lines() {
            rocket::info_!("{key}: {value}");
        }
        let profile = rocket.figment().profile();
        let dangers = committer.config.warnings(profile);
        for warning in dangers.iter().chain(&self.warnings) {
            rocket::warn_!("{warning}");
        }
        let is_debug = profile == rocket::Config::DEBUG_PROFILE;
        if !is_debug && rocket.config().log_level == LogLevel::Debug {
            rocket::warn_!(
                "`log_level = \"debug\"` makes Rocket write whole requests and answers into the log, \
                 session cookies included; use \"normal\" or \"critical\""
            );
        }
        tokio::spawn(look_after(self.sessions.clone(), rocket.shutdown()));
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        answer::complete(&self.sessions, request, response).await;
    }

    /// Requests that are under way go on after this and see to their own touches.
    async fn on_shutdown(&self, _: &Rocket<Orbit>) {
        self.sessions.committer.store.flush().await;
    }
}

/// Keeps the indexes there: after liftoff, as soon as the database answers, and when they may have
/// gone with a dropped collection. Nothing depends on it, so it never stops the application.
async fn look_after(sessions: Sessions, mut shutdown: rocket::Shutdown) {
    const SHORTEST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(60);
    let committer = &sessions.committer;
    let mut pause = SHORTEST;
    let mut said = false;
    loop {
        let result = if committer.config.indexes {
            sessions.ensure_indexes().await
        } else {
            sessions.ping().await
        };
        match result {
            Ok(()) => {
                pause = LONGEST;
                said = false;
            }
            Err(error) => {
                if !said {
                    rocket::warn!("Sessions work without their indexes or store for now:");
                    error.log();
                }
                said = true;
                pause = (pause * 2).min(LONGEST);
            }
        }
        // Woken by a session that is missing, but not more often than the shortest pause.
        let rest = async {
            tokio::time::sleep(SHORTEST).await;
            let _ = tokio::time::timeout(pause, sessions.look_after.notified()).await;
        };
        tokio::select! {
            () = &mut shutdown => return,
            () = rest => {}
        }
    }
}
