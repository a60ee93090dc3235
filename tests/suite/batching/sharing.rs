//! Loads, commits and new sessions in one command: each exact, whatever else is in the batch.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::{Client, Collection};
use rocket::futures::future::join_all;
use rocket::{get, routes};
use rocket_mongo_session::store::{Durability, Inserted};
use rocket_mongo_session::{Error, MongoStore, Session, Sessions, Store};

use crate::support::{
    App, Browser, Commands, FailPoint, Failure, Mode, Mongod, Profile, ReplicaSet, figment,
};

/// Up to this number of operations each has a command of its own.
const DIRECT: usize = 8;

#[get("/add")]
fn add(session: &Session) -> Result<String, Error> {
    session.push("log", &1)?;
    Ok(session.increment("count", 1)?.to_string())
}

#[get("/count")]
fn count(session: &Session) -> Result<String, Error> {
    let count: i64 = session.get("count")?.unwrap_or(0);
    let log: Vec<i64> = session.get("log")?.unwrap_or_default();
    Ok(format!("{count} {}", log.len()))
}

async fn launch(url: &str, share: bool) -> App {
    // Without the work on the indexes, which would be among the commands at any moment, and with a
    // deadline that plays no part here.
    let keys = [
        ("share", share.into()),
        ("indexes", false.into()),
        ("deadline", 60.into()),
    ];
    let figment = figment("debug", Some(url), &keys);
    let rocket = rocket::custom(figment)
        .attach(Sessions::fairing())
        .mount("/", routes![add, count]);
    App::launch(rocket).await
}

/// `browsers` browsers, each with a session; every one sends `parallel` requests at once.
async fn crowd(app: &App, browsers: usize, parallel: usize) -> Vec<Browser> {
    let mut crowd = Vec::new();
    for _ in 0..browsers {
        let browser = app.browser();
        assert_eq!(browser.get("/add").await.text(), "1");
        crowd.push(browser);
    }
    let requests = crowd.iter().flat_map(|browser| {
        (0..parallel).map(|_| {
            let tab = browser.twin();
            async move { tab.get("/add").await.status }
        })
    });
    let responses = join_all(requests).await;
    assert!(responses.into_iter().all(|status| status == 200));
    crowd
}

async fn every_update_arrives_once(url: &str, share: bool) {
    let app = launch(url, share).await;
    let (browsers, parallel) = (12, 25);
    for browser in crowd(&app, browsers, parallel).await {
        let expected = format!("{0} {0}", parallel + 1);
        assert_eq!(browser.get("/count").await.text(), expected);
    }
    app.shutdown().await.unwrap();
}

#[rocket::async_test]
async fn every_update_arrives_once_on_a_standalone() {
    let mongod = Mongod::shared().await;
    every_update_arrives_once(&mongod.url("sharing_standalone"), true).await;
    every_update_arrives_once(&mongod.url("sharing_standalone_alone"), false).await;
}

#[rocket::async_test]
async fn every_update_arrives_once_on_a_replica_set() {
    let set = ReplicaSet::shared().await;
    every_update_arrives_once(&set.url("sharing_set"), true).await;
    every_update_arrives_once(&set.url("sharing_set_alone"), false).await;
}

#[rocket::async_test]
async fn every_update_arrives_once_on_5_0_and_4_4() {
    for series in ["4.4", "5.0"] {
        let mongod = Mongod::builder().series(series).start().await;
        every_update_arrives_once(&mongod.url("sharing_old"), true).await;
        let set = ReplicaSet::builder()
            .series(series)
            .members(1)
            .start()
            .await;
        every_update_arrives_once(&set.url("sharing_old"), true).await;
    }
}

#[rocket::async_test]
async fn what_meets_shares_a_command_and_what_is_alone_has_its_own() {
    const TABS: i64 = 40;
    let mongod = Mongod::start().await;
    let database = "sharing_commands";
    let app = launch(&format!("{}?appName=app", mongod.url(database)), true).await;
    let client = mongod.client().await;
    let profile = Profile::start(&client, database).await;

    let browser = app.browser();
    browser.get("/add").await;
    profile.restart().await;
    browser.get("/add").await;
    let names = profile.names().await;
    assert_eq!(names, ["find", "update"], "alone");

    // Each command takes so long that operations which come meanwhile share the next.
    let slow = Failure::block(Duration::from_millis(300)).app_name("app");
    let point = FailPoint::on(&client, &["find", "update"], Mode::Always, slow).await;
    profile.stop().await;
    let before = Commands::now(&client).await;
    let tabs = (0..TABS).map(|_| browser.twin());
    let responses = tabs.map(|tab| async move { tab.get("/add").await.status });
    let responses = join_all(responses).await;
    point.clear().await;
    assert!(responses.into_iter().all(|status| status == 200));
    let asked = Commands::now(&client).await.since(&before);
    for command in ["find", "update"] {
        let count = asked.get(command);
        assert!(count <= TABS / 2, "{count} times {command} for {TABS}");
    }
    app.shutdown().await.unwrap();
}

#[rocket::async_test]
async fn a_session_that_ended_is_gone_for_its_own_request_only() {
    let mongod = Mongod::shared().await;
    let database = "sharing_gone";
    let app = launch(&mongod.url(database), true).await;
    let client = mongod.client().await;
    let sessions = client
        .database(database)
        .collection::<bson::Document>("session");
    let past = mongodb::bson::DateTime::from_millis(0);
    for round in 0..20 {
        let crowd = crowd(&app, 8, 1).await;
        let mut requests = Vec::new();
        for (at, browser) in crowd.iter().enumerate() {
            for _ in 0..5 {
                let tab = browser.twin();
                requests.push(async move { (at, tab.get("/add").await.status) });
            }
        }
        // Every other session ends while updates of all of them are in progress.
        let ended: Vec<String> = crowd
            .iter()
            .step_by(2)
            .filter_map(|browser| Some(browser.cookie("session")?.split('.').next()?.to_owned()))
            .collect();
        let theirs = mongodb::bson::doc! { "_id": { "$in": ended.clone() } };
        let end = async {
            match round % 2 {
                0 => sessions.delete_many(theirs).await.unwrap().deleted_count,
                _ => {
                    let expired = mongodb::bson::doc! { "$set": { "expires": past } };
                    let updated = sessions.update_many(theirs, expired).await;
                    updated.unwrap().matched_count
                }
            }
        };
        let (responses, ended_count) = rocket::tokio::join!(join_all(requests), end);
        assert!(responses.iter().all(|(_, status)| *status == 200));
        assert_eq!(ended_count, 4);
        for browser in crowd.into_iter().skip(1).step_by(2) {
            assert_eq!(browser.get("/count").await.text(), "7 7");
        }
        let alive = mongodb::bson::doc! { "_id": { "$in": ended }, "expires": { "$ne": past } };
        let left = sessions.count_documents(alive);
        assert_eq!(left.await.unwrap(), 0, "an ended session came back");
    }
    app.shutdown().await.unwrap();
}

/// A store of its own over a fresh collection, and the slow inserts by which documents meet.
struct Meeting {
    mongod: Mongod,
    store: MongoStore,
    sessions: Collection<Document>,
}

impl Meeting {
    async fn new(database: &str) -> Meeting {
        let mongod = Mongod::start().await;
        let url = format!("{}?appName=app", mongod.url(database));
        let client = Client::with_uri_str(url).await.unwrap();
        let sessions = client.database(database).collection("session");
        let store = MongoStore::new(&sessions, Duration::from_secs(60), 32, true);
        store.ping().await.unwrap(); // from now on it knows the server
        Meeting {
            mongod,
            store,
            sessions,
        }
    }

    /// Creates them all at once. The results, and how many commands it took.
    async fn insert(&self, documents: &[Document]) -> (Vec<Result<Inserted, Error>>, i64) {
        let client = self.mongod.client().await;
        let slow = Failure::block(Duration::from_millis(300)).app_name("app");
        let point = FailPoint::on(&client, &["insert"], Mode::Always, slow).await;
        let before = Commands::now(&client).await;
        let creates = documents.iter().map(|document| {
            let document = rocket_mongo_session::store::Document::from_bytes(
                mongodb::bson::to_vec(document).unwrap(),
            );
            self.store.insert(vec![document], Durability::Data)
        });
        let results = join_all(creates).await;
        point.clear().await;
        let asked = Commands::now(&client).await.since(&before);
        (results, asked.get("insert"))
    }
}

#[rocket::async_test]
async fn new_sessions_that_meet_share_an_insert() {
    let meeting = Meeting::new("sharing_new").await;
    let documents: Vec<_> = (0..40).map(|id| doc! { "_id": id.to_string() }).collect();
    let (results, inserts) = meeting.insert(&documents).await;
    for result in results {
        assert_eq!(result.unwrap(), Inserted::Stored);
    }
    assert!(inserts <= DIRECT as i64 + 2, "{inserts} inserts");
    assert_eq!(meeting.sessions.count_documents(doc! {}).await.unwrap(), 40);
}

#[rocket::async_test]
async fn what_one_new_session_meets_is_nothing_to_those_that_share_its_insert() {
    let meeting = Meeting::new("sharing_exists").await;
    let sessions = &meeting.sessions;
    let database = meeting.mongod.client().await.database("sharing_exists");
    let no_odd_ones = doc! { "odd": { "$exists": false } };
    let create = database.create_collection("session");
    create.validator(no_odd_ones).await.unwrap();
    sessions.insert_one(doc! { "_id": "a" }).await.unwrap();
    // The first have a command each, the others share one.
    let first = (0..DIRECT).map(|at| doc! { "_id": at.to_string() });
    let sharing = [
        doc! { "_id": "a", "late": true },
        doc! { "_id": "b", "odd": true },
        doc! { "_id": "c" },
        doc! { "_id": "c" },
        doc! { "_id": "d" },
    ];
    let documents: Vec<_> = first.chain(sharing).collect();
    let (results, inserts) = meeting.insert(&documents).await;
    assert_eq!(inserts, DIRECT as i64 + 1);
    let results: Vec<_> = results
        .iter()
        .map(|result| match result {
            Ok(created) => Ok(*created),
            Err(Error::Store { .. }) => Err("refused"),
            Err(error) => panic!("{error:?}"),
        })
        .collect();
    use Inserted::{Exists, Stored};
    assert_eq!(results[..DIRECT], [Ok(Stored); DIRECT]);
    let expected = [
        Ok(Exists),
        Err("refused"),
        Ok(Stored),
        Ok(Exists),
        Ok(Stored),
    ];
    assert_eq!(results[DIRECT..], expected);
    let late = sessions.count_documents(doc! { "late": true }).await;
    assert_eq!(late.unwrap(), 0, "nothing is put over what is there");
    let stored = sessions.count_documents(doc! {}).await.unwrap();
    assert_eq!(stored, DIRECT as u64 + 3);
}

#[rocket::async_test]
async fn large_sessions_are_loaded_each_by_itself() {
    let meeting = Meeting::new("sharing_large").await;
    let large = "x".repeat(256 << 10);
    let ids: Vec<_> = (0..30).map(|id| id.to_string()).collect();
    for id in &ids {
        let document = doc! { "_id": id, "value": { "large": &large } };
        meeting.sessions.insert_one(document).await.unwrap();
    }
    let client = meeting.mongod.client().await;
    let slow = Failure::block(Duration::from_millis(300)).app_name("app");
    let mut asked = Vec::new();
    for _ in 0..2 {
        let point = FailPoint::on(&client, &["find"], Mode::Always, slow.clone()).await;
        let before = Commands::now(&client).await;
        let loads = ids.iter().map(|id| meeting.store.load(id));
        for (id, loaded) in ids.iter().zip(join_all(loads).await) {
            let loaded = loaded.unwrap().expect("a document");
            assert_eq!(loaded.id(), Some(id.as_str()));
        }
        point.clear().await;
        asked.push(Commands::now(&client).await.since(&before).get("find"));
    }
    // At first the store does not know how large they are.
    assert!(asked[0] < 15 && asked[1] >= 30, "{asked:?}");
}
