//! Readiness, for the probes of an orchestrator.

use crate::admin::Sessions;

impl Sessions {
    /// Returns whether requests can be sent to this process: its store has answered once, and it is not
    /// shutting down.
    ///
    /// A later outage of the database does not make a process unready: all of them would be taken out of
    /// service at once, and visitors would get no page at all, not even the application's 503. A process
    /// asks its store by itself from launch on.
    ///
    /// No round trip.
    ///
    /// # Examples
    ///
    /// ```
    /// use rocket::http::Status;
    /// use rocket::{get, routes};
    /// use rocket_mongo_session::Sessions;
    ///
    /// #[get("/ready")]
    /// fn ready(sessions: &Sessions) -> Status {
    ///     if sessions.is_ready() { Status::Ok } else { Status::ServiceUnavailable }
    /// }
    ///
    /// /// Never asks the database: a restart does not repair it.
    /// #[get("/alive")]
    /// fn alive() {}
    ///
    /// # fn build() -> rocket::Rocket<rocket::Build> {
    /// rocket::build().attach(Sessions::fairing()).mount("/", routes![ready, alive])
    /// # }
    /// ```
    #[must_use]
    #[doc(alias("health", "healthz", "readyz", "probe"))]
    pub fn is_ready(&self) -> bool {
        self.core.is_ready()
    }
}
