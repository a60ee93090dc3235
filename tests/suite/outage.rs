//! A database that is not there, stops, stalls or refuses (DESIGN 4.7, 5.7, 5.8).

use mongodb::bson::doc;
use rocket::serde::json::json;
use rocket::{Build, Rocket, catch, catchers};
use std::time::Duration;

use crate::probe::{Probe, Ran, Script, caught, eventually, id_of, removes, run};
use crate::support::{Browser, FailPoint, Failure, Mode, Mongod, Request};

/// The driver looks every half second whether the server is back; by itself it would be ten.
const WATCHFUL: &str = "heartbeatFrequencyMS=500&serverMonitoringMode=poll";

/// A probe on a server of its own, whose operations have a second.
async fn probe(mongod: &Mongod, more: impl FnOnce(Rocket<Build>) -> Rocket<Build>) -> Probe {
    let url = format!("{}?{WATCHFUL}", mongod.url("outage"));
    let keys = [("deadline", 1.into())];
    let client = mongod.client().await;
    Probe::start_at(client, &url, "outage", &keys, more).await
}

fn own_catchers(rocket: Rocket<Build>) -> Rocket<Build> {
    rocket.register("/", caught())
}

/// What an application without its database answers, to a browser with a session and to others.
async fn serves_what_needs_no_database(probe: &Probe, browser: &Browser) {
    let cookie = browser.cookie("session");
    assert_eq!(browser.get("/plain").await.text(), "plain");
    assert_eq!(
        probe.app.get("/unused").await.text(),
        "unused",
        "there is nothing to load"
    );

    for script in [
        Script::new(),
        Script::new().set("n", 9),
        Script::new().then("logout"),
    ] {
        let ran = run(browser, script).await;
        assert_eq!((ran.status, ran.sent()), (503, None), "{ran:?}");
        assert_eq!(ran.text(), "caught 503");
        assert_eq!(ran.header("Vary"), Some("Cookie"));
    }
    let new = run(&probe.browser(), Script::new().set("n", 9)).await;
    assert_eq!(
        (new.status, new.sent(), new.text().as_str()),
        (503, None, "caught 503")
    );
    assert_eq!(browser.get("/option").await.text(), "false");
    assert_eq!(browser.get("/result").await.text(), r#"{"error":"Store"}"#);
    assert_eq!(
        browser.cookie("session"),
        cookie,
        "nobody is logged out by an outage"
    );
}

async fn recovers(browser: &Browser, script: &Script) -> Ran {
    let answers = || async { run(browser, Script::new()).await.status == 200 };
    eventually("the application finds its database again", answers).await;
    run(browser, script.clone()).await
}

#[rocket::async_test]
async fn an_application_starts_before_its_database() {
    let mongod = Mongod::start().await;
    mongod.stop().await;
    let probe = probe(&mongod, own_catchers).await;
    assert_eq!(probe.app.get("/plain").await.text(), "plain");
    assert_eq!(probe.app.get("/unused").await.text(), "unused");
    let browser = probe.browser();
    let ran = run(&browser, Script::new().set("n", 1)).await;
    assert_eq!(
        (ran.status, ran.sent(), ran.text().as_str()),
        (503, None, "caught 503")
    );

    mongod.restart().await;
    eventually("sessions are kept", async || {
        run(&browser, Script::new().set("n", 1)).await.status == 200
    })
    .await;
    assert_eq!(
        run(&browser, Script::new().get("n")).await.results,
        [json!(1)]
    );
    eventually("the indexes are made", async || {
        let names = probe.sessions().list_index_names().await;
        names.is_ok_and(|names| names.len() == 3)
    })
    .await;
}

#[rocket::async_test]
async fn a_killed_database_is_an_outage_and_no_logout() {
    let mongod = Mongod::start().await;
    let probe = probe(&mongod, own_catchers).await;
    let browser = probe.browser();
    // A login is on the disk when its answer comes, so the kill cannot take it.
    run(&browser, Script::new().login("bob").set("n", 1)).await;
    mongod.kill().await;
    serves_what_needs_no_database(&probe, &browser).await;
    mongod.restart().await;
    let seen = recovers(&browser, &Script::new().get("n").then("user")).await;
    assert_eq!(seen.results, [json!(1), json!("bob")]);
    run(&browser, Script::new().set("n", 2)).await;
    assert_eq!(
        run(&browser, Script::new().get("n")).await.results,
        [json!(2)]
    );
}

#[rocket::async_test]
async fn a_stalled_database_is_an_outage_that_the_deadline_ends() {
    let mongod = Mongod::start().await;
    let probe = probe(&mongod, own_catchers).await;
    let browser = probe.browser();
    run(&browser, Script::new().set("n", 1)).await;
    mongod.pause().await;
    // Of what was sent and is not answered, nobody knows what became: that is another error.
    let told = browser.get("/result").await.text();
    assert!(
        told == r#"{"error":"Store"}"# || told == r#"{"error":"Unknown"}"#,
        "{told}"
    );
    for script in [Script::new(), Script::new().set("n", 2)] {
        let ran = run(&browser, script).await;
        assert_eq!(
            (ran.status, ran.sent(), ran.text().as_str()),
            (503, None, "caught 503")
        );
    }
    let new = run(&probe.browser(), Script::new().set("n", 9)).await;
    assert_eq!((new.status, new.sent()), (503, None));
    assert_eq!(browser.get("/plain").await.text(), "plain");
    mongod.resume().await;
    let seen = recovers(&browser, &Script::new().get("n")).await;
    assert_eq!(seen.results, [json!(1)]);
}

#[rocket::async_test]
async fn a_database_that_goes_while_a_handler_runs_fails_the_commit() {
    let mongod = Mongod::start().await;
    let probe = probe(&mongod, own_catchers).await;
    let browser = probe.browser();
    run(&browser, Script::new().login("bob").set("n", 1)).await;
    let scripts = [
        Script::new().get("n").pause("half").set("n", 2),
        Script::new().pause("half").login("ann"),
        Script::new().pause("half").then("renew"),
        Script::new().pause("half").then("logout"),
        Script::new().set("n", 3).pause("half").fail(404),
    ];
    for script in scripts {
        let goes = async {
            probe.gates.reached("half").await;
            mongod.kill().await;
            probe.gates.open("half");
        };
        let (ran, ()) = rocket::tokio::join!(run(&browser, script.clone()), goes);
        assert_eq!((ran.status, ran.sent()), (503, None), "{script:?}");
        assert_eq!(ran.text(), "caught 503", "{script:?}");
        mongod.restart().await;
        let seen = recovers(&browser, &Script::new().get("n").then("user")).await;
        assert_eq!(seen.results, [json!(1), json!("bob")], "{script:?}");
    }
    // A read that only notes its use waits for nothing.
    probe.clock.advance(Duration::from_secs(5));
    let goes = async {
        probe.gates.reached("half").await;
        mongod.kill().await;
        probe.gates.open("half");
    };
    let reads = run(&browser, Script::new().get("n").pause("half"));
    let (ran, ()) = rocket::tokio::join!(reads, goes);
    assert_eq!((ran.status, &ran.results[0]), (200, &json!(1)));
}

#[rocket::async_test]
async fn a_failed_commit_is_the_applications_own_503_and_keeps_no_content() {
    let mongod = Mongod::start().await;
    let probe = probe(&mongod, own_catchers).await;
    let browser = probe.browser();
    run(&browser, Script::new().set("n", 1)).await;
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

#[rocket::async_test]
async fn whatever_fails_no_cookie_tells_of_it() {
    let mongod = Mongod::start().await;
    let probe = probe(&mongod, own_catchers).await;
    let late = Failure::block(Duration::from_secs(3));
    let ways = [
        ("refused", Failure::code(8000)),
        ("cut off", Failure::close_connection()),
        ("late", late),
    ];
    for (how, failure) in ways {
        for (command, script) in [
            ("update", Script::new().set("n", 2)),
            ("update", Script::new().then("touch")),
            ("update", Script::new().then("renew")),
            ("insert", Script::new().login("bob")),
            ("delete", Script::new().login("bob")),
            ("findAndModify", Script::new().then("elevate")),
            ("delete", Script::new().then("logout")),
            ("delete", Script::new().then("logout").set("n", 3)),
            ("update", Script::new().set("n", 2).fail(404)),
        ] {
            let what = format!("{how}: {command}, {script:?}");
            let browser = probe.browser();
            let old = run(&browser, Script::new().set("n", 1)).await.cookie();
            // The insert of the next browser's session must not meet it.
            let point =
                FailPoint::on(&probe.client, &[command], Mode::Times(1), failure.clone()).await;
            let ran = run(&browser, script).await;
            point.clear().await;
            assert_eq!((ran.status, ran.sent()), (503, None), "{what}: {ran:?}");
            assert_eq!(browser.cookie("session"), Some(old.clone()), "{what}");
            if how == "refused" {
                // Then it is sure that nothing has changed.
                let seen = run(&browser, Script::new().get("n").then("user")).await;
                assert_eq!(seen.results, [json!(1), json!(null)], "{what}");
                let others = doc! { "_id": { "$not": { "$regex": "^~" }, "$ne": id_of(&old) } };
                eventually("a new session of a failed login is deleted", async || {
                    let count = probe.sessions().count_documents(others.clone()).await;
                    count.expect("a count") == 0
                })
                .await;
            }
            probe
                .sessions()
                .delete_many(doc! {})
                .await
                .expect("no more");
        }
    }
    // A write whose majority is not known to have it may be there, but nobody says so.
    let browser = probe.browser();
    let unknown = Failure::write_concern(64);
    let point = FailPoint::on(&probe.client, &["insert"], Mode::Times(1), unknown).await;
    let ran = run(&browser, Script::new().set("n", 1)).await;
    assert_eq!((ran.status, ran.sent()), (503, None));
    point.clear().await;
    eventually("what nobody has the token of is deleted", async || {
        probe
            .sessions()
            .count_documents(doc! {})
            .await
            .expect("a count")
            == 0
    })
    .await;
}

#[rocket::async_test]
async fn save_tells_the_handler_and_the_answer_is_its_own() {
    let mongod = Mongod::start().await;
    let probe = probe(&mongod, own_catchers).await;
    let browser = probe.browser();
    run(&browser, Script::new().set("n", 1)).await;
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
    let browser = probe.browser();
    run(&browser, Script::new().set("n", 1)).await;
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

#[rocket::async_test]
async fn an_outage_answers_head_and_removes_nothing() {
    let mongod = Mongod::start().await;
    let probe = probe(&mongod, own_catchers).await;
    let browser = probe.browser();
    run(&browser, Script::new().set("n", 1)).await;
    mongod.stop().await;
    let cookie = browser.cookie("session").expect("a cookie");
    let head = Request::head("/unused").header("Cookie", format!("session={cookie}"));
    let head = probe.app.send(head).await;
    assert_eq!((head.status, head.body.len()), (503, 0));
    assert!(!head.set_cookies().iter().any(|line| removes(line)));
}
