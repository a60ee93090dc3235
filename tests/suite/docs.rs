//! What the documentation says about the database is what the crate does there, and what it links
//! to is there.

use std::path::Path;

use mongodb::bson::Document;
use rocket::futures::TryStreamExt;
use rocket::{get, routes};
use rocket_mongo_session::{Error, Sessions};

use crate::support::{App, Mongod, figment};

#[get("/indexes")]
async fn indexes(sessions: &Sessions) -> Result<(), Error> {
    sessions.ensure_indexes().await
}

#[rocket::async_test]
async fn the_guide_makes_the_indexes_that_the_crate_makes() {
    let mongod = Mongod::shared().await;
    let url = mongod.url("docs_indexes");
    let figment = figment("debug", Some(&url), &[]);
    let app = App::launch(
        rocket::custom(figment)
            .attach(Sessions::fairing())
            .mount("/", routes![indexes]),
    )
    .await;
    assert_eq!(app.get("/indexes").await.status, 200);

    let database = mongod.client().await.database("docs_indexes");
    let sessions = database.collection::<Document>("session");
    let made: Vec<_> = sessions
        .list_indexes()
        .await
        .expect("the indexes")
        .try_collect()
        .await
        .expect("the indexes");
    assert_eq!(made.len(), 3, "{made:?}");
    let guide = include_str!("../../src/guide/operation.md");
    for index in &made[1..] {
        let keys: Vec<_> = index.keys.keys().map(|key| format!("{key}: 1")).collect();
        let options = index.options.clone().expect("options");
        let mut line = format!(
            "db.session.createIndex({{{}}}, {{name: \"{}\"",
            keys.join(", "),
            options.name.expect("a name")
        );
        if let Some(grace) = options.expire_after {
            line += &format!(", expireAfterSeconds: {}}})", grace.as_secs());
        }
        assert!(guide.contains(&line), "{line}");
    }
}

#[test]
fn every_file_that_a_page_links_to_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = Vec::new();
    for folder in [root, &root.join("docs")] {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|end| end == "md") {
                pages.push(path);
            }
        }
    }
    let mut links = 0;
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("a page");
        let (marked, tagged) = (text.split("](").skip(1), text.split("src=\"").skip(1));
        for rest in marked.chain(tagged) {
            let target = rest.split([')', '"', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let file = page.parent().expect("a folder").join(target);
            assert!(file.exists(), "{} links to {target}", page.display());
            links += 1;
        }
    }
    assert!(links > 20, "{links} links");
}

#[test]
fn the_tests_that_a_run_without_older_servers_leaves_out_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = std::fs::read_to_string(root.join("scripts/test")).expect("the script");
    let words = script.split_whitespace();
    let mut names: Vec<&str> = words
        .filter(|word| word.contains("::") && !word.contains('`'))
        .collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() > 5, "{names:?}");
    for name in names {
        let (module, test) = name.rsplit_once("::").expect("a module");
        let file = root.join(format!("tests/suite/{}.rs", module.replace("::", "/")));
        let source = std::fs::read_to_string(&file).expect(name);
        assert!(source.contains(&format!("fn {test}()")), "{name}");
    }
}
