//! Operations. Mass logout on live traffic is in `legacy/mass_logout.rs`.

use mongodb::bson::{DateTime, Document, doc};
use rocket::futures::TryStreamExt;
use rocket::serde::json::json;
use rocket_mongo_session::testing::Clock;

use crate::apps::calls;
use crate::apps::calls::{ask, go, jobs, keys, probe, script, seconds, visitor};
use crate::apps::database;
use crate::apps::probe::{Gates, Probe, eventually, id_of, run};
use crate::support::{App, FailPoint, Failure, Mode, Mongod, figment};

#[rocket::async_test]
async fn deleting_all_documents_logs_everybody_out() {
    let probe = probe(&[]).await;
    let visitors = [visitor(&probe).await, visitor(&probe).await];
    let deleted = probe.sessions().delete_many(doc! {}).await.unwrap();
    assert_eq!(deleted.deleted_count, 2);
    for (browser, cookie) in visitors {
        let read = go(&browser, json!([["keys"], ["is_new"]])).await;
        assert_eq!(read.results, [json!([]), json!(true)]);
        let written = go(&browser, json!([["set", "k", "w"]])).await;
        assert_ne!(id_of(&written.cookie()), id_of(&cookie));
        assert_eq!(ask(&browser, json!(["get", "k"])).await, "w");
    }
}

#[rocket::async_test]
async fn revoke_all_says_how_many_it_ended() {
    let probe = probe(&[("legacy_ids", true.into())]).await;
    let visitors = [visitor(&probe).await, visitor(&probe).await];
    let now = probe.clock.time().unix_timestamp();
    let legacy =
        doc! { "_id": "0".repeat(32), "created": now as f64, "accessed": now, "value": {} };
    probe.sessions().insert_one(legacy).await.unwrap();
    assert_eq!(ask(&probe.browser(), json!(["revoke_all"])).await, 3);
    assert_eq!(ask(&probe.browser(), json!(["revoke_all"])).await, 0);
    for (browser, _) in visitors {
        assert_eq!(ask(&browser, json!(["is_new"])).await, true);
    }
}

#[rocket::async_test]
async fn purge_expired_removes_exactly_what_is_dead() {
    let probe = probe(&[("legacy_ids", true.into())]).await;
    let (old, old_cookie) = visitor(&probe).await;
    let (long, _) = visitor(&probe).await;
    go(&long, json!([["set_timeout", 99_999]])).await;
    let legacy = |id: &str, age: i64| {
        let at = probe.clock.time().unix_timestamp() - age;
        doc! { "_id": id.repeat(32), "created": at as f64, "accessed": at as i32, "value": { "k": 1 } }
    };
    let documents = [legacy("a", 100), legacy("b", 0)];
    probe.sessions().insert_many(documents).await.unwrap();
    probe.clock.advance(seconds(1150.0));
    let (young, _) = visitor(&probe).await;
    assert_eq!(
        ask(&young, json!(["purge_expired"])).await,
        1,
        "the ancestor's old one"
    );
    probe.clock.advance(seconds(51.0));
    assert_eq!(ask(&young, json!(["purge_expired"])).await, 2);
    assert_eq!(probe.document(&old_cookie).await, None);
    assert_eq!(ask(&old, json!(["is_new"])).await, true);
    for alive in [young, long] {
        assert_eq!(ask(&alive, json!(["get", "k"])).await, "v");
    }
    assert_eq!(ask(&probe.browser(), json!(["purge_expired"])).await, 0);

    let probe = calls::probe(&[("timeout", false.into())]).await;
    visitor(&probe).await;
    probe.clock.advance(seconds(1e9));
    assert_eq!(ask(&probe.browser(), json!(["purge_expired"])).await, 0);
}

/// Another application's documents are no sessions, whatever dates they have.
#[rocket::async_test]
async fn purge_expired_ends_beside_a_thousand_foreign_documents() {
    const FOREIGN: u64 = 1001; // more than one step
    let probe = probe(&[("indexes", false.into())]).await;
    let past = probe.clock.time().unix_timestamp() * 1000 - 3_600_000;
    let foreign =
        (0..FOREIGN).map(|n| doc! { "n": n as i64, "expires": DateTime::from_millis(past) });
    probe.sessions().insert_many(foreign).await.unwrap();
    assert_eq!(ask(&probe.browser(), json!(["purge_expired"])).await, 0);
    let left = probe.sessions().count_documents(doc! {}).await.unwrap();
    assert_eq!(left, FOREIGN);
}

async fn ttl_indexes(probe: &Probe) -> Vec<Document> {
    let specifications = async {
        let found = probe.sessions().list_indexes().await.ok()?;
        found.try_collect::<Vec<_>>().await.ok()
    };
    let specifications = specifications.await.unwrap_or_default();
    let all = specifications.into_iter();
    all.filter(|index| {
        let options = index.options.as_ref();
        options.is_some_and(|options| options.expire_after.is_some())
    })
    .map(|index| index.keys)
    .collect()
}

#[rocket::async_test]
async fn the_ttl_index_is_made_once_and_again_at_every_start() {
    let db = database();
    let probe = Probe::start(&db, &[]).await;
    eventually("the index", || async {
        ttl_indexes(&probe).await == [doc! { "expires": 1 }]
    })
    .await;
    let url = Mongod::shared().await.url(&db);
    // Another timeout needs no other index: a document says itself when it expires.
    let again = probe.again(&url, &[("timeout", 60.into())]).await;
    let browser = again.browser();
    go(&browser, json!([["set", "k", "v"], ["ensure_indexes"]])).await;
    assert_eq!(ttl_indexes(&probe).await, [doc! { "expires": 1 }]);
    assert_eq!(ask(&browser, json!(["get", "k"])).await, "v");
}

#[rocket::async_test]
async fn an_application_that_may_make_no_indexes_serves_without_them() {
    let mongod = Mongod::start().await;
    let client = mongod.client().await;
    let failure = Failure::code(13).app_name("app"); // Unauthorized
    let refused = FailPoint::on(
        &client,
        &["createIndexes", "collMod"],
        Mode::Always,
        failure,
    )
    .await;
    let url = mongod.url("operations_by_name") + "?appName=app";
    let probe = Probe::start_at(client, &url, "operations_by_name", &[], |rocket| rocket).await;
    let refusal = ask(&probe.browser(), json!(["ensure_indexes"])).await;
    assert_eq!(refusal, json!({ "error": "Store" }));
    let (browser, _) = visitor(&probe).await;
    assert_eq!(ask(&browser, json!(["get", "k"])).await, "v");
    refused.clear().await;
}

#[rocket::async_test]
async fn two_applications_with_other_names_do_not_mix() {
    let mongod = Mongod::shared().await;
    let client = mongod.client().await;
    for db in ["operations_apart", "operations_apart_b"] {
        client.database(db).drop().await.unwrap();
    }
    let launch = async |cookie: &str, collection: &str, database: &str| {
        let keys = keys(&[
            ("cookie_name", cookie.into()),
            ("collection", collection.into()),
            ("database", database.into()),
        ]);
        let figment = figment("debug", Some(&mongod.url("operations_apart")), &keys);
        App::launch(crate::apps::probe::rocket(
            figment,
            &Clock::new(),
            &Gates::default(),
        ))
        .await
    };
    let apps = [
        launch("one", "first", "operations_apart").await,
        launch("two", "second", "operations_apart").await,
        launch("one", "first", "operations_apart_b").await,
    ];
    let mut cookies = Vec::new();
    for (n, app) in apps.iter().enumerate() {
        let browser = app.browser();
        let set = go(&browser, json!([["set", "app", n]])).await;
        cookies.push(set.set_cookies()[0].split(';').next().unwrap().to_owned());
        assert_eq!(ask(&browser, json!(["get", "app"])).await, json!(n));
    }
    for (n, app) in apps.iter().enumerate() {
        for (other, cookie) in cookies.iter().enumerate().filter(|(other, _)| *other != n) {
            let request = script(json!([["is_new"]]))
                .request()
                .header("Cookie", cookie);
            let read = crate::apps::probe::Ran::from(app.send(request).await);
            assert_eq!(read.results, [json!(true)], "{other} at {n}");
        }
    }
    for (db, collection) in [
        ("operations_apart", "first"),
        ("operations_apart", "second"),
        ("operations_apart_b", "first"),
    ] {
        let collection = client.database(db).collection::<Document>(collection);
        assert_eq!(collection.count_documents(doc! {}).await.unwrap(), 1);
    }
    // The same name of the cookie in another collection, and another name in the same one: the
    // token is bound to its cookie's name.
    let figment = figment(
        "debug",
        Some(&mongod.url("operations_apart")),
        &keys(&[
            ("cookie_name", "other".into()),
            ("collection", "first".into()),
        ]),
    );
    let rocket = crate::apps::probe::rocket(figment, &Clock::new(), &Gates::default());
    let app = App::launch(rocket).await;
    let renamed = cookies[0].replacen("one=", "other=", 1);
    let request = script(json!([["is_new"]]))
        .request()
        .header("Cookie", renamed);
    let read = crate::apps::probe::Ran::from(app.send(request).await);
    assert_eq!(read.results, [json!(true)]);
}

#[rocket::async_test]
async fn what_a_session_knows_of_itself_is_not_among_its_values() {
    let probe = probe(&[]).await;
    let (browser, cookie) = visitor(&probe).await;
    let before = probe.document(&cookie).await.expect("a session");
    let fields = [
        "_id", "created", "accessed", "token", "csrf", "expires", "value", "user",
    ];
    for field in fields {
        assert_eq!(
            ask(&browser, json!(["get", field])).await,
            json!(null),
            "{field}"
        );
        go(&browser, json!([["set", field, "mine"]])).await;
    }
    let after = probe.document(&cookie).await.expect("a session");
    for field in [
        "_id", "created", "accessed", "token", "csrf", "expires", "user",
    ] {
        assert_eq!(after.get(field), before.get(field), "{field}");
    }
    assert_eq!(ask(&browser, json!(["user"])).await, json!(null));
    go(&browser, json!([["clear"]])).await;
    assert_eq!(ask(&browser, json!(["is_new"])).await, false);
}

#[rocket::async_test]
async fn a_restarted_application_knows_its_visitors() {
    let db = database();
    let probe = Probe::start(&db, &keys(&[])).await;
    let (browser, cookie) = visitor(&probe).await;
    drop(browser);
    let Probe { app, clock, .. } = probe;
    app.shutdown().await.expect("an end");
    let url = Mongod::shared().await.url(&db);
    let figment = figment("debug", Some(&url), &keys(&[]));
    let app = App::launch(crate::apps::probe::rocket(
        figment,
        &clock,
        &Gates::default(),
    ))
    .await;
    let read = crate::apps::probe::run_with(&app, &cookie, script(json!([["get", "k"]]))).await;
    assert_eq!(read.results, [json!("v")]);
}

#[rocket::async_test]
async fn nothing_that_prints_itself_tells_a_secret_or_a_value() {
    let (jobs, probe) = jobs(&[]).await;
    let browser = probe.browser();
    let set = json!([
        ["login", "principal"],
        ["set", "key", "hunter2"],
        ["flash", "hunter3"]
    ]);
    let cookie = go(&browser, set).await.cookie();
    let secret = cookie.split_once('.').expect("two parts").1.to_owned();
    let token = ask(&browser, json!(["csrf_token"])).await;
    let (printed, _) = jobs
        .run(&browser, |s| {
            let errors = [
                s.get::<u32>("key").unwrap_err(),
                s.increment("key", 1).unwrap_err(),
                s.user::<u32>().unwrap_err(),
                s.flash_queue("").peek::<u32>().unwrap_err(),
                s.set("a\0b", "hunter4").unwrap_err(),
            ];
            let shown = errors.iter().map(|error| format!("{error} {error:?}"));
            let shown = shown.collect::<String>();
            format!("{s:?} {:?} {shown}", s.flash_queue("name"))
        })
        .await;
    let token = token.as_str().unwrap().to_owned();
    for hidden in ["hunter", "principal\"", &secret, &token] {
        assert!(!printed.contains(hidden), "{hidden} in {printed}");
    }
    assert!(printed.contains(id_of(&cookie)), "the public id is shown");
    assert_eq!(
        run(&browser, script(json!([["get", "key"]]))).await.last(),
        "hunter2"
    );
}
