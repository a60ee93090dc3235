//! What a replica set's oplog gets for each change of a session.

use mongodb::bson::{Bson, Document, doc};
use rocket::futures::TryStreamExt;
use rocket::http::Cookie;
use rocket::local::asynchronous::Client;

use crate::support::server::{Deployment, Server};
use crate::support::table::Table;
use crate::{app, login_cookie};

const TIMES: i64 = 100;

pub async fn measure() {
    let server = Server::start(Deployment::ReplicaSet, "6.0").await;
    let client = app(&server).await;
    let cookie = login_cookie(&client, 0).await;
    let mut table = Table::new(&["a replica set's oplog", "entries", "bytes"]);
    let mut add = |what: &str, (entries, bytes): (f64, f64)| {
        table.row(vec![
            what.to_owned(),
            format!("{entries:.2}"),
            format!("{bytes:.0}"),
        ]);
    };
    let mut cookies = Vec::new();
    let before = last(&server).await;
    for user in 1..=TIMES {
        cookies.push(login_cookie(&client, user).await);
    }
    add("login of a new visitor", since(&server, before).await);
    let before = last(&server).await;
    for _ in 0..TIMES {
        get(&client, "/add", &cookie).await;
    }
    add("change of one integer", since(&server, before).await);
    let before = last(&server).await;
    for cookie in &cookies {
        get(&client, "/logout", cookie).await;
    }
    add("logout", since(&server, before).await);
    table.print();
}

async fn get(client: &Client, path: &str, cookie: &str) {
    let request = client
        .get(path.to_owned())
        .cookie(Cookie::new("session", cookie.to_owned()));
    assert_eq!(request.dispatch().await.status().code, 200, "{path}");
}

/// The last entry's time.
async fn last(server: &Server) -> Bson {
    let newest = doc! { "$group": { "_id": null, "ts": { "$max": "$ts" } } };
    let found = of_oplog(server, vec![newest]).await;
    found.get("ts").cloned().expect("a time")
}

/// Entries and bytes for each of the changes since then.
async fn since(server: &Server, before: Bson) -> (f64, f64) {
    let ours = doc! { "$match": { "ns": { "$regex": r"\.session$" }, "ts": { "$gt": before } } };
    let bytes = doc! { "$sum": { "$bsonSize": "$$ROOT" } };
    let all = doc! { "$group": { "_id": null, "entries": { "$sum": 1 }, "bytes": bytes } };
    let found = of_oplog(server, vec![ours, all]).await;
    let each = |name: &str| {
        let number = found.get_i32(name).expect("a number");
        f64::from(number) / TIMES as f64
    };
    (each("entries"), each("bytes"))
}

async fn of_oplog(server: &Server, pipeline: Vec<Document>) -> Document {
    let local = server.database().client().database("local");
    let oplog = local.collection::<Document>("oplog.rs");
    let found = oplog.aggregate(pipeline).await.expect("an aggregation");
    let found: Vec<Document> = found.try_collect().await.expect("the oplog");
    found.into_iter().next().expect("entries")
}
