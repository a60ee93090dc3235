//! What an operator reads at launch, word for word: the settings in effect, warnings and errors.
//!
//! The texts are in `snapshots/`. After a change that is meant, `INSTA_UPDATE=always` writes them again.

use insta::assert_snapshot;

use super::toml::{launched, refused};

/// The part about sessions of what an application printed.
fn of_sessions(printed: &str) -> String {
    let lines = printed.lines();
    let lines = lines.skip_while(|line| !line.starts_with("Sessions:"));
    let lines = lines.take_while(|line| !line.starts_with("Rocket has launched"));
    lines.collect::<Vec<_>>().join("\n")
}

/// What an application printed when it refused to launch, with this for the path of its file.
fn of_refusal(printed: &str) -> String {
    let lines = printed
        .lines()
        .skip_while(|line| !line.starts_with("Error:"));
    let lines = lines.take_while(|line| !line.starts_with("REFUSED"));
    let lines = lines.map(|line| match line.strip_suffix("Rocket.toml TOML file") {
        Some(_) => "   >> in Rocket.toml",
        None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[rocket::async_test]
async fn sessions_in_memory() {
    assert_snapshot!(of_sessions(&launched("debug", "").await));
}

#[rocket::async_test]
async fn sessions_in_mongodb() {
    let toml = "[default.databases.sessions]\n\
                url = \"mongodb://bob:hunter2@db.example.com/my_app?tls=true&maxPoolSize=7\"\n\
                [default.session]\n\
                cookie_name = \"__Host-session\"\nmax_age = \"30d\"\ntimeout = \"8h\"\n\
                lifetime = \"30d\"\nreissue_time = \"1m\"\nseal = true\nmax_per_user = 5\n\
                trusted_origins = [\"https://shop.example.com\"]\nrecord_client = true\n";
    assert_snapshot!(of_sessions(&launched("release", toml).await));
}

#[rocket::async_test]
async fn dangerous_settings() {
    let toml = "[default.databases.sessions]\n\
                url = \"mongodb://192.0.2.1/my_app?w=1&readPreference=secondary&retryWrites=false\"\n\
                [default.session]\n\
                timeout = false\nsecure = false\nhttp_only = false\nsame_site = false\n\
                legacy_ids = true\n";
    assert_snapshot!(of_sessions(&launched("release", toml).await));
}

#[rocket::async_test]
async fn settings_that_are_refused() {
    let mut all = Vec::new();
    for setting in [
        "timeout = \"soon\"",
        "timeout = 0",
        "max_age = -1",
        "lifetime = nan",
        "reissue_time = 5000",
        "same_site = \"Sometimes\"",
        "same_site = \"None\"",
        "cookie_name = \"a b\"",
        "cookie_name = \"__Host-s\"",
        "partitioned = true",
        "path = \"app\"",
        "domain = \"com\"",
        "collection = \"system.x\"",
        "database = \"a b\"",
        "encoding = \"pickle\"",
        "max_bytes = \"1GiB\"",
        "deadline = 0",
        "max_per_user = 0",
        "set_on_exception = \"maybe\"",
        "trusted_origins = [\"*\"]",
        "client_ip_header = \"X-Real-IP\"",
        "time_out = 5",
    ] {
        let printed = refused("debug", &format!("[default.session]\n{setting}\n")).await;
        all.push(format!("{setting}\n{}\n", of_refusal(&printed)));
    }
    assert_snapshot!(all.join("\n"));
}

#[rocket::async_test]
async fn databases_that_are_refused() {
    let mut all = Vec::new();
    for (profile, url) in [
        ("release", "# url is missing"),
        ("debug", "url = 5"),
        ("debug", "url = \"mongodb://bob:hunter2@localhost:27017\""),
        (
            "debug",
            "url = \"mongodb://bob:hunter2@localhost:notaport/db\"",
        ),
        ("debug", "url = \"postgres://bob:hunter2@localhost/db\""),
        ("debug", "url = \"mongodb://bob:hunter2@/db\""),
        ("debug", "url = \"mongodb://bob:hunter2@localhost/db?w=0\""),
        ("debug", "url = \"mongodb://bob:hun/ter2@localhost/db\""),
    ] {
        let toml = format!("[default.databases.sessions]\n{url}\n");
        let printed = refused(profile, &toml).await;
        let url = url.replace("hunter2", "…").replace("hun/ter2", "…/…");
        all.push(format!("{profile}: {url}\n{}\n", of_refusal(&printed)));
    }
    let all = all.join("\n");
    assert!(!all.contains("hunter2") && !all.contains("ter2"), "{all}");
    assert_snapshot!(all);
}
