//! The memory of a request with a session while its handler runs, counted by the allocator.
//!
//!     cargo bench --bench memory
//!
//! Many requests wait in their handlers, once with a session that they have read and changed and
//! once without; the difference of the allocations is the memory of the sessions. Resident pages of the
//! process would include short-lived allocations of the driver.

use std::net::{Ipv4Addr, SocketAddr};

use peak_alloc::PeakAlloc;
use rocket::Shutdown;
use rocket::fairing::AdHoc;
use rocket::tokio::{self, sync::oneshot};

#[path = "../support/mod.rs"]
mod support;

use support::app::{Kind, Settings, build};
use support::load::{Connection, request};
use support::server::{Deployment, Server};
use support::side::SESSIONS;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Requests at once: below the thousand open files that a process has at least, of which each takes
/// two here.
const REQUESTS: usize = 400;

const WARM_UP: usize = 64;
const ROUNDS: usize = 5;

/// What a request may hold beyond the document.
const LIMIT: f64 = 4096.0;

fn main() {
    rocket::execute(async {
        let server = Server::start(Deployment::Standalone, "6.0").await;
        let mut settings = Settings {
            kind: Kind::Session {
                share: true,
                seal: false,
            },
            url: server.url(),
            collection: SESSIONS.to_owned(),
            majority: false,
        };
        let on_mongodb = measure(&settings).await;
        let document = server.document_length(SESSIONS).await;
        settings.url = String::new();
        let in_memory = measure(&settings).await;

        println!("bytes that a request holds beyond its document of {document:.0}");
        for (place, held) in [("on MongoDB", on_mongodb), ("in memory", in_memory)] {
            let beyond = held - document;
            let verdict = match beyond < LIMIT {
                true => "reached",
                false => "missed",
            };
            println!("  {place:11} {beyond:6.0}, wanted < {LIMIT:.0}: {verdict}");
        }
    });
}

/// Bytes for a session, its loaded document included: the median, for what else begins or ends in
/// the process while it is looked at is counted, too.
async fn measure(settings: &Settings) -> f64 {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let without = grown(settings, "/hold-none").await;
        let with = grown(settings, "/hold").await;
        rounds.push((with - without) / REQUESTS as f64);
    }
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

/// By how many bytes the requests of one route let this process grow.
async fn grown(settings: &Settings, path: &str) -> f64 {
    let (addr, shutdown, ended) = launch(settings).await;
    let mut control = Connection::open(addr).await;
    let (cookie, _) = control.get("/fill?keys=1&bytes=0", None).await;
    let request = request(path, cookie);
    // The connections to the server, and what else the first requests make.
    let first = hold(addr, &request, &mut control, WARM_UP).await;
    release(first, &mut control).await;
    let before = ALLOCATED.current_usage();
    let all = hold(addr, &request, &mut control, REQUESTS).await;
    let after = ALLOCATED.current_usage();
    release(all, &mut control).await;
    drop(control);
    shutdown.notify();
    ended.await.expect("the application's end");
    after as f64 - before as f64
}

/// An application in this process.
async fn launch(settings: &Settings) -> (SocketAddr, Shutdown, tokio::task::JoinHandle<()>) {
    let (tell, told) = oneshot::channel();
    let tell = std::sync::Mutex::new(Some(tell));
    let ready = AdHoc::on_liftoff("Ready", move |rocket| {
        let tell = tell.lock().expect("a lock").take().expect("one liftoff");
        let _ = tell.send((rocket.config().port, rocket.shutdown()));
        Box::pin(async {})
    });
    let rocket = build(settings).await.attach(ready);
    let ended = tokio::spawn(async move {
        rocket.launch().await.expect("the application launches");
    });
    let (port, shutdown) = told.await.expect("liftoff");
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    (addr, shutdown, ended)
}

/// Each begins when the one before it waits: what loading takes for a moment is not what waiting
/// requests hold.
async fn hold(
    addr: SocketAddr,
    request: &[u8],
    control: &mut Connection,
    count: usize,
) -> Vec<Connection> {
    let mut held = Vec::new();
    for at in 1..=count {
        let mut connection = Connection::open(addr).await;
        connection.send(request).await;
        held.push(connection);
        wait(control, at).await;
    }
    held
}

/// Returns after all responses, so that none of the requests is in flight.
async fn release(mut held: Vec<Connection>, control: &mut Connection) {
    control.get("/release", None).await;
    for connection in &mut held {
        assert_eq!(connection.receive().await.status, 200);
    }
}

async fn wait(control: &mut Connection, count: usize) {
    while control.get("/held", None).await.1 != count.to_string() {
        tokio::task::yield_now().await;
    }
}
