//! What was tried, and what came of it.

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::checks::{CHECKS, Check};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Holds,
    /// It does not hold.
    Broken,
    /// No promise is broken, but an operator should know.
    Attention,
    NotTried,
}

impl Outcome {
    pub fn text(self) -> &'static str {
        match self {
            Outcome::Holds => "holds",
            Outcome::Broken => "does not hold",
            Outcome::Attention => "attention",
            Outcome::NotTried => "not tried",
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    pub check: String,
    /// What was tried.
    pub tried: String,
    pub outcome: Outcome,
    /// What was seen.
    pub found: String,
    /// What it means for the application, where it does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub means: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

pub struct Report {
    /// RFC 3339, UTC.
    pub at: String,
    pub hosts: String,
    state: Mutex<State>,
}

struct State {
    server: String,
    lines: Vec<Line>,
    /// What is being tried.
    current: String,
    /// Why the rest could not be tried.
    stopped: Option<String>,
}

impl Report {
    pub fn new(hosts: String) -> Self {
        let line = |check: &Check| Line {
            check: check.name.to_owned(),
            tried: check.tried.to_owned(),
            outcome: Outcome::NotTried,
            found: String::new(),
            means: None,
            advice: None,
        };
        Report {
            at: DateTime::<Utc>::from(std::time::SystemTime::now())
                .to_rfc3339_opts(SecondsFormat::Secs, true),
            hosts,
            state: Mutex::new(State {
                server: String::new(),
                lines: CHECKS.iter().map(line).collect(),
                current: "connecting".to_owned(),
                stopped: None,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn lines(&self) -> Vec<Line> {
        self.state().lines.clone()
    }

    /// Writes what came of a check, with its own meaning and advice where it does not hold.
    pub fn write(&self, name: &str, outcome: Outcome, found: impl Display) {
        let check = CHECKS.iter().find(|check| check.name == name);
        let (means, advice) = check.map_or(("", ""), |check| (check.means, check.advice));
        self.write_as(name, outcome, found, means, advice);
    }

    /// As `write`, with another meaning and advice.
    pub fn write_as(
        &self,
        name: &str,
        outcome: Outcome,
        found: impl Display,
        means: &str,
        advice: &str,
    ) {
        let is_fault = matches!(outcome, Outcome::Broken | Outcome::Attention);
        let told = |text: &str| Some(text.to_owned()).filter(|text| is_fault && !text.is_empty());
        let mut state = self.state();
        if let Some(line) = state.lines.iter_mut().find(|line| line.check == name) {
            line.outcome = outcome;
            line.found = found.to_string();
            (line.means, line.advice) = (told(means), told(advice));
        }
    }

    /// Adds a line that no check has by itself.
    pub fn add(&self, line: Line) {
        self.state().lines.push(line);
    }

    /// Says why the rest was not tried; returns how many checks that are.
    pub fn leave_out(&self, why: &str) -> usize {
        let mut count = 0;
        for line in &mut self.state().lines {
            if line.outcome == Outcome::NotTried && line.found.is_empty() {
                line.found = why.to_owned();
                count += 1;
            }
        }
        count
    }

    pub fn removed(&self, removed: &Result<(), String>) {
        if let Err(left) = removed {
            self.add(Line {
                check: "scratch".to_owned(),
                tried: "The scratch collections are removed.".to_owned(),
                outcome: Outcome::Attention,
                found: format!("left: {left}"),
                means: Some("They hold nothing of the application.".to_owned()),
                advice: Some("Drop the collections of this name.".to_owned()),
            });
        }
    }

    pub fn begin(&self, what: impl Into<String>) {
        self.state().current = what.into();
    }

    pub fn current(&self) -> String {
        self.state().current.clone()
    }

    pub fn set_server(&self, server: String) {
        self.state().server = server;
    }

    pub fn server(&self) -> String {
        self.state().server.clone()
    }

    /// Nothing more can be tried.
    pub fn stop(&self, why: &str) {
        let mut state = self.state();
        state.stopped.get_or_insert_with(|| why.to_owned());
    }

    pub fn stopped(&self) -> Option<String> {
        self.state().stopped.clone()
    }

    pub fn count(&self, outcome: Outcome) -> usize {
        let state = self.state();
        let lines = state.lines.iter();
        lines.filter(|line| line.outcome == outcome).count()
    }

    pub fn is_broken(&self) -> bool {
        self.count(Outcome::Broken) > 0
    }
}
