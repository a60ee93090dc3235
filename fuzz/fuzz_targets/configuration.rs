//! Configuration: every text launches, and then the cookie is what it says, or is refused with a
//! message that names the key.
//!
//! The input is the inside of `[default.session]`, in TOML; its first byte chooses the profile.
#![cfg_attr(fuzzing, no_main)]

use std::ops::RangeInclusive;
use std::sync::{LazyLock, Mutex};

use log::{LevelFilter, Log, Metadata, Record};
use rocket::config::LogLevel;
use rocket::figment::providers::{Format, Toml};
use rocket::figment::value::{Dict, Value};
use rocket::figment::{Figment, Profile, Provider};
use rocket::http::Header;
use rocket::http::uri::Origin;
use rocket::local::asynchronous::Client;
use rocket::tokio::runtime::Runtime;
use rocket::{get, post, routes};
use rocket_mongo_session::testing::Clock;
use rocket_mongo_session::{Error, Session, Sessions};
use rocket_mongo_session_fuzz::{is_token, lock, target};

const KEYS: [&str; 26] = [
    "collection",
    "database",
    "cookie_name",
    "max_age",
    "path",
    "domain",
    "secure",
    "http_only",
    "httponly",
    "same_site",
    "partitioned",
    "timeout",
    "lifetime",
    "reissue_time",
    "set_on_exception",
    "encoding",
    "max_bytes",
    "deadline",
    "trusted_origins",
    "max_per_user",
    "record_client",
    "client_ip_header",
    "trusted_proxies",
    "legacy_ids",
    "share",
    "indexes",
];

/// Those whose values are numbers, and which whole ones are taken.
const RANGES: [(&str, RangeInclusive<i128>); 7] = [
    ("max_age", 1..=400 * 86_400),
    ("timeout", 1..=100 * 365 * 86_400),
    ("lifetime", 1..=100 * 365 * 86_400),
    ("reissue_time", 0..=100 * 365 * 86_400),
    ("max_bytes", 1..=8 << 20),
    ("deadline", 1..=300),
    ("max_per_user", 1..=u32::MAX as i128),
];

const FLAGS: [&str; 9] = [
    "secure",
    "http_only",
    "httponly",
    "partitioned",
    "set_on_exception",
    "record_client",
    "legacy_ids",
    "share",
    "indexes",
];

/// Those that `false` unsets.
const OPTIONAL: [&str; 9] = [
    "database",
    "max_age",
    "domain",
    "same_site",
    "timeout",
    "lifetime",
    "reissue_time",
    "max_per_user",
    "client_ip_header",
];

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    log::set_logger(&Said).expect("the first logger");
    log::set_max_level(LevelFilter::Info);
    Runtime::new().expect("a runtime")
});

/// What was logged since it was last looked at.
static SAID: Mutex<String> = Mutex::new(String::new());

struct Said;

impl Log for Said {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut said = lock(&SAID);
        *said += &format!("{}\n", record.args());
    }

    fn flush(&self) {}
}

#[post("/<_..>")]
fn login(session: &Session) -> Result<(), Error> {
    session.login("alice")
}

#[get("/<_..>")]
fn user(session: &Session) -> String {
    session.user().ok().flatten().unwrap_or_default()
}

target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // figment refuses invalid TOML.
    let Ok(mut read) = Toml::string(text).data() else {
        return;
    };
    let section = read.remove(&Profile::Default).unwrap_or_default();
    let config = rocket::Config {
        log_level: LogLevel::Normal,
        cli_colors: false,
        ..rocket::Config::debug_default()
    };
    let debug = first % 2 == 0;
    let figment = Figment::from(config)
        .merge(("session", section.clone()))
        .select(if debug { "debug" } else { "release" });
    RUNTIME.block_on(async {
        let rocket = rocket::custom(figment)
            .attach(Sessions::in_memory().with_clock(&Clock::new()))
            .mount("/", routes![login, user]);
        lock(&SAID).clear();
        let launched = Client::untracked(rocket).await;
        let said = std::mem::take(&mut *lock(&SAID));
        if let Some(legal) = is_legal(&section, debug) {
            assert_eq!(launched.is_ok(), legal, "{section:?}: {said}");
        }
        match launched {
            Err(error) => {
                drop(error.to_string()); // looked at, or it panics
                refused(&section, &said);
            }
            Ok(client) => serves(&client, &section, debug).await,
        }
    });
});

/// Whether it has to launch; `None` where a text or a fraction says so. Of booleans and whole
/// numbers every one is legal or not by itself, and three pairs are left to look at.
fn is_legal(section: &Dict, debug: bool) -> Option<bool> {
    let flag = |key: &str, default: bool| section.get(key).map_or(Some(default), Value::to_bool);
    let number = |key: &str, default: i128| match section.get(key) {
        None => Some(default),
        Some(Value::Bool(..)) => None,
        Some(value) => value.to_i128(),
    };
    for (key, value) in section {
        let is_known = KEYS.contains(&key.as_str());
        let is_legal = match value {
            _ if !is_known => false,
            Value::Bool(_, flag) => {
                FLAGS.contains(&key.as_str()) || (!flag && OPTIONAL.contains(&key.as_str()))
            }
            Value::Num(_, number) if number.to_f64().is_none() => {
                let mut ranges = RANGES.iter().filter(|(name, _)| name == key);
                let number = value.to_i128();
                ranges.any(|(_, range)| number.is_some_and(|number| range.contains(&number)))
            }
            // A table is never one; a list is that of `trusted_origins`.
            Value::Dict(..) | Value::Empty(..) => false,
            _ => return None,
        };
        if !is_legal {
            return Some(false);
        }
    }
    let secure = flag("secure", !debug) == Some(true);
    let twice = section.contains_key("http_only") && section.contains_key("httponly");
    let partitioned = flag("partitioned", false) == Some(true);
    let idles = number("reissue_time", 0)
        .zip(number("timeout", 1200))
        .is_some_and(|(reissue, timeout)| reissue >= timeout);
    Some(!twice && !idles && (secure || !partitioned))
}

/// It says which key, each unknown one by name, and repeats nothing that may be an address with a
/// password.
fn refused(section: &Dict, said: &str) {
    let mut keys = section.keys();
    let named = keys.any(|key| said.contains(&format!("session.{key}")));
    assert!(named, "{section:?}: {said}");
    for key in section.keys() {
        let known = KEYS.contains(&key.as_str());
        assert!(
            known || said.contains(&format!("unknown key `{key}`")),
            "{said}"
        );
    }
    for (key, value) in section {
        if let Some(text) = value.as_str()
            && text.contains('@')
            && text.contains("://")
        {
            let elsewhere = section.keys().any(|key| key.contains(text));
            assert!(
                elsewhere || !said.contains(text),
                "{key} is repeated: {said}"
            );
        }
    }
}

/// What launched knows every key, and its cookie is as configured and works.
async fn serves(client: &Client, section: &Dict, debug: bool) {
    for key in section.keys() {
        assert!(KEYS.contains(&key.as_str()), "{key}");
    }
    // A session is created inside of the cookie's path alone.
    let path = section.get("path").and_then(Value::as_str).unwrap_or("/");
    let Some(uri) = Origin::parse(path).ok().filter(Origin::is_normalized) else {
        return; // a path that no request has
    };
    let response = client.post(uri.clone()).dispatch().await;
    assert_eq!(response.status().code, 200);
    let lines: Vec<&str> = response.headers().get("Set-Cookie").collect();
    let [line] = lines.as_slice() else {
        panic!("{lines:?}");
    };
    assert!(line.bytes().all(|b| (0x20..0x7f).contains(&b)), "{line:?}");
    let mut parts = line.split("; ");
    let (name, token) = parts
        .next()
        .and_then(|pair| pair.split_once('='))
        .expect("a cookie");
    let attributes: Vec<&str> = parts.collect();
    assert!(is_token(token), "{line:?}");
    let has = |flag: &str| attributes.contains(&flag);
    let value = |name: &str| {
        let mut values = attributes.iter().filter_map(|attribute| {
            let (this, value) = attribute.split_once('=')?;
            (this == name).then_some(value)
        });
        let value = values.next();
        assert_eq!(values.next(), None, "{line:?}");
        value
    };
    let text = |key: &str| section.get(key).and_then(Value::as_str);
    let flag = |key: &str, default: bool| match section.get(key) {
        Some(value) => value.to_bool().expect("another type is refused"),
        None => default,
    };

    assert_eq!(name, text("cookie_name").unwrap_or("session"));
    assert_eq!(value("Path"), Some(text("path").unwrap_or("/")));
    assert_eq!(has("Secure"), flag("secure", !debug));
    assert_eq!(has("Partitioned"), flag("partitioned", false));
    let http_only = flag("httponly", true) && flag("http_only", true);
    assert_eq!(has("HttpOnly"), http_only);
    let domain = text("domain").map(|name| name.trim_start_matches('.').to_ascii_lowercase());
    assert_eq!(value("Domain").map(str::to_owned), domain, "{line:?}");
    let same_site = match section.get("same_site") {
        Some(Value::Bool(..)) => None,
        _ => Some(text("same_site").unwrap_or("Lax").to_ascii_lowercase()),
    };
    assert_eq!(value("SameSite").map(str::to_ascii_lowercase), same_site);
    let max_age = section.get("max_age");
    if let Some(seconds) = max_age.and_then(Value::to_i128) {
        let said = value("Max-Age").and_then(|age| age.parse().ok());
        assert_eq!(said, Some(seconds), "{line:?}");
        assert!(seconds <= 400 * 86_400, "longer than browsers keep it");
    } else if max_age.is_none() {
        assert_eq!(value("Max-Age"), None);
    }

    // What browsers refuse, or hold against the name (RFC 6265bis, 4.1.3).
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("__host-")
        || lower.starts_with("__secure-")
        || lower.starts_with("__http-")
    {
        assert!(has("Secure"), "{line:?}");
        assert!(
            ["__Host-", "__Secure-", "__Http-"]
                .iter()
                .any(|p| name.starts_with(p))
        );
    }
    if lower.starts_with("__host-") {
        assert!(
            value("Path") == Some("/") && value("Domain").is_none(),
            "{line:?}"
        );
    }
    if has("Partitioned") || value("SameSite") == Some("None") {
        assert!(has("Secure"), "{line:?}");
    }

    let sent = Header::new("Cookie", format!("{name}={token}"));
    let response = client.get(uri).header(sent).dispatch().await;
    assert_eq!(response.into_string().await.as_deref(), Some("alice"));
}
