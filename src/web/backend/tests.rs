use rstest::rstest;

use super::*;

/// What opening a store with these keys says.
async fn open(keys: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let figment = keys
        .iter()
        .fold(debug_figment(), |all, key| all.merge(*key));
    open_with(figment, Config::default_for(&rocket::Config::DEBUG_PROFILE)).await
}

fn debug_figment() -> Figment {
    rocket::Config::figment().select("debug")
}

async fn open_with(figment: Figment, config: Config) -> Result<Vec<String>, String> {
    let (rocket, clock) = (rocket::custom(figment), Clock::default());
    match Backend::Toml.open(&rocket, &config, &clock).await {
        Ok(opened) => Ok(opened.warnings),
        Err(OpenError::Config(error)) => Err(format!("{}: {}", error.path.join("."), error.kind)),
        Err(_) => Err("another error".to_owned()),
    }
}

#[rocket::async_test]
async fn a_section_in_the_plural_is_refused_and_the_right_one_named() {
    let refused = open(&[("sessions.timeout", "5")]).await.unwrap_err();
    assert!(refused.starts_with("sessions: "), "{refused}");
    assert!(refused.contains("[default.session]"), "{refused}");
    assert!(
        refused.contains("[default.databases.sessions]"),
        "{refused}"
    );
    assert_eq!(open(&[("session.timeout", "5")]).await, Ok(Vec::new()));
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case("default")]
#[case("debug")]
#[case("release")]
#[case("staging")]
#[case("global")]
async fn the_section_of_another_profile_is_refused_too(#[case] profile: &str) {
    use rocket::figment::providers::{Format, Toml};

    let toml = Toml::string(&format!("[{profile}.sessions]\ntimeout = 5")).nested();
    let figment = debug_figment().merge(toml);
    let config = Config::default_for(&rocket::Config::DEBUG_PROFILE);
    let refused = open_with(figment, config).await.unwrap_err();
    assert!(refused.starts_with("sessions: "), "{profile}: {refused}");
}

#[rocket::async_test]
async fn a_url_without_a_database_is_refused_and_both_remedies_named() {
    for (url, form) in [
        ("mongodb://localhost:27017", "mongodb://host:port/database"),
        ("mongodb://localhost", "mongodb://host:port/database"),
        // Told without asking the DNS.
        #[cfg(feature = "srv")]
        (
            "mongodb+srv://cluster.invalid/?w=majority",
            "mongodb+srv://host/database",
        ),
    ] {
        let refused = open(&[(URL_KEY, url)]).await.unwrap_err();
        assert!(refused.starts_with("databases.sessions.url: "), "{refused}");
        assert!(refused.contains(form), "{refused}");
        assert!(refused.contains("`session.database`"), "{refused}");
    }
}

#[test]
fn the_form_of_an_atlas_url_has_no_port() {
    let form = |url: &str| missing_database(url);
    assert!(form("mongodb+srv://user:secret@cluster.example").contains("mongodb+srv://host/data"));
    assert!(form("mongodb://a:1").contains("mongodb://host:port/data"));
    assert!(!form("mongodb+srv://user:secret@cluster.example").contains("secret"));
}

#[rocket::async_test]
async fn the_warning_of_retry_writes_leaves_services_that_need_it_alone() {
    let url = "mongodb://127.0.0.1/db?retryWrites=false";
    let warnings = open(&[(URL_KEY, url)]).await.unwrap();
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}");
    };
    assert!(warning.contains("`retryWrites=false`"), "{warning}");
    assert!(warning.contains("Keep it for a service"), "{warning}");
    let without = open(&[(URL_KEY, "mongodb://127.0.0.1/db")]).await;
    assert_eq!(without, Ok(Vec::new()));
}

/// RFC 6761: a name below `.invalid` is never resolved.
#[cfg(feature = "srv")]
#[rocket::async_test]
async fn a_name_that_cannot_be_resolved_does_not_refuse_the_launch() {
    let url = "mongodb+srv://app:secret@cluster.invalid/db";
    assert_eq!(open(&[(URL_KEY, url)]).await, Ok(Vec::new()));
    let without = "mongodb+srv://app:secret@cluster.invalid/";
    let mut config = Config::default_for(&rocket::Config::DEBUG_PROFILE);
    config.database = Some("shop".to_owned());
    let opened = open_with(debug_figment().merge((URL_KEY, without)), config);
    assert_eq!(opened.await, Ok(Vec::new()));
}

#[rocket::async_test]
async fn a_missing_file_is_named_and_the_password_not_blamed() {
    let url = "mongodb://app:secret@h/db?tls=true&tlsCAFile=/nowhere/ca.pem";
    let refused = open(&[(URL_KEY, url)]).await.unwrap_err();
    assert!(refused.contains("`tlsCAFile`"), "{refused}");
    assert!(refused.contains("/nowhere/ca.pem"), "{refused}");
    assert!(!refused.contains("password"), "{refused}");
}
