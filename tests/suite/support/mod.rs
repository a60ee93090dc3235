//! What the tests stand on: real `mongod` processes, faults, an HTTP client and a browser, and the
//! application under test in this process. Nothing here knows the crate itself.
//!
//! A failure of the harness is a panic that says what to do: a test has nothing better to do with
//! it.

pub mod alone;
pub mod app;
mod cluster;
pub mod counters;
pub mod failpoint;
mod front;
pub mod http;
pub mod mongod;
pub mod proxy;
pub mod replica_set;
pub mod users;
mod wire;

pub use {
    app::{App, figment},
    cluster::Cluster,
    counters::{Commands, Profile, in_progress},
    failpoint::{FailPoint, Failure, Mode},
    http::{Browser, Connection, Request, Response},
    mongod::Mongod,
    proxy::{Fate, Proxy, Traffic},
    replica_set::ReplicaSet,
};

use std::time::{Duration, Instant};

use rand::RngExt;
use rocket::tokio::task::spawn_blocking;
use rocket::tokio::time::{sleep, timeout};

/// No step of a test takes this long, however slow the machine and however many other tests run;
/// one that hangs says so.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for what must end by itself, and says what hangs when it does not.
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Asks until it is so.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !is_so().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    in_time(what, asking).await;
}

/// The address with which a driver looks every half second whether a server is back; by itself it
/// would be ten. For every application whose servers a test breaks.
pub fn watchful(url: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}heartbeatFrequencyMS=500&serverMonitoringMode=poll")
}

/// Where a test's random choices begin: what this variable of the environment says, or anywhere.
/// Printed, so that a failure says how to repeat it.
pub fn seed(variable: &str) -> u64 {
    let told = std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = told.unwrap_or_else(|| rand::rng().random_range(0..1_000_000_000));
    println!("{variable}={seed}");
    seed
}

/// Runs what blocks off the runtime. The harness's own control of processes is blocking, because a
/// server that all tests share must not belong to the runtime of the test that happened to start
/// it.
async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()))
}

/// As `eventually`, of what blocks: asks until there is a result.
fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
