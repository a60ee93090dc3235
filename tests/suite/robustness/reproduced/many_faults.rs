//! Faults at each step of a login: a revocation by another process, a browser that closes its connection, a
//! primary that steps down. And what a request does late to a session that was revoked.

use rocket::serde::json::{Value, json};
use rocket::tokio::join;
use rstest::rstest;
use std::time::Duration;

use super::shortened::has_ended;
use super::{OneNode, eventually, stored_of, visitor};
use crate::apps::calls::script;
use crate::apps::database;
use crate::apps::probe::{Probe, Script, id_of, removes, run, run_with, value_of};
use crate::support::{App, Connection, Fate, ReplicaSet, watchful};

#[rstest]
#[test_attr(rocket::async_test)]
async fn revocation_by_another_process_ends_a_login_in_progress(
    #[values("insert", "find", "delete")] command: &str,
    #[values("revoke_user", "revoke_all")] revoke: &str,
) {
    let keys = [("deadline", 60.into())];
    let one = OneNode::start(&keys).await;
    let probe = &one.probe;
    let server = one.set.nodes()[0].url("reproduced?directConnection=true");
    let admin = probe.again(&server, &keys).await;
    let browser = probe.browser();
    let old = run(&browser, Script::new().login("alice")).await.cookie();
    let login = run(&browser, Script::new().login("alice").pause("held"));
    let revoked = async {
        probe.gates.reached("held").await;
        one.proxy().plan(command, [Fate::Hold]);
        probe.gates.open("held");
        eventually("a held command", async || one.proxy().held() == 1).await;
        let revoked = run(&admin.browser(), script(json!([[revoke, "alice"]]))).await;
        one.proxy().release();
        revoked
    };
    let (login, revoked) = join!(login, revoked);
    assert!(revoked.last().is_u64(), "the revocation: {revoked:?}");
    assert!(has_ended(&probe.app, &old).await, "the session of before");
    let seen = run(&browser, Script::new().then("user")).await;
    assert_eq!(seen.results, [json!(null)], "signed in by {login:?}");
    eventually("no session of alice's", async || {
        let count = script(json!([["count_user", "alice"]]));
        run(&admin.browser(), count).await.last() == &json!(0)
    })
    .await;
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case::insert("insert", json!(["login", "alice"]))]
#[case::find("find", json!(["login", "alice"]))]
#[case::delete("delete", json!(["login", "alice"]))]
#[case::find_and_modify("findAndModify", json!(["login_keeping", "alice", ["n"]]))]
async fn login_whose_connection_is_closed_is_completed(
    #[case] command: &str,
    #[case] login: Value,
) {
    let one = OneNode::start(&[("deadline", 60.into())]).await;
    let probe = &one.probe;
    let browser = visitor(&probe.app).await;
    let old = browser.cookie("session").expect("a cookie");
    let request = script(json!([["get", "n"], login, ["pause", "held"]]));
    let request = browser.with_cookies(request.request());
    let connection = Connection::open(probe.app.addr()).await;
    let mut connection = connection.expect("a connection");
    let sent = connection.write(&request.to_bytes()).await;
    sent.expect("a request");
    probe.gates.reached("held").await;
    one.proxy().plan(command, [Fate::Hold]);
    probe.gates.open("held");
    eventually("a held command", async || one.proxy().held() == 1).await;
    drop(connection);
    one.proxy().release();
    eventually("the login has replaced the old session", async || {
        stored_of(probe, "alice").await == 1 && has_ended(&probe.app, &old).await
    })
    .await;
}

/// What a cookie opens, as soon as the new primary is known.
async fn seen(app: &App, cookie: &str) -> Value {
    let mut seen = json!(null);
    eventually("a response", async || {
        let look = script(json!([["is_new"], ["user"], ["get", "n"]]));
        let ran = run_with(app, cookie, look).await;
        seen = json!(ran.results);
        ran.status == 200
    })
    .await;
    seen
}

/// The command reaches the old primary after the election.
#[rocket::async_test]
async fn step_down_while_a_write_is_held_leaves_all_of_it_or_nothing() {
    let set = ReplicaSet::builder().behind_proxies().start().await;
    let url = watchful(&set.url("reproduced"));
    let keys = [("deadline", 60.into())];
    let client = set.client().await;
    let probe = Probe::start_at(client, &url, "reproduced", &keys, |rocket| rocket).await;
    let login = json!(["login_keeping", "alice", ["n"]]);
    for (command, call, done) in [
        ("insert", &login, json!([false, "alice", 2])),
        ("find", &login, json!([false, "alice", 2])),
        ("findAndModify", &login, json!([false, "alice", 2])),
        ("update", &json!(["elevate"]), json!([false, null, 2])),
        ("update", &json!(["get", "n"]), json!([false, null, 2])),
    ] {
        let proxy = set.proxy(set.wait_for_primary().await);
        let browser = probe.browser();
        eventually("a session", async || {
            run(&browser, Script::new().set("n", 1)).await.status == 200
        })
        .await;
        let old = browser.cookie("session").expect("a cookie");
        let held = proxy.held();
        let slow = script(json!([["increment", "n", 1], call, ["pause", "held"]]));
        let slow = run_with(&probe.app, &old, slow);
        let fault = async {
            probe.gates.reached("held").await;
            proxy.plan(command, [Fate::Hold]);
            probe.gates.open("held");
            eventually("a held command", async || proxy.held() > held).await;
            set.step_down().await;
            proxy.release();
        };
        let (slow, ()) = join!(slow, fault);
        let what = format!("{command} of {call}: {slow:?}");
        let replaces = call[0] != "get";
        let by_old = seen(&probe.app, &old).await;
        let ended = json!([true, null, null]);
        if slow.status == 200 {
            let new = slow.sent().map_or(old.as_str(), value_of);
            assert_eq!(seen(&probe.app, new).await, done, "{what}");
            assert_eq!(slow.sent().is_some(), replaces, "{what}");
            assert_eq!(by_old == ended, replaces, "{what}");
        } else {
            assert_eq!((slow.status, slow.sent()), (503, None), "{what}");
            let all = if replaces { ended } else { done };
            let nothing = json!([false, null, 1]);
            assert!([all, nothing].contains(&by_old), "{what}: {by_old}");
        }
    }
}

#[rstest]
#[test_attr(rocket::async_test)]
async fn session_that_was_revoked_is_not_revived_by_late_calls(#[values(false, true)] seal: bool) {
    let probe = Probe::start(&database(), &[("seal", seal.into())]).await;
    for late in [
        json!([["set", "x", 1]]),
        json!([["modify", "n", 1], ["set", "x", 1]]),
        json!([["renew"], ["set", "x", 1]]),
        json!([["elevate"], ["save"], ["set", "x", 1]]),
        json!([["set_timeout", 1000.0]]),
        json!([["touch"]]),
        json!([["get", "n"]]),
        json!([["pop_flash"]]),
        json!([["new_csrf_token"]]),
        json!([["clear"], ["save"], ["touch"], ["save"]]),
        json!([["revoke_others"]]),
        json!([["logout_keeping", ["n"]]]),
    ] {
        let begin = json!([["login", "alice"], ["set", "n", 1], ["flash", "hello"]]);
        let cookie = run(&probe.browser(), script(begin)).await.cookie();
        let calls = late.as_array().into_iter().flatten().cloned();
        let slow = calls.fold(Script::new().get("n").pause("late"), Script::call);
        let slow = run_with(&probe.app, &cookie, slow);
        let revoked = async {
            probe.gates.reached("late").await;
            let revoke = script(json!([["revoke", id_of(&cookie)]]));
            let revoked = run(&probe.browser(), revoke).await;
            assert_eq!(revoked.results, [json!(true)], "the revocation");
            probe.clock.advance(Duration::from_secs(2));
            probe.gates.open("late");
        };
        let (slow, ()) = join!(slow, revoked);
        assert_eq!(probe.document(&cookie).await, None, "{late}: {slow:?}");
        assert!(has_ended(&probe.app, &cookie).await, "{late}: {slow:?}");
        if let Some(line) = slow.sent().filter(|line| !removes(line)) {
            let user = Script::new().then("user");
            let seen = run_with(&probe.app, value_of(line), user).await;
            assert_eq!(seen.results, [json!(null)], "{late}: {slow:?}");
            assert_ne!(id_of(value_of(line)), id_of(&cookie), "{late}");
        }
    }
}
