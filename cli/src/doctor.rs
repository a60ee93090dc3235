//! `doctor`: checks that a deployment meets what sessions need.
//!
//! Each check writes one line of the report. Everything is tried in scratch collections, which are
//! removed whatever happens: at the end, after Ctrl-C, after an error, and when time is up.

mod checks;
pub mod connection;
mod promises;
mod render;
mod report;
mod scratch;
mod server;
mod streams;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use rocket::tokio::time::{Instant, interval, sleep_until};
use rocket::tokio::{select, spawn};

use crate::args::Doctor;
use crate::commands::Context;
use crate::failure::{Failure, NO};
use crate::output;
use crate::progress::Progress;
use connection::Connection;
use report::Report;
use scratch::Scratch;

/// What a check has.
struct Examination {
    connection: Connection,
    database: rocket_mongo_session::mongodb::Database,
    hello: rocket_mongo_session::mongodb::bson::Document,
    scratch: Scratch,
    report: Report,
    until: Instant,
    is_quick: bool,
    /// The checks that were asked for; all where there are none.
    only: Vec<String>,
    ttl_patience: Duration,
}

const NO_TIME: &str = "there was no time left";

/// How an examination came to its end.
enum End {
    Complete,
    Failed(String),
    TimeIsUp,
    Interrupted,
}

pub async fn run(mut context: Context, args: Doctor) -> Result<u8, Failure> {
    let until = Instant::now() + Duration::from_secs(args.limit.into());
    let url = match args.url {
        Some(url) => url,
        None => context.app.url()?,
    };
    if let Some(name) = args.only.iter().find(|name| !checks::is_known(name)) {
        let known: Vec<&str> = checks::names().collect();
        return Err(Failure::Usage(format!(
            "--only: {name:?} is not a check; the checks are {}",
            known.join(", ")
        )));
    }
    let connection = connection::open(&url).await?;
    let database = connection.database()?;
    let hello = connection.hello().await?;
    let examination = Arc::new(Examination {
        scratch: Scratch::new(&database),
        report: Report::new(connection.hosts()),
        connection,
        database,
        hello,
        until,
        is_quick: args.quick,
        only: args.only,
        ttl_patience: Duration::from_secs(args.ttl_patience),
    });
    // A task of its own: a fault of the doctor's leaves no collection behind.
    let mut task = spawn(checks::run(Arc::clone(&examination)));
    let mut progress = Progress::of_steps();
    let mut tick = interval(Duration::from_millis(100));
    let end = loop {
        select! {
            done = &mut task => break match done {
                Ok(()) => End::Complete,
                Err(error) => End::Failed(error.to_string()),
            },
            () = context.interrupt.wait() => break End::Interrupted,
            () = sleep_until(until) => break End::TimeIsUp,
            _ = tick.tick() => progress.say(examination.report.current()),
        }
    };
    task.abort();
    progress.say("removing the scratch collections".to_owned());
    let removed = examination.scratch.remove().await;
    progress.finish();

    let report = &examination.report;
    let why = match &end {
        End::Complete => None,
        End::Failed(why) => Some(format!("the doctor failed: {why}")),
        End::TimeIsUp => Some(NO_TIME.to_owned()),
        End::Interrupted => Some("it was interrupted".to_owned()),
    };
    if let Some(why) = why
        && report.leave_out(&why) > 0
    {
        report.stop(&why);
    }
    report.removed(&removed);
    let text = match (context.json, args.markdown) {
        (true, _) => render::json(report)?,
        (_, true) => render::markdown(report),
        _ => render::text(report),
    };
    output::line(text.trim_end())?;
    match end {
        End::Interrupted => Err(Failure::Interrupted("interrupted".to_owned())),
        End::Failed(why) => Err(Failure::Database(format!("the doctor failed: {why}"))),
        _ if report.is_broken() => Ok(NO),
        _ => report
            .stopped()
            .map_or(Ok(0), |why| Err(Failure::Database(why))),
    }
}
