//! What stays of a request's changes when a catcher answers in the handler's place.

use rocket::fairing::AdHoc;
use rocket::serde::json::json;
use rocket::{Request as Incoming, catch, catchers};
use rocket_mongo_session::{Session, Sessions};
use rstest::rstest;

use crate::apps::database;
use crate::apps::probe::{Gates, Probe, Ran, Script, bare, caught, id_of, removes, run, run_with};
use crate::support::alone::{alone, forget_lines, lines};
use crate::support::{App, Browser, figment};

/// `own`: whether the application has a catcher.
async fn probe(db: &str, set_on_exception: bool, own: bool) -> Probe {
    let keys = [("set_on_exception", set_on_exception.into())];
    let catchers = if own { caught() } else { Vec::new() };
    Probe::start_with(db, &keys, |rocket| rocket.register("/", catchers)).await
}

/// Every way in which a handler fails, and the status that comes of it.
fn failures(script: &Script) -> [(&'static str, Script, u16); 5] {
    let script = || script.clone();
    [
        ("Err(404)", script().fail(404), 404),
        ("None", script().none(), 404),
        ("Err(500)", script().fail(500), 500),
        ("Err(503)", script().fail(503), 503),
        ("a panic", script().panic(), 500),
    ]
}

/// A browser with `n` = 1 in its session.
async fn visitor(probe: &Probe) -> (Browser, String) {
    let browser = probe.browser();
    let cookie = run(&browser, Script::new().set("n", 1)).await.cookie();
    (browser, cookie)
}

async fn n(browser: &Browser) -> rocket::serde::json::Value {
    run(browser, Script::new().get("n")).await.last().clone()
}

fn was_caught(ran: &Ran) -> bool {
    ran.header("X-Caught").is_some()
}

#[rocket::async_test]
async fn set_on_exception_keeps_changes_unless_a_5xx_went_unanswered() {
    for own in [true, false] {
        let probe = probe("exceptions_on", true, own).await;
        for (what, script, status) in failures(&Script::new().set("n", 2)) {
            let kept = own || status < 500;
            let what = format!("{what}, own catcher: {own}");
            let (browser, cookie) = visitor(&probe).await;
            let failed = run(&browser, script.clone()).await;
            assert_eq!(
                (failed.status, was_caught(&failed)),
                (status, own),
                "{what}"
            );
            assert_eq!(failed.sent(), None, "{what}");
            assert_eq!(failed.header("Vary"), Some("Cookie"), "{what}");
            assert_eq!(n(&browser).await, if kept { 2 } else { 1 }, "{what}");
            assert_eq!(browser.cookie("session"), Some(cookie), "{what}");

            let newcomer = probe.browser();
            let failed = run(&newcomer, script).await;
            assert_eq!(failed.sent().is_some(), kept, "{what}");
            let expected = if kept { json!(2) } else { json!(null) };
            assert_eq!(n(&newcomer).await, expected, "{what}");
        }
    }
}

#[rocket::async_test]
async fn set_on_exception_false_drops_what_a_failed_handler_changed() {
    for own in [true, false] {
        let probe = probe("exceptions_off", false, own).await;
        for (what, script, status) in failures(&Script::new().set("n", 2)) {
            let what = format!("{what}, own catcher: {own}");
            let (browser, _) = visitor(&probe).await;
            let before = probe.documents().await;
            let failed = run(&browser, script.clone()).await;
            assert_eq!((failed.status, failed.sent()), (status, None), "{what}");
            let newcomer = run(&probe.browser(), script).await;
            assert_eq!((newcomer.status, newcomer.sent()), (status, None), "{what}");
            assert_eq!(probe.documents().await, before, "{what}");
        }
    }
}

#[rstest]
#[test_attr(rocket::async_test)]
async fn a_returned_status_is_not_an_exception(
    #[values(true, false)] setting: bool,
    #[values(true, false)] own: bool,
) {
    let probe = probe(&database(), setting, own).await;
    for status in [302, 404, 500, 503] {
        let (browser, _) = visitor(&probe).await;
        let ran = run(&browser, Script::new().set("n", 2).status(status)).await;
        assert_eq!((ran.status, was_caught(&ran)), (status, false));
        assert_eq!(n(&browser).await, 2, "{status}");
        let newcomer = run(&probe.browser(), Script::new().set("n", 2).status(status)).await;
        assert!(newcomer.sent().is_some(), "{status}");
        assert_eq!(newcomer.set_cookies().len(), 1, "{status}: ours alone");
    }
}

/// The jar falls back to the client's cookies, so a client may try to send the guard's mark.
#[rocket::async_test]
async fn a_cookie_named_like_the_mark_changes_nothing() {
    let probe = probe("exceptions_mark", true, false).await;
    let script = Script::new().set("n", 2).header("Cookie", "_rms=x");
    let failed: Ran = probe
        .app
        .send(script.clone().fail(500).request())
        .await
        .into();
    assert_eq!((failed.status, failed.sent()), (500, None));
    let returned: Ran = probe.app.send(script.status(500).request()).await.into();
    assert_eq!(returned.set_cookies().len(), 1, "{returned:?}");
    assert!(returned.sent().is_some());
}

/// Another request changed the type of a value that this one counts in: the database is fine.
#[rocket::async_test]
async fn a_commit_that_cannot_be_stored_is_the_applications_500() {
    let probe = probe("exceptions_mismatch", true, true).await;
    let (browser, cookie) = visitor(&probe).await;
    let script = Script::new().call(json!(["increment", "n", 1])).set("m", 1);
    let counting = run(
        &browser,
        script.pause("gate").answer_header("ETag", "\"1\""),
    );
    let other = async {
        probe.gates.reached("gate").await;
        run_with(&probe.app, &cookie, Script::new().set("n", "text")).await;
        probe.gates.open("gate");
    };
    let (ran, ()) = rocket::futures::future::join(counting, other).await;
    assert_eq!((ran.status, ran.sent()), (500, None), "{ran:?}");
    assert_eq!(
        (ran.text().as_str(), ran.header("ETag")),
        ("caught 500", None)
    );
    let after = run(&browser, Script::new().get("n").get("m")).await;
    assert_eq!(
        after.results,
        [json!("text"), json!(null)],
        "all or nothing"
    );
}

#[rocket::async_test]
async fn a_catchers_changes_are_kept_with_its_response() {
    for setting in [true, false] {
        let probe = probe("exceptions_catcher", setting, true).await;
        let script = Script::new().set("n", 2);
        let script = script.catcher(json!([["get", "n"], ["set", "by_catcher", 1]]));
        for (what, script, status) in failures(&script) {
            let what = format!("{what}, set_on_exception: {setting}");
            let (browser, _) = visitor(&probe).await;
            let failed = run(&browser, script.clone()).await;
            assert_eq!(failed.status, status, "{what}");
            let seen = if setting { 2 } else { 1 };
            assert_eq!(
                failed.results[0], seen,
                "{what}: the catcher sees what stays"
            );
            let after = run(&browser, Script::new().get("n").get("by_catcher")).await;
            assert_eq!(after.results, [json!(seen), json!(1)], "{what}");

            let newcomer = probe.browser();
            assert!(run(&newcomer, script).await.sent().is_some(), "{what}");
            let after = run(&newcomer, Script::new().get("n").get("by_catcher")).await;
            let seen = if setting { json!(2) } else { json!(null) };
            assert_eq!(after.results, [seen, json!(1)], "{what}");
        }
    }
}

#[rocket::async_test]
async fn a_catcher_can_be_the_first_to_use_the_session() {
    for setting in [true, false] {
        let probe = probe("exceptions_alone", setting, true).await;
        let browser = probe.browser();
        let request = || {
            crate::support::Request::get("/nowhere").header("X-Catcher", r#"[["increment","n",1]]"#)
        };
        let first: Ran = browser.send(request()).await.into();
        assert_eq!(
            (first.status, first.sent().is_some()),
            (404, true),
            "{setting}"
        );
        let second: Ran = browser.send(request()).await.into();
        assert_eq!(
            (second.last(), second.sent()),
            (&json!(2), None),
            "{setting}"
        );
    }
}

#[rstest]
#[test_attr(rocket::async_test)]
async fn logout_stands_whatever_the_response_becomes(
    #[values(true, false)] setting: bool,
    #[values(true, false)] own: bool,
) {
    let probe = probe(&database(), setting, own).await;
    let script = Script::new().then("logout").set("m", 3);
    for (what, script, status) in failures(&script) {
        let (browser, old) = visitor(&probe).await;
        let failed = run(&browser, script).await;
        assert_eq!(failed.status, status, "{what}");
        assert_eq!(probe.document(&old).await, None, "{what}");
        let sent = failed
            .sent()
            .unwrap_or_else(|| panic!("{what}: {failed:?}"));
        if setting && (own || status < 500) {
            assert_ne!(
                id_of(&failed.cookie()),
                id_of(&old),
                "{what}: a new session"
            );
            let m = run(&browser, Script::new().get("m")).await;
            assert_eq!(m.results, [json!(3)], "{what}");
        } else {
            assert!(removes(sent), "{what}");
            assert_eq!(browser.cookie("session"), None, "{what}");
        }
    }
}

#[rstest]
#[test_attr(rocket::async_test)]
async fn save_and_modify_stand_whatever_the_response_becomes(
    #[values(true, false)] setting: bool,
    #[values(true, false)] own: bool,
) {
    let probe = probe(&database(), setting, own).await;
    let script = Script::new().set("n", 2).then("save").set("m", 3);
    for (what, script, status) in failures(&script) {
        let kept = setting && (own || status < 500);
        let browser = probe.browser();
        let failed = run(&browser, script).await;
        assert!(failed.sent().is_some(), "{what}: {failed:?}");
        let after = run(&browser, Script::new().get("n").get("m")).await;
        let m = if kept { json!(3) } else { json!(null) };
        assert_eq!(after.results, [json!(2), m], "{what}");

        // The same of what reads the database again.
        let modify = json!(["modify", "n", 5]);
        let script = Script::new().call(modify).set("m", 4).panic();
        run(&browser, script).await;
        let n = run(&browser, Script::new().get("n")).await;
        assert_eq!(n.results, [json!(7)], "{what}");
    }
}

#[rocket::async_test]
async fn login_is_dropped_with_an_exception_that_keeps_nothing() {
    for (setting, own) in [(true, false), (false, true)] {
        let probe = probe("exceptions_login", setting, own).await;
        let (browser, old) = visitor(&probe).await;
        let before = probe.documents().await;
        let failed = run(&browser, Script::new().login("bob").panic()).await;
        assert_eq!((failed.status, failed.sent()), (500, None));
        assert_eq!(
            probe.documents().await,
            before,
            "neither a new session nor a tombstone"
        );
        let seen = run(&browser, Script::new().get("n").then("user")).await;
        assert_eq!(seen.results, [json!(1), json!(null)]);
        assert_eq!(browser.cookie("session"), Some(old));
    }
}

/// A catcher that changes the session and then fails itself.
#[catch(404)]
async fn failing(request: &Incoming<'_>) -> Option<()> {
    let session = request.guard::<&Session>().await.succeeded();
    let session = session.expect("a session");
    session.set("by_failing", &1).expect("a change");
    None
}

#[catch(500)]
fn answering() -> &'static str {
    "answered"
}

#[rstest]
#[test_attr(rocket::async_test)]
async fn a_failing_catchers_changes_follow_the_final_response(
    #[values(true, false)] setting: bool,
    #[values(true, false)] own: bool,
) {
    let keys = [("set_on_exception", setting.into())];
    let mut catchers = catchers![failing];
    if own {
        catchers.extend(catchers![answering]);
    }
    let more = |rocket: rocket::Rocket<rocket::Build>| rocket.register("/", catchers);
    let probe = Probe::start_with(&database(), &keys, more).await;
    let (browser, _) = visitor(&probe).await;
    let failed = run(&browser, Script::new().set("n", 2).fail(404)).await;
    let answered = failed.text() == "answered";
    assert_eq!((failed.status, answered), (500, own));
    let after = run(&browser, Script::new().get("n").get("by_failing")).await;
    let expected = match setting && own {
        true => [json!(2), json!(1)],
        false => [json!(1), json!(null)],
    };
    assert_eq!(after.results, expected);
}

#[rocket::async_test]
async fn a_response_fairing_can_use_the_session_without_an_exception() {
    for setting in [true, false] {
        let keys = [("set_on_exception", setting.into())];
        let late = AdHoc::on_response("a late change", |request, _| {
            Box::pin(async move {
                let session = request.guard::<&Session>().await.expect("a session");
                session.increment("late", 1).expect("a change");
            })
        });
        let start = Probe::start_with("exceptions_fairing", &keys, |rocket| rocket.attach(late));
        let probe = start.await;
        let browser = probe.browser();
        // Of a route that asks for none, it is the first to ask.
        let plain: Ran = browser.get("/plain").await.into();
        assert!(plain.sent().is_some(), "set_on_exception: {setting}");
        run(&browser, Script::new().set("n", 2)).await;
        let seen = run(&browser, Script::new().get("n").get("late")).await;
        assert_eq!(seen.results, [json!(2), json!(2)], "{setting}");
        assert_eq!(
            seen.set_cookies(),
            Vec::<&str>::new(),
            "nothing of ours is left in it"
        );
    }
}

/// Rocket has emptied the jar before it runs, so the guard takes it for a catcher.
#[test]
fn a_response_fairing_before_ours_is_warned_about() {
    let test = "requests::exceptions::a_response_fairing_before_ours_is_warned_about";
    alone(test, async {
        for setting in [true, false] {
            let early = AdHoc::on_response("early", |request, _| {
                Box::pin(async move {
                    request.guard::<&Session>().await.expect("a session");
                })
            });
            let figment = figment("debug", None, &[("set_on_exception", setting.into())]);
            let rocket = bare(figment, &Gates::default());
            let rocket = rocket.attach(early).attach(Sessions::in_memory());
            let app = App::launch(rocket).await;
            let browser = app.browser();
            forget_lines();
            run(&browser, Script::new().set("n", 2)).await;
            let said = lines();
            let is_warned = said
                .iter()
                .any(|line| line.text.contains("attached before"));
            assert_eq!(is_warned, !setting, "{said:?}");
            let kept = if setting { json!(2) } else { json!(null) };
            assert_eq!(n(&browser).await, kept);
        }
    });
}
