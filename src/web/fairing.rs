//! The fairings: ignition, liftoff, request, response and shutdown.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rocket::config::LogLevel;
use rocket::fairing::{Fairing, Info, Kind as On, Result as Ignition};
use rocket::futures::future::join_all;
use rocket::{Build, Data, Orbit, Request, Response, Rocket, async_trait};
use rocket_db_pools::Database;

use crate::admin::Sessions;
use crate::clock::Clock;
use crate::config::Config;
use crate::debug::opaque_debug;
#[cfg(feature = "unstable-store")]
use crate::store::Store;
use crate::web::backend::{Backend, OpenError, Opened};
use crate::web::cookie::UnfitDomains;
use crate::web::kind::{Attached, Kind, KindInfo, Kinds, Main, unused_sections};
use crate::web::maintenance::MaintenanceTask;
use crate::web::pool::{MongoPool, command_tracing};
use crate::web::response;

/// The session fairing, made by the constructors of [`Sessions`].
///
/// It commits sessions after every other response fairing of the application, so that changes which
/// those make to the session are kept. Attach it before fairings that use the session themselves or
/// remove `Set-Cookie` headers; otherwise its position does not matter. With
/// `set_on_exception = false`, a response fairing that is attached before it and uses the session
/// makes the request lose its changes, and the log warns of it.
#[doc(alias("middleware", "session store"))]
pub struct SessionFairing {
    kind: KindInfo,
    backend: Backend,
    clock: Clock,
}

impl Sessions {
    /// Returns the fairing that is configured by `Rocket.toml`.
    ///
    /// The section `[default.databases.sessions]` names the database, `[default.session]` has every
    /// other key; see [configuration](crate::guide::configuration). Without `databases.sessions.url` the
    /// debug profile keeps sessions in memory and logs that; every other profile refuses to launch.
    /// The pool has 32 connections unless `max_connections` is set.
    ///
    /// # Examples
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

    /// Returns the fairing of a further [`Kind`] of session, configured by `[default.session_NAME]`.
    ///
    /// It is [`fairing`](Sessions::fairing) for that kind, in the same database, with a connection
    /// pool of its own. For another place see
    /// [`SessionFairing::for_kind`]. The example is at [`Kind`].
    #[must_use]
    pub fn fairing_of<K: Kind>() -> SessionFairing {
        Sessions::fairing().for_kind::<K>()
    }

    /// Returns the fairing that keeps sessions in a collection of the application's own client.
    ///
    /// The keys `collection` and `database` in Rocket.toml are ignored. Up to 32 operations run at
    /// once, so set `maxPoolSize=32` in the client's URL (the driver's default is 10), and a server
    /// selection timeout below `deadline` (the driver's default is 30 seconds).
    ///
    /// If you end the client yourself, use `client.shutdown().immediate(true)`: on a replica set the
    /// crate keeps sessions of the driver, for half an hour after the application has ended, and a
    /// plain `shutdown()` waits for them.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use rocket::launch;
    /// use rocket_mongo_session::Sessions;
    /// use rocket_mongo_session::mongodb::{Client, bson::Document};
    ///
    /// #[launch]
    /// async fn rocket() -> _ {
    ///     let url = "mongodb://localhost:27017/?maxPoolSize=32&serverSelectionTimeoutMS=5000";
    ///     let client = Client::with_uri_str(url).await.expect("a MongoDB URL");
    ///     let collection = client.database("my_app").collection::<Document>("session");
    ///     rocket::build().attach(Sessions::in_collection(collection))
    /// }
    /// ```
    #[must_use]
    pub fn in_collection<T: Send + Sync>(collection: mongodb::Collection<T>) -> SessionFairing {
        let sessions = collection.clone_with_type();
        SessionFairing::new(Backend::Collection(sessions))
    }

    /// Returns the fairing that shares the application's own database pool; the example is at
    /// [`MongoPool`].
    ///
    /// Attach `Db::init()` before or after it. `[default.session]` names the collection. The pool's
    /// `max_connections` holds, by default 4 for each of Rocket's `workers`.
    #[must_use]
    #[doc(alias = "share a connection pool")]
    pub fn in_database<Db: Database<Pool = MongoPool>>() -> SessionFairing {
        SessionFairing::new(Backend::Database {
            name: Db::NAME,
            pool: |rocket| rocket.state::<Db>().map(|db| MongoPool::clone(db)),
        })
    }

    /// Returns the fairing that keeps sessions in the memory of this process in every profile, for
    /// tests.
    ///
    /// # Examples
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
    #[doc(alias("mock", "testing"))]
    pub fn in_memory() -> SessionFairing {
        SessionFairing::new(Backend::Memory)
    }

    /// Returns the fairing that keeps sessions in this store.
    #[cfg(feature = "unstable-store")]
    #[doc(hidden)]
    #[must_use]
    pub fn with_store(store: impl Store) -> SessionFairing {
        SessionFairing::new(Backend::Store(Arc::new(store)))
    }
}

impl SessionFairing {
    fn new(backend: Backend) -> Self {
        SessionFairing {
            kind: KindInfo::of::<Main>(),
            backend,
            clock: Clock::default(),
        }
    }

    /// Makes it the fairing of a further [`Kind`] of session.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rocket_mongo_session::{Kind, Sessions};
    /// # struct Admin;
    /// # impl Kind for Admin {
    /// #     const NAME: &'static str = "admin";
    /// # }
    /// # fn build() -> rocket::Rocket<rocket::Build> {
    /// rocket::build() // for tests: both kinds in memory
    ///     .attach(Sessions::in_memory())
    ///     .attach(Sessions::in_memory().for_kind::<Admin>())
    /// # }
    /// ```
    #[must_use]
    pub fn for_kind<K: Kind>(mut self) -> Self {
        self.kind = KindInfo::of::<K>();
        self
    }

    /// Sets the clock of every session: one that a test moves
    /// ([`testing::Clock`](crate::testing::Clock), where the example is).
    #[must_use]
    pub fn with_clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }
}

opaque_debug!(SessionFairing);

#[async_trait]
impl Fairing for SessionFairing {
    fn info(&self) -> Info {
        Info {
            name: "Sessions",
            kind: On::Ignite | On::Request | On::Response,
        }
    }

    /// Attaches the fairing that attaches the commit. Rocket runs fairings in the order in which they
    /// were attached, and fairings that an ignite fairing attaches come last; two levels deep it also
    /// comes after the fairings that a stage of the application attaches.
    async fn on_ignite(&self, rocket: Rocket<Build>) -> Ignition {
        Ok(rocket.attach(StoreInit {
            kind: self.kind,
            backend: self.backend.clone(),
            clock: self.clock.clone(),
            is_retry: false,
        }))
    }

    /// Records when the request began.
    async fn on_request(&self, request: &mut Request<'_>, _: &mut Data<'_>) {
        (self.kind.cache)(request, &self.clock);
    }

    /// Settles the handler's changes. Response fairings that follow may use the session as handlers
    /// do.
    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        let kinds = request.rocket().state::<Arc<Kinds>>();
        for kind in kinds.map_or(&[][..], |kinds| kinds.all()) {
            response::settle_changes(kind, request, response);
        }
    }
}

/// Opens the store and manages the kind's [`Sessions`], after the application has attached its
/// database pool.
struct StoreInit {
    kind: KindInfo,
    backend: Backend,
    clock: Clock,
    is_retry: bool,
}

impl StoreInit {
    async fn open(&self, rocket: &Rocket<Build>) -> Result<(Config, Opened), OpenError> {
        self.kind.check_name()?;
        let config = Config::from_section(rocket.figment(), self.kind.section());
        let config = config.map_err(OpenError::Config)?;
        let opened = self.backend.open(rocket, &config, &self.clock).await?;
        Ok((config, opened))
    }

    fn attached(&self, config: Config, opened: Opened) -> Attached {
        let (store, connections) = (opened.store, opened.connections);
        Attached {
            kind: self.kind,
            sessions: Sessions::new(config, store, self.clock.clone(), connections),
            namespace: opened.namespace,
            warnings: opened.warnings,
            pool: opened.pool,
            mark: self.kind.mark_name(),
            unfit_domains: UnfitDomains::default(),
        }
    }
}

#[async_trait]
impl Fairing for StoreInit {
    fn info(&self) -> Info {
        Info {
            name: "Session Store",
            kind: On::Ignite,
        }
    }

    async fn on_ignite(&self, rocket: Rocket<Build>) -> Ignition {
        if (self.kind.is_managed)(&rocket) {
            rocket::error!(
                "Sessions: two session fairings of the kind `{}` are attached; attach one",
                self.kind.name
            );
            return Err(rocket);
        }
        let (config, opened) = match self.open(&rocket).await {
            Ok(opened) => opened,
            // A stage that ignites after this fairing may attach the pool.
            Err(OpenError::NoPool(_)) if !self.is_retry => {
                return Ok(rocket.attach(StoreInit {
                    kind: self.kind,
                    backend: self.backend.clone(),
                    clock: self.clock.clone(),
                    is_retry: true,
                }));
            }
            Err(reason) => {
                reason.report();
                return Err(rocket);
            }
        };
        let attached = self.attached(config, opened);
        let sessions = attached.sessions.clone();
        let rocket = match rocket.state::<Arc<Kinds>>() {
            Some(_) => rocket,
            None => {
                let kinds = Arc::new(Kinds::default());
                let commit = CommitFairing {
                    kinds: Arc::clone(&kinds),
                    maintenance: OnceLock::new(),
                };
                rocket.manage(kinds).attach(commit)
            }
        };
        let joined = match rocket.state::<Arc<Kinds>>() {
            Some(kinds) => kinds.join(attached, rocket.figment()),
            None => Ok(()), // it is managed above
        };
        if let Err(reason) = joined {
            reason.report();
            return Err(rocket);
        }
        Ok((self.kind.manage)(rocket, sessions))
    }
}

/// Commits the sessions of each response, of all kinds, after every other response fairing.
struct CommitFairing {
    kinds: Arc<Kinds>,
    /// They end with the application, also one that is dropped without a shutdown, as a local client
    /// is.
    maintenance: OnceLock<Vec<MaintenanceTask>>,
}

#[async_trait]
impl Fairing for CommitFairing {
    fn info(&self) -> Info {
        Info {
            name: "Session Commit",
            kind: On::Liftoff | On::Response | On::Shutdown,
        }
    }

    async fn on_liftoff(&self, rocket: &Rocket<Orbit>) {
        let kinds = self.kinds.all();
        let core = |kind: &Attached| Arc::clone(&kind.sessions.core);
        self.maintenance.get_or_init(|| {
            let tasks = kinds.iter().map(|kind| MaintenanceTask::spawn(core(kind)));
            tasks.collect()
        });
        for kind in kinds {
            announce(kind, rocket);
        }
        for section in unused_sections(rocket.figment(), kinds) {
            rocket::warn!(
                "Sessions: [default.{section}] configures nothing, because no kind of session of this \
                 name is attached; remove it, or attach `Sessions::fairing_of`"
            );
        }
        if rocket.figment().profile() == rocket::Config::DEBUG_PROFILE {
            return;
        }
        if command_tracing::is_logged() {
            rocket::warn_!(
                "the log takes the driver's command tracing, which shows session values and CSRF \
                 secrets; set the level of `mongodb::command` to \"info\", or leave out the driver's \
                 feature `tracing-unstable`"
            );
        }
        if rocket.config().log_level == LogLevel::Debug {
            rocket::warn_!(
                "`log_level = \"debug\"` makes Rocket log whole requests and responses, session \
                 cookies included; use \"normal\" or \"critical\""
            );
        }
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        response::commit(self.kinds.all(), request, response).await;
    }

    /// Waits for writes that outlived their request, and writes recorded touches. Requests that are
    /// still running write their own.
    async fn on_shutdown(&self, rocket: &Rocket<Orbit>) {
        for kind in self.kinds.all() {
            kind.sessions.core.live.stop();
        }
        for task in self.maintenance.get().into_iter().flatten() {
            task.stop();
        }
        let grace = rocket.config().shutdown.grace;
        let grace = Duration::from_secs(grace.into());
        let flushes = self.kinds.all().iter().map(|kind| async move {
            let core = &kind.sessions.core;
            core.tasks.wait(grace.min(core.config.deadline)).await;
            core.store.flush(grace).await;
        });
        join_all(flushes).await;
    }
}

/// Logs where the sessions of a kind are kept, the configuration in effect, and warnings.
fn announce(kind: &Attached, rocket: &Rocket<Orbit>) {
    let core = &kind.sessions.core;
    match kind.kind.name {
        Main::NAME => rocket::info!("Sessions:"),
        name => rocket::info!("Sessions of the kind `{name}`:"),
    }
    rocket::info_!("kept: {}", core.store.describe());
    if let Some(pool) = &kind.pool {
        rocket::info_!("connections: {pool}");
    }
    for (key, value) in core.config.lines() {
        rocket::info_!("{key}: {value}");
    }
    let profile = rocket.figment().profile();
    if profile == rocket::Config::DEBUG_PROFILE {
        return;
    }
    let warnings = core.config.warnings(profile);
    for warning in warnings.iter().chain(&kind.warnings) {
        rocket::warn_!("{warning}");
    }
}
