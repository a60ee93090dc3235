//! What an application leaves behind that is dropped without a shutdown, as a local client is.

use mongodb::Client;
use mongodb::bson::doc;
use rocket::futures::TryStreamExt;
use rocket::local::asynchronous::Client as LocalClient;
use rocket::tokio::runtime::Handle;

use crate::apps::probe::Gates;
use crate::support::{Mongod, eventually, figment};

/// How many connections of the applications are open.
async fn connections(client: &Client) -> usize {
    let open = vec![
        doc! { "$currentOp": { "allUsers": true, "idleConnections": true } },
        doc! { "$match": { "appName": "dropped" } },
    ];
    let open = client.database("admin").aggregate(open).await;
    let open: Vec<_> = open.expect("a list").try_collect().await.expect("a list");
    open.len()
}

/// Launches an application, lets it store a session, and drops it.
async fn launch_and_drop(url: &str, client: &Client) {
    let clock = rocket_mongo_session::testing::Clock::new();
    let figment = figment("debug", Some(url), &[]);
    let rocket = crate::apps::probe::rocket(figment, &clock, &Gates::default());
    let local = LocalClient::untracked(rocket).await.expect("a launch");
    let request = local.post("/run").body(r#"{"calls":[["set","n",1]]}"#);
    let response = request.dispatch().await;
    assert_eq!(response.status().code, 200);
    assert!(response.headers().contains("Set-Cookie"));
    assert!(connections(client).await > 0);
}

#[rocket::async_test]
async fn a_dropped_application_leaves_no_task_and_no_connection() {
    let mongod = Mongod::start().await;
    let client = mongod.client().await;
    let url = format!("{}?appName=dropped", mongod.url("dropped"));
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let gone = async || {
        // The driver's monitors end with the server's next word to them, within ten seconds.
        eventually("no connection is left", async || {
            connections(&client).await == 0
        })
        .await;
    };
    launch_and_drop(&url, &client).await;
    gone().await;
    let before = tasks();
    for _ in 0..5 {
        launch_and_drop(&url, &client).await;
    }
    gone().await;
    eventually("no task is left", async || tasks() <= before).await;
}
