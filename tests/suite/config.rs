//! What happens at launch: which configurations are refused and in what words, what is said, and
//! which ways there are to attach sessions.

use mongodb::bson::Document;
use rocket::error::ErrorKind;
use rocket::fairing::AdHoc;
use rocket::figment::Figment;
use rocket::serde::json::json;
use rocket::{Build, Request as Incoming, Rocket, catch, catchers, get, routes};
use rocket_db_pools::Database;
use rocket_mongo_session::testing::Clock;
use rocket_mongo_session::{Error, MemoryStore, MongoPool, Session, Sessions};

use crate::apps::probe::{Gates, Probe, Ran, Script, rocket as probe_rocket, run, sent_by};
use crate::support::{App, Mongod, figment};

mod keys;
mod launch_output;
mod toml;

/// Why an application does not launch.
async fn refusal(rocket: Rocket<Build>) -> String {
    let launched = App::try_launch(rocket).await;
    let error = launched.map(|_| ()).expect_err("a refusal");
    match error.kind() {
        ErrorKind::FailedFairings(failed) => format!("{failed:?}"),
        other => other.to_string(),
    }
}

fn debug(url: Option<&str>) -> Figment {
    figment("debug", url, &[])
}

#[get("/visit")]
fn visit(session: &Session) -> Result<String, Error> {
    Ok(session.increment("n", 1)?.to_string())
}

#[get("/maybe")]
fn maybe(_session: Option<&Session>) {}

#[get("/admin")]
fn admin(_sessions: &Sessions) {}

/// Visits twice and is counted.
async fn counts(app: &App) {
    let browser = app.browser();
    let first = browser.get("/visit").await;
    assert!(sent_by(&first).is_some(), "{first:?}");
    assert_eq!(
        (first.text(), browser.get("/visit").await.text()),
        ("1".into(), "2".into())
    );
}

#[rocket::async_test]
async fn without_a_url_the_debug_profile_keeps_sessions_in_memory() {
    let rocket = rocket::custom(debug(None)).attach(Sessions::fairing());
    counts(&App::launch(rocket.mount("/", routes![visit])).await).await;
}

#[rocket::async_test]
async fn without_a_url_any_other_profile_refuses() {
    for profile in ["release", "staging"] {
        let figment = figment(profile, None, &[]);
        let said = refusal(rocket::custom(figment).attach(Sessions::fairing())).await;
        assert!(said.contains("Session Store"), "{said}");
    }
}

#[rocket::async_test]
async fn two_session_fairings_are_refused_and_nothing_panics() {
    let rocket = || rocket::custom(debug(None));
    for twice in [
        rocket()
            .attach(Sessions::fairing())
            .attach(Sessions::fairing()),
        rocket()
            .attach(Sessions::in_memory())
            .attach(Sessions::fairing()),
        rocket()
            .attach(Sessions::fairing())
            .attach(AdHoc::on_ignite("a stage", |rocket| {
                Box::pin(async { rocket.attach(Sessions::in_memory()) })
            })),
    ] {
        let said = refusal(twice).await;
        assert!(said.contains("Session Store"), "{said}");
    }
}

#[rocket::async_test]
async fn a_route_that_asks_for_a_session_needs_the_fairing() {
    for routes in [routes![visit], routes![maybe], routes![admin]] {
        let said = refusal(rocket::custom(debug(None)).mount("/", routes)).await;
        assert!(
            said.contains("sentry") || said.contains("entinel"),
            "{said}"
        );
    }
}

#[catch(404)]
async fn asking(request: &Incoming<'_>) -> String {
    let session = request.guard::<&Session>().await;
    let result = request.guard::<Result<&Session, Error>>().await.unwrap();
    format!("{} {:?}", session.is_success(), result.err())
}

#[rocket::async_test]
async fn a_catcher_that_asks_without_the_fairing_is_told_so() {
    // Rocket asks no Sentinel of catchers.
    let rocket = rocket::custom(debug(None)).register("/", catchers![asking]);
    let app = App::launch(rocket).await;
    assert_eq!(app.get("/nowhere").await.text(), "false Some(NotAttached)");
}

#[rocket::async_test]
async fn it_does_not_matter_where_the_fairing_is_attached() {
    /// A response fairing that changes the session, which it took from the request.
    fn late() -> AdHoc {
        AdHoc::on_response("a late change", |request, _| {
            Box::pin(async move {
                let session = request.guard::<&Session>().await.expect("a session");
                session.set("late", &true).expect("a change");
            })
        })
    }
    let mongod = Mongod::shared().await;
    let figment = || debug(Some(&mongod.url("launch_where")));
    let stage = || {
        AdHoc::on_ignite("a stage", |rocket| {
            Box::pin(async { rocket.attach(late()) })
        })
    };
    let (clock, gates) = (Clock::new(), Gates::default());
    let probe = || probe_rocket(figment(), &clock, &gates);
    for rocket in [probe().attach(late()), probe().attach(stage())] {
        let app = App::launch(rocket).await;
        let browser = app.browser();
        assert!(
            run(&browser, Script::new().set("n", 1))
                .await
                .sent()
                .is_some()
        );
        let seen = run(&browser, Script::new().get("n").get("late")).await;
        assert_eq!(seen.results, [json!(1), json!(true)]);
    }
}

#[derive(Database)]
#[database("shared")]
struct Shared(MongoPool);

#[rocket::async_test]
async fn sessions_live_wherever_the_application_says() {
    let mongod = Mongod::shared().await;
    let client = mongod.client().await;
    let db = "launch_where_else";
    client.database(db).drop().await.expect("an empty database");
    let collection = |name: &str| client.database(db).collection::<Document>(name);
    let with_pool = || {
        let url = ("databases.shared.url", mongod.url(db));
        debug(None)
            .merge(url)
            .merge(("session.collection", "pooled"))
    };
    let memory = || rocket::custom(debug(None));
    for (rocket, kept) in [
        (memory().attach(Sessions::in_memory()), None),
        (
            memory().attach(Sessions::with_store(MemoryStore::new())),
            None,
        ),
        (
            memory().attach(Sessions::in_collection(collection("own"))),
            Some("own"),
        ),
        (
            rocket::custom(with_pool())
                .attach(Shared::init())
                .attach(Sessions::in_database::<Shared>()),
            Some("pooled"),
        ),
        (
            rocket::custom(with_pool())
                .attach(Sessions::in_database::<Shared>())
                .attach(Shared::init()),
            Some("pooled"),
        ),
    ] {
        let app = App::launch(rocket.mount("/", routes![visit])).await;
        counts(&app).await;
        if let Some(name) = kept {
            let all = collection(name);
            assert_eq!(
                all.count_documents(Document::new()).await.expect("a count"),
                1,
                "{name}"
            );
            all.drop().await.expect("no more");
        }
        // In-flight work ends while the pool is still there.
        app.shutdown().await.expect("a clean end");
    }
    let said = refusal(memory().attach(Sessions::in_database::<Shared>())).await;
    assert!(
        said.contains("Session Store"),
        "the pool is not attached: {said}"
    );
}

#[rocket::async_test]
async fn a_restart_between_requests_goes_unnoticed() {
    let probe = Probe::start("launch_restart", &[]).await;
    let url = Mongod::shared().await.url(&probe.db);
    let browser = probe.browser();
    let script = Script::new().login("bob").set("n", 1).then("csrf_token");
    let first = run(&browser, script).await;
    let token = first.last().clone();
    let cookie = first.cookie();
    let (clock, gates) = (probe.clock.clone(), probe.gates.clone());
    probe.app.shutdown().await.expect("a clean end");

    let again = App::launch(probe_rocket(debug(Some(&url)), &clock, &gates)).await;
    let script = Script::new()
        .get("n")
        .then("user")
        .call(json!(["verify_csrf", token]));
    let request = script
        .request()
        .header("Cookie", format!("session={cookie}"));
    let seen: Ran = again.send(request).await.into();
    assert_eq!(seen.results, [json!(1), json!("bob"), json!(true)]);
    assert_eq!(seen.sent(), None);
}

#[rocket::async_test]
async fn two_processes_share_sessions_and_two_applications_do_not() {
    let probe = Probe::start("launch_two", &[]).await;
    let url = Mongod::shared().await.url(&probe.db);
    let other = probe.again(&url, &[]).await;
    let browser = probe.browser();
    let cookie = run(&browser, Script::new().set("n", 1)).await.cookie();
    let ask = async |app: &App, name: &str, script: Script| -> Ran {
        let request = script
            .request()
            .header("Cookie", format!("{name}={cookie}"));
        app.send(request).await.into()
    };
    ask(&other, "session", Script::new().set("n", 2)).await;
    assert_eq!(
        run(&browser, Script::new().get("n")).await.results,
        [json!(2)]
    );
    ask(&other, "session", Script::new().then("logout")).await;
    assert_eq!(
        run(&browser, Script::new().get("n")).await.results,
        [json!(null)]
    );

    let cookie = run(&browser, Script::new().set("n", 3)).await.cookie();
    let ask = async |app: &App, name: &str| -> Ran {
        let request = Script::new().get("n").request();
        app.send(request.header("Cookie", format!("{name}={cookie}")))
            .await
            .into()
    };
    for keys in [
        [("cookie_name", "other".into())],
        [("collection", "other".into())],
    ] {
        let stranger = probe.again(&url, &keys).await;
        // A cookie's value is bound to its name, also within one collection.
        for name in ["session", "other"] {
            assert_eq!(
                ask(&stranger, name).await.results,
                [json!(null)],
                "{keys:?} {name}"
            );
        }
    }
    assert_eq!(ask(&other, "session").await.results, [json!(3)]);
}
