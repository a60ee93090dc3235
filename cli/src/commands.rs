//! The commands, each in a module of its own where it is more than one call.

mod ending;
mod indexes;
mod personal;
mod reading;
mod watch;

use std::pin::pin;
use std::time::Duration;

use rocket::tokio::select;
use rocket::tokio::time::interval;

use crate::app::App;
use crate::args::{Args, Command};
use crate::doctor;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output;
use crate::progress::Progress;

/// What every command has.
pub struct Context {
    pub app: App,
    pub json: bool,
    pub interrupt: Interrupt,
}

/// Runs a command; returns its exit code.
pub async fn run(args: Args) -> Result<u8, Failure> {
    let context = Context {
        app: App::read(&args.place)?,
        json: args.place.json,
        interrupt: Interrupt::listen(),
    };
    match args.command {
        Command::Doctor(doctor) => return doctor::run(context, doctor).await,
        Command::List(list) => reading::list(context, list).await?,
        Command::Show { id, values } => reading::show(context, &id, values).await?,
        Command::Count { filter, estimate } => reading::count(context, filter, estimate).await?,
        Command::Revoke(revoke) => return ending::revoke(context, revoke).await,
        Command::RevokeAll(ending) => ending::revoke_all(context, ending).await?,
        Command::Purge { dry_run } => ending::purge(context, dry_run).await?,
        Command::Indexes { dry_run } => return indexes::run(context, dry_run).await,
        Command::Export { user, output } => personal::export(context, user, output).await?,
        Command::Erase { user, ending } => personal::erase(context, user, ending).await?,
        Command::Watch { user } => watch::run(context, user).await?,
        Command::Completions { .. } => {}
    }
    Ok(0)
}

impl Context {
    /// Prints what a command did: a text, or an object with its number.
    fn say(&self, key: &str, number: u64, text: &str) -> Result<(), Failure> {
        match self.json {
            true => output::json(&serde_json::json!({ key: number }))?,
            false => output::line(text)?,
        }
        Ok(())
    }
}

/// "1 session", "2 sessions".
fn sessions(count: u64) -> String {
    match count {
        1 => "1 session".to_owned(),
        count => format!("{count} sessions"),
    }
}

/// Runs a call to its end, or until Ctrl-C. Each command of the database that was in flight is carried
/// out, or is not. `rest`: what becomes of the work that is left then.
async fn or_interrupted<T, E: Into<Failure>>(
    context: &Context,
    rest: &str,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    let mut interrupt = context.interrupt.clone();
    select! {
        done = call => done.map_err(Into::into),
        () = interrupt.wait() => Err(Failure::Interrupted(format!("interrupted; {rest}"))),
    }
}

/// As `or_interrupted`, for a call that tells no progress: says what is being done.
async fn watched<T, E: Into<Failure>>(
    context: &Context,
    what: &str,
    rest: &str,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    let mut call = pin!(or_interrupted(context, rest, call));
    let mut progress = Progress::of_steps();
    let mut tick = interval(Duration::from_millis(100));
    loop {
        select! {
            done = &mut call => return done,
            _ = tick.tick() => progress.say(what.to_owned()),
        }
    }
}
