//! Tests of `[default.session]`.

use rocket::figment::Figment;
use rocket::figment::providers::{Format, Serialized, Toml};
use rocket::figment::value::Value;
use rstest::rstest;

use super::*;

mod cookie;
mod documentation;
mod values;

/// Returns the figment of a `Rocket.toml` with this text.
fn figment(profile: &str, toml: &str) -> Figment {
    Figment::from(rocket::Config::default())
        .merge(Toml::string(toml).nested())
        .select(profile)
}

/// Reads a `Rocket.toml` in the release profile.
fn read(toml: &str) -> Result<Config, Box<Error>> {
    Config::from_figment(&figment("release", toml))
}

/// Reads the keys of `[default.session]` in a profile.
fn read_in(profile: &str, keys: &str) -> Result<Config, String> {
    let toml = format!("[default.session]\n{keys}");
    Config::from_figment(&figment(profile, &toml)).map_err(|error| error.to_string())
}

fn good(keys: &str) -> Config {
    read_in("release", keys).unwrap_or_else(|error| panic!("{keys}: {error}"))
}

/// Returns the only error that the keys cause, and checks that it names the key.
#[track_caller]
fn bad(key: &str, keys: &str) -> String {
    let error = match read_in("release", keys) {
        Ok(config) => panic!("accepted {keys}: {config:?}"),
        Err(error) => error,
    };
    assert_eq!(error.lines().count(), 1, "{keys}: {error}");
    assert!(
        error.contains(&format!("for key \"default.session.{key}\"")),
        "{keys}: {error}"
    );
    error
}

/// Returns the error of one key with this value, in TOML.
#[track_caller]
fn refused(key: &str, value: &str) -> String {
    bad(key, &format!("{key} = {value}"))
}

/// Returns the error of one key with this text, in the escapes of TOML.
#[track_caller]
fn refused_text(key: &str, text: &str) -> String {
    refused(key, &format!("\"{text}\""))
}

fn seconds(seconds: f64) -> Option<Duration> {
    Some(Duration::from_secs_f64(seconds))
}

// ---- defaults

#[test]
fn missing_section_has_the_documented_defaults() {
    for toml in ["", "[default.session]", "[default]\nport = 1"] {
        let config = read(toml).unwrap();
        assert_eq!(config.collection, "session");
        assert_eq!(config.database, None);
        assert_eq!(config.cookie_name, "session");
        assert_eq!(config.max_age, None);
        assert_eq!(config.path, "/");
        assert_eq!(config.domain, None);
        assert!(config.secure && config.http_only && !config.partitioned);
        assert_eq!(config.same_site, Some(SameSite::Lax));
        assert_eq!(config.timeout, seconds(1200.0));
        assert_eq!(config.lifetime, None);
        assert_eq!(config.reissue_time, seconds(0.0));
        assert!(config.set_on_exception && config.share && config.indexes);
        assert!(!config.record_client && !config.legacy_ids);
        assert_eq!(config.encoding, Encoding::Document);
        assert_eq!(config.max_bytes, 1024 * 1024);
        assert_eq!(config.deadline, Duration::from_secs(10));
        assert_eq!(config.trusted_origins, []);
        assert_eq!(config.max_per_user, None);
    }
}

#[rstest]
#[case("release", "", true)]
#[case("default", "", true)]
#[case("global", "", true)]
#[case("staging", "", true)]
#[case("debug", "", false)]
#[case("Debug", "", false)]
#[case("debug", "secure = true", true)]
#[case("release", "secure = false", false)]
fn cookie_is_secure_except_in_the_debug_profile(
    #[case] profile: &str,
    #[case] keys: &str,
    #[case] is_secure: bool,
) {
    assert_eq!(read_in(profile, keys).unwrap().secure, is_secure);
}

// ---- profiles and environment

#[test]
fn selected_profile_overrides_default_and_global_overrides_both() {
    let toml = "[default.session]\ntimeout = 1\nlifetime = 11\npath = \"/d\"\n\
                [release.session]\ntimeout = 2\nlifetime = 12\n\
                [debug.session]\ntimeout = 4\n\
                [global.session]\ntimeout = 3";
    let config = read(toml).unwrap();
    assert_eq!(
        (config.timeout, config.lifetime),
        (seconds(3.0), seconds(12.0))
    );
    assert_eq!(config.path, "/d");
}

#[test]
fn environment_variable_sets_keys_as_in_any_rocket_section() {
    // Rocket's `Env` provider does this with `ROCKET_SESSION={…}`: figment parses the text, in the
    // global profile.
    let text = r#"{timeout="0.5", collection='c', secure=false, max_per_user=3,
                   reissue_time=0.1, max_bytes="2KiB"}"#;
    let env = Serialized::global("session", text.parse::<Value>().unwrap());
    let config =
        Config::from_figment(&figment("release", "[release.session]\ntimeout = 9").merge(env))
            .unwrap();
    assert_eq!(
        (config.timeout, config.reissue_time),
        (seconds(0.5), seconds(0.1))
    );
    assert_eq!((config.collection.as_str(), config.secure), ("c", false));
    assert_eq!((config.max_per_user, config.max_bytes), (Some(3), 2048));
}

#[test]
fn section_has_to_be_a_table() {
    let error = read("[default]\nsession = 5").unwrap_err().to_string();
    let says = "expected a table for key \"default.session\"";
    assert!(error.contains(says), "{error}");
}

// ---- errors

#[test]
fn error_names_the_key_the_profile_and_the_file() {
    let dir = std::env::temp_dir().join(format!(
        "rocket_mongo_session-config-{}",
        std::process::id()
    ));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("Rocket.toml");
    let toml = "[default.session]\nsame_site = \"None\"\n\
                [release.session]\nsecure = false\n\
                [staging.session]\ntimeout = -1\ncookei_name = \"x\"\n\
                [global.session]\nshare = 7\n";
    std::fs::write(&file, toml).unwrap();
    let read = |profile: &str| {
        let provider = Toml::file(&file).nested();
        Config::from_figment(&Figment::from(provider).select(profile)).unwrap_err()
    };
    let errors = read("staging").into_iter().map(|e| e.to_string());
    let errors = errors.collect::<Vec<_>>();
    std::fs::write(&file, toml.replace("share", "#")).unwrap();
    let pair = read("release").to_string();
    std::fs::remove_dir_all(&dir).unwrap();

    // figment shows the file relative to the working directory.
    let place = format!(
        "{}/Rocket.toml TOML file",
        dir.file_name().unwrap().display()
    );
    for error in errors.iter().chain([&pair]) {
        assert!(error.ends_with(&place), "{error}");
    }
    assert_eq!(errors.len(), 3);
    assert!(
        errors[0]
            .starts_with("invalid value signed int `-1`, expected a number of seconds from 0.001"),
        "{}",
        errors[0]
    );
    for (error, says) in [
        (&errors[0], "for key \"staging.session.timeout\""),
        (
            &errors[1],
            "expected a boolean for key \"global.session.share\"",
        ),
        (&errors[2], "for key \"staging.session.cookei_name\""),
        (&pair, "needs `secure = true`"),
        (&pair, "for key \"default.session.same_site\""),
    ] {
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn errors_of_all_keys_are_reported_at_once_in_documented_order() {
    let toml = "[default.session]\nzzz = 1\ndeadline = 0\npath = \"x\"\ncollection = \"$\"\n\
                trusted_origins = [\"*\", \"https://a\", \"null\"]";
    let error = read(toml).unwrap_err();
    let paths = error
        .into_iter()
        .map(|error| error.path.join("."))
        .collect::<Vec<_>>();
    let expected = [
        "collection",
        "path",
        "deadline",
        "trusted_origins.0",
        "trusted_origins.2",
        "zzz",
    ];
    assert_eq!(paths, expected.map(|key| format!("session.{key}")));
}

#[test]
fn unknown_key_is_refused_with_a_hint_and_the_known_keys() {
    let error = bad("cookei_name", "cookei_name = \"x\"");
    assert!(
        error.starts_with(
            "unknown key `cookei_name`; did you mean `cookie_name`? (the keys are `collection`, "
        ),
        "{error}"
    );
    assert!(!bad("url", "url = \"x\"").contains("did you mean"));
    assert!(!bad("x", "x = 1").contains("did you mean"));
}

#[rstest]
#[case("timout", "timeout")]
#[case("samesite", "same_site")]
#[case("HttpOnly", "httponly")]
#[case("max-age", "max_age")]
#[case("trusted_origin", "trusted_origins")]
#[case("Secure", "secure")]
fn hint_for_an_unknown_key_names_the_closest_key(#[case] typo: &str, #[case] meant: &str) {
    let error = bad(typo, &format!("{typo} = 1"));
    assert!(
        error.contains(&format!("did you mean `{meant}`?")),
        "{error}"
    );
}

#[rstest]
#[case("database")]
#[case("collection")]
#[case("domain")]
#[case("cookie_name")]
#[case("path")]
#[case("timeout")]
#[case("share")]
#[case("url")]
#[case("same_site")]
fn errors_never_repeat_a_possible_password(#[case] key: &str) {
    let url = "mongodb://me:hunter2@db.example/app";
    let error = refused_text(key, url);
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn error_of_a_trusted_origin_never_repeats_a_possible_password() {
    let error = bad(
        "trusted_origins.0",
        "trusted_origins = [\"https://me:hunter2@app.example\"]",
    );
    assert!(!error.contains("hunter2"), "{error}");
}

// ---- launch output

#[test]
fn launch_output_shows_the_configuration_in_effect() {
    let config = good(
        "cookie_name = \"__Host-s\"\nmax_age = 86400\npartitioned = true\nlifetime = 0.5\n\
         max_bytes = \"2MiB\"\ntrusted_origins = [\"https://a.example\"]",
    );
    let lines = config.lines();
    let line = |key: &str| {
        lines
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(
        line("cookie"),
        Some("__Host-s; Path=/; Secure; HttpOnly; Partitioned; SameSite=Lax")
    );
    assert_eq!(line("max age"), Some("86400s"));
    assert_eq!(line("timeout"), Some("1200s"));
    assert_eq!(line("lifetime"), Some("0.5s"));
    assert_eq!(line("reissue time"), Some("0s"));
    assert_eq!(line("max bytes"), Some("2MiB"));
    assert_eq!(line("trusted origins"), Some("https://a.example"));
}

#[test]
fn dangerous_settings_cause_warnings_outside_the_debug_profile() {
    let dangerous = "secure = false\nhttp_only = false\ntimeout = false\nlegacy_ids = true\n\
     domain = \"a.example\"\ntrusted_origins = [\"http://b.example\"]";
    let release = Profile::from("release");
    let warnings = good(dangerous).warnings(&release);
    assert_eq!(warnings.len(), 6, "{warnings:#?}");
    for (warning, says) in warnings.iter().zip([
        "`lifetime`",
        "`secure = false`",
        "`http_only = false`",
        "`legacy_ids` accepts the old application's cookies",
        "http://b.example",
        "a.example",
    ]) {
        assert!(warning.contains(says), "{warning}");
    }
    let debug = read_in("debug", dangerous).unwrap();
    assert!(debug.warnings(&Profile::from("debug")).is_empty());

    let quiet = good("cookie_name = \"__Host-session\"").warnings(&release);
    assert_eq!(quiet, Vec::<String>::new());
}

#[rstest]
#[case("", "`cookie_name = \"__Host-session\"` in [release.session]")]
#[case("cookie_name = \"__Host-s\"\nsame_site = false", "`same_site = false`")]
#[case(
    "cookie_name = \"__Host-s\"\nsame_site = \"None\"",
    "use `same_site = \"Lax\"`"
)]
fn cookie_setting_causes_one_warning(#[case] keys: &str, #[case] says: &str) {
    let warnings = good(keys).warnings(&Profile::from("release"));
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains(says), "{}", warnings[0]);
}
