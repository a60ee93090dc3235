//! What the calls about all sessions take, at a number of stored sessions.
//!
//!     cargo bench --bench size                      with 1,000,000
//!     cargo bench --bench size -- 10000000          with ten million
//!     cargo bench --bench size -- 10000000 600      and ten minutes of 1,000 logins a second
//!     cargo bench --bench size -- 0                 what a replica set's oplog gets for each change
//!
//! The server is a mongod of its own. The work is the database's, so that a build without optimization
//! (`--profile dev`) tells nearly the same.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mongodb::Collection;
use mongodb::bson::{DateTime, Document, doc};
use rocket::figment::Figment;
use rocket::figment::providers::Serialized;
use rocket::http::Cookie;
use rocket::local::asynchronous::Client;
use rocket::tokio::time::sleep;
use rocket::{Config, get, routes};
use rocket_mongo_session::{Error, Query, Session, Sessions};

mod logins;
mod oplog;
#[path = "../support/mod.rs"]
mod support;

use support::server::{Deployment, Server};

const BATCH: usize = 10_000;
/// The number of sessions of each user.
const OF_EACH_USER: usize = 3;

#[get("/login/<user>")]
fn login(session: &Session, user: i64) -> Result<(), Error> {
    session.set("name", "Alice")?;
    session.set("cart", &[1, 2, 3])?;
    session.login(user)
}

#[get("/user")]
fn user(session: &Session) -> Result<String, Error> {
    Ok(format!("{:?}", session.user::<i64>()?))
}

#[get("/add")]
fn add(session: &Session) -> Result<(), Error> {
    session.increment("n", 1).map(drop)
}

#[get("/logout")]
fn logout(session: &Session) -> Result<(), Error> {
    session.logout()
}

fn main() {
    let mut numbers = std::env::args().filter_map(|arg| arg.parse().ok());
    let (number, seconds) = (numbers.next(), numbers.next());
    rocket::execute(async move {
        match number {
            Some(0) => oplog::measure().await,
            number => measure(number.unwrap_or(1_000_000), seconds).await,
        }
    });
}

async fn app(server: &Server) -> Client {
    let config = Config {
        log_level: rocket::config::LogLevel::Critical,
        ..Config::debug_default()
    };
    let figment = Figment::from(config)
        .merge(Serialized::default("databases.sessions.url", server.url()))
        .merge(Serialized::default("session.secure", false));
    let rocket = rocket::custom(figment)
        .attach(Sessions::fairing())
        .mount("/", routes![login, user, add, logout]);
    Client::untracked(rocket).await.expect("a launch")
}

async fn measure(number: usize, seconds: Option<usize>) {
    let server = Server::start(Deployment::Standalone, "6.0").await;
    server.cache("8G").await;
    let client = app(&server).await;
    let sessions: &Sessions = client.rocket().state().expect("it is managed");
    sessions.ensure_indexes().await.expect("indexes");
    let stored = server.database().collection::<Document>("session");
    let cookie = login_cookie(&client, 0).await;
    let started = Instant::now();
    fill(&stored, number).await;
    println!(
        "{number} sessions, MongoDB {}, stored in {:.0?}",
        server.version,
        started.elapsed()
    );
    sizes(&server).await;

    time("estimated_count", sessions.estimated_count()).await;
    time("count", sessions.count()).await;
    time("of(user).count", sessions.of(7_i64).count()).await;
    time("of(user).list(0, 50)", async {
        sessions.of(7_i64).list(0, 50).await.map(|all| all.len())
    })
    .await;
    let page = Query::new().limit(100);
    time("find, a page of 100", async {
        sessions.find(&page).await.map(|page| page.sessions.len())
    })
    .await;
    time("purge_expired, nothing to purge", sessions.purge_expired()).await;
    expire(&stored, number / 100).await;
    let started = Instant::now();
    let mut last = (started, Duration::ZERO);
    let purged = sessions.purge_expired_with(|_| {
        last.1 = last.1.max(last.0.elapsed());
        last.0 = Instant::now();
    });
    let purged = purged.await.expect("a purge");
    println!(
        "purge_expired of {purged}: {:.3?}, the longest step {:.3?}",
        started.elapsed(),
        last.1
    );
    if let Some(seconds) = seconds {
        logins::measure(&client, &server, &stored, number, seconds as u32).await;
    }
    build_indexes(&stored, sessions).await;
    read(&client, &cookie, "a read before").await;
    time("revoke_all", sessions.revoke_all()).await;
    read(
        &client,
        &cookie,
        "a read after, of a session that has ended",
    )
    .await;
    let new = login_cookie(&client, 1).await;
    read(&client, &new, "a read after, of a new session").await;
    time(
        "of(user).count while it is deleted",
        sessions.of(1_i64).count(),
    )
    .await;
    time("count while it is deleted", sessions.count()).await;
    let (started, mut slowest) = (Instant::now(), Duration::ZERO);
    loop {
        let asked = Instant::now();
        client
            .get("/user")
            .cookie(Cookie::new("session", new.clone()))
            .dispatch()
            .await;
        slowest = slowest.max(asked.elapsed());
        let epoch = stored.find_one(doc! { "_id": "~epoch" }).await;
        let epoch = epoch.expect("a find").expect("the document");
        if !epoch.contains_key("sweeping") {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    println!(
        "deleted in the background: {:.1?}, the slowest read meanwhile {slowest:.3?}",
        started.elapsed()
    );
    time("count", sessions.count()).await;
}

/// Logs a user in; the value of the session's cookie.
async fn login_cookie(client: &Client, user: i64) -> String {
    let response = client.get(format!("/login/{user}")).dispatch().await;
    assert_eq!(response.status().code, 200, "a login");
    let cookies = response.cookies();
    let cookie = cookies.get("session").map(|one| one.value().to_owned());
    cookie.expect("a cookie")
}

/// What a collection that has no indexes yet waits for at the first launch.
async fn build_indexes(stored: &Collection<Document>, sessions: &Sessions) {
    stored.drop_indexes().await.expect("no indexes");
    let (started, mut calls) = (Instant::now(), 1);
    // The server continues a build whose call has passed the deadline.
    while sessions.ensure_indexes().await.is_err() {
        calls += 1;
    }
    println!(
        "ensure_indexes, none was there: {:.1?} in {calls} calls",
        started.elapsed()
    );
}

async fn time<T: std::fmt::Debug>(what: &str, call: impl Future<Output = Result<T, Error>>) {
    let started = Instant::now();
    let result = call.await;
    println!("{what}: {:.3?}, {result:?}", started.elapsed());
}

async fn read(client: &Client, cookie: &str, what: &str) {
    let started = Instant::now();
    let request = client
        .get("/user")
        .cookie(Cookie::new("session", cookie.to_owned()));
    let body = request.dispatch().await.into_string().await;
    println!(
        "{what}: {:.3?}, {}",
        started.elapsed(),
        body.unwrap_or_default()
    );
}

/// Copies of the session that is stored, of other users.
async fn fill(stored: &Collection<Document>, number: usize) {
    let model = stored.find_one(doc! { "_id": { "$lt": "~" } }).await;
    let model = model.expect("a find").expect("a session");
    for first in (0..number).step_by(BATCH) {
        let batch = (first..number.min(first + BATCH)).map(|at| {
            let mut document = model.clone();
            let id = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
            document.insert("_id", id);
            document.insert("user", (at / OF_EACH_USER) as i64 + 2);
            document
        });
        let inserted = stored.insert_many(batch).ordered(false).await;
        inserted.expect("copies of a session");
    }
}

async fn expire(stored: &Collection<Document>, number: usize) {
    let users = doc! { "user": { "$gte": 2, "$lt": (number / OF_EACH_USER) as i64 + 2 } };
    // Later than what the TTL index deletes.
    let ago = DateTime::from_millis(DateTime::now().timestamp_millis() - 1000);
    let change = doc! { "$set": { "expires": ago } };
    stored.update_many(users, change).await.expect("an update");
}

async fn sizes(server: &Server) {
    let database = server.database();
    let stats = database.run_command(doc! { "collStats": "session" }).await;
    let stats = stats.expect("figures of the collection");
    let get = |stats: &Document, name: &str| {
        let value = stats.get(name);
        let number = value.and_then(|it| it.as_i64().or(it.as_i32().map(i64::from)));
        number
            .or(value.and_then(|it| it.as_f64().map(|it| it as i64)))
            .unwrap_or_default()
    };
    let documents = get(&stats, "count").max(1);
    let per = |bytes: i64| bytes as f64 / documents as f64;
    println!(
        "a session: {:.0} bytes of BSON, {:.0} on disk; indexes {:.0}",
        per(get(&stats, "size")),
        per(get(&stats, "storageSize")),
        per(get(&stats, "totalIndexSize")),
    );
    for (name, _) in stats.get_document("indexSizes").expect("indexes") {
        let sizes = stats.get_document("indexSizes").expect("indexes");
        println!("  {name}: {:.0}", per(get(sizes, name)));
    }
}
