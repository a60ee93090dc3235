//! `App`: the application under test, in this process, on a real socket.

use std::net::SocketAddr;

use rocket::config::LogLevel;
use rocket::fairing::AdHoc;
use rocket::figment::{Figment, Profile, providers::Serialized, value::Value};
use rocket::tokio::sync::mpsc;
use rocket::tokio::task::{JoinHandle, yield_now};
use rocket::tokio::{select, spawn};
use rocket::{Build, Config, Error, Ignite, Rocket, Shutdown, config};

use super::http::{Browser, Request, Response};

/// A launched application. It is told to stop when this is dropped.
pub struct App {
    addr: SocketAddr,
    stop: Shutdown,
    launch: Option<JoinHandle<Result<Rocket<Ignite>, Error>>>,
}

impl App {
    /// Launches it; returns once its port is open and liftoff was announced.
    pub async fn launch(rocket: Rocket<Build>) -> App {
        App::try_launch(rocket)
            .await
            .unwrap_or_else(|error| panic!("the application does not launch: {error}"))
    }

    /// As `launch`, for an application that may refuse to.
    pub async fn try_launch(rocket: Rocket<Build>) -> Result<App, Error> {
        let (tell, mut told) = mpsc::unbounded_channel();
        let rocket = rocket.attach(AdHoc::on_liftoff(
            "tests: where it listens",
            move |rocket| {
                Box::pin(async move {
                    // Until every other fairing was told of the liftoff, wherever it was attached.
                    yield_now().await;
                    // Port 0 became a real one by now.
                    let config = rocket.config();
                    let address = SocketAddr::new(config.address, config.port);
                    let _ = tell.send((address, rocket.shutdown()));
                })
            },
        ));
        let mut launch = spawn(rocket.launch());
        select! {
            Some((addr, stop)) = told.recv() => Ok(App { addr, stop, launch: Some(launch) }),
            ended = &mut launch => match ended.expect("the launch ends without a panic") {
                Ok(_) => panic!("the application stopped before its liftoff"),
                Err(error) => Err(error),
            },
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A browser that knows nothing yet.
    pub fn browser(&self) -> Browser {
        Browser::new(self.addr)
    }

    pub async fn send(&self, request: Request) -> Response {
        request.send(self.addr).await
    }

    /// Without any cookie.
    pub async fn get(&self, path: &str) -> Response {
        self.send(Request::get(path)).await
    }

    pub async fn post(&self, path: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Response {
        self.send(
            Request::post(path)
                .header("Content-Type", content_type)
                .body(body),
        )
        .await
    }

    /// After a shutdown was requested: running requests end, and new ones are refused.
    pub fn when_told_to_stop(&self) -> impl Future<Output = ()> + use<> {
        self.stop.clone()
    }

    /// Asks it to stop and waits until it did.
    pub async fn shutdown(mut self) -> Result<Rocket<Ignite>, Error> {
        self.stop.clone().notify();
        let launch = self
            .launch
            .take()
            .expect("an application is shut down once");
        launch.await.expect("the application ends without a panic")
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.stop.clone().notify();
    }
}

/// Tests that run unsealed, by the beginnings of their names.
const UNSEALED: &[&str] = &[
    // Jobs read or change values.
    "admin::edit_",
    "admin::export_of_one",
    "admin::of_user_export",
    "admin::of_user_flash",
    "sharded::every_call",
    // Every field of a document that is stored plain.
    "documents::fields::a_document_has",
    "documents::fields::a_session_is_the_document",
    // Values of sessions whose cookies no browser has.
    "robustness::faults::commands::",
    // Commands, or increments that share one; sealed, they are stored one by one.
    "batching::sharing::",
    "batching::round_trips::a_renewal_is",
    "batching::round_trips::a_write_is",
    "robustness::reproduced::numbering::batch_",
    "robustness::faults::shutdown::commits_in_flight",
    "sharded::increments_whose_replies",
];

/// Whether this thread runs one of them: the test's name is the thread's.
fn runs_unsealed() -> bool {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or_default();
    UNSEALED.iter().any(|test| name.starts_with(test))
}

/// The configuration of an application under test: Rocket's own defaults, a port of its own,
/// silence, the address of the database if there is one, and the keys of `session`, whatever
/// `Rocket.toml` or the environment say. With the environment variable `SEAL` sessions are sealed,
/// unless `session` says otherwise.
///
/// ```ignore
/// figment("debug", Some(&url), &[("timeout", 5.into()), ("encoding", "binary".into())])
/// ```
pub fn figment(profile: &str, url: Option<&str>, session: &[(&str, Value)]) -> Figment {
    let config = Config {
        port: 0,
        log_level: LogLevel::Off,
        cli_colors: false,
        shutdown: config::Shutdown {
            // Ctrl-C is for the test binary.
            ctrlc: false,
            #[cfg(unix)]
            signals: Default::default(),
            grace: 1,
            mercy: 1,
            ..Default::default()
        },
        ..Config::debug_default()
    };
    let mut figment = Figment::from(config).select(Profile::new(profile));
    // As in a file's [default.databases.sessions] and [default.session].
    if let Some(url) = url {
        figment = figment.merge(Serialized::default("databases.sessions.url", url));
    }
    if std::env::var_os("SEAL").is_some() && !runs_unsealed() {
        figment = figment.merge(Serialized::default("session.seal", true));
    }
    for (key, value) in session {
        figment = figment.merge(Serialized::default(&format!("session.{key}"), value));
    }
    figment
}
