//! The shop, in this process, on a port of its own.

use std::path::Path;
use std::sync::Mutex;

use rocket::config::{Config, LogLevel, Shutdown};
use rocket::fairing::AdHoc;
use rocket::figment::Figment;
use rocket::figment::providers::{Format, Toml};
use rocket::tokio::sync::oneshot;
use rocket::tokio::task::JoinHandle;
use rocket::{Build, Rocket, tokio};
use rocket_mongo_session::Sessions;
use rocket_mongo_session::testing::Clock;

/// An open shop; it closes when this is dropped.
pub struct Shop {
    port: u16,
    /// The sessions' time, which stands still until a test moves it.
    pub clock: Clock,
    pub sessions: Sessions,
    stop: rocket::Shutdown,
    launch: Option<JoinHandle<()>>,
}

impl Shop {
    /// On the embedded store.
    pub async fn open() -> Shop {
        Shop::open_with(figment()).await
    }

    pub async fn open_with(figment: Figment) -> Shop {
        let clock = Clock::new();
        let (tell, told) = oneshot::channel();
        let tell = Mutex::new(Some(tell));
        let handle = AdHoc::on_liftoff("Handle", move |rocket| {
            let sessions = rocket.state::<Sessions>().cloned();
            if let Some(tell) = tell.lock().ok().and_then(|mut tell| tell.take()) {
                let _ = tell.send(sessions.expect("the shop has sessions"));
            }
            Box::pin(async {})
        });
        let rocket = showcase::rocket(figment, &clock).attach(handle);
        let (port, stop, launch) = launch(rocket).await;
        Shop {
            port,
            clock,
            sessions: told.await.expect("it has lifted off"),
            stop,
            launch: Some(launch),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub async fn close(mut self) {
        self.stop.clone().notify();
        let launch = self.launch.take().expect("a shop is closed once");
        launch.await.expect("the shop closes");
    }
}

/// The shop's own `Rocket.toml`, in the debug profile, and silent.
pub fn figment() -> Figment {
    profile(Config::debug_default())
}

/// The same in the release profile.
pub fn release_figment() -> Figment {
    profile(Config::release_default())
}

fn profile(default: Config) -> Figment {
    let profile = default.profile.clone();
    let quiet = Config {
        port: 0,
        log_level: LogLevel::Off,
        shutdown: Shutdown {
            ctrlc: false,
            signals: Default::default(),
            grace: 1,
            mercy: 1,
            ..Default::default()
        },
        ..default
    };
    let toml = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Rocket.toml");
    Figment::from(quiet)
        .merge(Toml::file_exact(toml).nested())
        .select(profile)
}

/// Launches an application; its port once it listens.
pub async fn launch(rocket: Rocket<Build>) -> (u16, rocket::Shutdown, JoinHandle<()>) {
    let (tell, told) = oneshot::channel();
    let tell = Mutex::new(Some(tell));
    let rocket = rocket.attach(AdHoc::on_liftoff("Open", move |rocket| {
        if let Some(tell) = tell.lock().ok().and_then(|mut tell| tell.take()) {
            let _ = tell.send((rocket.config().port, rocket.shutdown()));
        }
        Box::pin(async {})
    }));
    let launch = tokio::spawn(async {
        // An error panics when it is dropped unseen.
        if let Err(error) = rocket.launch().await {
            panic!("it does not launch: {error}");
        }
    });
    let (port, stop) = told.await.expect("it launches");
    (port, stop, launch)
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.stop.clone().notify();
    }
}
