//! A database that is not there, stops, stalls or refuses.

use rocket::serde::json::json;
use rocket::{Build, Rocket};
use std::time::Duration;

use crate::apps::probe::{Probe, Ran, Script, caught, id_of, removes, run};
use crate::support::{Browser, Mongod, Request, eventually, watchful};

mod commits;

/// What an operation of the probe has: little for a server that stalls, enough for a machine that
/// does other things as well.
const DEADLINE: Duration = Duration::from_secs(2);

/// A probe on a server of its own.
async fn probe(mongod: &Mongod, more: impl FnOnce(Rocket<Build>) -> Rocket<Build>) -> Probe {
    probe_known_as("app", DEADLINE, mongod, more).await
}

/// One that fail points know by this name.
async fn probe_known_as(
    app_name: &str,
    deadline: Duration,
    mongod: &Mongod,
    more: impl FnOnce(Rocket<Build>) -> Rocket<Build>,
) -> Probe {
    let url = format!("{}&appName={app_name}", watchful(&mongod.url("outage")));
    let keys = [("deadline", deadline.as_secs().into())];
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
        assert_eq!((ran.status, ran.set_cookies()), (503, vec![]), "{ran:?}");
        assert_eq!(ran.text(), "caught 503");
        assert_eq!(ran.header("Vary"), Some("Cookie"));
    }
    let new = run(&probe.browser(), Script::new().set("n", 9)).await;
    assert_eq!(
        (new.status, new.sent(), new.text().as_str()),
        (503, None, "caught 503")
    );
    let option = browser.get("/option").await;
    assert_eq!(option.text(), "false");
    // A response without the session is for its browser alone, too.
    assert_eq!(option.header("Vary"), Some("Cookie"));
    assert_eq!(option.header("Cache-Control"), Some("private, no-cache"));
    assert_eq!(browser.get("/result").await.text(), r#"{"error":"Store"}"#);
    assert_eq!(
        browser.cookie("session"),
        cookie,
        "an outage logs no user out"
    );
}

/// A browser with a session that this script made, as soon as the application finds its database:
/// on a busy machine the first attempt may take longer than the deadline.
async fn planted(probe: &Probe, script: Script) -> Browser {
    let mut planted = None;
    eventually("a session is stored", async || {
        // A browser each time: the outcome of an attempt that failed is unknown.
        let browser = probe.browser();
        let stored = run(&browser, script.clone()).await.status == 200;
        planted = stored.then_some(browser);
        planted.is_some()
    })
    .await;
    planted.expect("it was there")
}

/// One whose session holds `n = 1`.
async fn visitor(probe: &Probe) -> Browser {
    planted(probe, Script::new().set("n", 1)).await
}

/// One that is logged in as well. A login is on the disk when its response comes, so that no kill
/// can take it.
async fn member(probe: &Probe) -> Browser {
    planted(probe, Script::new().login("bob").set("n", 1)).await
}

/// What a script that only reads says, as soon as the application finds its database again.
async fn recovers(browser: &Browser, script: &Script) -> Ran {
    let mut recovered = None;
    eventually("the application finds its database again", async || {
        let ran = run(browser, script.clone()).await;
        recovered = (ran.status == 200).then_some(ran);
        recovered.is_some()
    })
    .await;
    recovered.expect("it was there")
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
    let browser = visitor(&probe).await;
    let seen = recovers(&browser, &Script::new().get("n")).await;
    assert_eq!(seen.results, [json!(1)]);
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
    let browser = member(&probe).await;
    let cookie = browser.cookie("session").expect("a cookie");
    mongod.kill().await;
    serves_what_needs_no_database(&probe, &browser).await;
    mongod.restart().await;
    let script = Script::new().get("n").then("user").then("id");
    let seen = recovers(&browser, &script).await;
    assert_eq!(
        seen.results,
        [json!(1), json!("bob"), json!(id_of(&cookie))]
    );
    eventually("it is written to", async || {
        run(&browser, Script::new().set("n", 2)).await.status == 200
    })
    .await;
    let seen = recovers(&browser, &Script::new().get("n")).await;
    assert_eq!(seen.results, [json!(2)]);
}

#[rocket::async_test]
async fn a_stalled_database_is_an_outage_that_the_deadline_ends() {
    let mongod = Mongod::start().await;
    let probe = probe(&mongod, own_catchers).await;
    let browser = visitor(&probe).await;
    mongod.pause().await;
    // Of a read that is not answered it is known what became: nothing.
    assert_eq!(browser.get("/result").await.text(), r#"{"error":"Store"}"#);
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
    let browser = member(&probe).await;
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
async fn an_outage_answers_head_and_removes_nothing() {
    let mongod = Mongod::start().await;
    let probe = probe(&mongod, own_catchers).await;
    let browser = visitor(&probe).await;
    mongod.stop().await;
    let cookie = browser.cookie("session").expect("a cookie");
    let head = Request::head("/unused").header("Cookie", format!("session={cookie}"));
    let head = probe.app.send(head).await;
    assert_eq!((head.status, head.body.len()), (503, 0));
    assert!(!head.set_cookies().iter().any(|line| removes(line)));
}
