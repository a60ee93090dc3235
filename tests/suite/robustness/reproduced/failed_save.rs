//! A `save` that failed: what it was to store is dropped, and its id with it.

use std::collections::HashSet;

use mongodb::bson::doc;
use rocket::serde::json::json;

use super::{Standalone, eventually, stored_of, visitor};
use crate::apps::probe::{Ran, Script, id_of, run};
use crate::support::Fate;

/// The ids of all documents that the application inserted, tombstones left out.
fn inserted(standalone: &Standalone) -> Vec<String> {
    let commands = standalone.proxy.requests("insert");
    let documents = commands
        .iter()
        .flat_map(|command| command.get_array("documents").expect("documents"));
    let ids = documents.map(|document| {
        let document = document.as_document().expect("a document");
        document.get_str("_id").expect("an id").to_owned()
    });
    ids.filter(|id| !id.starts_with('~')).collect()
}

/// No server that the tests run on sends an insert again by itself: each is an attempt of the
/// application's.
fn no_id_was_inserted_twice(standalone: &Standalone) {
    let ids = inserted(standalone);
    let different: HashSet<&String> = ids.iter().collect();
    assert_eq!(different.len(), ids.len(), "{ids:?}");
}

fn has_failed(ran: &Ran, call: usize) {
    let said = &ran.results[call];
    let is_failure = said["error"] == "Unknown" || said["error"] == "Store";
    assert!(is_failure, "{ran:?}");
}

#[rocket::async_test]
async fn a_login_whose_save_failed_does_not_sign_in() {
    let standalone = Standalone::start(&[]).await;
    let probe = &standalone.probe;
    for (fate, has_session) in [
        (Fate::LoseReply, false),
        (Fate::Refuse(8000), false),
        (Fate::LoseReply, true),
        (Fate::Refuse(8000), true),
    ] {
        let what = format!("{fate:?}, {has_session}");
        let browser = match has_session {
            true => visitor(&probe.app).await,
            false => probe.browser(),
        };
        standalone.proxy.plan("insert", [fate]);
        let ran = run(&browser, Script::new().login("alice").then("save")).await;
        has_failed(&ran, 1);
        assert_eq!((ran.status, ran.sent()), (200, None), "{what}: {ran:?}");
        let seen = run(&browser, Script::new().then("user")).await;
        assert_eq!(seen.results, [json!(null)], "{what}");
        eventually("the failed login is rolled back", async || {
            stored_of(probe, "alice").await == 0
        })
        .await;
        no_id_was_inserted_twice(&standalone);
    }
}

#[rocket::async_test]
async fn a_later_change_is_not_stored_under_the_id_of_a_failed_save() {
    let standalone = Standalone::start(&[]).await;
    let probe = &standalone.probe;
    for fate in [Fate::LoseReply, Fate::Refuse(8000)] {
        let browser = probe.browser();
        let before = inserted(&standalone).len();
        standalone.proxy.plan("insert", [fate]);
        let script = Script::new().set("n", 1).then("save").set("m", 2);
        let ran = run(&browser, script).await;
        has_failed(&ran, 1);
        let failed = inserted(&standalone)[before].clone();
        assert_ne!(id_of(&ran.cookie()), failed);
        no_id_was_inserted_twice(&standalone);
        let seen = run(&browser, Script::new().get("n").get("m")).await;
        assert_eq!(seen.results, [json!(null), json!(2)], "dropped, and stored");
        eventually("the failed session is rolled back", async || {
            let sessions = probe.sessions();
            let left = sessions.count_documents(doc! { "_id": &failed }).await;
            left.expect("a count") == 0
        })
        .await;
    }
}

/// The rest of the handler is not signed in either.
#[rocket::async_test]
async fn a_later_change_does_not_revive_a_login_whose_save_failed() {
    let standalone = Standalone::start(&[]).await;
    let probe = &standalone.probe;
    for has_session in [false, true] {
        let browser = match has_session {
            true => visitor(&probe.app).await,
            false => probe.browser(),
        };
        standalone.proxy.plan("insert", [Fate::LoseReply]);
        let script = Script::new().login("alice").then("save").set("m", 2);
        let ran = run(&browser, script.then("user")).await;
        has_failed(&ran, 1);
        assert_eq!(ran.last(), &json!(null), "{ran:?}");
        let seen = run(&browser, Script::new().then("user")).await;
        assert_eq!(seen.results, [json!(null)]);
        no_id_was_inserted_twice(&standalone);
        eventually("the failed login is rolled back", async || {
            stored_of(probe, "alice").await == 0
        })
        .await;
    }
}
