//! Progress on stderr: only on a terminal, and only for what takes longer than a second.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const SHOWN_AFTER: Duration = Duration::from_secs(1);

pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    is_shown: bool,
}

impl Progress {
    /// Counts sessions, of a total where one is known. The total may be an estimate.
    pub fn of_sessions(total: Option<u64>) -> Self {
        let template = match total {
            Some(_) => "{bar:30} {pos}/{len} sessions, {per_sec}, {eta} left{msg}",
            None => "{spinner} {pos} sessions{msg} ({elapsed})",
        };
        Progress::new(total, template)
    }

    /// Tells what is being done.
    pub fn of_steps() -> Self {
        Progress::new(None, "{spinner} {msg} ({elapsed})")
    }

    fn new(total: Option<u64>, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Progress {
            bar,
            started: Instant::now(),
            is_shown: false,
        }
    }

    pub fn advance(&mut self, by: u64) {
        self.show();
        // An estimate may be too low.
        if self
            .bar
            .length()
            .is_some_and(|length| self.bar.position() + by > length)
        {
            self.bar.set_length(self.bar.position() + by);
        }
        self.bar.inc(by);
    }

    pub fn say(&mut self, text: String) {
        self.show();
        self.bar.set_message(text);
        self.bar.tick();
    }

    /// Prints to stdout, which may be the same terminal, without the bar in between.
    pub fn print<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    fn show(&mut self) {
        if !self.is_shown && stderr().is_terminal() && self.started.elapsed() >= SHOWN_AFTER {
            self.is_shown = true;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.reset_eta();
        }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
