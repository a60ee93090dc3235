//! How sessions meet Rocket: ignition, liftoff, the answer, shutdown.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rocket::config::LogLevel;
use rocket::fairing::{Fairing, Info, Kind, Result as Ignition};
use rocket::tokio;
use rocket::tokio::sync::Notify;
use rocket::{Build, Data, Orbit, Request, Response, Rocket, async_trait};
use rocket_db_pools::Database;

use crate::clock::Clock;
use crate::commit::run::Committer;
use crate::config::Config;
use crate::guard::Slot;
use crate::pool::MongoPool;
use crate::sessions::Sessions;
use crate::stats::Counters;
use crate::store::Store;
use crate::store::bounded::Bounded;

mod answer;
mod database;

use database::{Home, Opened, Refusal};

/// The fairing that gives an application its sessions; made by the constructors of [`Sessions`].
///
/// It commits after every other response fairing of the application, so that what those change in
/// the session is kept, too. Attach it before those that ask for the session themselves; otherwise
/// it can be attached anywhere.
pub struct SessionFairing {
    home: Home,
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
        SessionFairing::new(Home::Toml)
    }

    /// Sessions in a collection that the application has already, as the ancestor takes it. Its
    /// client's server selection timeout should not exceed `session.deadline`; `collection` and
    /// `database` in Rocket.toml are not asked.
    #[must_use]
    pub fn in_collection<T: Send + Sync>(collection: mongodb::Collection<T>) -> SessionFairing {
        let sessions = collection.clone_with_type();
        SessionFairing::new(Home::Collection(sessions))
    }

    /// Sessions in the database of the application's own pool, so that both share it (see
    /// [`MongoPool`]). `Db::init()` may be attached before or after.
    #[must_use]
    pub fn in_database<Db: Database<Pool = MongoPool>>() -> SessionFairing {
        SessionFairing::new(Home::Database {
            name: Db::NAME,
            client: |rocket| rocket.state::<Db>().map(|db| mongodb::Client::clone(db)),
        })
    }

    /// Sessions in the memory of this process, whatever the profile: for tests.
    #[must_use]
    pub fn in_memory() -> SessionFairing {
        SessionFairing::new(Home::Memory)
    }

    /// Sessions in a [`Store`] of the application's own.
    #[must_use]
    pub fn with_store(store: impl Store) -> SessionFairing {
        SessionFairing::new(Home::Store(Arc::new(store)))
    }
}

impl SessionFairing {
    fn new(home: Home) -> Self {
        SessionFairing {
            home,
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
            kind: Kind::Ignite | Kind::Request | Kind::Response,
        }
    }

    /// Two ignite levels deep lies what must come last: a stage that another fairing attaches
    /// while igniting would otherwise run its response half after ours.
    async fn on_ignite(&self, rocket: Rocket<Build>) -> Ignition {
        Ok(rocket.attach(Stage {
            home: self.home.clone(),
            clock: self.clock.clone(),
            depth: 0,
        }))
    }

    /// Notes when the request came in: a revocation that comes while a guard looks at a password
    /// ends the login that follows, whenever the session itself is asked for.
    async fn on_request(&self, request: &mut Request<'_>, _: &mut Data<'_>) {
        Slot::of(request, &self.clock);
    }

    /// The first half of the answer. Response fairings that are attached after this one may use the
    /// session as handlers do.
    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        if let Some(sessions) = request.rocket().state::<Sessions>() {
            answer::judge(sessions, request, response).await;
        }
    }
}

/// Opens the store, after every pool of the application has been attached.
struct Stage {
    home: Home,
    clock: Clock,
    depth: usize,
}

impl Stage {
    /// How many stages deep an application's pool may be attached.
    const DEEPEST: usize = 8;

    async fn open(&self, rocket: &Rocket<Build>) -> Result<(Config, Opened), Refusal> {
        let config = Config::from(rocket.figment()).map_err(Refusal::Config)?;
        let opened = self.home.open(rocket, &config, &self.clock).await?;
        Ok((config, opened))
    }
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
        let (config, opened) = match self.open(&rocket).await {
            Ok(opened) => opened,
            // Perhaps a stage that ignites after this one attaches it.
            Err(Refusal::NoPool(_)) if self.depth < Stage::DEEPEST => {
                return Ok(rocket.attach(Stage {
                    home: self.home.clone(),
                    clock: self.clock.clone(),
                    depth: self.depth + 1,
                }));
            }
            Err(reason) => {
                reason.report();
                return Err(rocket);
            }
        };
        let stats = Arc::new(Counters::default());
        let sessions = Sessions {
            committer: Arc::new(Committer {
                store: Bounded::new(opened.store, config.deadline, Arc::clone(&stats)),
                config,
                clock: self.clock.clone(),
                stats,
            }),
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
        tokio::spawn(look_after(self.sessions.clone(), rocket.shutdown()));
        rocket::info!("Sessions:");
        rocket::info_!("kept: {}", committer.store.describe());
        for (key, value) in committer.config.lines() {
            rocket::info_!("{key}: {value}");
        }
        let profile = rocket.figment().profile();
        if profile == rocket::Config::DEBUG_PROFILE {
            return;
        }
        let dangers = committer.config.warnings(profile);
        for warning in dangers.iter().chain(&self.warnings) {
            rocket::warn_!("{warning}");
        }
        if rocket.config().log_level == LogLevel::Debug {
            rocket::warn_!(
                "`log_level = \"debug\"` makes Rocket write whole requests and answers into the log, \
                 session cookies included; use \"normal\" or \"critical\""
            );
        }
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        answer::complete(&self.sessions, request, response).await;
    }

    /// Requests that are under way go on after this and see to their own touches.
    async fn on_shutdown(&self, rocket: &Rocket<Orbit>) {
        let grace = rocket.config().shutdown.grace;
        let grace = Duration::from_secs(grace.into());
        self.sessions.committer.store.flush(grace).await;
    }
}

/// Keeps the indexes there: after liftoff, as soon as the database answers, and when they may have
/// gone with a dropped collection. Nothing depends on it, so it never stops the application.
async fn look_after(sessions: Sessions, mut shutdown: rocket::Shutdown) {
    const SHORTEST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(60);
    // Anybody can send a cookie that names no session.
    const BETWEEN_ALARMS: Duration = Duration::from_secs(2);
    let committer = &sessions.committer;
    let mut pause = SHORTEST;
    let mut said = false;
    loop {
        let mut rested = SHORTEST;
        let result = if committer.config.indexes {
            sessions.ensure_indexes().await
        } else {
            sessions.ping().await
        };
        match result {
            Ok(()) => {
                (pause, rested) = (LONGEST, BETWEEN_ALARMS);
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
        // Woken by a session that is missing.
        let rest = async {
            tokio::time::sleep(rested).await;
            let _ = tokio::time::timeout(pause, sessions.look_after.notified()).await;
        };
        tokio::select! {
            () = &mut shutdown => return,
            () = rest => {}
        }
    }
}
