//! Two logins of one user at once, one of which fails and ends no session of another device.

use rocket::serde::json::json;
use rocket::tokio::join;

use super::{Standalone, eventually, stored_of, visitor};
use crate::apps::probe::{Script, run, run_with};
use crate::support::{Fate, Proxy, Traffic, watchful};

#[rocket::async_test]
async fn login_whose_reply_was_lost_ends_no_session_of_another_device() {
    let standalone = Standalone::start(&[("max_per_user", 1.into())]).await;
    let (probe, proxy) = (&standalone.probe, &standalone.proxy);
    let phone = probe.browser();
    run(&phone, Script::new().login("alice")).await.cookie();
    proxy.plan("insert", [Fate::LoseReply]);
    let failed = run(&probe.browser(), Script::new().login("alice")).await;
    assert_eq!((failed.status, failed.sent()), (503, None), "{failed:?}");
    eventually("the login is rolled back", async || {
        stored_of(probe, "alice").await < 2
    })
    .await;
    let seen = run(&phone, Script::new().then("user")).await;
    assert_eq!(seen.results, [json!("alice")], "the phone");
}

/// The later login is stored when the limit is enforced, and fails after that.
#[rocket::async_test]
async fn max_per_user_does_not_count_a_later_login_that_fails() {
    let keys = [("max_per_user", 1.into()), ("deadline", 60.into())];
    let standalone = Standalone::start(&keys).await;
    let (probe, proxy) = (&standalone.probe, &standalone.proxy);
    let elsewhere = Proxy::start(standalone.mongod.port()).await;
    let url = watchful(&elsewhere.url("reproduced"));
    let other = probe.again(&url, &keys).await;
    let (laptop, tablet) = (visitor(&probe.app).await, visitor(&probe.app).await);
    let tablet = tablet.cookie("session").expect("a cookie");

    // Each login is held when it is stored and ends the browser's old session.
    proxy.plan("delete", [Fate::Hold]);
    elsewhere.plan("delete", [Fate::Hold]);
    let laptop_login = run(&laptop, Script::new().login("alice"));
    let tablet_login = async {
        eventually("the first login", async || proxy.held() == 1).await;
        let failed = run_with(&other, &tablet, Script::new().login("alice")).await;
        elsewhere.set(Traffic::Pass);
        failed
    };
    let fault = async {
        eventually("the later login", async || elsewhere.held() == 1).await;
        proxy.release();
        eventually("the user's sessions are listed", async || {
            let finds = proxy.requests("find");
            let mut filters = finds.iter().flat_map(|find| find.get_document("filter"));
            filters.any(|filter| filter.contains_key("user"))
        })
        .await;
        elsewhere.set(Traffic::Reset);
    };
    let (stands, failed, ()) = join!(laptop_login, tablet_login, fault);
    assert_eq!(stands.status, 200, "{stands:?}");
    assert_eq!((failed.status, failed.sent()), (503, None), "{failed:?}");
    let seen = run(&laptop, Script::new().then("user")).await;
    assert_eq!(seen.results, [json!("alice")], "the laptop");
}
