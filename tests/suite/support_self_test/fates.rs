//! What a proxy does to single requests, and what it remembers of them.

use mongodb::bson::{Document, doc};
use mongodb::error::ErrorKind;
use rocket::tokio::spawn;

use super::{app_client, things};
use crate::support::alone::{alone, lines};
use crate::support::{Fate, Mongod, Proxy, ReplicaSet, Traffic, eventually, watchful};

#[rocket::async_test]
async fn a_proxy_refuses_single_requests_and_remembers_all() {
    let mongod = Mongod::start().await;
    let proxy = Proxy::start(mongod.port()).await;
    let app = app_client(&format!("{}?retryReads=false", proxy.url("fates"))).await;
    let things = things(&app, "fates");

    proxy.plan("insert", [Fate::Pass, Fate::Refuse(8000)]);
    let inserts = [doc! { "_id": 1 }, doc! { "_id": 2 }, doc! { "_id": 3 }];
    let mut codes = Vec::new();
    for document in &inserts {
        let inserted = things.insert_one(document).await;
        codes.push(inserted.err().map(|error| match *error.kind {
            ErrorKind::Command(command) => command.code,
            other => panic!("{other}"),
        }));
    }
    assert_eq!(codes, [None, Some(8000), None]);
    let stored = things.count_documents(doc! {}).await;
    assert_eq!(stored.expect("a count"), 2);
    let asked = proxy.requests("insert");
    let documents = asked.iter().map(|one| one.get_array("documents"));
    let documents = documents.filter_map(|all| all.expect("documents")[0].as_document());
    assert!(documents.eq(&inserts), "{asked:?}");

    proxy.refuse_where(|command| command.contains_key("limit").then_some(20));
    things.find_one(doc! {}).await.expect_err("a refusal");
    assert!(things.find(doc! {}).await.is_ok());
}

#[rocket::async_test]
async fn proxy_rewrites_requests() {
    let mongod = Mongod::start().await;
    let proxy = Proxy::start(mongod.port()).await;
    let app = app_client(&proxy.url("rewritten")).await;
    let things = things(&app, "rewritten");
    proxy.rewrite(|request| {
        let is_limited = request.contains_key("find") && request.remove("limit").is_some();
        if is_limited {
            request.remove("singleBatch");
        }
        is_limited
    });
    let inserts = [doc! { "_id": 1 }, doc! { "_id": 2 }];
    things.insert_many(inserts).await.expect("an insertion");
    let found = things.find(doc! {}).limit(1).await.expect("a find");
    let found: Vec<_> = futures::TryStreamExt::try_collect(found)
        .await
        .expect("documents");
    assert_eq!(found.len(), 2, "the limit was taken away: {found:?}");
}

#[rocket::async_test]
async fn a_proxy_holds_a_request_whose_client_has_left() {
    let mongod = Mongod::start().await;
    let proxy = Proxy::start(mongod.port()).await;
    let tests = mongod.client().await;
    let app = app_client(&proxy.url("held")).await;
    proxy.plan("insert", [Fate::Hold]);
    let insert = spawn(async move { things(&app, "held").insert_one(doc! { "_id": 1 }).await });
    eventually("a held insert", async || proxy.held() == 1).await;
    insert.abort();
    let stored = async || {
        let count = things(&tests, "held").count_documents(doc! {}).await;
        count.expect("a count")
    };
    assert_eq!(stored().await, 0);
    proxy.release();
    eventually("the insert", async || stored().await == 1).await;
}

#[rocket::async_test]
async fn a_proxy_says_that_one_statement_of_several_found_nothing() {
    let mongod = Mongod::start().await;
    let proxy = Proxy::start(mongod.port()).await;
    let app = app_client(&proxy.url("missed")).await;
    let things = things(&app, "missed");
    things
        .insert_one(doc! { "_id": 1 })
        .await
        .expect("an insert");
    let update = async |statements: usize| {
        let one = doc! { "q": { "_id": 1 }, "u": { "$inc": { "n": 1 } } };
        let command = doc! { "update": "things", "updates": vec![one; statements] };
        let reply = app.database("missed").run_command(command).await;
        reply.expect("a reply").get_i32("n").expect("a number")
    };
    proxy.plan_batches("update", [Fate::MissOne]);
    assert_eq!(update(1).await, 1);
    assert_eq!(update(3).await, 2, "said by the proxy");
    let found = things.find_one(doc! {}).await.expect("a find");
    assert_eq!(found.expect("a thing").get_i32("n"), Ok(1));
    assert_eq!(update(3).await, 3);
}

#[rocket::async_test]
async fn a_proxy_leads_to_another_server() {
    let mongod = Mongod::start().await;
    let set = ReplicaSet::builder().members(1).start().await;
    let proxy = Proxy::start(mongod.port()).await;
    let app = app_client(&watchful(&proxy.url("led"))).await;
    let set_name = async || -> Option<String> {
        let hello = app.database("admin").run_command(doc! { "hello": 1 }).await;
        let hello: Document = hello.ok()?;
        Some(hello.get_str("setName").unwrap_or("none").to_owned())
    };
    assert_eq!(set_name().await.as_deref(), Some("none"));
    proxy.retarget(set.nodes()[0].port());
    proxy.set(Traffic::Reset);
    eventually("no connection", async || set_name().await.is_none()).await;
    proxy.set(Traffic::Pass);
    eventually("the other server", async || {
        set_name().await.as_deref() == Some("rs")
    })
    .await;
    let written = things(&app, "led").insert_one(doc! {}).await;
    written.expect("an insert");
}

#[test]
fn a_test_alone_reads_its_log() {
    alone(
        "support_self_test::fates::a_test_alone_reads_its_log",
        async {
            assert_eq!(lines().len(), 0);
            let figment = crate::support::figment("debug", None, &[]);
            let rocket = rocket::custom(figment).attach(rocket_mongo_session::Sessions::fairing());
            let _app = crate::support::App::launch(rocket).await;
            assert!(!lines().is_empty());
        },
    );
}
