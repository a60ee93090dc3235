//! The Python package pyramid_mongo_session: its documents, and what it promised of messages, CSRF
//! tokens, times and encodings.

mod csrf;
mod documents;
mod encoding;
mod flash;
mod mass_logout;
mod times;
mod upgrade;

use bson::{Bson, Document};
use rocket::figment::value::Value as Setting;
use rocket::serde::json::{Value, from_str};

use crate::apps::calls::keys;
use crate::apps::jobs::Jobs;
use crate::apps::probe::Probe;
use crate::support::Browser;

/// A session that the Python package itself wrote (`scripts/capture-legacy`).
struct Fixture {
    /// What the browser was given.
    cookie: String,
    document: Document,
    /// The token that a form was rendered with.
    csrf: String,
}

/// Reads a captured session, and moves its times to where the probe's clock stands; their types
/// stay what they were.
fn fixture(name: &str, probe: &Probe) -> Fixture {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/legacy/");
    let text = std::fs::read_to_string(format!("{path}{name}.json")).expect("a fixture");
    let fixture: Value = from_str(&text).expect("JSON");
    let text = |key: &str| fixture[key].as_str().unwrap_or_default().to_owned();
    let line = text("set_cookie");
    let Ok(Bson::Document(mut document)) = Bson::try_from(fixture["document"].clone()) else {
        panic!("a document in {name}");
    };
    let now = probe.clock.time().unix_timestamp();
    let accessed = document.get_i32("accessed").expect("whole seconds");
    let created = document.get_f64("created").expect("seconds");
    let then = f64::from(accessed);
    document.insert("created", created - then + now as f64);
    document.insert("accessed", i32::try_from(now).expect("a time before 2038"));
    Fixture {
        cookie: crate::apps::probe::value_of(&line).to_owned(),
        document,
        csrf: text("csrf"),
    }
}

impl Fixture {
    /// Stores the document, and gives a browser its cookie.
    async fn visitor(&self, probe: &Probe) -> Browser {
        let mut document = mongodb::bson::Document::new();
        document.extend(self.document.clone());
        probe
            .sessions()
            .insert_one(document)
            .await
            .expect("a place");
        let browser = probe.browser();
        browser.set_cookie(&format!("session={}; Path=/", self.cookie));
        browser
    }
}

/// An application with `legacy_ids`, and closures as handlers.
async fn start(name: &str, more: &[(&str, Setting)]) -> (Jobs, Probe) {
    let mut keys = keys(&[("legacy_ids", true.into())]);
    keys.extend(more.iter().cloned());
    Jobs::start(&format!("legacy_{name}"), &keys).await
}

/// The sessions that are stored, without tombstones.
async fn stored(probe: &Probe) -> Vec<mongodb::bson::Document> {
    let all = probe.documents().await.into_iter();
    all.filter(|document| !document.get_str("_id").unwrap().starts_with('~'))
        .collect()
}

#[test]
fn from_pyramid_table_cites_existing_tests() {
    let home = env!("CARGO_MANIFEST_DIR");
    let page = std::fs::read_to_string(format!("{home}/docs/from-pyramid.md")).expect("the page");
    let (_, table) = page.split_once("| in Python |").expect("the table");
    let (table, _) = table.split_once("\n\n").expect("its end");
    let rows: Vec<&str> = table.lines().skip(2).collect();
    assert!(rows.len() > 30, "{} rows", rows.len());

    let mut tests = String::new();
    let mut folders = vec![std::path::PathBuf::from(format!("{home}/tests/suite"))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false => tests += &std::fs::read_to_string(path).expect("a file"),
            }
        }
    }
    for row in rows {
        let shown = row.trim_end_matches(" |").rsplit(" | ").next();
        let names = shown.expect("a last column").split(", ");
        for name in names.map(|name| name.trim_matches('`')) {
            assert!(tests.contains(&format!("fn {name}(")), "{name} in {row}");
        }
    }
}
