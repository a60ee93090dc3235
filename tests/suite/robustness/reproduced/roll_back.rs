//! A login that is rolled back starts its roll-back after its insert has ended, however late.

use rocket::serde::json::json;
use std::time::Duration;

use super::{APP, Standalone, eventually, stored_of};
use crate::apps::probe::{Script, run};
use crate::support::{Commands, Fate, in_progress};

#[rocket::async_test]
async fn login_whose_insert_arrives_late_leaves_no_session() {
    let standalone = Standalone::start(&[("deadline", 5.into()), ("max_per_user", 2.into())]).await;
    let probe = &standalone.probe;
    let phone = probe.browser();
    let login = run(&phone, Script::new().login("alice")).await;
    assert_eq!(login.status, 200, "{login:?}");
    probe.clock.advance(Duration::from_millis(1));

    standalone.proxy.plan("insert", [Fate::Hold]);
    let laptop = probe.browser();
    let login = run(&laptop, Script::new().login("alice")).await;
    assert_eq!((login.status, login.sent()), (503, None), "{login:?}");
    assert_eq!(standalone.proxy.held(), 1);
    let client = standalone.mongod.client().await;
    let before = Commands::now(&client).await.get("insert");
    standalone.proxy.release();
    eventually("the insert arrives", async || {
        let arrived = Commands::now(&client).await.get("insert") > before;
        arrived && in_progress(&client, APP, Some("insert")).await == 0
    })
    .await;
    eventually("the login is rolled back", async || {
        stored_of(probe, "alice").await == 1
    })
    .await;

    // The next attempt counts two devices, not three.
    probe.clock.advance(Duration::from_millis(1));
    let login = run(&laptop, Script::new().login("alice")).await;
    assert_eq!(login.status, 200, "{login:?}");
    for browser in [&phone, &laptop] {
        let seen = run(browser, Script::new().then("user")).await;
        assert_eq!(seen.results, [json!("alice")]);
    }
    assert_eq!(stored_of(probe, "alice").await, 2);
}
