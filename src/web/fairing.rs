//! The fairings: ignition, liftoff, request, response and shutdown.
//!
//! 1. [`SessionFairing`] is attached by the application, one for each kind of session. It records when
//!    a request begins, and settles the handler's changes. At ignition it attaches the next one.
//! 2. [`StoreInit`] opens the store and manages the kind's [`Sessions`]. When the application's
//!    database pool is not there yet, it attaches itself once more.
//! 3. [`CommitFairing`] is attached by the first of them, one for all kinds. It commits each response,
//!    after every other response fairing, starts the maintenance, and shuts down.

use std::sync::Arc;
use std::time::Duration;

use rocket::config::LogLevel;
use rocket::fairing::{Fairing, Info, Kind as On, Result as Ignition};
use rocket::futures::future::join_all;
use rocket::tokio::task::JoinSet;
use rocket::{Build, Data, Orbit, Request, Response, Rocket, async_trait};

use crate::admin::Sessions;
use crate::clock::Clock;
use crate::config::Config;
use crate::debug::opaque_debug;
use crate::lock::Mutex;
use crate::web::backend::{Backend, OpenError, Opened};
use crate::web::cookie::UnfitDomains;
use crate::web::kind::{Attached, Kind, KindInfo, Kinds, Main, unused_sections};
use crate::web::pool::command_tracing;
use crate::web::{maintenance, response};

/// The session fairing, made by the constructors of [`Sessions`].
///
/// It commits sessions after every other response fairing of the application, so that changes which
/// those make to the session are kept. Attach it before fairings that use the session themselves or
/// remove `Set-Cookie` headers; otherwise its position does not matter. With
/// `set_on_exception = false`, a response fairing that is attached before it and uses the session
/// makes the request lose its changes, and the log warns of it.
#[doc(alias("middleware", "session store"))]
pub struct SessionFairing(StoreInit);

impl SessionFairing {
    pub(super) fn new(backend: Backend) -> Self {
        SessionFairing(StoreInit {
            kind: KindInfo::of::<Main>(),
            backend,
            clock: Clock::default(),
            is_retry: false,
        })
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
        self.0.kind = KindInfo::of::<K>();
        self
    }

    /// Sets the clock of every session: one that a test moves
    /// ([`testing::Clock`](crate::testing::Clock), where the example is).
    #[must_use]
    pub fn with_clock(mut self, clock: &Clock) -> Self {
        self.0.clock = clock.clone();
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
        Ok(rocket.attach(self.0.clone()))
    }

    /// Records when the request began.
    async fn on_request(&self, request: &mut Request<'_>, _: &mut Data<'_>) {
        (self.0.kind.cache)(request, &self.0.clock);
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
#[derive(Clone)]
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
            pool_line: opened.pool_line,
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
                let mut again = self.clone();
                again.is_retry = true;
                return Ok(rocket.attach(again));
            }
            Err(reason) => {
                reason.report();
                return Err(rocket);
            }
        };
        let attached = self.attached(config, opened);
        let sessions = attached.sessions.clone();
        let (rocket, kinds) = match rocket.state::<Arc<Kinds>>().cloned() {
            Some(kinds) => (rocket, kinds),
            None => {
                let kinds = Arc::<Kinds>::default();
                let commit = CommitFairing {
                    kinds: Arc::clone(&kinds),
                    maintenance: Mutex::default(),
                };
                (rocket.manage(Arc::clone(&kinds)).attach(commit), kinds)
            }
        };
        if let Err(reason) = kinds.join(attached, rocket.figment()) {
            reason.report();
            return Err(rocket);
        }
        Ok((self.kind.manage)(rocket, sessions))
    }
}

/// Commits the sessions of each response, of all kinds, after every other response fairing.
struct CommitFairing {
    kinds: Arc<Kinds>,
    /// The tasks end with the application, also with one that is dropped without a shutdown, as a
    /// local client is.
    maintenance: Mutex<JoinSet<()>>,
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
        for kind in kinds {
            let task = maintenance::run(Arc::clone(&kind.sessions.core));
            self.maintenance.lock().spawn(task);
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
        self.maintenance.lock().abort_all();
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
    if let Some(line) = &kind.pool_line {
        rocket::info_!("connections: {line}");
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
