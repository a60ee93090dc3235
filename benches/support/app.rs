//! The applications that are measured: the same routes with sessions and by hand. Each runs in its
//! own process, which is this binary again, so that its CPU time is measured separately.
//!
//! The handlers by hand use the driver for speed alone: typed structs with the fields that the
//! handler needs, one `find_one`, one `update_one`; no token, no touch, no cache headers.

use std::io::{Read, Write};

use rocket::config::LogLevel;
use rocket::fairing::AdHoc;
use rocket::figment::{Figment, Profile, providers::Serialized};
use rocket::{Build, Config, Rocket, config};

mod by_hand;
mod held;
mod with_session;

/// The key that the handlers count in, and the two halves of the keys around it in a large session.
pub const COUNTER: &str = "n";
pub const BEFORE: &str = "a";
pub const AFTER: &str = "z";

/// The first argument of a process that is an application.
pub const AS_APP: &str = "--as-app";

/// How an application is started.
#[derive(Clone, Debug)]
pub struct Settings {
    pub kind: Kind,
    /// The database's address; empty = sessions in memory.
    pub url: String,
    pub collection: String,
    /// Whether writes wait for the majority, which the session layer asks for by itself.
    pub majority: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    ByHand,
    Session { share: bool, seal: bool },
}

impl Settings {
    /// As the arguments of a process.
    pub fn to_args(&self) -> Vec<String> {
        let kind = match self.kind {
            Kind::ByHand => "by-hand",
            Kind::Session { seal: true, .. } => "sealed",
            Kind::Session { share: true, .. } => "shared",
            Kind::Session { share: false, .. } => "alone",
        };
        let majority = if self.majority { "majority" } else { "-" };
        [AS_APP, kind, &self.url, &self.collection, majority]
            .map(str::to_owned)
            .into()
    }

    fn from_args(args: &[String]) -> Option<Settings> {
        let [mark, kind, url, collection, majority] = args else {
            return None;
        };
        let kind = match kind.as_str() {
            "by-hand" => Kind::ByHand,
            kind => Kind::Session {
                share: kind != "alone",
                seal: kind == "sealed",
            },
        };
        (mark == AS_APP).then(|| Settings {
            kind,
            url: url.clone(),
            collection: collection.clone(),
            majority: majority == "majority",
        })
    }
}

/// Is the application that the arguments ask for, until its parent goes; `false` when they ask for
/// none.
pub fn run_if_asked() -> bool {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(settings) = Settings::from_args(&args) else {
        return false;
    };
    // The parent holds the other end, and takes it along however it ends.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let launched = rocket::execute(async move { build(&settings).await.launch().await });
    if let Err(error) = launched {
        panic!("the application does not launch: {error}");
    }
    true
}

pub async fn build(settings: &Settings) -> Rocket<Build> {
    let rocket = rocket::custom(figment(settings))
        .attach(AdHoc::on_liftoff("Tell the Port", |rocket| {
            println!("{}", rocket.config().port);
            let _ = std::io::stdout().flush();
            Box::pin(async {})
        }))
        .manage(held::Held::default());
    match settings.kind {
        Kind::ByHand => by_hand::routes(rocket, settings).await,
        Kind::Session { .. } => with_session::routes(rocket, settings),
    }
}

/// With the environment's `SEAL=1` all sessions are sealed: for `scripts/instructions`. The other
/// benchmarks give the application by hand the documents of the first application with sessions.
fn is_sealed() -> bool {
    std::env::var_os("SEAL").is_some()
}

/// Rocket's own defaults for production but for the port, and no log. No file, no environment.
fn figment(settings: &Settings) -> Figment {
    let config = Config {
        port: 0,
        log_level: LogLevel::Off,
        cli_colors: false,
        shutdown: config::Shutdown {
            ctrlc: false,
            ..Default::default()
        },
        ..Config::release_default()
    };
    let mut figment = Figment::from(config).select(Profile::const_new("release"));
    if let Kind::Session { share, seal } = settings.kind {
        // Longer than a benchmark. From 100 seconds on the length changes nothing else.
        let keys = [("timeout", 86_400)];
        for (key, value) in keys {
            figment = figment.merge(Serialized::default(&format!("session.{key}"), value));
        }
        figment = figment
            .merge(Serialized::default("session.share", share))
            .merge(Serialized::default("session.max_bytes", "4MiB"))
            .merge(Serialized::default("session.seal", seal || is_sealed()))
            .merge(Serialized::default(
                "session.collection",
                &settings.collection,
            ));
        if !settings.url.is_empty() {
            figment = figment.merge(Serialized::default("databases.sessions.url", &settings.url));
        }
    }
    figment
}
