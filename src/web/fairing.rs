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

use crate::admin::Sessions;
use crate::clock::Clock;
use crate::commit::Core;
use crate::config::Config;
use crate::stats::Counters;
use crate::store::Store;
use crate::store::bounded::Bounded;
use crate::web::guard::RequestCache;
use crate::web::pool::MongoPool;

use crate::web::backend::{Backend, OpenError, Opened};
use crate::web::response;

/// The fairing that gives an application its sessions; the constructors of [`Sessions`] make it.
///
/// It stores sessions after every other response fairing of the application, so that what those
/// change in the session is kept, too. Attach it before the fairings that ask for the session
/// themselves. Its place among the others does not matter.
pub struct SessionFairing {
    backend: Backend,
    clock: Clock,
}

impl Sessions {
    /// Sessions as `Rocket.toml` says.
    ///
    /// The database is in the section `[default.databases.sessions]`, the rest in
    /// `[default.session]`; see the guide's [configuration](crate#configuration). Without a
    /// `databases.sessions.url` the debug profile keeps sessions in memory and says so, and any
    /// other profile refuses to launch. At most 32 connections, unless `max_connections` says
    /// otherwise.
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
        SessionFairing::new(Backend::Toml)
    }

    /// Sessions in a collection that the application has already.
    ///
    /// The keys `collection` and `database` in Rocket.toml are ignored. Up to 32 operations are under
    /// way at once, so give the client as many connections: `maxPoolSize=32` in its URL, since the
    /// driver's default is 10. Its server selection timeout (the driver's default is 30 seconds)
    /// should be below `deadline`.
    ///
    /// ```no_run
    /// use rocket::launch;
    /// use rocket_mongo_session::Sessions;
    /// use rocket_mongo_session::mongodb::{Client, bson::Document};
    ///
    /// #[launch]
    /// async fn rocket() -> _ {
    ///     let url = "mongodb://localhost:27017/?maxPoolSize=32&serverSelectionTimeoutMS=5000";
    ///     let client = Client::with_uri_str(url).await.expect("a URL of MongoDB");
    ///     let collection = client.database("my_app").collection::<Document>("session");
    ///     rocket::build().attach(Sessions::in_collection(collection))
    /// }
    /// ```
    #[must_use]
    pub fn in_collection<T: Send + Sync>(collection: mongodb::Collection<T>) -> SessionFairing {
        let sessions = collection.clone_with_type();
        SessionFairing::new(Backend::Collection(sessions))
    }

    /// Sessions in the database of the application's own pool, so that both share it (see
    /// [`MongoPool`], where the example is).
    ///
    /// `Db::init()` may be attached before or after. The collection is the one that `[default.session]`
    /// names. Connections are the pool's: its `max_connections`, and where nothing is said 4 for each
    /// of Rocket's `workers`.
    #[must_use]
    pub fn in_database<Db: Database<Pool = MongoPool>>() -> SessionFairing {
        SessionFairing::new(Backend::Database {
            name: Db::NAME,
            client: |rocket| rocket.state::<Db>().map(|db| mongodb::Client::clone(db)),
        })
    }

    /// Sessions in the memory of this process, whatever the profile: for tests.
    ///
    /// ```
    /// use rocket::local::blocking::Client;
    /// use rocket::{get, routes};
    /// use rocket_mongo_session::{Error, Session, Sessions};
    ///
    /// #[get("/")]
    /// fn index(session: &Session) -> Result<String, Error> {
    ///     Ok(session.increment("visits", 1)?.to_string())
    /// }
    ///
    /// let rocket = rocket::build().attach(Sessions::in_memory()).mount("/", routes![index]);
    /// let client = Client::tracked(rocket).unwrap();
    /// assert_eq!(client.get("/").dispatch().into_string().unwrap(), "1");
    /// assert_eq!(client.get("/").dispatch().into_string().unwrap(), "2");
    /// ```
    #[must_use]
    pub fn in_memory() -> SessionFairing {
        SessionFairing::new(Backend::Memory)
    }

    /// Sessions in a [`Store`] of your own.
    ///
    /// A store can stand around another one. This one counts loads, and leaves the rest to
    /// MongoDB's (the calls that are not shown are passed on in the same way):
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use rocket_mongo_session::store::{Created, Document, Durability, Store};
    /// # use rocket_mongo_session::store::{Filter, Touch, Update, Updated};
    /// use rocket_mongo_session::{Error, MongoStore, SessionFairing, Sessions};
    ///
    /// struct Counting {
    ///     inner: MongoStore,
    ///     loads: AtomicU64,
    /// }
    ///
    /// #[rocket::async_trait]
    /// impl Store for Counting {
    ///     async fn load(&self, id: &str) -> Result<Option<Document>, Error> {
    ///         self.loads.fetch_add(1, Ordering::Relaxed);
    ///         self.inner.load(id).await
    ///     }
    ///
    ///     async fn create(&self, new: Vec<Document>, how: Durability) -> Result<Created, Error> {
    ///         self.inner.create(new, how).await
    ///     }
    /// #   async fn update(&self, f: Filter, u: Update, d: Durability) -> Result<Updated, Error> {
    /// #       self.inner.update(f, u, d).await
    /// #   }
    /// #   async fn update_returning(
    /// #       &self, f: Filter, u: Update, d: Durability,
    /// #   ) -> Result<Option<Document>, Error> {
    /// #       self.inner.update_returning(f, u, d).await
    /// #   }
    /// #   async fn delete(&self, f: Filter) -> Result<bool, Error> { self.inner.delete(f).await }
    /// #   async fn take(&self, f: Filter) -> Result<Option<Document>, Error> {
    /// #       self.inner.take(f).await
    /// #   }
    /// #   fn touch(&self, touch: Touch) { self.inner.touch(touch); }
    /// #   async fn find(&self, f: Filter, skip: u64, limit: u32) -> Result<Vec<Document>, Error> {
    /// #       self.inner.find(f, skip, limit).await
    /// #   }
    /// #   async fn count(&self, f: Filter) -> Result<u64, Error> { self.inner.count(f).await }
    /// #   async fn delete_all(&self, f: Filter) -> Result<u64, Error> {
    /// #       self.inner.delete_all(f).await
    /// #   }
    /// #   async fn ensure_indexes(&self) -> Result<(), Error> { self.inner.ensure_indexes().await }
    /// #   async fn ping(&self) -> Result<(), Error> { self.inner.ping().await }
    /// #   async fn flush(&self) { self.inner.flush().await }
    /// #   fn describe(&self) -> String { self.inner.describe() }
    /// #   fn touch_batches(&self) -> u64 { self.inner.touch_batches() }
    /// }
    ///
    /// fn counted(inner: MongoStore) -> SessionFairing {
    ///     let loads = AtomicU64::new(0);
    ///     Sessions::with_store(Counting { inner, loads })
    /// }
    /// ```
    #[must_use]
    pub fn with_store(store: impl Store) -> SessionFairing {
        SessionFairing::new(Backend::Store(Arc::new(store)))
    }
}

impl SessionFairing {
    fn new(backend: Backend) -> Self {
        SessionFairing {
            backend,
            clock: Clock::system(),
        }
    }

    /// Lets sessions live by a clock that a test moves
    /// ([`testing::Clock`](crate::testing::Clock), where the example is).
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
        Ok(rocket.attach(StoreInit {
            backend: self.backend.clone(),
            clock: self.clock.clone(),
            depth: 0,
        }))
    }

    /// Notes when the request came in: a revocation that comes while a guard looks at a password
    /// ends the login that follows, whenever the session itself is asked for.
    async fn on_request(&self, request: &mut Request<'_>, _: &mut Data<'_>) {
        RequestCache::of(request, &self.clock);
    }

    /// The first half of the answer. Response fairings that are attached after this one may use the
    /// session as handlers do.
    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        if let Some(sessions) = request.rocket().state::<Sessions>() {
            response::judge(sessions, request, response).await;
        }
    }
}

/// Opens the store, after every pool of the application has been attached.
struct StoreInit {
    backend: Backend,
    clock: Clock,
    depth: usize,
}

impl StoreInit {
    /// How many stages deep an application's pool may be attached.
    const DEEPEST: usize = 8;

    async fn open(&self, rocket: &Rocket<Build>) -> Result<(Config, Opened), OpenError> {
        let config = Config::from_figment(rocket.figment()).map_err(OpenError::Config)?;
        let opened = self.backend.open(rocket, &config, &self.clock).await?;
        Ok((config, opened))
    }
}

#[async_trait]
impl Fairing for StoreInit {
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
            Err(OpenError::NoPool(_)) if self.depth < StoreInit::DEEPEST => {
                return Ok(rocket.attach(StoreInit {
                    backend: self.backend.clone(),
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
            core: Arc::new(Core {
                store: Bounded::new(opened.store, config.deadline, Arc::clone(&stats)),
                config,
                clock: self.clock.clone(),
                stats,
            }),
            maintain_indexes: Arc::new(Notify::new()),
        };
        let lives = CommitFairing {
            sessions: sessions.clone(),
            warnings: opened.warnings,
        };
        Ok(rocket.manage(sessions).attach(lives))
    }
}

/// The sessions of a running application.
struct CommitFairing {
    sessions: Sessions,
    warnings: Vec<String>,
}

#[async_trait]
impl Fairing for CommitFairing {
    fn info(&self) -> Info {
        Info {
            name: "Session Commit",
            kind: Kind::Liftoff | Kind::Response | Kind::Shutdown,
        }
    }

    async fn on_liftoff(&self, rocket: &Rocket<Orbit>) {
        let core = &self.sessions.core;
        tokio::spawn(maintain_indexes(self.sessions.clone(), rocket.shutdown()));
        rocket::info!("Sessions:");
        rocket::info_!("kept: {}", core.store.describe());
        for (key, value) in core.config.lines() {
            rocket::info_!("{key}: {value}");
        }
        let profile = rocket.figment().profile();
        if profile == rocket::Config::DEBUG_PROFILE {
            return;
        }
        let dangers = core.config.warnings(profile);
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
        response::complete(&self.sessions, request, response).await;
    }

    /// Requests that are under way go on after this and see to their own touches.
    async fn on_shutdown(&self, rocket: &Rocket<Orbit>) {
        let grace = rocket.config().shutdown.grace;
        let grace = Duration::from_secs(grace.into());
        self.sessions.core.store.flush(grace).await;
    }
}

/// Keeps the indexes there: after liftoff, as soon as the database answers, and when they may have
/// gone with a dropped collection. Nothing depends on it, so it never stops the application.
async fn maintain_indexes(sessions: Sessions, mut shutdown: rocket::Shutdown) {
    const SHORTEST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(60);
    // Anybody can send a cookie that names no session.
    const BETWEEN_ALARMS: Duration = Duration::from_secs(2);
    let core = &sessions.core;
    let mut pause = SHORTEST;
    let mut said = false;
    loop {
        let mut rested = SHORTEST;
        let result = if core.config.indexes {
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
            let _ = tokio::time::timeout(pause, sessions.maintain_indexes.notified()).await;
        };
        tokio::select! {
            () = &mut shutdown => return,
            () = rest => {}
        }
    }
}
