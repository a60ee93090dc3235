//! When a session is created, and what creates none.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use mongodb::bson::{Document as Bson, doc};
use rocket::serde::json::{Value, json};
use rocket::{options, routes};
use rocket_mongo_session::store::Document;
use rocket_mongo_session::{Error, MongoStore, Result, Session, Sessions};
use rstest::rstest;

use crate::apps::calls;
use crate::apps::calls::{ask, go, jobs, keys, probe, script, value, visitor};
use crate::apps::database;
use crate::apps::jobs::Jobs;
use crate::apps::probe::{Probe, Script, asked, id_of, sent_by, value_of};
use crate::store::hooked::{Hook, Hooked, Kind};
use crate::support::{App, Mongod, Request, figment};

#[rocket::async_test]
async fn a_route_that_asks_for_no_session_costs_a_new_visitor_nothing() {
    let probe = probe(&[]).await;
    let profile = probe.profile().await;
    let response = probe.browser().get("/plain").await;
    assert_eq!((response.status, response.set_cookies()), (200, vec![]));
    assert!(asked(&profile).await.is_empty());
    assert!(probe.documents().await.is_empty());
}

#[rocket::async_test]
async fn a_route_that_asks_for_no_session_leaves_the_visitors_alone() {
    let probe = probe(&[]).await;
    let (browser, _) = visitor(&probe).await;
    let before = probe.documents().await;
    let profile = probe.profile().await;
    let response = browser.get("/plain").await;
    assert_eq!((response.status, response.set_cookies()), (200, vec![]));
    assert!(asked(&profile).await.is_empty());
    assert_eq!(probe.documents().await, before);
}

#[rocket::async_test]
async fn a_session_that_is_only_looked_at_is_not_created() {
    let probe = probe(&[]).await;
    let browser = probe.browser();
    let profile = probe.profile().await;
    let looked = go(&browser, json!([["is_new"], ["len"]])).await;
    assert_eq!(looked.results, [json!(true), json!(0)]);
    assert_eq!(looked.sent(), None);
    assert!(asked(&profile).await.is_empty());
    assert!(probe.documents().await.is_empty());
}

#[rocket::async_test]
async fn looking_at_a_session_is_one_find_and_no_write() {
    let probe = probe(&[]).await;
    let (browser, _) = visitor(&probe).await;
    let profile = probe.profile().await;
    let looked = go(&browser, json!([["is_new"], ["created"]])).await;
    assert_eq!(looked.results[0], json!(false));
    assert_eq!(looked.sent(), None);
    assert_eq!(asked(&profile).await, ["find"]);
}

#[rocket::async_test]
async fn the_first_write_creates_one_document_and_sends_one_cookie() {
    let probe = probe(&[]).await;
    let browser = probe.browser();
    let written = go(&browser, json!([["set", "k", "v"], ["is_new"]])).await;
    assert_eq!(written.last(), &json!(true));
    assert_eq!(written.set_cookies().len(), 1);
    assert_eq!(probe.documents().await.len(), 1);
    let stored = value(&probe, &written.cookie()).await;
    assert_eq!(stored, Some(doc! { "k": "v" }));
}

#[rocket::async_test]
async fn three_values_are_one_write_and_one_cookie() {
    let probe = probe(&[]).await;
    let profile = probe.profile().await;
    let calls = json!([["set", "a", 1], ["set", "b", 2], ["set", "c", 3]]);
    let written = go(&probe.browser(), calls).await;
    assert_eq!(written.set_cookies().len(), 1);
    assert_eq!(asked(&profile).await, ["insert"]);
}

#[rocket::async_test]
async fn the_next_request_reads_what_the_first_wrote() {
    let probe = probe(&[]).await;
    let browser = probe.browser();
    let created = go(&browser, json!([["set", "k", "v"], ["created"]])).await;
    let calls = json!([["get", "k"], ["is_new"], ["created"]]);
    let read = go(&browser, calls).await;
    assert_eq!(read.results[..2], [json!("v"), json!(false)]);
    assert_eq!(read.last(), created.last());
}

#[rocket::async_test]
async fn the_scenario_of_pyramids_manual_plays_as_it_is_told() {
    let (jobs, probe) = jobs(&[]).await;
    let browser = probe.browser();
    let view = |session: &Session| -> Result<String> {
        if session.contains("abc") {
            session.set("fred", "yes")?;
        }
        session.set("abc", "123")?;
        let fred = session.contains("fred");
        Ok(if fred { "in session" } else { "not in session" }.to_owned())
    };
    let (first, _) = jobs.run(&browser, view).await;
    let (second, _) = jobs.run(&browser, view).await;
    assert_eq!(first.unwrap(), "not in session");
    assert_eq!(second.unwrap(), "in session");
}

#[rocket::async_test]
async fn what_is_set_and_removed_at_once_creates_nothing() {
    let probe = probe(&[]).await;
    let done = go(&probe.browser(), json!([["set", "a", 1], ["remove", "a"]])).await;
    assert_eq!(done.sent(), None);
    assert!(probe.documents().await.is_empty());
}

#[rocket::async_test]
async fn a_pop_of_nothing_creates_nothing() {
    let probe = probe(&[]).await;
    let popped = go(&probe.browser(), json!([["pop_flash"]])).await;
    assert_eq!(popped.results, [json!([])]);
    assert_eq!(popped.sent(), None);
    assert!(probe.documents().await.is_empty());
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(json!(["clear"]))]
#[case(json!(["remove", "missing"]))]
#[case(json!(["take", "missing"]))]
#[case(json!(["touch"]))]
#[case(json!(["renew"]))]
#[case(json!(["elevate"]))]
#[case(json!(["save"]))]
#[case(json!(["verify_csrf", "x"]))]
async fn calls_that_change_nothing_create_nothing(#[case] call: Value) {
    let probe = probe(&[]).await;
    let profile = probe.profile().await;
    let done = go(&probe.browser(), json!([call])).await;
    assert_eq!(done.sent(), None);
    assert!(asked(&profile).await.is_empty());
    assert!(probe.documents().await.is_empty());
}

#[rocket::async_test]
async fn a_thousand_ids_are_all_different_and_look_alike() {
    let probe = probe(&[]).await;
    let mut ids = HashSet::new();
    for _ in 0..1_000 {
        let new = go(&probe.browser(), json!([["set", "k", 1]]))
            .await
            .cookie();
        ids.insert(id_of(&new).to_owned());
    }
    assert_eq!(ids.len(), 1_000);
    let of_the_alphabet = |text: &str| {
        let mut chars = text.chars();
        chars.all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    // 22 characters of six bits each: 128 random bits.
    assert!(ids.iter().all(|id| id.len() == 22 && of_the_alphabet(id)));

    let mut secrets = HashSet::new();
    for _ in 0..50 {
        let (_, cookie) = visitor(&probe).await;
        let (_, secret) = cookie.split_once('.').expect("two parts");
        assert!(secret.len() == 43 && of_the_alphabet(secret));
        assert!(secrets.insert(secret.to_owned()));
    }
}

#[rocket::async_test]
async fn an_id_that_is_taken_is_drawn_again() {
    let mongod = Mongod::shared().await;
    let collection = mongod
        .client()
        .await
        .database("taken_id")
        .collection::<Bson>("session");
    collection.drop().await.unwrap();
    let store = MongoStore::new(&collection, calls::seconds(10.0), 8, true);
    let taken = Taken {
        collection: collection.clone(),
        happened: AtomicBool::new(false),
    };
    let store = Hooked::new(Box::new(store), taken);
    let jobs = Jobs::default();
    let rocket = rocket::custom(figment("debug", None, &keys(&[])));
    let rocket = rocket.attach(Sessions::with_store(store));
    let app = App::launch(jobs.mount(rocket)).await;
    let browser = app.browser();

    let (_, response) = jobs.run(&browser, |s| s.set("k", "v").unwrap()).await;
    let cookie = value_of(sent_by(&response).expect("a cookie")).to_owned();
    let foreign = collection.find_one(doc! { "of": "another" }).await;
    let foreign = foreign.unwrap().expect("the other document");
    assert_ne!(foreign.get_str("_id").unwrap(), id_of(&cookie));
    assert_eq!(foreign.len(), 2, "untouched");
    let (read, _) = jobs.run(&browser, |s| s.get::<String>("k")).await;
    assert_eq!(read.unwrap().as_deref(), Some("v"));
    assert_eq!(collection.count_documents(doc! {}).await.unwrap(), 2);
}

/// Just before the first session is created, its id turns out to be taken.
struct Taken {
    collection: mongodb::Collection<Bson>,
    happened: AtomicBool,
}

impl Hook for Taken {
    async fn creating(&self, documents: &[Document]) {
        if !self.happened.swap(true, Ordering::SeqCst) {
            let id = documents[0].id().expect("an id");
            let foreign = doc! { "_id": id, "of": "another" };
            self.collection.insert_one(foreign).await.unwrap();
        }
    }

    async fn around<T: Send>(&self, _: Kind, operation: impl Future<Output = T> + Send) -> T {
        operation.await
    }
}

#[rocket::async_test]
async fn asking_for_the_id_creates_nothing() {
    let probe = probe(&[]).await;
    let browser = probe.browser();
    let asked = go(&browser, json!([["id"]])).await;
    assert_eq!(asked.results, [json!(null)]);
    assert_eq!(asked.sent(), None);
    assert!(probe.documents().await.is_empty());
    let cookie = go(&browser, json!([["set", "k", 1]])).await.cookie();
    assert_eq!(ask(&browser, json!(["id"])).await, json!(id_of(&cookie)));
}

#[options("/options")]
fn writes(session: &Session) -> Result<(), Error> {
    session.set("k", "v")
}

fn set() -> Script {
    script(json!([["set", "k", "v"]]))
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(set().request_by("HEAD"), 200)]
#[case(Request::new("OPTIONS", "/options"), 200)]
#[case(set().status(204).request(), 204)]
#[case(set().status(304).request_by("GET"), 304)]
async fn a_response_without_a_body_carries_the_cookie_as_well(
    #[case] request: Request,
    #[case] status: u16,
) {
    let add = |rocket: rocket::Rocket<rocket::Build>| rocket.mount("/", routes![writes]);
    let probe = Probe::start_with(&database(), &keys(&[]), add).await;
    let browser = probe.browser();
    let response = browser.send(request).await;
    assert_eq!((response.status, response.body.len()), (status, 0));
    assert_eq!(response.set_cookies().len(), 1);
    assert_eq!(ask(&browser, json!(["get", "k"])).await, "v");
}
