//! What the tests stand on: real `mongod` processes, faults, an HTTP client and a browser, and the
//! application under test in this process. Nothing here knows the crate itself.
//!
//! A failure of the harness is a panic that says what to do: a test has nothing better to do with
//! it.

// One binary's tests need not use every helper.
#![allow(dead_code)]

pub mod app;
pub mod counters;
pub mod failpoint;
pub mod http;
pub mod mongod;
pub mod proxy;
pub mod replica_set;
mod wire;

#[allow(unused_imports)]
pub use {
    app::{App, figment},
    counters::{Commands, Profile},
    failpoint::{FailPoint, Failure, Mode},
    http::{Browser, Connection, Request, Response},
    mongod::Mongod,
    proxy::{Proxy, Traffic},
    replica_set::ReplicaSet,
};

use std::time::{Duration, Instant};

use rocket::tokio::task::spawn_blocking;

/// Runs what blocks off the runtime. The harness's own control of processes is blocking, because a
/// server that all tests share must not belong to the runtime of the test that happened to start
/// it.
async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()))
}

/// Asks until there is an answer, and panics with `what` when none came in time. Never a sleep that
/// hopes.
fn wait_for<T>(what: &str, bound: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + bound;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {bound:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
