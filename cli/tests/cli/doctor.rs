//! The doctor on whole servers: what holds, what it leaves behind, and what it may do.

use serde_json::{Value, json};

use crate::support::{FailPoint, Failure, Mode, Mongod, ReplicaSet, eventually, users};
use crate::tool::{Said, run, signal, start, start_on_terminal, wait};

/// Of every scratch collection.
const PREFIX: &str = "rocket_mongo_session_doctor_";

/// Runs the doctor with `--json`; what it said, and its report.
pub async fn doctor(url: &str, args: &[&str]) -> (Said, Value) {
    let said = run(&[&["doctor", url, "--json"], args].concat()).await;
    let report = said
        .json()
        .pop()
        .unwrap_or_else(|| panic!("no report: {said:#?}"));
    (said, report)
}

/// Returns the outcome of a check and what was found.
pub fn line<'a>(report: &'a Value, check: &str) -> (&'a str, &'a str) {
    let lines = report["lines"].as_array().into_iter().flatten();
    let mut lines = lines.filter(|line| line["check"] == json!(check));
    let line = lines
        .next()
        .unwrap_or_else(|| panic!("no line {check}: {report:#}"));
    (
        line["outcome"].as_str().unwrap_or(""),
        line["found"].as_str().unwrap_or(""),
    )
}

/// A busy machine may leave no time for the longest trials, which breaks no promise.
#[track_caller]
fn breaks_nothing(said: Said) {
    let is_late = said.code == 2 && said.out.contains("there was no time");
    assert!(said.code == 0 || is_late, "{said:#?}");
}

/// The same of one check.
#[track_caller]
fn holds(report: &Value, check: &str) {
    let (outcome, found) = line(report, check);
    let is_late = found.contains("there was no time");
    assert!(
        outcome == "holds" || (outcome == "not_tried" && is_late),
        "{check}: {report:#}"
    );
}

pub async fn scratches(client: &mongodb::Client, db: &str) -> Vec<String> {
    let names = client
        .database(db)
        .list_collection_names()
        .await
        .expect("names");
    names
        .into_iter()
        .filter(|name| name.starts_with(PREFIX))
        .collect()
}

#[rocket::async_test]
async fn doctor_finds_that_everything_holds_on_a_replica_set() {
    let set = ReplicaSet::shared().await;
    let (said, report) = doctor(&set.url("doctor_set"), &[]).await;
    breaks_nothing(said);
    let wanted = [
        "topology",
        "tls",
        "latency",
        "clock",
        "privileges",
        "majority",
        "numbering",
        "currentDate",
        "partial-index",
        "ttl",
        "change-streams",
        "conformance",
        "races",
    ];
    for check in wanted {
        holds(&report, check);
    }
    assert_eq!(report["broken"], json!(0), "{report:#}");
    assert_eq!(scratches(&set.client().await, "doctor_set").await, [""; 0]);
}

#[rocket::async_test]
async fn doctor_tells_what_a_standalone_server_lacks() {
    let mongod = Mongod::shared().await;
    let url = mongod.url("doctor_alone");
    let (said, report) = doctor(&url, &[]).await;
    breaks_nothing(said);
    for check in [
        "privileges",
        "majority",
        "currentDate",
        "partial-index",
        "ttl",
        "conformance",
    ] {
        holds(&report, check);
    }
    assert_eq!(line(&report, "topology").0, "attention");
    for check in ["numbering", "change-streams"] {
        assert_eq!(line(&report, check).0, "not_tried", "{check}: {report:#}");
    }
    // The same for people.
    let args = ["--only", "topology", "--only", "clock"];
    let text = run(&[&["doctor", &url], &args[..]].concat())
        .await
        .ends_with(0);
    assert!(text.out.contains("attention      topology"), "{text:#?}");
    assert!(text.out.contains("do       Run a replica set"), "{text:#?}");
    let markdown = run(&[&["doctor", &url, "--markdown"], &args[..]].concat())
        .await
        .ends_with(0);
    assert!(markdown.out.contains("| clock | holds |"), "{markdown:#?}");
    assert!(
        scratches(&mongod.client().await, "doctor_alone")
            .await
            .is_empty()
    );
}

/// One look at the server answers several checks, and its version stands at the head of the report.
#[rocket::async_test]
async fn doctor_writes_only_the_checks_that_were_asked_for() {
    let url = Mongod::shared().await.url("doctor_only");
    let (said, report) = doctor(&url, &["--only", "clock"]).await;
    said.ends_with(0);
    assert_eq!(line(&report, "clock").0, "holds");
    for check in ["version", "latency", "topology", "privileges"] {
        let left_out = ("not_tried", "left out by --only");
        assert_eq!(line(&report, check), left_out, "{check}: {report:#}");
    }
    let server = report["server"].as_str().unwrap_or_default();
    assert!(server.starts_with("MongoDB "), "{report:#}");
}

#[rocket::async_test]
async fn doctor_says_which_privilege_is_missing() {
    // A role on the one collection of the sessions: nothing can be tried, and nothing is made.
    let (mongod, client) = users::server(&["find", "insert", "update", "remove"], &[]).await;
    let (said, report) = doctor(&users::url(mongod.port()), &[]).await;
    let said = said.ends_with(2);
    assert_eq!(
        line(&report, "privileges"),
        ("attention", "missing: dropCollection")
    );
    assert_eq!(line(&report, "conformance").0, "not_tried");
    assert_eq!(line(&report, "authentication").0, "holds");
    assert!(
        said.out.contains("role readWrite on the database shop"),
        "{said:#?}"
    );
    assert!(!said.out.contains("apppassword"), "{said:#?}");
    assert!(scratches(&client, "shop").await.is_empty());

    let (mongod, client) = users::server(&[], &["readWrite"]).await;
    let args = ["--only", "privileges", "--only", "numbering"];
    let (said, report) = doctor(&users::url(mongod.port()), &args).await;
    said.ends_with(0);
    assert_eq!(
        line(&report, "privileges"),
        ("attention", "missing: collMod")
    );
    assert!(scratches(&client, "shop").await.is_empty());
}

#[rocket::async_test]
async fn interrupted_doctor_leaves_no_collection() {
    let mongod = Mongod::shared().await;
    let client = mongod.client().await;
    let child = start(&["doctor", &mongod.url("doctor_stop"), "--json"]);
    eventually("its collections", async || {
        scratches(&client, "doctor_stop").await.len() > 4
    })
    .await;
    signal(&child, "-INT");
    let said = wait(child).await.ends_with(130);
    let report = said.json().pop().expect("a report");
    assert!(
        report.to_string().contains("it was interrupted"),
        "{report:#}"
    );
    assert!(scratches(&client, "doctor_stop").await.is_empty());
}

/// A terminal that closes: a connection to the machine that broke.
#[rocket::async_test]
async fn doctor_whose_terminal_closes_leaves_no_collection() {
    let mongod = Mongod::shared().await;
    let client = mongod.client().await;
    let mut terminal = start_on_terminal(&["doctor", &mongod.url("doctor_closed")]);
    let left = async || scratches(&client, "doctor_closed").await.len();
    eventually("its collections", async || left().await > 4).await;
    terminal.kill().expect("a terminal");
    terminal.wait().expect("the end of the terminal");
    eventually("no collection", async || left().await == 0).await;
}

/// A check that the time limit leaves out is reported as not run, and the exit code is not 0.
#[rocket::async_test]
async fn doctor_whose_time_is_up_removes_its_collections_and_says_so() {
    let never = "--setParameter=ttlMonitorEnabled=false";
    let mongod = Mongod::builder().arg(never).start().await;
    let url = mongod.url("doctor_late");
    let (said, report) = doctor(&url, &["--only", "ttl", "--limit", "3"]).await;
    let said = said.ends_with(2);
    assert!(said.err.contains("there was no time left"), "{said:#?}");
    let told = ("not_tried", "there was no time left");
    assert_eq!(line(&report, "ttl"), told, "{report:#}");
    let client = mongod.client().await;
    assert_eq!(scratches(&client, "doctor_late").await, [""; 0]);
}

/// A server that stops in the middle is not a server whose promises are broken for good, but a failure.
#[rocket::async_test]
async fn doctor_ends_when_its_server_goes() {
    let mongod = Mongod::start().await;
    let client = mongod.client().await;
    let url = format!("{}?serverSelectionTimeoutMS=500", mongod.url("doctor_gone"));
    let child = start(&["doctor", &url, "--quick", "--json"]);
    eventually("its collections", async || {
        scratches(&client, "doctor_gone").await.len() > 4
    })
    .await;
    mongod.kill().await;
    let said = wait(child).await;
    assert!(matches!(said.code, 1 | 2), "{said:#?}");
    assert!(
        said.out.contains("rocket_mongo_session_doctor_"),
        "what may be left is named: {said:#?}"
    );
}

#[rocket::async_test]
async fn doctor_finds_a_majority_that_does_not_acknowledge() {
    let set = ReplicaSet::builder().members(1).start().await;
    let name = "rocket-mongo-session";
    let failure = Failure::write_concern(64).app_name(name);
    let client = set.client().await;
    let point = FailPoint::on(&client, &["insert"], Mode::Always, failure).await;
    let (said, report) = doctor(&set.url("doctor_majority"), &["--only", "majority"]).await;
    said.ends_with(1);
    assert_eq!(line(&report, "majority").0, "broken", "{report:#}");
    point.clear().await;
}

/// What it finds wrong with the URL itself.
#[rocket::async_test]
async fn doctor_reads_the_options_of_the_url() {
    let set = ReplicaSet::shared().await;
    let url = format!("{}&w=1&retryWrites=false", set.url("doctor_url"));
    let (said, report) = doctor(&url, &["--only", "majority", "--only", "numbering"]).await;
    said.ends_with(0);
    assert_eq!(line(&report, "majority").0, "attention", "{report:#}");
    let (outcome, found) = line(&report, "numbering");
    assert!(
        outcome == "attention" && found.contains("retryWrites=false"),
        "{report:#}"
    );
}

#[rocket::async_test]
async fn doctor_needs_a_database() {
    let mongod = Mongod::shared().await;
    let said = run(&["doctor", &mongod.url("")]).await.ends_with(3);
    assert!(said.err.contains("names no database"), "{said:#?}");
}

#[rocket::async_test]
async fn doctor_quotes_no_password() {
    for url in [
        "mongodb://bob:hunter2%40host/db",
        "mongodb://bob:hunter2/db",
    ] {
        let said = run(&["doctor", url]).await.ends_with(3);
        assert!(!said.err.contains("hunter2"), "{said:#?}");
        assert!(said.err.contains("percent-encoded"), "{said:#?}");
    }
}
