//! What live sessions cost: how late another process hears of an end, what 10,000 open streams take,
//! and what a stream of events costs the server.
//!
//!     cargo bench --bench live
//!
//! Two applications, each with its own fairing and pool, share a database; the servers are a mongod,
//! then a replica set of three. `-- latency`, `-- memory` and `-- events` measure one part.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use rocket::figment::providers::Serialized;
use rocket::futures::{StreamExt, stream};
use rocket::http::Cookie;
use rocket::local::asynchronous::Client;
use rocket::tokio::time::sleep;
use rocket::{Config, State, get, routes};
use rocket_mongo_session::{Ended, Error, Session, Sessions};

#[path = "../support/mod.rs"]
mod support;

use support::server::{Deployment, Server};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Ends that are measured, and how many at a time.
const RUNS: usize = 1000;
const MAX_CONCURRENT: usize = 50;

const SUBSCRIBERS: usize = 10_000;

/// For the cost of events: rounds with and without a reader, in turns.
const ROUNDS: usize = 8;
const WRITES: usize = 4000;
const LOGINS: usize = 1000;

type Kept = Mutex<Vec<Ended>>;

#[get("/follow")]
fn follow(session: &Session, kept: &State<Kept>) -> Result<(), Error> {
    if session.user::<i64>()?.is_none() {
        session.login(7)?;
    }
    kept.lock().expect("no panic").push(session.ended());
    Ok(())
}

#[get("/login")]
fn login(session: &Session) -> Result<(), Error> {
    session.login(7)
}

#[get("/write")]
fn write(session: &Session) -> Result<(), Error> {
    session.increment("n", 1).map(drop)
}

struct App(Client);

impl App {
    async fn start(server: &Server) -> App {
        let config = Config {
            log_level: rocket::config::LogLevel::Off,
            ..Config::debug_default()
        };
        let figment = rocket::figment::Figment::from(config)
            .merge(Serialized::default("databases.sessions.url", server.url()))
            .merge(Serialized::default("session.secure", false));
        let rocket = rocket::custom(figment)
            .attach(Sessions::fairing())
            .manage(Kept::default())
            .mount("/", routes![follow, login, write]);
        App(Client::untracked(rocket).await.expect("a launch"))
    }

    /// Sends a request; the session's cookie afterwards.
    async fn get(&self, path: &str, cookie: Option<&str>) -> String {
        let mut request = self.0.get(path.to_owned());
        if let Some(cookie) = cookie {
            request = request.cookie(Cookie::new("session", cookie.to_owned()));
        }
        let response = request.dispatch().await;
        assert_eq!(response.status().code, 200, "{path}");
        let cookies = response.cookies();
        let sent = cookies.get("session").map(|sent| sent.value().to_owned());
        sent.or(cookie.map(str::to_owned)).expect("a cookie")
    }

    fn sessions(&self) -> &Sessions {
        self.0.rocket().state().expect("it is managed")
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Ended>> {
        let kept: &Kept = self.0.rocket().state().expect("it is managed");
        kept.lock().expect("no panic")
    }
}

fn main() {
    let part = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let wants = |name: &str| part.as_deref().is_none_or(|part| part == name);
    rocket::execute(async {
        for deployment in [Deployment::Standalone, Deployment::ReplicaSet] {
            let server = Server::start(deployment, "6.0").await;
            println!("{deployment}, MongoDB {}", server.version);
            if wants("latency") {
                latency(&server).await;
            }
            if wants("memory") && deployment == Deployment::Standalone {
                memory(&server).await;
            }
            if wants("events") && deployment == Deployment::ReplicaSet {
                events(&server).await;
            }
        }
    });
}

/// The time from the end of a revocation in one application to the end of a future in the other.
async fn latency(server: &Server) {
    let (here, there) = (App::start(server).await, App::start(server).await);
    let one = |_| async {
        let cookie = here.get("/login", None).await;
        let ended = {
            here.get("/follow", Some(&cookie)).await;
            here.kept().pop().expect("it was kept")
        };
        // Another request's may have been taken: both sessions are followed, and both end.
        let id = cookie.split('.').next().unwrap_or_default().to_owned();
        (id, ended)
    };
    let mut late = Vec::new();
    while late.len() < RUNS {
        let mut followed = Vec::new();
        for at in 0..MAX_CONCURRENT {
            followed.push(one(at).await);
        }
        let waits = followed.into_iter().map(|(id, ended)| {
            let there = &there;
            async move {
                // At any moment between two polls.
                sleep(Duration::from_millis(rand::random_range(0..500))).await;
                assert!(there.sessions().revoke(&id).await.expect("a revocation"));
                let revoked = Instant::now();
                ended.await;
                revoked.elapsed()
            }
        });
        late.extend(rocket::futures::future::join_all(waits).await);
    }
    late.sort_unstable();
    let at = |percent: usize| late[(late.len() * percent / 100).min(late.len() - 1)];
    println!(
        "  an end in another application is told after: p50 {:.0?}, p99 {:.0?}, longest {:.0?} ({} runs)",
        at(50),
        at(99),
        at(100),
        late.len()
    );
}

async fn memory(server: &Server) {
    let app = App::start(server).await;
    // What the first requests make stays.
    for _ in 0..500 {
        app.get("/follow", None).await;
    }
    app.kept().clear();
    app.kept().reserve(SUBSCRIBERS);
    sleep(Duration::from_secs(2)).await;
    let before = ALLOCATED.current_usage();
    stream::iter(0..SUBSCRIBERS)
        .for_each_concurrent(16, |_| async {
            app.get("/follow", None).await;
        })
        .await;
    sleep(Duration::from_secs(2)).await;
    ALLOCATED.reset_peak_usage();
    let held = ALLOCATED.current_usage().saturating_sub(before);
    let (earlier, began) = (server.counters().await, Instant::now());
    sleep(Duration::from_secs(20)).await;
    let seconds = began.elapsed().as_secs_f64();
    let counted = server.since(&earlier).await;
    let peak = ALLOCATED.peak_usage().saturating_sub(before);
    let mb = |bytes: usize| bytes as f64 / 1e6;
    println!(
        "  {SUBSCRIBERS} followed sessions: {:.1} MB, {:.1} MB during a poll; {:.2} finds and {:.2} other \
         commands a second; {:.1} % of a processor of mongod",
        mb(held),
        mb(peak),
        counted.finds / seconds,
        (counted.others + counted.updates + counted.inserts) / seconds,
        counted.cpu.as_secs_f64() / seconds * 100.0,
    );
    drop(std::mem::take(&mut *app.kept()));
    sleep(Duration::from_secs(2)).await;
    let earlier = server.counters().await;
    sleep(Duration::from_secs(5)).await;
    let counted = server.since(&earlier).await;
    println!("  after they were dropped: {} finds in 5 s", counted.finds);
}

async fn events(server: &Server) {
    let (app, reader) = (App::start(server).await, App::start(server).await);
    let cookie = app.get("/write", None).await;
    let cookie = &cookie;
    for (path, count, cookie) in [("/write", WRITES, Some(cookie)), ("/login", LOGINS, None)] {
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for round in 0..2 * ROUNDS {
            let is_read = round % 2 == 1;
            let mut events = is_read.then(|| reader.sessions().events());
            if let Some(events) = &mut events {
                // Until it has opened.
                app.get("/login", None).await;
                events.next().await;
            }
            let earlier = server.counters().await;
            let load = stream::iter(0..count).for_each_concurrent(8, |_| async {
                app.get(path, cookie.map(String::as_str)).await;
            });
            match events {
                Some(mut events) => {
                    rocket::tokio::select! {
                        () = load => {}
                        () = async { while events.next().await.is_some() {} } => {}
                    }
                }
                None => load.await,
            }
            let micros = server.since(&earlier).await.cpu.as_secs_f64() * 1e6 / count as f64;
            if is_read { &mut with } else { &mut without }.push(micros);
            sleep(Duration::from_millis(1500)).await; // the stream closes
        }
        for rounds in [&mut without, &mut with] {
            rounds.sort_by(f64::total_cmp);
        }
        println!(
            "  {path}: {:.0} µs of CPU time of three mongods a request, {:.0} with a stream of events",
            without[ROUNDS / 2],
            with[ROUNDS / 2]
        );
    }
}
