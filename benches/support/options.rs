//! The command line of a benchmark.

use std::time::Duration;

use super::server::Deployment;

/// What a benchmark's command line says; the rest is an error that lists the options.
#[derive(Clone, Debug)]
pub struct Options {
    pub rounds: usize,
    pub time: Duration,
    pub connections: Vec<usize>,
    /// How many sessions are stored, in rising order.
    pub stored: Vec<usize>,
    /// The parts that are measured, by their names.
    pub only: Vec<String>,
    pub deployments: Vec<Deployment>,
    pub series: String,
    /// Which kinds of session application are measured: with shared commands, without.
    pub share: Vec<bool>,
    /// Whether one with sealed sessions is measured, too.
    pub sealed: bool,
}

const USAGE: &str = "
  --rounds N          rounds of all cells (at least 7 for a verdict)
  --seconds S         the length of one cell
  --connections 1,32  how many connections at once
  --stored 1024,10000 how many stored sessions, in rising order
  --standalone        on a standalone server only
  --replica-set       on a replica set of three only
  --series 6.0        which MongoDB
  --no-share          with session.share = false
  --both              with and without, side by side
  --sealed            and with sealed sessions
  --only A,B          only these of: ";

impl Options {
    /// The command line's, over `self`, whose `only` is all that there is; `None` when it is not
    /// `cargo bench` that asks.
    pub fn read(mut self) -> Option<Options> {
        let all = self.only.clone();
        let refuse = |why: String| -> ! {
            eprintln!("{why}. The options are:{USAGE}{}", all.join(","));
            std::process::exit(2)
        };
        let mut is_bench = false;
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || {
                args.next()
                    .unwrap_or_else(|| refuse(format!("{arg} needs a value")))
            };
            match arg.as_str() {
                "--bench" => is_bench = true,
                "--rounds" => self.rounds = number(&value()).unwrap_or_else(|why| refuse(why)),
                "--seconds" => {
                    self.time =
                        Duration::from_secs_f64(number(&value()).unwrap_or_else(|why| refuse(why)))
                }
                "--connections" => {
                    self.connections = numbers(&value()).unwrap_or_else(|why| refuse(why))
                }
                "--stored" => self.stored = numbers(&value()).unwrap_or_else(|why| refuse(why)),
                "--standalone" => self.deployments = vec![Deployment::Standalone],
                "--replica-set" => self.deployments = vec![Deployment::ReplicaSet],
                "--series" => self.series = value(),
                "--no-share" => self.share = vec![false],
                "--sealed" => self.sealed = true,
                "--both" => self.share = vec![true, false],
                "--only" => {
                    self.only = value().split(',').map(str::to_owned).collect();
                    if let Some(other) = self.only.iter().find(|name| !all.contains(name)) {
                        refuse(format!("{other} is not an option"));
                    }
                }
                other => refuse(format!("{other} is not an option")),
            }
        }
        is_bench.then_some(self)
    }
}

fn numbers(text: &str) -> Result<Vec<usize>, String> {
    text.split(',').map(number).collect()
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{text} is not a valid number"))
}
