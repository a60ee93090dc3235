//! The command line of rocket_mongo_session: lists, ends and exports an application's sessions, and
//! checks that a MongoDB deployment meets what sessions need.

mod app;
mod args;
mod commands;
mod doctor;
mod failure;
mod interrupt;
mod output;
mod progress;
mod userid;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use rocket::tokio::runtime::Runtime;

use args::{Args, Command};
use failure::{Failure, USAGE};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // `--help` and `--version` are no failures.
            let code = if error.use_stderr() { USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    if let Command::Completions { shell } = args.command {
        let name = "rocket-mongo-session";
        clap_complete::generate(shell, &mut Args::command(), name, &mut std::io::stdout());
        return ExitCode::SUCCESS;
    }
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::Output(error).report(),
    };
    let done = runtime.block_on(commands::run(args));
    // A thread may still read from the terminal.
    runtime.shutdown_background();
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(),
    }
}
