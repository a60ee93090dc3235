//! `FailPoint`: makes the server fail the commands it is told to, in the way it is told to.

use std::time::Duration;

use mongodb::Client;
use mongodb::bson::{Bson, Document, doc};

/// How often.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// The next matching commands, a number of them.
    Times(i32),
    Always,
}

/// What happens to a command that matches. The parts can be joined:
/// `Failure::code(91).labels(&["…"]).app_name("app")`.
#[derive(Clone, Debug, Default)]
pub struct Failure(Document);

impl Failure {
    /// The command is not run, and answered with this error.
    ///
    /// After one that says that the server's state changed (91, 189, 10107, 11600, 13435 and the
    /// like) the driver takes the server for unknown until it is told better. As nothing changed,
    /// that is at the next heartbeat, ten seconds later by default: give the client a `watchful`
    /// address.
    pub fn code(code: i32) -> Failure {
        Failure(doc! { "errorCode": code })
    }

    /// The command is not run, and its connection is closed.
    pub fn close_connection() -> Failure {
        Failure(doc! { "closeConnection": true })
    }

    /// The command waits so long before it is run.
    pub fn block(time: Duration) -> Failure {
        Failure::default().and_block(time)
    }

    /// The command is run, and answered with this write concern error: the write is there, its fate
    /// is not known.
    pub fn write_concern(code: i32) -> Failure {
        Failure(
            doc! { "writeConcernError": { "code": code, "errmsg": "a fail point of the tests" } },
        )
    }

    /// Waits first, whatever else happens.
    pub fn and_block(mut self, time: Duration) -> Failure {
        self.0.insert("blockConnection", true);
        self.0.insert("blockTimeMS", time.as_millis() as i64);
        self
    }

    /// The error's labels, in place of those that the server would give it. An empty list takes
    /// them away.
    pub fn labels(mut self, labels: &[&str]) -> Failure {
        self.0.insert("errorLabels", labels);
        self
    }

    /// For the commands of clients of this `appName` alone.
    pub fn app_name(mut self, name: &str) -> Failure {
        self.0.insert("appName", name);
        self
    }
}

/// The `failCommand` fail point, set until `clear`. A server has one of it and a second takes the
/// place of the first, so use a mongod of the test's own, and in a replica set the client of one
/// node.
#[must_use = "it stays set until `clear` is called on it"]
pub struct FailPoint(Client);

impl FailPoint {
    pub async fn on(client: &Client, commands: &[&str], mode: Mode, failure: Failure) -> FailPoint {
        let mode = match mode {
            Mode::Times(count) => doc! { "times": count }.into(),
            Mode::Always => Bson::from("alwaysOn"),
        };
        let mut data = failure.0;
        data.insert("failCommands", commands);
        configure(
            client,
            doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data },
        )
        .await;
        FailPoint(client.clone())
    }

    pub async fn clear(self) {
        configure(
            &self.0,
            doc! { "configureFailPoint": "failCommand", "mode": "off" },
        )
        .await;
    }
}

async fn configure(client: &Client, order: Document) {
    let done = client.database("admin").run_command(order).await;
    done.expect("a fail point (the server must run with enableTestCommands=1)");
}
