//! An operator's ten minutes: the commands of docs/command-line.md, as they are written there, in the
//! folder of an application whose counters show what they did.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rocket::http::Status;
use rocket::{get, routes};
use rocket_mongo_session::{Error, Session, Sessions};

use crate::support::{App, Browser, Mongod, figment};
use crate::tool::{folder, in_folder, typed_in_folder};

#[get("/login/<user>")]
fn login(user: &str, session: &Session) -> Result<(), Error> {
    session.login(user)
}

#[get("/account")]
fn account(session: &Session) -> Result<String, Status> {
    let user = session.user().map_err(|_| Status::InternalServerError)?;
    user.ok_or(Status::Unauthorized)
}

/// The counter that the feature `metrics` exports as `rocket_mongo_session_misses_total`. The feature
/// itself is off: cargo would turn it on in every test that one command builds beside these.
#[get("/misses")]
fn misses(sessions: &Sessions) -> String {
    sessions.stats().misses.to_string()
}

/// The commands of the page's first section, without what it says of them.
fn commands(page: &str) -> Vec<&str> {
    let (_, section) = page.split_once("\n## Ten minutes\n").expect("a section");
    let (_, block) = section.split_once("```sh\n").expect("commands");
    let (block, _) = block.split_once("\n```").expect("an end of the commands");
    let command = |line| str::split_once(line, "  #").map_or(line, |(command, _)| command);
    block.lines().map(|line| command(line).trim()).collect()
}

/// The folder of an application; it goes when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn with_config(url: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("cli_operator-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        let text = format!("[default.databases.sessions]\nurl = \"{url}\"\n");
        std::fs::write(path.join("Rocket.toml"), text).expect("a Rocket.toml");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn signed_in(app: &App, user: &str) -> Browser {
    let browser = app.browser();
    let response = browser.get(&format!("/login/{user}")).await;
    assert_eq!(response.status, 200);
    assert_eq!(browser.get("/account").await.status, 200);
    browser
}

/// The public id, which is the first half of the cookie.
fn id(browser: &Browser) -> String {
    let cookie = browser.cookie("session").expect("a cookie");
    let (id, _) = cookie.split_once('.').expect("two halves");
    id.to_owned()
}

/// The ids in the rows of a table.
fn ids<'a>(table: &'a str, known: &'a [String]) -> BTreeSet<&'a String> {
    let is_in = |id: &&String| {
        table
            .lines()
            .any(|line| line.trim_start().starts_with(id.as_str()))
    };
    known.iter().filter(is_in).collect()
}

#[rocket::async_test]
async fn ten_minutes_of_an_operator_end_the_sessions_of_a_user() {
    let read = |path: &str| std::fs::read_to_string(folder().join(path)).expect("a page");
    // What an operator reads first leads here.
    let install = "cargo install --locked --path cli";
    let (readme, page) = (read("../README.md"), read("../docs/command-line.md"));
    for text in [&readme, &page, &read("README.md")] {
        assert!(text.contains(install), "{text}");
    }
    assert!(readme.contains("`docs/command-line.md`"));
    let [doctor, list, dry_run, revoke] = commands(&page)[..] else {
        panic!("{:?}", commands(&page));
    };

    let mongod = Mongod::shared().await;
    let url = mongod.url("cli_operator");
    let app = rocket::custom(figment("debug", Some(&url), &[]))
        .attach(Sessions::fairing())
        .mount("/", routes![login, account, misses]);
    let app = App::launch(app).await;
    let (desk, phone) = (
        signed_in(&app, "alice").await,
        signed_in(&app, "alice").await,
    );
    let bob = signed_in(&app, "bob").await;
    let known = [&desk, &phone, &bob].map(id);
    let [desk_id, phone_id, _] = &known;
    let of_alice = BTreeSet::from([desk_id, phone_id]);
    let place = Folder::with_config(&url);
    let place: &Path = &place.0;

    let said = in_folder(place, doctor).await;
    let is_late = said.code == 2 && said.out.contains("there was no time");
    assert!(said.code == 0 || is_late, "{said:#?}");
    assert!(
        said.out.contains("No broken promise was found"),
        "{said:#?}"
    );

    let listed = in_folder(place, list).await.ends_with(0);
    assert_eq!(ids(&listed.out, &known), of_alice, "{listed:#?}");

    let dry = in_folder(place, dry_run).await.ends_with(0);
    assert_eq!(ids(&dry.out, &known), of_alice, "{dry:#?}");
    assert!(dry.out.contains("2 sessions would end"), "{dry:#?}");
    for browser in [&desk, &phone] {
        assert_eq!(browser.get("/account").await.status, 200);
    }

    let missed = async || app.get("/misses").await.text().parse::<u64>();
    let before = missed().await.expect("a number");
    let revoked = typed_in_folder(place, revoke, "y\n").await.ends_with(0);
    assert!(revoked.out.contains("2 sessions ended"), "{revoked:#?}");
    for browser in [&desk, &phone] {
        assert_eq!(browser.get("/account").await.status, 401);
    }
    assert_eq!(bob.get("/account").await.status, 200);
    assert_eq!(missed().await, Ok(before + 2));
    assert!(page.contains("rocket_mongo_session_misses_total{kind=\"main\"} 2"));
    app.shutdown().await.expect("the end of the application");
}
