//! A login destroys nothing before it knows that it stands.

use mongodb::bson::Document;
use rocket::serde::json::json;
use std::time::Duration;

use super::{Standalone, eventually, stored_of};
use crate::apps::probe::{Probe, Script, run};
use crate::support::Mongod;

/// A look for revocations and tombstones, which asks how old they are. A load does not count: it
/// may ask for the generation of all sessions, too.
fn is_look_for_revocations(command: &Document) -> bool {
    command.contains_key("find") && command.to_string().contains("$$NOW")
}

fn refuse_looks_for_revocations(standalone: &Standalone) {
    let refused = |command: &Document| is_look_for_revocations(command).then_some(8000);
    standalone.proxy.refuse_where(refused);
}

#[rocket::async_test]
async fn login_that_cannot_look_for_revocations_leaves_the_old_session() {
    let logins = [
        json!(["login", "alice"]),
        json!(["login_keeping", "alice", ["basket"]]),
    ];
    let standalone = Standalone::start(&[]).await;
    refuse_looks_for_revocations(&standalone);
    let probe = &standalone.probe;
    for login in logins {
        let browser = probe.browser();
        run(&browser, Script::new().set("basket", json!(["tea"]))).await;
        let old = browser.cookie("session");
        let ran = run(&browser, Script::new().call(login.clone())).await;
        assert_eq!((ran.status, ran.sent()), (503, None), "{login}: {ran:?}");
        assert_eq!(browser.cookie("session"), old);
        let seen = run(&browser, Script::new().get("basket").then("user")).await;
        assert_eq!(seen.results, [json!(["tea"]), json!(null)], "{login}");
        eventually("the login is rolled back", async || {
            stored_of(probe, "alice").await == 0
        })
        .await;
    }
}

#[rocket::async_test]
async fn login_that_cannot_look_for_revocations_evicts_no_session() {
    let standalone = Standalone::start(&[("max_per_user", 1.into())]).await;
    let probe = &standalone.probe;
    let phone = probe.browser();
    let login = run(&phone, Script::new().login("alice")).await;
    assert_eq!(login.status, 200, "{login:?}");
    probe.clock.advance(Duration::from_millis(1));
    refuse_looks_for_revocations(&standalone);

    let login = run(&probe.browser(), Script::new().login("alice")).await;
    assert_eq!((login.status, login.sent()), (503, None), "{login:?}");
    let seen = run(&phone, Script::new().then("user")).await;
    assert_eq!(seen.results, [json!("alice")], "{seen:?}");
}

/// Where the limit is new there may be many.
#[rocket::async_test]
async fn max_per_user_ends_many_sessions_with_few_commands() {
    const DEVICES: u64 = 30;
    let probe = Probe::start("login_order_cap", &[]).await;
    for _ in 0..DEVICES {
        run(&probe.browser(), Script::new().login("alice")).await;
        probe.clock.advance(Duration::from_millis(1));
    }
    assert_eq!(stored_of(&probe, "alice").await, DEVICES);
    let profile = probe.profile().await;
    let url = Mongod::shared().await.url(&probe.db);
    let limited = probe.again(&url, &[("max_per_user", 2.into())]).await;
    run(&limited.browser(), Script::new().login("alice")).await;
    eventually("the oldest sessions are ended", async || {
        stored_of(&probe, "alice").await == 2
    })
    .await;
    let names = profile.names().await;
    let ends = names
        .iter()
        .filter(|name| ["delete", "findAndModify"].contains(&name.as_str()));
    assert!((1..=3).contains(&ends.count()), "{names:?}");
}
