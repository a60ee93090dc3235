//! Writes whose first attempt was carried out and whose second one is refused: the outcome of the
//! write is unknown, whatever the last error says.

use rocket::serde::json::json;

use super::{OneNode, eventually, stored_of};
use crate::apps::probe::{Script, run};
use crate::support::Fate;

/// Atlas: over its quota. A server: the user's rights were taken away.
const REFUSALS: [i32; 2] = [8000, 13];

fn lost_and_refused(code: i32) -> [Fate; 2] {
    [Fate::LoseReply, Fate::Refuse(code)]
}

#[rocket::async_test]
async fn pop_whose_reply_was_lost_is_unknown() {
    let one = OneNode::start(&[]).await;
    for code in REFUSALS {
        let browser = one.probe.browser();
        run(&browser, Script::new().call(json!(["flash", "hello"]))).await;
        let lost = one.proxy().cuts();
        one.proxy().plan("update", lost_and_refused(code));
        let popped = run(&browser, Script::new().then("pop_flash")).await;
        assert_eq!(one.proxy().cuts(), lost + 1);
        assert_eq!(popped.results, [json!({"error": "Unknown"})], "{code}");
        // Because it was done.
        let left = run(&browser, Script::new().then("pop_flash")).await;
        assert_eq!(left.results, [json!([])], "{code}");
    }
}

#[rocket::async_test]
async fn login_whose_reply_was_lost_is_unknown_and_rolled_back() {
    let one = OneNode::start(&[]).await;
    for code in REFUSALS {
        for has_session in [true, false] {
            let browser = one.probe.browser();
            if has_session {
                run(&browser, Script::new().set("n", 1)).await;
            }
            let lost = one.proxy().cuts();
            one.proxy().plan("insert", lost_and_refused(code));
            let login = run(&browser, Script::new().login("alice").then("save")).await;
            assert_eq!(one.proxy().cuts(), lost + 1);
            assert_eq!(login.results[1], json!({"error": "Unknown"}), "{code}");
            assert_eq!(login.sent(), None);
            eventually("the login is rolled back", async || {
                stored_of(&one.probe, "alice").await == 0
            })
            .await;
        }
    }
}

#[rocket::async_test]
async fn logout_whose_reply_was_lost_is_unknown() {
    let one = OneNode::start(&[]).await;
    for code in REFUSALS {
        let browser = one.probe.browser();
        run(&browser, Script::new().login("alice")).await;
        let lost = one.proxy().cuts();
        one.proxy().plan("delete", lost_and_refused(code));
        let logout = run(&browser, Script::new().then("logout").then("save")).await;
        assert_eq!(one.proxy().cuts(), lost + 1);
        assert_eq!(logout.results[1], json!({"error": "Unknown"}), "{code}");
        assert_eq!(stored_of(&one.probe, "alice").await, 0);
    }
}

#[rocket::async_test]
async fn revoke_user_whose_reply_was_lost_is_unknown() {
    let one = OneNode::start(&[]).await;
    for code in REFUSALS {
        run(&one.probe.browser(), Script::new().login("alice")).await;
        let lost = one.proxy().cuts();
        one.proxy().plan("delete", lost_and_refused(code));
        let revoke = Script::new().call(json!(["revoke_user", "alice"]));
        let revoked = run(&one.probe.browser(), revoke).await;
        assert_eq!(one.proxy().cuts(), lost + 1);
        assert_eq!(revoked.results, [json!({"error": "Unknown"})], "{code}");
        assert_eq!(stored_of(&one.probe, "alice").await, 0);
    }
}
