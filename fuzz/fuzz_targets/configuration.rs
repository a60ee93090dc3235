//! Configuration: every text is read or refused, and what is read makes a legal cookie.
//!
//! The input is the inside of `[default.session]`, in TOML; its first byte chooses the profile.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rocket::config::LogLevel;
use rocket::figment::Figment;
use rocket::figment::providers::{Format, Toml};
use rocket::local::asynchronous::Client;
use rocket::tokio::runtime::Runtime;
use rocket::{post, routes};
use rocket_mongo_session::{Error, Session, Sessions};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

#[post("/")]
fn write(session: &Session) -> Result<(), Error> {
    session.login("alice")
}

fuzz_target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let profile = if first % 2 == 0 { "debug" } else { "release" };
    let config = rocket::Config {
        log_level: LogLevel::Off,
        cli_colors: false,
        ..rocket::Config::debug_default()
    };
    let toml = format!("[default.session]\n{text}\n");
    let figment = Figment::from(config)
        .merge(Toml::string(&toml).nested())
        .select(profile);
    // What is no TOML is Rocket's to refuse, and by a panic.
    if figment.data().is_err() {
        return;
    }
    RUNTIME.block_on(async {
        let rocket = rocket::custom(figment)
            .attach(Sessions::in_memory())
            .mount("/", routes![write]);
        match Client::untracked(rocket).await {
            Err(error) => drop(error.to_string()), // looked at, or it panics
            Ok(client) => {
                let answer = client.post("/").dispatch().await;
                let lines: Vec<&str> = answer.headers().get("Set-Cookie").collect();
                assert_eq!(lines.len(), 1, "{lines:?}");
                let line = lines[0];
                assert!(line.bytes().all(|b| (0x20..0x7f).contains(&b)), "{line:?}");
                let (name, rest) = line.split_once('=').expect("a cookie");
                let value = rest.split(';').next().unwrap_or_default();
                assert_eq!(value.len(), 66, "{line:?}");
                if name.to_ascii_lowercase().starts_with("__host-") {
                    assert!(line.contains("; Secure") && line.contains("; Path=/"));
                    assert!(!line.contains("; Domain="), "{line:?}");
                    assert!(name.starts_with("__Host-"), "{line:?}");
                }
                if line.contains("SameSite=None") || line.contains("; Partitioned") {
                    assert!(line.contains("; Secure"), "{line:?}");
                }
            }
        }
    });
});
