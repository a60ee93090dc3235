//! Real `Rocket.toml` files, read by a process of their own: what it prints is what is tested.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use rocket::fairing::AdHoc;
use rocket::tokio::process::Command;
use rocket_mongo_session::Sessions;
use rstest::rstest;

use super::{Shared, visit};
use rocket::{Build, Rocket, routes};
use rocket_db_pools::Database;

/// Not a test: the application that the tests below start, by this name.
#[rocket::async_test]
#[ignore = "it is started by other tests"]
async fn the_application() {
    launch(rocket::build().attach(Sessions::fairing())).await;
}

/// The same with its sessions in a pool of its own, `[default.databases.shared]`.
#[rocket::async_test]
#[ignore = "it is started by other tests"]
async fn the_application_with_a_pool() {
    let rocket = rocket::build().attach(Shared::init());
    launch(rocket.attach(Sessions::in_database::<Shared>())).await;
}

async fn launch(rocket: Rocket<Build>) {
    let stop = AdHoc::on_liftoff("stops at once", |rocket| {
        let shutdown = rocket.shutdown();
        Box::pin(async move { shutdown.notify() })
    });
    let rocket = rocket.mount("/", routes![visit]);
    match rocket.attach(stop).launch().await {
        Ok(_) => println!("LAUNCHED"),
        Err(error) => println!("REFUSED: {error}"),
    }
}

/// What an application with this `Rocket.toml` prints in this profile.
async fn printed(profile: &str, toml: &str, env: &[(&str, &str)]) -> String {
    printed_by("the_application", profile, toml, env).await
}

async fn printed_by(which: &str, profile: &str, toml: &str, env: &[(&str, &str)]) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("rocket_mongo_session-{}-{number}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&dir).expect("a directory");
    let file: PathBuf = dir.join("Rocket.toml");
    std::fs::write(
        &file,
        format!("[default]\nport = 0\ncli_colors = false\n{toml}"),
    )
    .expect("a file");
    let output = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", &format!("config::toml::{which}")])
        .args(["--ignored", "--nocapture"])
        .env("ROCKET_CONFIG", &file)
        .env("ROCKET_PROFILE", profile)
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()
        .await
        .expect("a process");
    std::fs::remove_dir_all(&dir).expect("it goes again");
    let (out, err) = (output.stdout, output.stderr);
    let all = String::from_utf8_lossy(&out).into_owned() + &String::from_utf8_lossy(&err);
    assert!(
        all.contains("LAUNCHED") || all.contains("REFUSED"),
        "{toml}: {all}"
    );
    all
}

pub(super) async fn refused(profile: &str, toml: &str) -> String {
    let all = printed(profile, toml, &[]).await;
    assert!(all.contains("REFUSED"), "{toml}: {all}");
    assert!(!all.contains("panicked"), "{toml}: {all}");
    all
}

pub(super) async fn launched(profile: &str, toml: &str) -> String {
    let all = printed(profile, toml, &[]).await;
    assert!(all.contains("LAUNCHED"), "{toml}: {all}");
    all
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case("timeout", "\"soon\"")]
#[case("timeout", "0")]
#[case("max_age", "-1")]
#[case("lifetime", "nan")]
#[case("reissue_time", "5000")]
#[case("same_site", "\"Sometimes\"")]
#[case("same_site", "\"None\"")]
#[case("cookie_name", "\"a b\"")]
#[case("cookie_name", "\"__Host-s\"")]
#[case("partitioned", "true")]
#[case("path", "\"app\"")]
#[case("domain", "\"com\"")]
#[case("collection", "\"system.x\"")]
#[case("database", "\"a b\"")]
#[case("encoding", "\"pickle\"")]
#[case("max_bytes", "\"1GiB\"")]
#[case("deadline", "0")]
#[case("max_per_user", "0")]
#[case("set_on_exception", "\"maybe\"")]
#[case("trusted_origins", "[\"*\"]")]
#[case("time_out", "5")]
#[case("Timeout", "5")]
async fn a_bad_value_is_refused_with_its_key_and_its_file(#[case] key: &str, #[case] value: &str) {
    let all = refused("debug", &format!("[default.session]\n{key} = {value}\n")).await;
    assert!(all.contains(&format!("default.session.{key}")), "{all}");
    assert!(all.contains("Rocket.toml"), "{all}");
}

#[rocket::async_test]
async fn all_that_is_wrong_is_said_at_once_and_where() {
    let toml = "[default.session]\ntimeout = 0\nfoo = 1\n[release.session]\nmax_age = 0\n";
    let all = refused("release", toml).await;
    for key in [
        "default.session.timeout",
        "default.session.foo",
        "release.session.max_age",
    ] {
        assert!(all.contains(key), "{key}: {all}");
    }
    let env = [("ROCKET_SESSION", "{timeout=0}")];
    let all = printed("debug", "", &env).await;
    assert!(
        all.contains("REFUSED") && all.contains("SESSION.TIMEOUT"),
        "{all}"
    );
    assert!(all.contains("environment"), "{all}");
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case::without_a_name("\"mongodb://bob:hunter2@localhost:27017\"", "session.database")]
#[case::port(
    "\"mongodb://bob:hunter2@localhost:notaport/db\"",
    "databases.sessions.url"
)]
#[case::scheme("\"postgres://bob:hunter2@localhost/db\"", "databases.sessions.url")]
#[case::without_a_host("\"mongodb://bob:hunter2@/db\"", "databases.sessions.url")]
#[case::number("5", "databases.sessions.url")]
#[case::pool(
    "\"mongodb://localhost/db\"\nmax_connections = \"many\"",
    "databases.sessions.max_connections"
)]
async fn a_bad_database_is_refused_without_its_credentials(#[case] url: &str, #[case] key: &str) {
    let all = refused(
        "debug",
        &format!("[default.databases.sessions]\nurl = {url}\n"),
    )
    .await;
    assert!(all.contains(key), "{all}");
    assert!(!all.contains("hunter2"), "{all}");
}

#[rocket::async_test]
async fn a_missing_url_is_named_outside_the_debug_profile() {
    let all = refused("release", "").await;
    assert!(
        all.contains("`databases.sessions.url` is missing in the release profile"),
        "{all}"
    );
    let all = launched("debug", "").await;
    assert!(all.contains("sessions are kept in memory"), "{all}");
}

#[rocket::async_test]
async fn at_launch_it_says_what_is_in_force_and_no_secret() {
    let toml = "[default.databases.sessions]\n\
                url = \"mongodb://bob:hunter2@127.0.0.1:1/my_app\"\n\
                [default.session]\ntimeout = \"77.5\"\ncollection = \"visits\"\n";
    let all = launched("debug", toml).await;
    for said in [
        "my_app.visits",
        "77.5s",
        "session; Path=/",
        "HttpOnly",
        "SameSite=Lax",
    ] {
        assert!(all.contains(said), "{said}: {all}");
    }
    assert!(!all.contains("hunter2"), "{all}");
}

#[rocket::async_test]
async fn what_is_dangerous_is_warned_about_outside_the_debug_profile() {
    let toml = "[default.databases.sessions]\n\
                url = \"mongodb://192.0.2.1/my_app?w=1&readPreference=secondary\"\n\
                [default.session]\nsecure = false\nhttp_only = false\n";
    let signs = [
        "plain http",
        "scripts can read",
        "`w=1`",
        "`readPreference`",
        "without TLS",
        "without credentials",
    ];
    let all = launched("release", toml).await;
    for sign in signs {
        assert!(all.contains(sign), "{sign}: {all}");
    }
    let careful = "[default.databases.sessions]\n\
                   url = \"mongodb://bob:hunter2@192.0.2.1/my_app?tls=true&w=majority\"\n\
                   [default.session]\ncookie_name = \"__Host-session\"\n";
    let all = launched("release", careful).await;
    for sign in signs {
        assert!(!all.contains(sign), "{sign}: {all}");
    }
}

/// How an application has its sessions in a database.
#[derive(Clone, Copy, Debug)]
struct Setup {
    application: &'static str,
    section: &'static str,
}

const OWN: Setup = Setup {
    application: "the_application",
    section: "sessions",
};

const POOL: Setup = Setup {
    application: "the_application_with_a_pool",
    section: "shared",
};

impl Setup {
    async fn printed(self, profile: &str, toml: &str) -> String {
        printed_by(self.application, profile, toml, &[]).await
    }

    fn toml(self, url: &str) -> String {
        at(self.section, url)
    }
}

fn at(section: &str, url: &str) -> String {
    format!("[default.databases.{section}]\nurl = \"{url}\"\n")
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case("tls=true&tlsInsecure=true", "certificate is not checked")]
#[case(
    "tls=true&tlsAllowInvalidCertificates=true",
    "certificate is not checked"
)]
#[case("journal=false", "`journal=false`")]
#[case("retryWrites=false", "`retryWrites=false`")]
#[case("w=1", "`w=1`")]
#[case("readPreference=nearest", "`readPreference`")]
async fn an_address_that_weakens_promises_is_warned_about_outside_the_debug_profile(
    #[case] option: &str,
    #[case] sign: &str,
    #[values(OWN, POOL)] setup: Setup,
) {
    let toml = setup.toml(&format!("mongodb://127.0.0.1:1/my_app?{option}"));
    for (profile, warned) in [("release", true), ("debug", false)] {
        let all = setup.printed(profile, &toml).await;
        assert!(all.contains("LAUNCHED"), "{all}");
        assert_eq!(all.contains(sign), warned, "{profile}: {all}");
    }
}

#[rstest]
#[test_attr(rocket::async_test)]
async fn a_careful_address_is_not_warned_about(#[values(OWN, POOL)] setup: Setup) {
    let careful = setup.toml("mongodb://127.0.0.1:1/my_app?tls=true&journal=true&w=majority");
    let all = setup.printed("release", &careful).await;
    for sign in [
        "not checked",
        "journal",
        "retryWrites",
        "`w=",
        "`readPreference`",
    ] {
        assert!(!all.contains(sign), "{sign}: {all}");
    }
}

#[rstest]
#[test_attr(rocket::async_test)]
async fn an_address_without_acknowledgement_is_refused_with_its_key(
    #[values(OWN, POOL)] setup: Setup,
    #[values("debug", "release")] profile: &str,
) {
    let toml = setup.toml("mongodb://bob:hunter2@127.0.0.1:1/my_app?w=0");
    let all = setup.printed(profile, &toml).await;
    assert!(all.contains("REFUSED"), "{all}");
    let key = format!("databases.{}.url", setup.section);
    assert!(all.contains("`w=0`") && all.contains(&key), "{all}");
    assert!(!all.contains("hunter2"), "{all}");
}

/// A password with a `?`, `/`, `#`, `@` or `%` that is written as it is ends up in other parts of the
/// address, which an error might quote.
#[rstest]
#[test_attr(rocket::async_test)]
#[case("mongodb://app:pa?ss@h/db", ["pa?", "ss@"])]
#[case("mongodb://app:1234?rest@h/db", ["1234", "rest"])]
#[case("mongodb://app:1234/rest@h/db", ["1234", "rest"])]
#[case("mongodb://app:1234/rest?more@h/db", ["1234", "rest"])]
#[case("mongodb://app:pa/ss@h/db", ["pa/", "ss@"])]
#[case("mongodb://app:pa#ss@h/db", ["pa#", "ss@"])]
#[case("mongodb://app:pa@ss@h/db", ["pa@", "ss@"])]
#[case("mongodb://app:pa%ss@h/db", ["pa%", "ss@"])]
#[case("mongodb://app:pa:ss@h/db", ["pa:", "ss@"])]
#[case("mongodb+srv://app:1234?rest@h/db", ["1234", "rest"])]
async fn a_password_that_is_not_encoded_is_shown_in_no_part(
    #[case] url: &str,
    #[case] parts: [&str; 2],
    #[values(OWN, POOL)] setup: Setup,
) {
    let all = setup.printed("debug", &setup.toml(url)).await;
    assert!(all.contains("REFUSED"), "{all}");
    assert!(!all.contains("panicked"), "{all}");
    for part in parts.into_iter().chain(["app:"]) {
        assert!(!all.contains(part), "{all}");
    }
    let says = all.contains("databases.sessions.url") || all.contains("holds credentials");
    assert!(says, "{all}");
}

#[rocket::async_test]
async fn accepting_the_old_applications_cookies_is_warned_about() {
    let toml =
        at("sessions", "mongodb://127.0.0.1:1/my_app") + "[default.session]\nlegacy_ids = true\n";
    for (profile, warned) in [("release", true), ("debug", false)] {
        let all = launched(profile, &toml).await;
        let sign = "accepts the old application's cookies, whose ids are credentials";
        assert_eq!(all.contains(sign), warned, "{profile}: {all}");
    }
}

#[rstest]
#[test_attr(rocket::async_test)]
async fn the_pools_settings_say_where_each_comes_from(#[values(OWN, POOL)] setup: Setup) {
    let url = "mongodb://127.0.0.1:1/my_app?maxPoolSize=7&minPoolSize=3&connectTimeoutMS=1500";
    let all = setup.printed("debug", &setup.toml(url)).await;
    for said in [
        "at most 7 (maxPoolSize in the URL)",
        "at least 3 (minPoolSize in the URL)",
        "idle timeout 180s (default)",
        "connect timeout 1.5s (connectTimeoutMS in the URL)",
        "server selection 5s (default)",
    ] {
        assert!(all.contains(said), "{said}: {all}");
    }
    let keys = "max_connections = 9\nidle_timeout = 60\n";
    let all = setup.printed("debug", &(setup.toml(url) + keys)).await;
    for said in [
        "at most 9 (`max_connections`, which overrides maxPoolSize in the URL)",
        "idle timeout 60s (`idle_timeout`)",
    ] {
        assert!(all.contains(said), "{said}: {all}");
    }
}

#[rocket::async_test]
async fn a_pool_of_our_own_has_at_most_32_connections() {
    let all = launched("debug", &OWN.toml("mongodb://127.0.0.1:1/my_app")).await;
    assert!(all.contains("at most 32 (default)"), "{all}");
}

/// RFC 6761: a name below `.invalid` is never resolved.
#[cfg(feature = "srv")]
#[rocket::async_test]
async fn a_name_that_cannot_be_resolved_is_warned_about_without_blaming_the_password() {
    let toml = at("sessions", "mongodb+srv://bob:hunter2@cluster.invalid/db");
    let all = launched("release", &toml).await;
    assert!(
        all.contains("requests that use a session are answered with 503"),
        "{all}"
    );
    assert!(all.contains("`db.session`"), "{all}");
    for sign in ["hunter2", "password", "bob"] {
        assert!(!all.contains(sign), "{sign}: {all}");
    }
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case::file("tls=true&tlsCAFile=/nowhere/ca.pem", "/nowhere/ca.pem")]
#[case::compressor("compressors=lz4", "compress")]
#[case::number("maxPoolSize=many", "maxpoolsize")]
async fn a_missing_file_and_an_unknown_compressor_are_named(
    #[case] option: &str,
    #[case] named: &str,
    #[values(OWN, POOL)] setup: Setup,
) {
    let url = format!("mongodb://bob:hunter2@127.0.0.1:1/my_app?{option}");
    let all = setup.printed("debug", &setup.toml(&url)).await;
    assert!(all.contains("REFUSED"), "{all}");
    assert!(all.contains(named), "{all}");
    for sign in ["hunter2", "password", "bob:"] {
        assert!(!all.contains(sign), "{sign}: {all}");
    }
}

#[rocket::async_test]
async fn a_plural_section_is_refused_in_any_profile_and_in_the_environment() {
    for profile in ["default", "release"] {
        let all = refused("debug", &format!("[{profile}.sessions]\ntimeout = 5\n")).await;
        assert!(all.contains("[default.session]"), "{all}");
        assert!(all.contains("Rocket.toml"), "{all}");
    }
    let all = printed("debug", "", &[("ROCKET_SESSIONS", "{timeout=5}")]).await;
    assert!(all.contains("REFUSED"), "{all}");
    assert!(all.contains("[default.session]"), "{all}");
}
