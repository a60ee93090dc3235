//! What a request with a session holds while it is under way.

use std::net::SocketAddr;

use crate::support::app::{Kind, Settings};
use crate::support::child::App;
use crate::support::load::{Connection, request};
use crate::support::proc;
use crate::support::server::Server;
use crate::support::side::SESSIONS;

/// Requests at once: below the thousand open files that a process has at least.
const REQUESTS: usize = 900;

/// Bytes that a request holds for its session, the loaded document included, and the length of that
/// document: the growth of the application's memory by many requests that have read and changed
/// their session, less the growth by as many that have none.
pub async fn measure(server: &Server, share: bool) -> (f64, f64) {
    let settings = Settings {
        kind: Kind::Session { share },
        url: server.url(),
        collection: SESSIONS.to_owned(),
        majority: false,
    };
    let without = grown(&settings, "/hold-none").await;
    let with = grown(&settings, "/hold").await;
    let document = server.document_length(SESSIONS).await;
    ((with - without) / REQUESTS as f64, document)
}

/// A process of its own for each, so that none finds what the other has left.
async fn grown(settings: &Settings, path: &str) -> f64 {
    let app = App::start(settings);
    let mut control = Connection::open(app.addr).await;
    let (cookie, _) = control.get("/fill?keys=1&bytes=0", None).await;
    let request = request(path, cookie);
    // The connections to the server, and what else the first requests make.
    let first = hold(app.addr, &request, &mut control, 64).await;
    release(first, &mut control).await;
    let before = proc::memory(app.pid());
    let all = hold(app.addr, &request, &mut control, REQUESTS).await;
    let after = proc::memory(app.pid());
    release(all, &mut control).await;
    after as f64 - before as f64
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

async fn release(held: Vec<Connection>, control: &mut Connection) {
    control.get("/release", None).await;
    wait(control, 0).await;
    drop(held);
}

async fn wait(control: &mut Connection, count: usize) {
    while control.get("/held", None).await.1 != count.to_string() {
        rocket::tokio::task::yield_now().await;
    }
}
