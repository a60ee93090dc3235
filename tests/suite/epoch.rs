//! The end of every session by one write: `revoke_all`, at any size and in every process.
//!
//! Where a test says `undeleted`, the database refuses to delete, so that the documents of the sessions
//! stay: what ends them then is their generation alone.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::{Client, Collection};
use rocket::figment::value::Value as Setting;
use rocket::futures::future::join_all;
use rocket::serde::json::{Value, json};
use rocket::tokio;
use rocket_mongo_session::{Query, Sessions};

use crate::apps::database;
use crate::apps::probe::{Probe, Script, id_of, run, run_with};
use crate::support::{
    App, FailPoint, Failure, Mode, Mongod, Proxy, ReplicaSet, eventually, figment, watchful,
};

const APP: &str = "app";

/// Two processes of one application, and a command line.
struct Stand {
    probe: Probe,
    other: App,
    jobs: Sessions,
    /// The client of the server that has the fail point.
    server: Client,
}

impl Stand {
    async fn start(server: Client, client: Client, url: &str, db: &str) -> Stand {
        Stand::start_with(server, client, url, db, &[]).await
    }

    async fn start_with(
        server: Client,
        client: Client,
        url: &str,
        db: &str,
        more: &[(&str, Setting)],
    ) -> Stand {
        let separator = if url.contains('?') { '&' } else { '?' };
        let url = format!(
            "{}&appName={APP}",
            watchful(&format!("{url}{separator}w=majority"))
        );
        let probe = Probe::start_at(client, &url, db, more, |rocket| rocket).await;
        let other = probe.again(&url, more).await;
        let figment = figment("debug", Some(&url), more);
        let jobs = Sessions::connect(&figment).await.expect("a handle");
        Stand {
            jobs,
            probe,
            other,
            server,
        }
    }

    async fn undeleted(&self) -> FailPoint {
        let failure = Failure::code(8000).app_name(APP);
        FailPoint::on(&self.server, &["delete"], Mode::Always, failure).await
    }

    fn stored(&self) -> Collection<Document> {
        self.probe.sessions()
    }

    async fn count_stored(&self) -> u64 {
        let sessions = doc! { "_id": { "$lt": "~" } };
        self.stored()
            .count_documents(sessions)
            .await
            .expect("a count")
    }

    async fn member(&self, app: &App, user: &str) -> String {
        let login = Script::new().set("n", 1).login(user);
        run(&app.browser(), login).await.cookie()
    }

    async fn user(&self, app: &App, cookie: &str) -> Value {
        let ran = run_with(app, cookie, Script::new().then("user")).await;
        assert_eq!(ran.status, 200, "{ran:?}");
        ran.last().clone()
    }

    async fn assert_ended(&self, cookies: &[String]) {
        for cookie in cookies {
            for app in [&self.probe.app, &self.other] {
                assert_eq!(self.user(app, cookie).await, json!(null));
                let write = Script::new().set("n", 2);
                let written = run_with(app, cookie, write).await;
                assert_ne!(
                    written.sent().map(id_of),
                    Some(id_of(cookie)),
                    "{written:?}"
                );
            }
        }
    }

    async fn epoch(&self) -> Option<Document> {
        let found = self.stored().find_one(doc! { "_id": "~epoch" }).await;
        found.expect("a find")
    }
}

/// On a standalone server of the test's own.
async fn on(mongod: Mongod, test: impl AsyncFn(Stand)) {
    let (client, db) = (mongod.client().await, database());
    test(Stand::start(client.clone(), client, &mongod.url(&db), &db).await).await;
}

/// On a standalone server and on a replica set of the test's own.
async fn everywhere(test: impl AsyncFn(Stand)) {
    on(Mongod::start().await, &test).await;
    let (set, db) = (ReplicaSet::start().await, database());
    let server = set.nodes()[set.primary().await].client().await;
    test(Stand::start(server, set.client().await, &set.url(&db), &db).await).await;
}

#[rocket::async_test]
async fn revoke_all_ends_undeleted_sessions_in_every_process() {
    everywhere(ends_undeleted_sessions).await;
}

#[rocket::async_test]
async fn revoke_all_ends_undeleted_sessions_on_5_0() {
    on(
        Mongod::builder().series("5.0").start().await,
        ends_undeleted_sessions,
    )
    .await;
}

#[rocket::async_test]
async fn revoke_all_ends_undeleted_sessions_on_4_4() {
    on(
        Mongod::builder().series("4.4").start().await,
        ends_undeleted_sessions,
    )
    .await;
}

async fn ends_undeleted_sessions(stand: Stand) {
    let (here, there) = (&stand.probe.app, &stand.other);
    let mut cookies = Vec::new();
    for at in 0..6 {
        let app = [here, there][at % 2];
        cookies.push(stand.member(app, &format!("u{at}")).await);
    }
    for cookie in &cookies {
        assert!(
            stand.user(there, cookie).await.is_string(),
            "its lease lasts"
        );
    }
    let undeleted = stand.undeleted().await;
    let ended = stand.jobs.revoke_all().await.expect("it ended them");
    assert!(ended >= 6, "{ended}");
    stand.assert_ended(&cookies).await;
    assert!(stand.count_stored().await >= 6, "they are stored");
    // What counts and lists knows it.
    assert_eq!(stand.jobs.of("u1").count().await.expect("a count"), 0);
    assert!(
        stand
            .jobs
            .of("u1")
            .list(0, 9)
            .await
            .expect("a list")
            .is_empty()
    );
    assert_eq!(stand.jobs.of("u1").flash("hello").await.expect("none"), 0);
    let edit = stand
        .jobs
        .edit(id_of(&cookies[0]))
        .set("n", &3)
        .expect("an edit");
    assert!(!edit.apply().await.expect("none"));
    let exported = stand.jobs.export(id_of(&cookies[0])).await;
    assert_eq!(exported.expect("none"), None);
    // And who signs in now stays signed in, in every process.
    for app in [here, there] {
        let cookie = stand.member(app, "late").await;
        for app in [here, there] {
            assert_eq!(stand.user(app, &cookie).await, json!("late"));
        }
    }
    assert_eq!(stand.jobs.of("late").count().await.expect("a count"), 2);
    let found = stand
        .jobs
        .find(&Query::new().limit(100))
        .await
        .expect("a page");
    let late = stand.jobs.of("late").list(0, 9).await.expect("a list");
    for session in &late {
        assert!(found.sessions.iter().any(|one| one.id == session.id));
    }
    let ended = |cookie: &String| found.sessions.iter().any(|one| one.id == id_of(cookie));
    assert!(!cookies.iter().any(ended));
    undeleted.clear().await;
    // The deletion is continued by whichever process looks next.
    eventually("the deletion", async || {
        let others =
            doc! { "_id": { "$in": cookies.iter().map(|one| id_of(one)).collect::<Vec<_>>() } };
        stand
            .stored()
            .count_documents(others)
            .await
            .expect("a count")
            == 0
    })
    .await;
}

/// A request that was loaded before, and writes after.
#[rocket::async_test]
async fn a_write_to_an_undeleted_session_is_dropped_after_revoke_all() {
    everywhere(async |stand: Stand| {
        let cookie = stand.member(&stand.other, "alice").await;
        let undeleted = stand.undeleted().await;
        let script = Script::new()
            .get("n")
            .pause("loaded")
            .set("n", 5)
            .then("save");
        let request = run_with(&stand.other, &cookie, script);
        let (ran, ()) = tokio::join!(request, async {
            stand.probe.gates.reached("loaded").await;
            stand.jobs.revoke_all().await.expect("it ended them");
            stand.probe.gates.open("loaded");
        });
        assert_eq!(ran.last(), &json!({ "error": "Gone" }), "{ran:?}");
        assert_eq!(ran.sent(), None);
        let stored = stand.probe.document(&cookie).await.expect("it is stored");
        let value = stored.get_document("value").expect("values");
        assert_eq!(value.get("n"), None);
        undeleted.clear().await;
    })
    .await;
}

/// Only the load of the session succeeds: the response must not say that a write did.
#[rocket::async_test]
async fn a_process_that_cannot_read_the_generation_answers_503() {
    let mongod = Mongod::start().await;
    let (client, db) = (mongod.client().await, database());
    let proxy = Proxy::start(mongod.port()).await;
    let is_refused = Arc::new(AtomicBool::new(false));
    let refuses = Arc::clone(&is_refused);
    proxy.refuse_where(move |command| {
        let asks = command.contains_key("find") && command.to_string().contains("~epoch");
        (asks && refuses.load(Ordering::SeqCst)).then_some(8000)
    });
    let probe = Probe::start_at(client, &proxy.url(&db), &db, &[], |rocket| rocket).await;
    let first = Script::new().set("n", 1);
    let cookie = run(&probe.browser(), first).await.cookie();
    for (gate, write) in [
        ("set", json!(["set", "n", 2])),
        ("modify", json!(["modify", "n", 1])),
        ("login", json!(["login", "bob"])),
    ] {
        let script = Script::new().get("n").pause(gate).call(write).then("save");
        let (ran, ()) = tokio::join!(run_with(&probe.app, &cookie, script), async {
            probe.gates.reached(gate).await;
            probe.clock.advance(Duration::from_secs(2));
            is_refused.store(true, Ordering::SeqCst);
            probe.gates.open(gate);
        });
        assert!(ran.status == 503 || ran.text().contains("Store"), "{ran:?}");
        assert_eq!(ran.sent(), None);
        let read = run_with(&probe.app, &cookie, Script::new().get("n")).await;
        assert_eq!(read.status, 503, "{read:?}");
        is_refused.store(false, Ordering::SeqCst);
        let read = run_with(&probe.app, &cookie, Script::new().get("n")).await;
        assert_eq!(read.results, [json!(1)]);
    }
}

const URL: &str = "REVOCATION_TO_KILL_URL";

/// Not a test: the process that another test starts and kills.
#[rocket::async_test]
#[ignore = "the job that another test starts in a process of its own"]
async fn the_job() {
    let Ok(url) = std::env::var(URL) else { return };
    let figment = figment("debug", Some(&url), &[]);
    let jobs = Sessions::connect(&figment).await.expect("a handle");
    let deleted = jobs.revoke_all_with(|so_far| println!("\ndeleted {so_far}"));
    deleted.await.expect("a job that is killed, not ended");
}

/// Starts a job that ends every session, and kills it when it has deleted a thousand.
fn kill_a_revocation(url: &str) {
    let mut job = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "epoch::the_job", "--ignored", "--nocapture"])
        .env(URL, url)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a job");
    let output = BufReader::new(job.stdout.take().expect("its output"));
    let mut lines = output.lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "deleted 1000"), "it deletes");
    job.kill().expect("an end");
    job.wait().expect("its end");
}

#[rocket::async_test]
async fn another_process_deletes_what_a_killed_one_has_left() {
    const MANY: u64 = 30_000;
    let mongod = Mongod::start().await;
    let (client, db) = (mongod.client().await, database());
    let url = mongod.url(&db);
    let stand = Stand::start(client.clone(), client, &url, &db).await;
    let old = stand.member(&stand.other, "alice").await;
    let model = stand.probe.document(&old).await.expect("a session");
    let copies = (0..MANY).map(|at| {
        let mut copy = model.clone();
        copy.insert("_id", format!("{at:0>22}"));
        copy
    });
    stand.stored().insert_many(copies).await.expect("sessions");
    rocket::tokio::task::spawn_blocking({
        let url = url.clone();
        move || kill_a_revocation(&url)
    })
    .await
    .expect("a killed job");
    let left = stand.count_stored().await;
    assert!((1..=MANY - 999).contains(&left), "{left}");
    tokio::time::sleep(Duration::from_secs(2)).await; // as `revoke_all` waits
    stand.assert_ended(&[old]).await;
    let new = stand.member(&stand.probe.app, "bob").await;
    // A process that starts looks at once, and again.
    let third = stand.probe.again(&url, &[("deadline", 3.into())]).await;
    let others = doc! { "_id": { "$lt": "~" }, "epoch": { "$exists": false } };
    eventually("the deletion", async || {
        let others = stand.stored().count_documents(others.clone()).await;
        others.expect("a count") == 0
    })
    .await;
    eventually("its end", async || {
        let epoch = stand.epoch().await.expect("the document");
        !epoch.contains_key("sweeping")
    })
    .await;
    assert_eq!(stand.user(&third, &new).await, json!("bob"));
    assert_eq!(stand.jobs.of("bob").count().await.expect("a count"), 1);
}

#[rocket::async_test]
async fn sessions_continue_after_every_document_was_deleted_by_hand() {
    everywhere(async |stand: Stand| {
        let old = stand.member(&stand.other, "alice").await;
        stand.jobs.revoke_all().await.expect("it ended them");
        let before = stand.member(&stand.other, "alice").await;
        assert_eq!(stand.user(&stand.probe.app, &before).await, json!("alice"));
        let generation = stand.epoch().await.expect("the document");
        for drop in [false, true] {
            match drop {
                true => stand.stored().drop().await.expect("a drop"),
                false => drop_all(&stand.stored()).await,
            }
            stand.assert_ended(&[old.clone(), before.clone()]).await;
            // At once, with the lease of the old generation.
            let login = stand.member(&stand.other, "bob").await;
            for _ in 0..2 {
                for app in [&stand.probe.app, &stand.other] {
                    assert_eq!(stand.user(app, &login).await, json!("bob"));
                }
                tokio::time::sleep(Duration::from_millis(1100)).await; // every lease
            }
            let again = stand.epoch().await.expect("it is stored again");
            assert_ne!(
                again.get_i64("generation"),
                generation.get_i64("generation")
            );
        }
    })
    .await;
}

async fn drop_all(stored: &Collection<Document>) {
    stored.delete_many(doc! {}).await.expect("a delete");
}

#[rocket::async_test]
async fn revoke_all_survives_a_failover() {
    let set = ReplicaSet::start().await;
    let db = database();
    let client = set.client().await;
    let stand = Stand::start(client.clone(), client, &set.url(&db), &db).await;
    let cookies = join_all((0..5).map(|_| stand.member(&stand.other, "alice"))).await;
    let (revoked, _) = tokio::join!(stand.jobs.revoke_all(), set.step_down());
    if revoked.is_err() {
        eventually("a revocation", async || {
            stand.jobs.revoke_all().await.is_ok()
        })
        .await;
    }
    for cookie in &cookies {
        for app in [&stand.probe.app, &stand.other] {
            eventually("a response", async || {
                let ran = run_with(app, cookie, Script::new().then("user")).await;
                assert!(ran.status == 503 || ran.last() == &json!(null), "{ran:?}");
                ran.status == 200
            })
            .await;
        }
    }
    set.step_down().await;
    eventually("a login", async || {
        let ran = run(&stand.other.browser(), Script::new().login("bob")).await;
        ran.status == 200 && ran.sent().is_some()
    })
    .await;
}

/// Logins and writes in two processes while all sessions are ended again and again.
#[rocket::async_test]
async fn nothing_from_before_a_revocation_is_alive_after_it_and_all_from_after_it_is() {
    everywhere(async |stand: Stand| {
        for _ in 0..3 {
            let apps = [&stand.probe.app, &stand.other];
            let before = join_all((0..8).map(|at| stand.member(apps[at % 2], "alice"))).await;
            let racing = async {
                let mut cookies = Vec::new();
                for at in 0..40 {
                    let login = Script::new().set("n", 1).login("racer");
                    let ran = run(&apps[at % 2].browser(), login).await;
                    cookies.extend(
                        ran.sent()
                            .map(|line| crate::apps::probe::value_of(line).to_owned()),
                    );
                    let cookie = &before[at % 8];
                    let write = Script::new()
                        .call(json!(["increment", "n", 1]))
                        .then("renew");
                    run_with(apps[(at / 2) % 2], cookie, write).await;
                }
                cookies
            };
            let (revoked, racers) = tokio::join!(stand.jobs.revoke_all(), racing);
            revoked.expect("it ended them");
            stand.assert_ended(&before).await;
            let after = join_all((0..4).map(|at| stand.member(apps[at % 2], "bob"))).await;
            // A login that was told of its session after the end of the call is alive.
            for cookie in &racers {
                let states = [
                    stand.user(apps[0], cookie).await,
                    stand.user(apps[1], cookie).await,
                ];
                assert_eq!(states[0], states[1], "the processes agree");
            }
            tokio::time::sleep(Duration::from_millis(1100)).await; // every lease
            for cookie in &after {
                for app in apps {
                    assert_eq!(stand.user(app, cookie).await, json!("bob"));
                }
            }
        }
    })
    .await;
}

/// Documents of the Python package carry no generation.
#[rocket::async_test]
async fn undeleted_sessions_of_the_python_package_end_by_their_creation() {
    let mongod = Mongod::start().await;
    let (client, db) = (mongod.client().await, database());
    let keys = [("legacy_ids", true.into())];
    let stand = Stand::start_with(client.clone(), client, &mongod.url(&db), &db, &keys).await;
    let plant = async |id: &str, created: f64| {
        let document = doc! {
            "_id": id, "created": created, "accessed": created, "value": { "n": 1 }, "pickled": false,
        };
        stand
            .stored()
            .insert_one(document)
            .await
            .expect("an insert");
    };
    let (old, new) = (
        "0123456789abcdef0123456789abcdef",
        "1123456789abcdef0123456789abcdef",
    );
    let now = || stand.probe.clock.time().unix_timestamp_nanos() as f64 / 1e9;
    plant(old, now()).await;
    let n = async |app: &App, cookie: &str| {
        let ran = run_with(app, cookie, Script::new().get("n")).await;
        ran.last().clone()
    };
    assert_eq!(n(&stand.other, old).await, json!(1));
    let undeleted = stand.undeleted().await;
    stand.jobs.revoke_all().await.expect("it ended them");
    for app in [&stand.probe.app, &stand.other] {
        assert_eq!(n(app, old).await, json!(null));
    }
    stand.probe.clock.advance(Duration::from_secs(60));
    plant(new, now()).await;
    for app in [&stand.probe.app, &stand.other] {
        assert_eq!(n(app, new).await, json!(1));
    }
    undeleted.clear().await;
}
