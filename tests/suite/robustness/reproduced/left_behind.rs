//! What an application leaves behind that ends without a shutdown, as those of tests do.

use mongodb::Client;
use mongodb::bson::{Document, doc};
use rocket::http::ContentType;
use rocket::local::asynchronous::Client as LocalClient;
use rocket::tokio::runtime::Handle;
use rocket_mongo_session::testing::Clock;

use super::eventually;
use crate::apps::probe::{Gates, Script};
use crate::support::{Mongod, figment, watchful};

async fn connections(client: &Client) -> i32 {
    let admin = client.database("admin");
    let status = admin
        .run_command(doc! { "serverStatus": 1, "wiredTiger": 0 })
        .await;
    let status: Document = status.expect("serverStatus");
    let connections = status.get_document("connections").expect("connections");
    connections.get_i32("current").expect("a number")
}

#[rocket::async_test]
async fn dropped_applications_leave_no_tasks_and_connections() {
    const APPS: usize = 20;
    let mongod = Mongod::start().await;
    let client = mongod.client().await;
    let tasks = Handle::current().metrics();
    let before = (tasks.num_alive_tasks(), connections(&client).await);
    for _ in 0..APPS {
        let url = watchful(&mongod.url("left_behind"));
        let figment = figment("debug", Some(&url), &[]);
        let rocket = crate::apps::probe::rocket(figment, &Clock::new(), &Gates::default());
        let local = LocalClient::untracked(rocket).await.expect("a client");
        let order = Script::new().set("n", 1).request();
        let request = local.post("/run").header(ContentType::JSON);
        let response = request.body(order.body.unwrap_or_default()).dispatch();
        assert_eq!(response.await.status().code, 200);
    }
    // The tests' own client may have opened one more connection, and a task that attends to it.
    eventually("the end of all connections", async || {
        connections(&client).await <= before.1 + 2
    })
    .await;
    eventually("the end of all tasks", async || {
        tasks.num_alive_tasks() <= before.0 + 5
    })
    .await;
}
