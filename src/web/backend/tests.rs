use super::*;

/// What opening a store with these keys says.
async fn open(keys: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let figment = rocket::Config::figment().select("debug");
    let figment = keys.iter().fold(figment, |all, key| all.merge(*key));
    let rocket = rocket::custom(figment);
    let config = Config::default_for(&rocket::Config::DEBUG_PROFILE);
    match Backend::Toml.open(&rocket, &config, &Clock::system()).await {
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

#[rocket::async_test]
async fn a_url_without_a_database_is_refused_and_both_remedies_named() {
    for (url, form) in [
        ("mongodb://localhost:27017", "mongodb://host:port/database"),
        ("mongodb://localhost", "mongodb://host:port/database"),
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
    assert!(warning.contains("if the database supports"), "{warning}");
    let without = open(&[(URL_KEY, "mongodb://127.0.0.1/db")]).await;
    assert_eq!(without, Ok(Vec::new()));
}
