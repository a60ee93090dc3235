//! What an operator sees of the sessions: metrics and spans, in an application with both features.

#[allow(dead_code, unused_imports, reason = "shared with `tests/suite`")]
#[path = "../suite/support/mod.rs"]
mod support;

#[path = "../suite/secret_forms.rs"]
mod secret_forms;

mod documents;
mod exported;
mod secrets;
mod spans;
mod subscriber;

use std::future::Future;

use rocket::{Build, Rocket};

/// Runs a test on this thread alone, where its recorder and its subscriber are.
fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = rocket::tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(test)
}

/// An application that has not been launched, and nothing attached.
fn rocket(url: Option<&str>) -> Rocket<Build> {
    rocket::custom(support::figment("debug", url, &[]))
}
