//! `alone`: a test in a process of its own, for what a process has once (its logger) and for what
//! may never end (a loop that blocks its thread, which no timeout of a runtime reaches).

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::PATIENCE;
use super::mongod::ports_of_a_child;

/// One line of the log, and the module that wrote it.
#[derive(Clone, Debug)]
pub struct Line {
    pub by: String,
    pub level: Level,
    pub text: String,
}

impl Line {
    pub fn is_ours(&self) -> bool {
        self.by.starts_with("rocket_mongo_session")
    }
}

static LINES: LazyLock<Mutex<Vec<Line>>> = LazyLock::new(Mutex::default);

struct Everything;

impl Log for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(Line {
            by: record.module_path().unwrap_or_default().to_owned(),
            level: record.level(),
            text: record.args().to_string(),
        });
    }

    fn flush(&self) {}
}

/// Runs a test (by its whole name, `module::test`) in a process of its own, whose log it can read
/// with `lines`. A process that does not end in time is killed, and the test fails.
pub fn alone(test: &str, run: impl Future<Output = ()>) {
    const ALONE: &str = "TESTS_ALONE";
    if std::env::var_os(ALONE).is_some() {
        log::set_logger(&Everything).expect("no other logger");
        log::set_max_level(LevelFilter::Trace);
        let runtime = rocket::tokio::runtime::Runtime::new().expect("a runtime");
        return runtime.block_on(run);
    }
    let (name, ports) = ports_of_a_child();
    let mut child = Command::new(std::env::current_exe().expect("this binary"))
        .args([test, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .env(name, ports)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a child process");
    let stdout = reader(child.stdout.take());
    let stderr = reader(child.stderr.take());
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child's status") {
            break Some(status);
        }
        if Instant::now() > deadline {
            child.kill().expect("the child ends");
            child.wait().expect("the child ended");
            break None;
        }
        thread::sleep(Duration::from_millis(20));
    };
    let text = |reader: thread::JoinHandle<String>| reader.join().unwrap_or_default();
    let said = text(stdout) + &text(stderr);
    let status = status.unwrap_or_else(|| panic!("{test}: not within {PATIENCE:?}\n{said}"));
    assert!(status.success() && said.contains("1 passed"), "{said}");
}

/// What was logged so far, in a process of `alone`.
pub fn all_lines() -> Vec<Line> {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.clone()
}

/// What the crate itself has logged of it.
pub fn lines() -> Vec<Line> {
    let all = all_lines().into_iter();
    all.filter(Line::is_ours).collect()
}

pub fn forget_lines() {
    let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.clear();
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_string(&mut text);
        }
        text
    })
}
