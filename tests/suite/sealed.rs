//! Sealed sessions on a real server: what it keeps and logs of them, and processes that seal beside
//! others that do not.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use mongodb::bson::{Bson, Document, doc};
use mongodb::{Client, Database};
use rocket::futures::TryStreamExt;
use rocket::futures::future::join_all;
use rocket::serde::json::{Value, json};

use crate::apps::arena::{Arena, Op, Setting, set};
use crate::apps::database;
use crate::apps::probe::{Probe, Script, id_of, run, run_with};
use crate::secret_forms::unmasked;
use crate::support::alone::{all_lines, alone};
use crate::support::{Browser, Mongod, ReplicaSet};

/// What is searched for. Short enough to stay whole in every form.
const PLANTED: [&str; 8] = [
    "planted-text-1",
    "planted-list-2",
    "planted-nested-3",
    "planted-flash-4",
    "planted-queue-5",
    "planted-modify-6",
    "planted-late-7",
    "planted-kept-8",
];
const NUMBER: i64 = 0x1122_3344_5566_7788;

/// As text, both kinds of base64, both kinds of hexadecimal, and with two bytes a character.
fn forms(secret: &[u8]) -> [Vec<u8>; 6] {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    // The first and the last characters depend on what surrounds them.
    let base64 = |text: String| text.as_bytes()[..text.len() / 4 * 4 - 4].to_vec();
    [
        secret.to_vec(),
        base64(STANDARD.encode(secret)),
        base64(URL_SAFE_NO_PAD.encode(secret)),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        secret.iter().flat_map(|byte| [*byte, 0]).collect(),
    ]
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Every way of storing something, by one browser. Returns the id of its session, and the CSRF
/// secrets that it had.
async fn store_everything(probe: &Probe) -> (String, Vec<Vec<u8>>) {
    let [text, list, nested, flash, queue, modify, late, kept] = PLANTED;
    let browser = probe.browser();
    let mut secrets = Vec::new();
    for script in [
        Script::new()
            .set("text", text)
            .set("number", NUMBER)
            .then("csrf_token"),
        Script::new()
            .set("nested", json!({ "inside": [nested] }))
            .call(json!(["push", "list", list])),
        Script::new()
            .call(json!(["push", "list", list]))
            .call(json!(["flash", flash])),
        Script::new()
            .call(json!(["increment", "number", 0]))
            .call(json!(["increment", "count", 1])),
        Script::new().call(json!(["queue_push", "q", queue])),
        Script::new()
            .call(json!(["set", "modified", modify]))
            .then("save"),
        Script::new().call(json!(["modify", "count", 1])),
        Script::new().set("late", late).then("renew"),
        Script::new().then("elevate").then("csrf_token"),
        Script::new().set("kept", kept).call(json!([
            "login_keeping",
            "user-in-clear",
            ["kept", "text"]
        ])),
        Script::new()
            .call(json!(["flash", flash]))
            .then("new_csrf_token"),
        Script::new().call(json!(["pop_flash"])),
    ] {
        let ran = run(&browser, script).await;
        let last = ran.results.last().and_then(Value::as_str);
        if let Some(token) = last.filter(|token| token.len() == 86) {
            secrets.push(unmasked(token));
        }
    }
    let seen = run(&browser, Script::new().get("text").get("kept")).await;
    assert_eq!(seen.results, [json!(text), json!(kept)]);
    assert_eq!(secrets.len(), 3);
    let cookie = browser.cookie("session").expect("a cookie");
    (id_of(&cookie).to_owned(), secrets)
}

/// All documents of a collection, as their bytes.
async fn bytes_of(database: &Database, collection: &str) -> Vec<u8> {
    let found = database
        .collection::<Document>(collection)
        .find(doc! {})
        .await;
    let all: Vec<Document> = found
        .expect("documents")
        .try_collect()
        .await
        .expect("documents");
    assert!(!all.is_empty(), "{collection}");
    all.iter()
        .flat_map(|one| mongodb::bson::to_vec(one).expect("bytes"))
        .collect()
}

/// What can be read of sessions on a server.
struct Kept {
    /// By where it is.
    places: BTreeMap<&'static str, Vec<u8>>,
    /// The id of a session that is told everywhere.
    id: String,
    /// The CSRF secrets.
    secrets: Vec<Vec<u8>>,
}

/// Uses sessions on a server of its own that keeps and logs all that it can.
async fn what_the_server_keeps(seals: bool) -> Kept {
    // Nothing is compressed, so that a search finds what is there.
    let set = ReplicaSet::builder()
        .arg("--wiredTigerCollectionBlockCompressor=none")
        .arg("--wiredTigerJournalCompressor=none")
        .arg("--wiredTigerIndexPrefixCompression=false")
        .members(1)
        .start()
        .await;
    let client: Client = set.client().await;
    let db = client.database("sealed");
    let loud = doc! { "setParameter": 1, "logLevel": 5, "redactClientLogData": false };
    if client.database("admin").run_command(loud).await.is_err() {
        let loud = doc! { "setParameter": 1, "logLevel": 5 };
        client
            .database("admin")
            .run_command(loud)
            .await
            .expect("a loud server");
    }
    let profile = doc! { "profile": 2, "slowms": 0 };
    db.run_command(profile).await.expect("a profiler");
    let keys = [("seal", seals.into()), ("record_client", true.into())];
    let probe = Probe::start_at(client.clone(), &set.url("sealed"), "sealed", &keys, |r| r).await;
    let (id, secrets) = store_everything(&probe).await;
    let mut places = BTreeMap::from([
        ("documents", bytes_of(&db, "session").await),
        (
            "oplog",
            bytes_of(&client.database("local"), "oplog.rs").await,
        ),
        ("profiler", bytes_of(&db, "system.profile").await),
    ]);
    drop(probe);
    let server = &set.nodes()[0];
    server.stop().await;
    for (name, bytes) in server.files().await {
        let place = if name == "log" { "log" } else { "files" };
        places.entry(place).or_default().extend(bytes);
    }
    Kept {
        places,
        id,
        secrets,
    }
}

/// EN-01: and without sealing the same search finds everything.
#[test]
fn nothing_that_the_database_keeps_or_logs_shows_a_value() {
    let test = "sealed::nothing_that_the_database_keeps_or_logs_shows_a_value";
    alone(test, search_everything());
}

async fn search_everything() {
    for seals in [true, false] {
        let Kept {
            places,
            id,
            secrets,
        } = what_the_server_keeps(seals).await;
        assert_eq!(places.len(), 5);
        assert!(has(&places["documents"], b"user-in-clear"));
        for (place, bytes) in &places {
            assert!(has(bytes, id.as_bytes()), "{place}: the session is there");
            let number = NUMBER.to_le_bytes();
            let values = PLANTED
                .iter()
                .map(|planted| planted.as_bytes())
                .chain([&number[..]]);
            let mut found = Vec::new();
            for value in values.chain(secrets.iter().map(Vec::as_slice)) {
                let shows = forms(value).iter().any(|form| has(bytes, form));
                found.extend(shows.then(|| String::from_utf8_lossy(value).into_owned()));
            }
            match seals {
                true => assert!(found.is_empty(), "{place} shows {found:?}"),
                false => assert!(found.len() >= 4, "{place} shows only {found:?}"),
            }
        }
        // What this process has logged, at every level.
        let ours: Vec<u8> = all_lines()
            .iter()
            .filter(|line| line.is_ours())
            .flat_map(|line| line.text.clone().into_bytes())
            .collect();
        assert!(!ours.is_empty());
        for value in PLANTED
            .iter()
            .map(|planted| planted.as_bytes())
            .chain(secrets.iter().map(Vec::as_slice))
        {
            assert!(forms(value).iter().all(|form| !has(&ours, form)));
        }
    }
}

fn is_sealed(value: &Bson) -> bool {
    matches!(value, Bson::Binary(binary) if binary.bytes.starts_with(b"s\x01"))
}

#[rocket::async_test]
async fn sealing_can_be_switched_at_any_time() {
    let probe = Probe::start("sealed_switch", &[("seal", true.into())]).await;
    let browser = probe.browser();
    run(&browser, Script::new().set("n", 1).then("csrf_token")).await;
    let cookie = browser.cookie("session").expect("a cookie");
    let document = probe.document(&cookie).await.expect("a document");
    assert!(is_sealed(
        document
            .get_document("value")
            .expect("values")
            .get("n")
            .expect("n")
    ));
    // Switched off, in another process.
    let url = Mongod::shared().await.url("sealed_switch");
    let keys = [("seal", false.into())];
    let plain = probe.again(&url, &keys).await;
    let ran = run_with(&plain, &cookie, Script::new().get("n").set("n", 2)).await;
    assert_eq!(ran.results[0], json!(1));
    let document = probe.document(&cookie).await.expect("a document");
    assert_eq!(
        document.get_document("value").expect("values").get("n"),
        Some(&Bson::Int64(2))
    );
    let ran = run(&browser, Script::new().get("n")).await;
    assert_eq!(ran.results, [json!(2)]);
}

/// A rolling deploy: two processes, of which one seals, and every call in all orders.
async fn rolling_deploy(url: &str, share: bool) {
    const ROUNDS: usize = 25;
    let start = |seals: bool| {
        let setting = Setting::in_memory().url(url.to_owned()).key("share", share);
        let setting = setting.key("seal", seals);
        async move { Arena::start(&setting).await }
    };
    let (plain, sealing) = (start(false).await, start(true).await);
    for round in 0..ROUNDS {
        let begin = if round % 2 == 0 { &plain } else { &sealing };
        let browser = begin.browser();
        let first = begin.run(&browser, &[set("n", 0), set("m", "x")]).await;
        first.arrive(&browser);
        let tabs: Vec<Browser> = (0..6).map(|_| browser.twin()).collect();
        let requests = tabs.iter().enumerate().map(|(at, tab)| {
            let app = if at % 2 == 0 { &plain } else { &sealing };
            let program = vec![
                Op::Increment("n".to_owned(), 1),
                Op::Push("list".to_owned(), json!(at)),
                Op::Add("m2".to_owned(), 1),
                Op::Flash(json!(at)),
            ];
            async move { app.run(tab, &program).await.status() }
        });
        for status in join_all(requests).await {
            assert_eq!(status, 200);
        }
        // Renewed by the process that does not seal, beside a write of the one that does.
        let (renewing, writing) = (&plain, &sealing);
        let tab = browser.twin();
        let (renewed, written) =
            rocket::tokio::join!(renewing.run(&browser, &[Op::Renew]), async {
                writing.run(&tab, &[set("late", round)]).await.status()
            },);
        assert_eq!(written, 200);
        renewed.arrive(&browser);
        for app in [&plain, &sealing] {
            let view = app.run(&browser, &[Op::View]).await;
            let results = view.results();
            let view = results.view(0);
            assert!(!view.is_new, "round {round}");
            assert_eq!((view.int("n"), view.int("m2")), (6, 6), "round {round}");
            assert_eq!(
                (view.list("list").len(), view.flash.len()),
                (6, 6),
                "round {round}"
            );
        }
    }
}

#[rocket::async_test]
async fn processes_that_seal_and_that_do_not_share_sessions() {
    let mongod = Mongod::shared().await;
    for share in [true, false] {
        rolling_deploy(&mongod.url(&database()), share).await;
    }
}

#[rocket::async_test]
async fn processes_that_seal_and_that_do_not_share_sessions_on_a_replica_set() {
    let set = ReplicaSet::shared().await;
    rolling_deploy(&set.url(&database()), true).await;
}
