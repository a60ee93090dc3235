//! The harness, tested: a fault that does not happen would make every test of a fault pass.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use mongodb::bson::{DateTime, Document, doc};
use mongodb::error::ErrorKind as Failed;
use mongodb::options::{ClientOptions, IndexOptions, WriteConcern};
use mongodb::{Client, Collection, IndexModel};
use rocket::tokio::spawn;
use rocket::tokio::time::timeout;

use crate::support::{
    Commands, FailPoint, Failure, Mode, Mongod, Profile, Proxy, ReplicaSet, Traffic, eventually,
    in_progress, watchful,
};

mod browsers;
mod fates;

fn things(client: &Client, db: &str) -> Collection<Document> {
    client.database(db).collection("things")
}

/// A client with the application's name, not the tests' own.
async fn app_client(url: &str) -> Client {
    let mut options = ClientOptions::parse(url).await.expect("an address");
    options.app_name = Some("app".to_owned());
    options
        .server_selection_timeout
        .get_or_insert(Duration::from_secs(10));
    Client::with_options(options).expect("a client")
}

async fn answers_as(series: &str, version: &str) {
    let mongod = Mongod::builder().series(series).start().await;
    let client = mongod.client().await;
    let info = client
        .database("admin")
        .run_command(doc! { "buildInfo": 1 })
        .await
        .expect("buildInfo");
    if std::env::var_os("MONGOD").is_none() {
        assert!(
            info.get_str("version")
                .expect("a version")
                .starts_with(version),
            "{info}"
        );
    }
    things(&client, "answers")
        .insert_one(doc! { "_id": 1 })
        .await
        .expect("an insert");
    assert_eq!(
        things(&client, "answers")
            .count_documents(doc! {})
            .await
            .expect("a count"),
        1
    );
}

#[rocket::async_test]
async fn a_standalone_answers() {
    answers_as("6.0", "6.0.").await;
}

#[rocket::async_test]
async fn a_standalone_of_5_0_answers() {
    answers_as("5.0", "5.0.").await;
}

#[rocket::async_test]
async fn a_standalone_of_4_4_answers() {
    answers_as("4.4", "4.4.").await;
}

/// Two tests, because each has a runtime of its own, and the first to come may be gone before the
/// second.
#[rocket::async_test]
async fn the_shared_one_serves_a_test() {
    shared_serves("one").await;
}

#[rocket::async_test]
async fn the_shared_one_serves_another_test() {
    shared_serves("two").await;
}

#[test]
fn the_address_of_a_server_is_that_of_each_database_on_it() {
    let plain = Mongod::at("mongodb://one:1,two:2/whatever?w=1");
    assert_eq!(
        (plain.url("x").as_str(), plain.port()),
        ("mongodb://one:1,two:2/x?w=1", 2)
    );
    assert_eq!(
        Mongod::at("mongodb+srv://one").url("x"),
        "mongodb+srv://one/x"
    );
    let credentials = Mongod::at("mongodb://me:secret@one/mine");
    assert_eq!(
        credentials.url("x"),
        "mongodb://me:secret@one/x?authSource=mine"
    );
}

async fn shared_serves(db: &str) {
    let client = Mongod::shared().await.client().await;
    things(&client, db)
        .insert_one(doc! { "_id": 1 })
        .await
        .expect("an insert");
    client.database(db).drop().await.expect("a drop");
}

#[rocket::async_test]
async fn a_killed_mongod_keeps_what_it_acknowledged() {
    let mongod = Mongod::start().await;
    let client = mongod.client().await;
    let journaled = WriteConcern::builder().journal(true).build();
    things(&client, "kept")
        .insert_one(doc! { "_id": 1 })
        .write_concern(journaled)
        .await
        .expect("an insert");
    let (port, pid) = (mongod.port(), mongod.pid());

    mongod.kill().await;
    assert!(!mongod.is_up().await);
    mongod.restart().await;
    assert!(mongod.is_up().await);

    assert_eq!(mongod.port(), port);
    assert_ne!(mongod.pid(), pid);
    let client = mongod.client().await;
    assert_eq!(
        things(&client, "kept")
            .count_documents(doc! {})
            .await
            .expect("a count"),
        1
    );
}

#[rocket::async_test]
async fn a_paused_mongod_is_silent_until_it_is_resumed() {
    let mongod = Mongod::start().await;
    let client = mongod.client().await;
    things(&client, "paused")
        .insert_one(doc! { "_id": 1 })
        .await
        .expect("an insert");
    mongod.pause().await;
    assert!(!mongod.is_up().await);
    let late = timeout(
        Duration::from_millis(500),
        things(&client, "paused").find_one(doc! {}),
    )
    .await;
    assert!(late.is_err(), "{late:?}");
    mongod.resume().await;
    assert!(
        things(&client, "paused")
            .find_one(doc! {})
            .await
            .expect("a find")
            .is_some()
    );
    mongod.stop().await;
    assert!(!mongod.is_up().await);
}

#[rocket::async_test]
async fn a_replica_set_elects_another_primary_after_a_kill() {
    let set = ReplicaSet::start().await;
    let client = set.client().await;
    let things = things(&client, "elected");
    things
        .insert_one(doc! { "_id": 1 })
        .await
        .expect("an insert");
    let first = set.primary().await;

    set.kill(first).await;
    let began = Instant::now();
    let second = set.wait_for_primary().await;
    println!("a new primary after {:?}", began.elapsed());
    assert_ne!(first, second);
    things
        .insert_one(doc! { "_id": 2 })
        .await
        .expect("an insert after the election");

    set.restart(first).await;
    let third = set.step_down().await;
    assert_ne!(second, third);
    things
        .insert_one(doc! { "_id": 3 })
        .await
        .expect("an insert after the step-down");
    assert_eq!(things.count_documents(doc! {}).await.expect("a count"), 3);
}

/// A busy machine does not cause an election.
#[rocket::async_test]
async fn the_shared_replica_set_is_slow_to_elect() {
    let client = ReplicaSet::shared().await.client().await;
    let question = doc! { "replSetGetConfig": 1 };
    let reply = client.database("admin").run_command(question).await;
    let config = reply.expect("a configuration");
    let settings = config
        .get_document("config")
        .and_then(|config| config.get_document("settings"));
    let timeout = settings.and_then(|settings| settings.get_i32("electionTimeoutMillis"));
    assert_eq!(timeout, Ok(10_000));
}

#[rocket::async_test]
async fn a_fail_point_closes_a_connection_of_the_application_alone() {
    let mongod = Mongod::start().await;
    let tests = mongod.client().await;
    let app = app_client(&format!("{}?retryReads=false", mongod.url("closed"))).await;
    let fail = Failure::close_connection().app_name("app");
    let point = FailPoint::on(&tests, &["find"], Mode::Always, fail).await;
    let error = things(&app, "closed")
        .find_one(doc! {})
        .await
        .expect_err("a closed connection");
    assert!(matches!(*error.kind, Failed::Io(_)), "{error}");
    assert!(things(&tests, "closed").find_one(doc! {}).await.is_ok());
    point.clear().await;
    assert!(things(&app, "closed").find_one(doc! {}).await.is_ok());
}

#[rocket::async_test]
async fn a_fail_point_does_each_of_the_other_things() {
    let mongod = Mongod::start().await;
    let tests = mongod.client().await;
    let app = app_client(&format!(
        "{}?retryReads=false&retryWrites=false",
        mongod.url("faults")
    ))
    .await;
    let things = things(&app, "faults");

    let fail = Failure::code(262).labels(&["Unusual"]);
    let point = FailPoint::on(&tests, &["find"], Mode::Times(1), fail).await;
    let error = things.find_one(doc! {}).await.expect_err("an error");
    assert!(
        error.contains_label("Unusual") && error.to_string().contains("262"),
        "{error}"
    );
    things.find_one(doc! {}).await.expect("once is once");
    point.clear().await;

    // A change of state that did not happen, which the driver's monitor has to find out.
    let quick = format!("{}&retryReads=false", watchful(&mongod.url("faults")));
    let quick = app_client(&quick).await;
    let point = FailPoint::on(&tests, &["find"], Mode::Times(1), Failure::code(91)).await;
    self::things(&quick, "faults")
        .find_one(doc! {})
        .await
        .expect_err("an error");
    self::things(&quick, "faults")
        .find_one(doc! {})
        .await
        .expect("a find");
    point.clear().await;

    let point = FailPoint::on(
        &tests,
        &["insert"],
        Mode::Always,
        Failure::write_concern(64),
    )
    .await;
    things
        .insert_one(doc! { "_id": 1 })
        .await
        .expect_err("a write concern error");
    point.clear().await;
    assert_eq!(
        things.count_documents(doc! {}).await.expect("a count"),
        1,
        "the write is there"
    );

    let wait = Duration::from_millis(300);
    let point = FailPoint::on(&tests, &["find"], Mode::Times(1), Failure::block(wait)).await;
    let began = Instant::now();
    things.find_one(doc! {}).await.expect("a find");
    assert!(began.elapsed() >= wait);
    point.clear().await;
}

#[rocket::async_test]
async fn command_that_a_fail_point_holds_is_in_progress() {
    let mongod = Mongod::start().await;
    let tests = mongod.client().await;
    let app = app_client(&mongod.url("held")).await;
    let sessions = app.database("held").collection::<Document>("session");
    let held = Failure::block(Duration::from_secs(2)).app_name("app");
    let point = FailPoint::on(&tests, &["find"], Mode::Times(1), held).await;
    let find = spawn(async move { sessions.find_one(doc! {}).await });
    eventually("the find", async || {
        in_progress(&tests, "app", Some("find")).await == 1
    })
    .await;
    assert_eq!(in_progress(&tests, "app", None).await, 1);
    assert_eq!(in_progress(&tests, "app", Some("update")).await, 0);
    assert_eq!(in_progress(&tests, "another", None).await, 0);
    find.await.expect("no panic").expect("a find");
    assert_eq!(in_progress(&tests, "app", None).await, 0);
    point.clear().await;
}

#[rocket::async_test]
async fn counters_and_profile_tell_what_was_asked_on_6_0_5_0_and_4_4() {
    for series in ["6.0", "5.0", "4.4"] {
        tells_what_was_asked(Mongod::builder().series(series).start().await).await;
    }
}

async fn tells_what_was_asked(mongod: Mongod) {
    let tests = mongod.client().await;
    let app = app_client(&mongod.url("asked")).await;
    let collection = things(&app, "asked");
    collection
        .insert_one(doc! { "_id": 0 })
        .await
        .expect("an insert");

    let before = Commands::now(&tests).await;
    let profile = Profile::start(&tests, "asked").await;
    collection
        .insert_one(doc! { "_id": 1 })
        .await
        .expect("an insert");
    collection
        .update_one(doc! { "_id": 1 }, doc! { "$inc": { "n": 1 } })
        .await
        .expect("an update");
    collection
        .find_one(doc! { "_id": 1 })
        .await
        .expect("a find");
    collection
        .find_one_and_update(doc! { "_id": 1 }, doc! { "$inc": { "n": 1 } })
        .await
        .expect("both");
    collection.count_documents(doc! {}).await.expect("a count");
    collection
        .delete_one(doc! { "_id": 1 })
        .await
        .expect("a delete");
    // Neither the tests' own, nor another database's.
    things(&tests, "asked")
        .find_one(doc! {})
        .await
        .expect("a find");
    things(&app, "elsewhere")
        .find_one(doc! {})
        .await
        .expect("a find");
    let since = Commands::now(&tests).await.since(&before);

    let names = profile.names().await;
    assert_eq!(
        names,
        [
            "insert",
            "update",
            "find",
            "findAndModify",
            "aggregate",
            "delete"
        ]
    );
    let seen = profile.commands().await;
    assert!(
        seen.iter().all(|one| one.collection == "things"),
        "{seen:?}"
    );
    assert_eq!(
        seen[1].command.get_document("u").expect("the update"),
        &doc! { "$inc": { "n": 1 } }
    );
    assert_eq!(
        ["insert", "update", "find", "findAndModify", "delete"].map(|name| since.get(name)),
        [1, 1, 3, 1, 1]
    );

    profile.restart().await;
    // An entry for each statement, and none for what the server does on its own.
    let two = doc! { "update": "things", "updates": [
        { "q": { "_id": 2 }, "u": { "$set": { "gone": DateTime::from_millis(0) } }, "upsert": true },
        { "q": { "_id": 3 }, "u": { "$set": { "n": 1 } } },
    ] };
    app.database("asked")
        .run_command(two)
        .await
        .expect("two updates");
    let expires = IndexOptions::builder().expire_after(Duration::ZERO).build();
    let index = IndexModel::builder()
        .keys(doc! { "gone": 1 })
        .options(expires)
        .build();
    collection.create_index(index).await.expect("an index");
    eventually("what has expired is deleted", async || {
        let things = things(&tests, "asked");
        let left = things.count_documents(doc! { "_id": 2 }).await;
        left.expect("a count") == 0
    })
    .await;
    assert_eq!(profile.names().await, ["update", "update", "createIndexes"]);

    profile.restart().await;
    assert_eq!(profile.names().await, Vec::<String>::new());
    profile.stop().await;
}

#[rocket::async_test]
async fn a_proxy_loses_the_reply_of_a_write_that_happened() {
    let set = ReplicaSet::builder()
        .members(1)
        .behind_proxies()
        .start()
        .await;
    let tests = set.nodes()[0].client().await;
    let counted = async |id: i32| -> i32 {
        let found = things(&tests, "lost")
            .find_one(doc! { "_id": id })
            .await
            .expect("a find");
        found.map_or(0, |found| found.get_i32("n").expect("a number"))
    };
    let app = app_client(&set.url("lost")).await;
    let increment = async |id: i32| {
        let plus_one = doc! { "$inc": { "n": 1 } };
        things(&app, "lost")
            .update_one(doc! { "_id": id }, plus_one)
            .upsert(true)
            .await
    };
    increment(1).await.expect("nothing is lost yet");

    // Once: the driver asks again, and the server knows that it did this already.
    set.proxy(0).cut_replies("update", 0, 1);
    increment(1).await.expect("a retried write");
    assert_eq!((set.proxy(0).cuts(), counted(1).await), (1, 2));

    // Twice: the driver gives up, and the write was applied nevertheless.
    set.proxy(0).cut_replies("update", 0, 2);
    let error = increment(1).await.expect_err("no reply at all");
    assert!(matches!(*error.kind, Failed::Io(_)), "{error}");
    assert_eq!((set.proxy(0).cuts(), counted(1).await), (3, 3));
}

#[rocket::async_test]
async fn a_proxy_holds_delays_refuses_and_resets() {
    let mongod = Mongod::start().await;
    let proxy = Proxy::start(mongod.port()).await;
    let app = app_client(&format!(
        "{}?retryReads=false&serverSelectionTimeoutMS=1000",
        proxy.url("net")
    ))
    .await;
    let find = async || things(&app, "net").find_one(doc! {}).await;
    find().await.expect("a find");

    for held in [Traffic::Hold, Traffic::HoldRequests, Traffic::HoldReplies] {
        proxy.set(held);
        let mut waiting = Box::pin(find());
        assert!(
            timeout(Duration::from_millis(200), &mut waiting)
                .await
                .is_err(),
            "{held:?}"
        );
        proxy.set(Traffic::Pass);
        waiting.await.expect("what was held arrives");
    }

    let late = Duration::from_millis(100);
    proxy.set(Traffic::Delay(late));
    let began = Instant::now();
    find().await.expect("a late find");
    assert!(began.elapsed() >= late * 2);

    proxy.set(Traffic::Reset);
    find().await.expect_err("a reset connection");
    proxy.set(Traffic::Refuse);
    eventually("new connections are refused", async || {
        let refused = std::net::TcpStream::connect(("127.0.0.1", proxy.port()));
        refused.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    })
    .await;
    find().await.expect_err("no connection");
    proxy.set(Traffic::Pass);
    eventually("it passes again", async || find().await.is_ok()).await;
}
