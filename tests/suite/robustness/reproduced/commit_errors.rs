//! Commits that fail for a reason of the application's are not an outage, and an outage is not the
//! application's fault.

use rocket::serde::json::json;

use super::{InMemory, visitor};
use crate::apps::probe::{Gates, Probe, Script, run};
use crate::support::{App, FailPoint, Failure, Mode, Mongod};

async fn answers_500(app: &App, gates: &Gates) {
    let browser = visitor(app).await;
    let first = Script::new()
        .call(json!(["increment", "n", 1]))
        .set("m", 1)
        .pause("half");
    let second = async {
        gates.reached("half").await;
        assert_eq!(
            run(&browser, Script::new().set("n", "text")).await.status,
            200
        );
        gates.open("half");
    };
    let (ran, ()) = rocket::tokio::join!(run(&browser, first), second);
    assert_eq!((ran.status, ran.sent()), (500, None), "{ran:?}");
    let seen = run(&browser, Script::new().get("n").get("m")).await;
    assert_eq!(seen.results, [json!("text"), json!(null)]);
}

/// Another request has changed the type of the key: `Error::Mismatch` at the commit.
#[rocket::async_test]
async fn mismatch_at_the_commit_answers_500() {
    let memory = InMemory::start(|rocket| rocket).await;
    answers_500(&memory.app, &memory.gates).await;
    let probe = Probe::start("commit_mismatch", &[]).await;
    answers_500(&probe.app, &probe.gates).await;
}

/// Code 2 of a whole command, as of a bad write concern, says nothing of a value.
#[rocket::async_test]
async fn refused_command_is_not_a_mismatch() {
    let mongod = Mongod::start().await;
    let (client, url) = (mongod.client().await, mongod.url("refused"));
    let probe = Probe::start_at(client, &url, "refused", &[], |rocket| rocket).await;
    let browser = visitor(&probe.app).await;
    let bad_value = Failure::code(2);
    let point = FailPoint::on(&probe.client, &["update"], Mode::Always, bad_value).await;
    let ran = run(&browser, Script::new().set("n", 2).then("save")).await;
    point.clear().await;
    let said = ran.last();
    assert!(
        said["error"] == "Store" || said["error"] == "Unknown",
        "{said}"
    );
}
