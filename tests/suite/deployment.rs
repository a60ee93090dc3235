//! What operators see and set: readiness, connections, the pool's settings, proxies.

use std::time::Duration;

use mongodb::Client;
use mongodb::bson::{Document, doc};
use rocket::fairing::AdHoc;
use rocket::http::Status;
use rocket::serde::json::json;
use rocket::tokio::sync::oneshot;
use rocket::tokio::time::sleep;
use rocket::{Build, Rocket, get, routes};
use rocket_mongo_session::testing::Clock;
use rocket_mongo_session::{Sessions, Stats};

use crate::apps::database;
use crate::apps::probe::{Gates, Probe, Script, bare, run};
use crate::support::{
    App, Mongod, Proxy, ReplicaSet, Traffic, eventually, figment, in_time, users, watchful,
};

#[get("/ready")]
fn ready(sessions: &Sessions) -> Status {
    match sessions.is_ready() {
        true => Status::Ok,
        false => Status::ServiceUnavailable,
    }
}

#[get("/connections")]
fn connections(sessions: &Sessions) -> String {
    let Stats {
        connections_lost,
        connections_refused,
        ..
    } = sessions.stats();
    format!("{connections_lost} {connections_refused}")
}

fn with_routes(rocket: Rocket<Build>) -> Rocket<Build> {
    rocket.mount("/", routes![ready, connections])
}

async fn is_ready(app: &App) -> bool {
    app.get("/ready").await.status == 200
}

// ---- readiness

#[rocket::async_test]
async fn readiness_begins_with_the_first_answer_and_outlives_an_outage() {
    let mongod = Mongod::start().await;
    let proxy = Proxy::start(mongod.port()).await;
    proxy.set(Traffic::Refuse);
    let url = watchful(&proxy.url("ready"));
    let client = mongod.client().await;
    let probe = Probe::start_at(client, &url, "ready", &[], with_routes).await;
    assert!(!is_ready(&probe.app).await, "nothing has answered");
    proxy.set(Traffic::Pass);
    // No request asks for a session meanwhile.
    eventually("readiness", async || is_ready(&probe.app).await).await;
    proxy.set(Traffic::Refuse);
    eventually("an outage", async || {
        run(&probe.browser(), Script::new().set("n", 1))
            .await
            .status
            == 503
    })
    .await;
    assert!(is_ready(&probe.app).await, "an outage changes nothing");
}

#[rocket::async_test]
async fn readiness_ends_with_the_beginning_of_a_shutdown() {
    let (tell, told) = oneshot::channel();
    let tell = std::sync::Mutex::new(Some(tell));
    let tell = std::sync::Arc::new(tell);
    let at_shutdown = AdHoc::on_shutdown("tests: what it says", move |rocket| {
        let tell = std::sync::Arc::clone(&tell);
        let sessions = rocket.state::<Sessions>().cloned().expect("sessions");
        Box::pin(async move {
            let asking = async {
                while sessions.is_ready() {
                    sleep(Duration::from_millis(20)).await;
                }
            };
            in_time("no readiness", asking).await;
            let tell = tell.lock().expect("a lock").take();
            let _ = tell.expect("one shutdown").send(());
        })
    });
    let rocket = rocket::custom(figment("debug", None, &[])).attach(Sessions::in_memory());
    let app = App::launch(with_routes(rocket.attach(at_shutdown))).await;
    eventually("readiness", async || is_ready(&app).await).await;
    app.shutdown().await.expect("a clean end");
    told.await.expect("it was asked while it shut down");
}

#[rocket::async_test]
async fn readiness_needs_no_privilege_to_create_indexes() {
    let (mongod, _) = users::server(&["find", "insert", "update", "remove"], &[]).await;
    let url = users::url(mongod.port());
    let rocket = crate::apps::probe::rocket(
        figment("debug", Some(&url), &[]),
        &Clock::new(),
        &Gates::default(),
    );
    let app = App::launch(with_routes(rocket)).await;
    eventually("readiness", async || is_ready(&app).await).await;
}

// ---- connections

#[rocket::async_test]
async fn lost_and_refused_connections_are_counted() {
    let mongod = Mongod::start().await;
    let proxy = Proxy::start(mongod.port()).await;
    let url = watchful(&proxy.url("connections"));
    let client = mongod.client().await;
    let keys = [("indexes", false.into())];
    let probe = Probe::start_at(client, &url, "connections", &keys, with_routes).await;
    let counts = async || {
        let text = probe.app.get("/connections").await.text();
        let (lost, refused) = text.split_once(' ').expect("two numbers");
        let number = |text: &str| text.parse::<u64>().expect("a number");
        (number(lost), number(refused))
    };
    let browser = probe.browser();
    eventually("a session", async || {
        run(&browser, Script::new().set("n", 1)).await.status == 200
    })
    .await;
    assert_eq!(counts().await, (0, 0));
    proxy.set(Traffic::Reset);
    eventually("a lost connection", async || {
        run(&browser, Script::new().set("n", 2)).await;
        counts().await.0 > 0
    })
    .await;
}

#[rocket::async_test]
async fn refused_credentials_are_refused_connections() {
    let (mongod, _) = users::server(&["find"], &[]).await;
    let url = users::url(mongod.port()).replace("apppassword", "another");
    let clock = Clock::new();
    let rocket =
        crate::apps::probe::rocket(figment("debug", Some(&url), &[]), &clock, &Gates::default());
    let app = App::launch(with_routes(rocket)).await;
    eventually("a refused connection", async || {
        app.get("/connections").await.text().split(' ').nth(1) != Some("0")
    })
    .await;
    assert!(!is_ready(&app).await);
}

#[rocket::async_test]
async fn the_pool_introduces_itself_to_the_server() {
    let mongod = Mongod::start().await;
    let client = mongod.client().await;
    let names = async || {
        let pipeline = [
            doc! { "$currentOp": { "allUsers": true, "idleConnections": true } },
            doc! { "$match": { "clientMetadata.driver.name": { "$regex": "rocket_mongo_session" } } },
        ];
        let admin = client.database("admin");
        let cursor = admin.aggregate(pipeline).await.expect("an aggregation");
        let found: Vec<Document> = rocket::futures::TryStreamExt::try_collect(cursor)
            .await
            .expect("operations");
        let names = found.iter().map(|one| one.get_str("appName"));
        names
            .map(|name| name.unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    let start =
        async |url: String| Probe::start_at(mongod.client().await, &url, "named", &[], |r| r).await;
    let probe = start(mongod.url("named")).await;
    eventually("a name", async || {
        names()
            .await
            .iter()
            .any(|name| name == "rocket_mongo_session")
    })
    .await;
    drop(probe);
    let url = mongod.url("named");
    let separator = if url.contains('?') { '&' } else { '?' };
    let _probe = start(format!("{url}{separator}appName=shop")).await;
    eventually("the application's name", async || {
        names().await.iter().any(|name| name == "shop")
    })
    .await;
}

// ---- proxies

#[rocket::async_test]
async fn the_clients_address_comes_from_a_trusted_proxy_alone() {
    let ip = async |probe: &Probe, user: &str, lines: &[&str]| {
        let login = Script::new().login(user);
        let login = lines
            .iter()
            .fold(login, |login, line| login.header("X-Forwarded-For", line));
        let ran = run(&probe.browser(), login).await;
        assert_eq!(ran.status, 200);
        let calls = Script::new().call(json!(["list", user]));
        let listed = run(&probe.browser(), calls).await.last()[0]["ip"].clone();
        listed.as_str().expect("an address").to_owned()
    };
    let spoofed: &[&[&str]] = &[
        &["1.2.3.4, 203.0.113.9"],
        &["1.2.3.4", "203.0.113.9"],
        &["1.2.3.4, 127.0.0.1, 203.0.113.9, 127.0.0.1"],
    ];
    for (n, (proxies, believed)) in [(json!(["127.0.0.0/8"]), true), (json!(["10.0.0.1"]), false)]
        .into_iter()
        .enumerate()
    {
        let proxies: Vec<String> = rocket::serde::json::from_value(proxies).expect("texts");
        let keys = [
            ("record_client", true.into()),
            ("client_ip_header", "X-Forwarded-For".into()),
            ("trusted_proxies", proxies.into()),
        ];
        let probe = Probe::start(&format!("deployment_proxy{n}"), &keys).await;
        for (m, lines) in spoofed.iter().enumerate() {
            let seen = ip(&probe, &format!("user {m}"), lines).await;
            let wanted = if believed { "203.0.113.9" } else { "127.0.0.1" };
            assert_eq!(seen, wanted, "{lines:?}");
        }
        assert_eq!(ip(&probe, "alice", &[]).await, "127.0.0.1");
    }
}

// ---- a client that is shared

/// The crate keeps sessions of the driver, which a plain `shutdown()` of the client waits for.
#[rocket::async_test]
async fn a_shared_client_can_be_shut_down_at_once_after_the_application() {
    let url = ReplicaSet::shared().await.url(&database());
    let client = Client::with_uri_str(url).await.expect("a client");
    let collection = client
        .default_database()
        .expect("a database")
        .collection::<Document>("session");
    let rocket = bare(figment("debug", None, &[]), &Gates::default());
    let app = App::launch(rocket.attach(Sessions::in_collection(collection))).await;
    let browser = app.browser();
    // Written and numbered, so that the crate keeps a session of the driver.
    for n in [1, 2] {
        let ran = run(&browser, Script::new().set("n", n)).await;
        assert_eq!(ran.status, 200);
    }
    app.shutdown().await.expect("a clean end");
    let end = async { client.shutdown().immediate(true).await };
    in_time("the client's end", end).await;
}

/// A router that reads with `available` would also find sessions that have ended.
#[rocket::async_test]
async fn sessions_are_read_with_local_read_concern_whatever_the_url_says() {
    let (mongod, db) = (Mongod::shared().await, "read_concern");
    let proxy = Proxy::start(mongod.port()).await;
    let url = format!("{}?readConcernLevel=available", proxy.url(db));
    let client = mongod.client().await;
    let probe = Probe::start_at(client, &url, db, &[], |rocket| rocket).await;
    let browser = probe.browser();
    run(&browser, Script::new().set("n", 1)).await.cookie();
    run(&browser, Script::new().get("n")).await;
    let finds = proxy.requests("find");
    assert!(!finds.is_empty());
    for find in finds {
        let level = find
            .get_document("readConcern")
            .and_then(|it| it.get_str("level"));
        assert_eq!(level, Ok("local"), "{find}");
    }
}
