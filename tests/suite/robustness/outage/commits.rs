//! Commits that fail: the application's own 503, and nothing of the response that it replaces.

use mongodb::bson::doc;
use rocket::serde::json::json;
use rocket::{Build, Rocket, catch, catchers};
use std::time::Duration;

use super::{DEADLINE, own_catchers, probe, probe_known_as, visitor};
use crate::apps::probe::{Script, id_of, run};
use crate::support::{FailPoint, Failure, Mode, Mongod, eventually};

#[rocket::async_test]
async fn a_failed_commit_is_the_applications_own_503_and_keeps_no_content() {
    let mongod = Mongod::start().await;
    let probe = probe(&mongod, own_catchers).await;
    let browser = visitor(&probe).await;
    let refused = Failure::code(8000);
    let point = FailPoint::on(&probe.client, &["update"], Mode::Always, refused).await;
    let script = [
        ("Set-Cookie", "theme=dark; Path=/"),
        ("Location", "/welcome"),
        ("Content-Language", "en"),
        ("Content-Disposition", "attachment"),
        ("Content-Security-Policy", "default-src 'none'"),
        ("ETag", "\"1\""),
        ("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
        ("Cache-Control", "public, max-age=60"),
        ("Expires", "Fri, 01 Jan 2100 00:00:00 GMT"),
        ("Pragma", "cache"),
        ("Age", "3"),
        ("CDN-Cache-Control", "max-age=60"),
        ("Surrogate-Control", "max-age=60"),
        ("Clear-Site-Data", "\"cookies\""),
        ("Link", "</a.css>; rel=preload"),
        ("Vary", "Accept"),
        ("X-Own", "kept"),
        ("X-Own", "twice"),
    ];
    let script = script
        .iter()
        .fold(Script::new().set("n", 2), |script, (name, value)| {
            script.answer_header(name, value)
        });
    let ran = run(&browser, script).await;
    assert_eq!((ran.status, ran.text().as_str()), (503, "caught 503"));
    assert_eq!(ran.headers_named("X-Own"), ["kept", "twice"]);
    assert_eq!(ran.headers_named("X-Caught"), ["yes"]);
    assert_eq!(ran.headers_named("Cache-Control"), ["no-store"]);
    assert_eq!(ran.headers_named("Content-Length"), ["10"]);
    assert_eq!(
        ran.headers_named("Content-Type"),
        ["text/plain; charset=utf-8"]
    );
    let vary = ran.headers_named("Vary").join(", ");
    assert!(vary.contains("Cookie"), "{vary}");
    for gone in [
        "CDN-Cache-Control",
        "Surrogate-Control",
        "Clear-Site-Data",
        "Set-Cookie",
        "Location",
        "Content-Language",
        "Content-Disposition",
        "ETag",
        "Last-Modified",
        "Expires",
        "Pragma",
        "Age",
        "Link",
    ] {
        assert_eq!(ran.header(gone), None, "{gone}");
    }
    point.clear().await;
    assert_eq!(
        run(&browser, Script::new().get("n")).await.results,
        [json!(1)]
    );
}

/// Every kind of commit, each failing once at the command that it cannot do without.
async fn no_cookie_tells_of(failure: Failure, deadline: Duration, surely_nothing_happened: bool) {
    let mongod = Mongod::start().await;
    let cases = [
        ("update", Script::new().set("n", 2)),
        ("update", Script::new().then("touch")),
        ("update", Script::new().then("renew")),
        ("insert", Script::new().login("bob")),
        ("delete", Script::new().login("bob")),
        ("update", Script::new().then("elevate")),
        ("delete", Script::new().then("logout")),
        ("delete", Script::new().then("logout").set("n", 3)),
        ("update", Script::new().set("n", 2).fail(404)),
        (
            "update",
            Script::new().then("renew").then("save").pause("no"),
        ),
    ];
    for (number, (command, script)) in cases.into_iter().enumerate() {
        let what = format!("{command}, {script:?}");
        // An application for each: a login that failed deletes its new session in the background,
        // which would use up the failure that is meant for the next one's `delete`.
        let name = format!("case{number}");
        let probe = probe_known_as(&name, deadline, &mongod, own_catchers).await;
        let browser = visitor(&probe).await;
        let old = browser.cookie("session").expect("a cookie");
        let others = doc! { "_id": { "$not": { "$regex": "^~" }, "$ne": id_of(&old) } };
        let swept = probe.sessions().delete_many(others.clone()).await;
        swept.expect("the deletion of other sessions");
        let failure = failure.clone().app_name(&name);
        let point = FailPoint::on(&probe.client, &[command], Mode::Times(1), failure).await;
        probe.gates.open("no");
        let ran = run(&browser, script).await;
        point.clear().await;
        let told = ran
            .results
            .get(1)
            .is_some_and(|result| result.get("error").is_some());
        let status = if told { 200 } else { 503 };
        assert_eq!((ran.status, ran.sent()), (status, None), "{what}: {ran:?}");
        assert_eq!(browser.cookie("session"), Some(old.clone()), "{what}");
        if surely_nothing_happened {
            let seen = run(&browser, Script::new().get("n").then("user")).await;
            assert_eq!(seen.results, [json!(1), json!(null)], "{what}");
            eventually("a new session of a failed login is deleted", async || {
                let count = probe.sessions().count_documents(others.clone()).await;
                count.expect("a count") == 0
            })
            .await;
        }
    }
}

#[rocket::async_test]
async fn no_cookie_tells_of_a_commit_that_was_refused() {
    no_cookie_tells_of(Failure::code(8000), DEADLINE, true).await;
}

#[rocket::async_test]
async fn no_cookie_tells_of_a_commit_that_was_cut_off() {
    no_cookie_tells_of(Failure::close_connection(), DEADLINE, false).await;
}

#[rocket::async_test]
async fn no_cookie_tells_of_a_commit_that_came_too_late() {
    // Little, because a fail point is not cleared before who waits at it has waited.
    let deadline = Duration::from_secs(1);
    no_cookie_tells_of(Failure::block(2 * deadline), deadline, false).await;
}

#[rocket::async_test]
async fn a_write_that_perhaps_no_majority_has_is_not_a_success() {
    let mongod = Mongod::start().await;
    let probe = probe(&mongod, own_catchers).await;
    let browser = probe.browser();
    let unknown = Failure::write_concern(64);
    let point = FailPoint::on(&probe.client, &["insert"], Mode::Times(1), unknown).await;
    let ran = run(&browser, Script::new().set("n", 1)).await;
    assert_eq!((ran.status, ran.sent()), (503, None));
    point.clear().await;
    eventually(
        "the session whose token was not sent is deleted",
        async || {
            let count = probe.sessions().count_documents(doc! {}).await;
            count.expect("a count") == 0
        },
    )
    .await;
}

#[rocket::async_test]
async fn a_failed_commit_sends_not_even_the_cookie_of_a_save() {
    let mongod = Mongod::start().await;
    let probe = probe(&mongod, own_catchers).await;
    let refused = Failure::code(8000);
    let point = FailPoint::on(&probe.client, &["update"], Mode::Always, refused).await;
    let script = Script::new().set("n", 1).then("save").set("n", 2);
    let ran = run(&probe.browser(), script).await;
    point.clear().await;
    assert_eq!((ran.status, ran.sent()), (503, None));
}

#[rocket::async_test]
async fn save_tells_the_handler_and_the_response_is_its_own() {
    let mongod = Mongod::start().await;
    let probe = probe(&mongod, own_catchers).await;
    let browser = visitor(&probe).await;
    let refused = Failure::code(8000);
    let point = FailPoint::on(&probe.client, &["update"], Mode::Times(1), refused).await;
    let ran = run(
        &browser,
        Script::new().set("n", 2).then("save").get("n").set("m", 3),
    )
    .await;
    point.clear().await;
    assert_eq!((ran.status, ran.sent()), (200, None));
    assert_eq!(
        ran.results[1..3],
        [json!({"error": "Store"}), json!(1)],
        "dropped, and said"
    );
    let seen = run(&browser, Script::new().get("n").get("m")).await;
    assert_eq!(seen.results, [json!(1), json!(3)]);
}

#[catch(503)]
fn scoped() -> &'static str {
    "scoped"
}

#[catch(503)]
fn broken() -> Option<&'static str> {
    None
}

#[catch(503)]
fn panics() -> &'static str {
    panic!("told to")
}

#[catch(default)]
fn any() -> &'static str {
    "any"
}

#[rocket::async_test]
async fn the_503_is_found_as_rocket_finds_it() {
    let mongod = Mongod::start().await;
    let html = "503: Service Unavailable";
    for (catchers, expected) in [
        (vec![("/", catchers![any])], "any"),
        (vec![("/", catchers![any, scoped])], "scoped"),
        (
            vec![("/", catchers![scoped]), ("/run", catchers![any])],
            "any",
        ),
        (
            vec![("/", catchers![any]), ("/other", catchers![scoped])],
            "any",
        ),
        (vec![("/", catchers![broken])], html),
        (vec![("/", catchers![panics])], html),
        (vec![("/other", catchers![scoped])], html),
        (vec![], html),
    ] {
        let register = |rocket| {
            let each = catchers.into_iter();
            each.fold(rocket, |rocket: Rocket<Build>, (base, all)| {
                rocket.register(base, all)
            })
        };
        let probe = probe(&mongod, register).await;
        let refused = Failure::code(8000);
        let point = FailPoint::on(&probe.client, &["insert"], Mode::Always, refused).await;
        let ran = run(&probe.browser(), Script::new().set("n", 1)).await;
        point.clear().await;
        assert_eq!((ran.status, ran.sent()), (503, None));
        assert!(ran.text().contains(expected), "{expected}: {ran:?}");
        assert_eq!(ran.headers_named("Cache-Control"), ["no-store"]);
    }
}

#[rocket::async_test]
async fn a_catcher_of_a_failed_commit_may_look_at_the_session() {
    let mongod = Mongod::start().await;
    let probe = probe(&mongod, own_catchers).await;
    let browser = visitor(&probe).await;
    let refused = Failure::code(8000);
    let point = FailPoint::on(&probe.client, &["update"], Mode::Always, refused).await;
    let script = Script::new().set("n", 2);
    let script = script.catcher(json!([["get", "n"], ["set", "m", 1], ["save"], ["is_new"]]));
    let ran = run(&browser, script).await;
    point.clear().await;
    assert_eq!((ran.status, ran.sent()), (503, None));
    let sealed = json!({"error": "Sealed"});
    assert_eq!(
        ran.results[1..],
        [sealed.clone(), sealed, json!(false)],
        "{ran:?}"
    );
    assert_eq!(ran.results[0], json!(1), "what is stored");
    let set: Vec<&str> = ran.set_cookies();
    assert_eq!(set, Vec::<&str>::new(), "and no mark of ours either");
}
