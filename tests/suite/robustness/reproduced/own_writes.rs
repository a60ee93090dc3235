//! What one request does to its session at once: a save, a `modify` and a login that begin while another write
//! of it is in flight. And what it takes back after a save whose outcome is unknown.

use std::future::ready;
use std::pin::pin;

use rocket::futures::future::{BoxFuture, poll_immediate};
use rocket::serde::json::{Value, json};
use rocket::tokio::{join, select};
use rocket_mongo_session::{Error, Session};
use rstest::rstest;

use super::shortened::has_ended;
use super::{OneNode, Standalone, eventually, knows_its_server, visitor};
use crate::apps::calls::script;
use crate::apps::jobs::Jobs;
use crate::apps::probe::{Gates, Probe, Script, run, run_with};
use crate::support::{Browser, Fate, ReplicaSet, watchful};

/// `OneNode` with closures as handlers.
struct Handlers {
    one: OneNode,
    jobs: Jobs,
}

impl Handlers {
    async fn start() -> Handlers {
        let set = ReplicaSet::builder().members(1).behind_proxies();
        let (set, jobs) = (set.start().await, Jobs::default());
        let url = watchful(&set.url("reproduced"));
        let client = set.nodes()[0].client().await;
        // Ample: an update is held until the handler has begun what it does beside it.
        let keys = [("deadline", 60.into())];
        let mount = |rocket| jobs.mount(rocket);
        let probe = Probe::start_at(client, &url, "reproduced", &keys, mount).await;
        knows_its_server(&probe).await;
        let one = OneNode { probe, set };
        Handlers { one, jobs }
    }

    /// Runs a handler whose next updates meet these fates, the last of which holds one. After its gate "held"
    /// the handler begins what it does beside that one, and `meanwhile` follows at its gate "begun". Then the
    /// update is released.
    async fn run<T: Send + 'static>(
        &self,
        browser: &Browser,
        fates: impl IntoIterator<Item = Fate>,
        meanwhile: impl Future<Output = ()>,
        work: impl for<'s> FnOnce(&'s Session, Gates) -> BoxFuture<'s, T> + Send + 'static,
    ) -> T {
        let (proxy, gates) = (self.one.proxy(), self.one.probe.gates.clone());
        let held = proxy.held();
        proxy.plan("update", fates);
        let of_handler = gates.clone();
        let work = self.jobs.run_async(browser, move |s| work(s, of_handler));
        let release = async {
            gates.reached("held").await;
            eventually("a held update", async || proxy.held() > held).await;
            gates.open("held");
            gates.reached("begun").await;
            meanwhile.await;
            proxy.release();
            gates.open("begun");
        };
        let ((done, response), ()) = join!(work, release);
        assert_eq!(response.status, 200, "{response:?}");
        done
    }
}

/// Begins a call while the update of another one is held.
async fn beside<T>(gates: &Gates, call: impl Future<Output = T>) -> T {
    gates.pass("held").await;
    join!(call, gates.pass("begun")).0
}

async fn perform(session: &Session, call: &str) -> Result<(), Error> {
    let add = |n: Option<i64>| n.unwrap_or(0) + 1;
    match call {
        "modify" => return session.modify("n", add).await.map(drop),
        "pop" => return session.pop_flash::<String>().await.map(drop),
        "set" => session.set("n", &5)?,
        "renew" => session.renew()?,
        "elevate" => session.elevate()?,
        other => panic!("no call {other:?}"),
    }
    session.save().await
}

/// Signs alice in, with a number and a message. Returns the cookie.
async fn sign_in(browser: &Browser) -> String {
    let login = json!([["login", "alice"], ["set", "n", 0], ["flash", "hello"]]);
    run(browser, script(login)).await.cookie()
}

/// What the browser's session holds, if it has a new cookie.
async fn renewed(browser: &Browser, old: &str) -> Value {
    let new = browser.cookie("session");
    assert_ne!(new.as_deref(), Some(old), "the renewal's cookie");
    let seen = script(json!([["user"], ["get", "n"], ["peek_flash"]]));
    json!(run(browser, seen).await.results)
}

/// The `modify` or the pop takes the token that its own request gives the session for its own, whichever of
/// the two is first.
#[rstest]
#[test_attr(rocket::async_test)]
async fn renewal_beside_a_modify_of_its_own_request_stores_both(
    #[values("renew", "elevate")] renewal: &'static str,
    #[values("modify", "pop")] exchange: &'static str,
) {
    let handlers = Handlers::start().await;
    for [first, second] in [[renewal, exchange], [exchange, renewal]] {
        let browser = handlers.one.probe.browser();
        let old = sign_in(&browser).await;
        let work = handlers.run(&browser, [Fate::Hold], ready(()), move |s, gates| {
            Box::pin(async move { join!(perform(s, first), beside(&gates, perform(s, second))) })
        });
        let done = work.await;
        let what = format!("{first}, then {second}: {done:?}");
        assert!(matches!(done, (Ok(()), Ok(()))), "{what}");
        let expected = match exchange {
            "modify" => json!(["alice", 1, ["hello"]]),
            _ => json!(["alice", 0, []]),
        };
        assert_eq!(renewed(&browser, &old).await, expected, "{what}");
    }
}

#[rocket::async_test]
async fn modify_waits_for_the_save_of_a_renewal_that_the_handler_dropped() {
    let handlers = Handlers::start().await;
    let browser = handlers.one.probe.browser();
    let old = sign_in(&browser).await;
    let work = handlers.run(&browser, [Fate::Hold], ready(()), |s, gates| {
        Box::pin(async move {
            select! {
                saved = perform(s, "renew") => panic!("it was not held: {saved:?}"),
                () = gates.pass("held") => {}
            }
            join!(perform(s, "modify"), gates.pass("begun")).0
        })
    });
    let modified = work.await;
    assert!(modified.is_ok(), "{modified:?}");
    let seen = renewed(&browser, &old).await;
    assert_eq!(seen, json!(["alice", 1, ["hello"]]));
}

/// The server has done the `modify` when its reply is lost; it comes with the second attempt, which is held.
/// What the request does last must not be taken for the value that the late reply tells of.
#[rstest]
#[test_attr(rocket::async_test)]
async fn set_after_a_modify_with_a_late_reply_is_stored(
    #[values("modify", "set")] second: &'static str,
) {
    let handlers = Handlers::start().await;
    let (one, browser) = (&handlers.one, handlers.one.probe.browser());
    run(&browser, Script::new().set("n", 0)).await.cookie();
    let cuts = one.proxy().cuts();
    let fates = [Fate::LoseReply, Fate::Hold];
    // Time for a second call that does not wait for the first one.
    let others = async {
        for _ in 0..5 {
            visitor(&one.probe.app).await;
        }
    };
    let work = handlers.run(&browser, fates, others, move |s, gates| {
        Box::pin(async move {
            let (one, other) = join!(perform(s, "modify"), beside(&gates, perform(s, second)));
            let seen = s.get::<i64>("n");
            ([one, other, s.set("n", &1)], seen)
        })
    });
    let (done, seen) = work.await;
    assert_eq!(one.proxy().cuts(), cuts + 1, "a lost reply");
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    let both = if second == "modify" { 2 } else { 5 };
    assert_eq!(seen.expect("a number"), Some(both), "after both");
    let stored = run(&browser, Script::new().get("n")).await;
    assert_eq!(stored.results, [json!(1)], "the last call was the `set`");
}

#[rocket::async_test]
async fn login_keeping_during_a_renewal_of_its_own_request_keeps_what_others_count() {
    let handlers = Handlers::start().await;
    let probe = &handlers.one.probe;
    let browser = probe.browser();
    let old = run(&browser, Script::new().set("n", 0)).await.cookie();
    let other = async {
        let add = script(json!([["increment", "n", 10], ["save"]]));
        let ran = run_with(&probe.app, &old, add).await;
        assert_eq!((ran.status, ran.last()), (200, &json!(null)), "{ran:?}");
    };
    let work = handlers.run(&browser, [Fate::Hold], other, |s, gates| {
        Box::pin(async move {
            s.increment("n", 1)?;
            s.renew()?;
            let mut save = pin!(s.save());
            let saved = poll_immediate(save.as_mut()).await;
            assert!(saved.is_none(), "it was not held: {saved:?}");
            gates.pass("held").await;
            s.login_keeping("alice", &["n"])?;
            s.increment("n", 100)?;
            gates.pass("begun").await;
            save.await
        })
    });
    let saved = work.await;
    assert!(saved.is_ok(), "{saved:?}");
    assert_eq!(renewed(&browser, &old).await, json!(["alice", 111, []]));
    assert!(has_ended(&probe.app, &old).await, "the cookie of before");
}

#[rocket::async_test]
async fn value_that_is_taken_back_after_an_unknown_save_is_not_stored() {
    let standalone = Standalone::start(&[]).await;
    for undo in [
        json!(["remove", "x"]),
        json!(["take", "x"]),
        json!(["clear"]),
        json!(["modify_or_remove", "x"]),
    ] {
        let browser = visitor(&standalone.probe.app).await;
        standalone.proxy.plan("update", [Fate::LoseReply]);
        let calls = json!([["set", "x", 1], ["save"], undo]);
        let ran = run(&browser, script(calls)).await;
        assert_eq!(ran.results[1], json!({"error": "Unknown"}), "{undo}");
        let seen = run(&browser, Script::new().get("x")).await;
        assert_eq!(seen.results, [json!(null)], "{undo}: {ran:?}");
    }
}

#[rocket::async_test]
async fn csrf_token_that_is_shown_after_an_unknown_save_is_valid() {
    let standalone = Standalone::start(&[]).await;
    let browser = visitor(&standalone.probe.app).await;
    standalone.proxy.plan("update", [Fate::LoseReply]);
    let calls = json!([["new_csrf_token"], ["save"], ["csrf_token"]]);
    let ran = run(&browser, script(calls)).await;
    assert_eq!(ran.results[1], json!({"error": "Unknown"}), "{ran:?}");
    let verify = json!([["verify_csrf", ran.last()]]);
    let verified = run(&browser, script(verify)).await;
    assert_eq!(verified.results, [json!(true)], "the page's token");
}
