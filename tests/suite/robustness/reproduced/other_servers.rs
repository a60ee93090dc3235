//! Services that look like MongoDB and lack something, and servers that become something else.

use mongodb::bson::Document;
use rocket::serde::json::{Value, json};

use super::{OneNode, Standalone, eventually, knows_its_server};
use crate::apps::probe::{Probe, Script, run};
use crate::support::{Browser, Fate, Mongod, Proxy, ReplicaSet, Traffic, watchful};

/// Every kind of write, from a visitor's first to the logout, with what each gives.
async fn every_write_works(browser: &Browser, user: &str, what: &str) {
    let keeping = json!(["login_keeping", user, ["n"]]);
    let steps: [(Script, Value); 12] = [
        (Script::new().set("n", 1), json!(null)),
        (Script::new().call(json!(["increment", "n", 1])), json!(2)),
        (Script::new().call(json!(["modify", "n", 1])), json!(3)),
        (Script::new().call(json!(["flash", "hello"])), json!(null)),
        (Script::new().then("pop_flash"), json!(["hello"])),
        (Script::new().then("renew"), json!(null)),
        (Script::new().login("bob").set("n", 3), json!(null)),
        (Script::new().call(keeping).get("n"), json!(3)),
        (Script::new().then("elevate").get("n"), json!(3)),
        (Script::new().call(json!(["count_user", user])), json!(1)),
        (Script::new().then("revoke_others"), json!(0)),
        (Script::new().then("logout"), json!(null)),
    ];
    for (script, expected) in steps {
        let ran = run(browser, script.clone()).await;
        assert_eq!(ran.status, 200, "{what}: {script:?}: {ran:?}");
        assert_eq!(*ran.last(), expected, "{what}: {script:?}");
    }
    assert_eq!(browser.cookie("session"), None, "{what}");
}

#[rocket::async_test]
async fn server_without_transaction_numbers_takes_every_write() {
    let one = OneNode::start(&[]).await;
    let refused = |command: &Document| command.contains_key("txnNumber").then_some(20);
    one.proxy().refuse_where(refused);
    // The first finds out.
    for turn in 0..2 {
        // Of another user: the turn before revokes the others of its own.
        let user = format!("user{turn}");
        every_write_works(&one.probe.browser(), &user, &format!("turn {turn}")).await;
    }
}

/// Code 67: the server cannot make such an index.
#[rocket::async_test]
async fn server_without_partial_indexes_has_the_ttl_index() {
    let mongod = Mongod::start().await;
    let proxy = Proxy::start(mongod.port()).await;
    proxy.refuse_where(|command| {
        let indexes = command.get_array("indexes").ok()?;
        let mut indexes = indexes.iter().filter_map(|index| index.as_document());
        let is_partial = indexes.any(|index| index.contains_key("partialFilterExpression"));
        is_partial.then_some(67)
    });
    let (client, url) = (mongod.client().await, watchful(&proxy.url("indexes")));
    let probe = Probe::start_at(client, &url, "indexes", &[], |rocket| rocket).await;
    eventually("the TTL index", async || {
        let names = probe.sessions().list_index_names().await;
        names.is_ok_and(|names| names.contains(&"session_expires".to_owned()))
    })
    .await;
}

/// Code 16500: more requests than were paid for, and nothing was done.
#[rocket::async_test]
async fn request_rate_too_large_is_asked_again() {
    let standalone = Standalone::start(&[]).await;
    let keeping = json!(["login_keeping", "alice", ["n"]]);
    let cases: [(&str, Script, Value); 7] = [
        ("find", Script::new().get("n"), json!(1)),
        ("update", Script::new().set("n", 2), json!(null)),
        ("update", Script::new().then("renew"), json!(null)),
        ("insert", Script::new().login("alice"), json!(null)),
        ("findAndModify", Script::new().call(keeping), json!(null)),
        ("update", Script::new().then("pop_flash"), json!(["hello"])),
        ("delete", Script::new().then("logout"), json!(null)),
    ];
    for (command, script, expected) in cases {
        let browser = standalone.probe.browser();
        let planted = Script::new().set("n", 1).call(json!(["flash", "hello"]));
        run(&browser, planted).await;
        let before = standalone.proxy.requests(command).len();
        let refusals = std::iter::repeat_n(Fate::Refuse(16500), 2);
        standalone.proxy.plan(command, refusals);
        let ran = run(&browser, script.clone()).await;
        standalone.proxy.plan(command, []);
        let told = (ran.status, ran.results.last());
        assert_eq!(
            told,
            (200, Some(&expected)),
            "{command}: {script:?}: {ran:?}"
        );
        let asked = standalone.proxy.requests(command).len() - before;
        assert!(asked >= 3, "{command}: {script:?}: {asked}");
    }
}

/// The address leads to a standalone server first and to a replica set later, as after a migration.
#[rocket::async_test]
async fn topology_is_learnt_again_after_a_reconnect() {
    let keys = [("indexes", false.into()), ("deadline", 2.into())];
    let standalone = Standalone::start(&keys).await;
    let (probe, proxy) = (&standalone.probe, &standalone.proxy);
    let set = ReplicaSet::builder().members(1).start().await;
    // Whether a new session waits for the majority.
    let is_majority = async || {
        let visit = run(&probe.browser(), Script::new().set("n", 1)).await;
        let inserts = proxy.requests("insert");
        let last = inserts.last().expect("an insert");
        let concern = last.get_document("writeConcern").ok();
        let waits = concern.and_then(|concern| concern.get_str("w").ok());
        visit.status == 200 && waits == Some("majority")
    };
    assert!(!is_majority().await, "a standalone has none");
    proxy.retarget(set.nodes()[0].port());
    proxy.set(Traffic::Reset);
    let outage = run(&probe.browser(), Script::new().set("n", 1)).await;
    assert_eq!(outage.status, 503);
    proxy.set(Traffic::Pass);
    knows_its_server(probe).await;
    eventually("a write that waits for the majority", is_majority).await;
}

/// The driver keeps what it was given: a process with the old password cannot know the new one.
#[test]
fn the_guide_says_that_a_new_database_password_needs_a_restart() {
    let home = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = Vec::new();
    for folder in ["src/guide", "docs"] {
        let files = std::fs::read_dir(home.join(folder)).expect("a folder");
        let files = files.map(|file| file.expect("a file").path());
        pages.extend(files.filter(|file| file.extension().is_some_and(|name| name == "md")));
    }
    let texts = pages
        .iter()
        .map(|page| std::fs::read_to_string(page).expect("a page"));
    let texts: Vec<String> = texts.collect();
    let mut paragraphs = texts.iter().flat_map(|text| text.split("\n\n"));
    let is_said = paragraphs.any(|text| text.contains("password") && text.contains("restart"));
    assert!(is_said, "in none of {pages:?}");
}
