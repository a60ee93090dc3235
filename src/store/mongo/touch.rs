//! Touches: that sessions were in use, written in the background, many in one command.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mongodb::bson::{DateTime, Document as Query, doc};
use rocket::tokio;

use super::client::{Client, left_millis};
use super::error::{Failure, reading};
use crate::clock::Moment;
use crate::document::Document;
use crate::error::{Error, Operation, Result};
use crate::record;
use crate::store::Touch;

/// The pause between two batches, in which the next one grows. It doubles with every failure.
const PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Of failures in a row the first is logged, and then every such one.
const LOGGED_FAILURES: u32 = 10;
/// Touches whose times differ by less than this are written with one time, the latest.
const RESOLUTION: Duration = Duration::from_secs(1);
/// Sessions that may wait for their touch. Beyond it a touch is dropped: the next read of that
/// session asks again.
const MAX_WAITING: usize = 100_000;
/// Sessions in one statement, and statements in one command, which keep it far below the server's
/// limits.
const MAX_SESSIONS: usize = 1000;
const MAX_STATEMENTS: usize = 1000;

pub(super) struct Touches {
    client: Arc<Client>,
    queue: Mutex<Queue>,
    /// One batch at a time: a flush waits for the one that is being written.
    writing: tokio::sync::Mutex<()>,
    batches: AtomicU64,
}

#[derive(Default)]
struct Queue {
    waiting: HashMap<String, Times>,
    /// What is being written.
    in_flight: Arc<HashMap<String, Times>>,
    /// A task writes, and will write what comes.
    writer_running: bool,
    /// Failures in a row.
    failures: u32,
}

/// The latest times of some touches.
#[derive(Clone, Copy)]
struct Times {
    /// The first of these uses: a session that had expired by then stays so.
    first: Moment,
    accessed: Moment,
    expires: Moment,
}

impl Times {
    fn later(self, other: Times) -> Times {
        Times {
            first: self.first.min(other.first),
            accessed: self.accessed.max(other.accessed),
            expires: self.expires.max(other.expires),
        }
    }
}

impl Queue {
    fn add(&mut self, id: String, times: Times) {
        if let Some(waiting) = self.waiting.get_mut(&id) {
            *waiting = waiting.later(times);
        } else if self.waiting.len() < MAX_WAITING {
            self.waiting.insert(id, times);
        }
    }

    /// Puts a batch that was not written back, below what has come since.
    fn restore(&mut self, batch: HashMap<String, Times>) {
        let since = std::mem::replace(&mut self.waiting, batch);
        for (id, times) in since {
            self.add(id, times);
        }
    }

    fn pause(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        PAUSE.saturating_mul(factor).min(MAX_PAUSE)
    }
}

impl Touches {
    pub(super) fn new(client: &Arc<Client>) -> Self {
        Touches {
            client: Arc::clone(client),
            queue: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            batches: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Returns a loaded document with the times that are not in the database yet.
    pub(super) fn apply_to(&self, id: &str, document: Document) -> Document {
        let times = {
            let queue = self.lock();
            match (queue.waiting.get(id), queue.in_flight.get(id)) {
                (Some(a), Some(b)) => a.later(*b),
                (Some(times), None) | (None, Some(times)) => *times,
                (None, None) => return document,
            }
        };
        let touch = Touch {
            id: id.to_owned(),
            accessed: times.accessed,
            expires: times.expires,
        };
        if !record::unless_expired(id, times.first).matches(&document) {
            return document;
        }
        // A touch sets no field to the present time.
        let now = times.accessed;
        touch.update().apply(&document, now).unwrap_or(document)
    }

    /// Queues a touch, and starts a task that writes it if none runs.
    pub(super) fn add(self: &Arc<Self>, touch: Touch) {
        let mut queue = self.lock();
        let times = Times {
            first: touch.accessed,
            accessed: touch.accessed,
            expires: touch.expires,
        };
        queue.add(touch.id, times);
        if !queue.writer_running
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            queue.writer_running = true;
            drop(queue);
            runtime.spawn(write_all(Arc::clone(self)));
        }
    }

    /// Writes what waits now, after what is being written.
    pub(super) async fn flush(&self) {
        let _writing = self.writing.lock().await;
        let batch = {
            let mut queue = self.lock();
            queue.in_flight = Arc::new(std::mem::take(&mut queue.waiting));
            Arc::clone(&queue.in_flight)
        };
        if batch.is_empty() {
            return;
        }
        let written = self.write(&batch).await;
        let mut queue = self.lock();
        queue.in_flight = Arc::default();
        match written {
            Ok(()) => queue.failures = 0,
            Err(error) => {
                if queue.failures.is_multiple_of(LOGGED_FAILURES) {
                    error.log();
                }
                queue.failures = queue.failures.saturating_add(1);
                // With the next ones. `in_flight` was the only other owner.
                queue.restore(Arc::into_inner(batch).unwrap_or_default());
            }
        }
    }

    async fn write(&self, batch: &HashMap<String, Times>) -> Result<()> {
        let mut statements = statements(batch).into_iter().peekable();
        while statements.peek().is_some() {
            self.send(statements.by_ref().take(MAX_STATEMENTS).collect())
                .await?;
        }
        Ok(())
    }

    async fn send(&self, statements: Vec<Query>) -> Result<()> {
        const OPERATION: Operation = Operation::RecordUse;
        let until = self.client.until();
        let _permit = self.client.permit(OPERATION, until).await?;
        let command = doc! {
            "update": self.client.sessions.name(),
            "updates": statements,
            "ordered": false,
            // Losing one costs at most a second of idle time, so nothing waits for a majority.
            "writeConcern": { "w": 1 },
            "maxTimeMS": left_millis(until),
        };
        self.batches.fetch_add(1, Ordering::Relaxed);
        let database = self.client.database.clone();
        // A task of its own, since a driver's future must not be dropped before its end.
        let command = tokio::spawn(async move { database.run_command(command).await });
        match tokio::time::timeout_at(until, command).await {
            Ok(Ok(done)) => done.map(drop).map_err(|error| reading(OPERATION, error)),
            Ok(Err(_)) => Err(Error::store(OPERATION, Failure::Lost)),
            Err(_) => Err(Error::store(OPERATION, Failure::Late)),
        }
    }
}

/// Writes batch after batch until nothing waits.
async fn write_all(touches: Arc<Touches>) {
    loop {
        touches.flush().await;
        let pause = touches.lock().pause();
        tokio::time::sleep(pause).await;
        let mut queue = touches.lock();
        if queue.waiting.is_empty() {
            queue.writer_running = false;
            return;
        }
    }
}

/// Makes one statement for all sessions whose times may be written as one.
fn statements(batch: &HashMap<String, Times>) -> Vec<Query> {
    let mut groups: HashMap<(i64, Duration), (Times, Vec<&str>)> = HashMap::new();
    let step = i64::try_from(RESOLUTION.as_millis()).unwrap_or(1);
    for (id, times) in batch {
        let life = times.expires.since(times.accessed);
        // A session that nears its absolute end, or never ends, shares with none of another end.
        let key = (times.accessed.millis().div_euclid(step), life);
        let group = groups.entry(key).or_insert_with(|| (*times, Vec::new()));
        group.0 = group.0.later(*times);
        group.1.push(id);
    }
    let mut statements = Vec::new();
    for (times, ids) in groups.into_values() {
        for ids in ids.chunks(MAX_SESSIONS) {
            let raise = doc! {
                "accessed": times.accessed.seconds(),
                "expires": DateTime::from_millis(times.expires.millis()),
            };
            statements.push(doc! {
                "q": {
                    "_id": { "$in": ids },
                    "expires": { "$not": { "$lt": DateTime::from_millis(times.first.millis()) } },
                },
                "u": { "$max": raise },
                "multi": true,
            });
        }
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(millis: i64) -> Times {
        let accessed = Moment::from_millis(millis);
        Times {
            first: accessed,
            accessed,
            expires: accessed.plus(Duration::from_secs(60)),
        }
    }

    #[test]
    fn the_pause_doubles_with_every_failure_up_to_a_minute() {
        let pause = |failures| {
            Queue {
                failures,
                ..Queue::default()
            }
            .pause()
        };
        assert_eq!([0, 1, 2].map(pause), [PAUSE, PAUSE * 2, PAUSE * 4]);
        assert_eq!([10, 31, 32, u32::MAX].map(pause), [MAX_PAUSE; 4]);
    }

    #[test]
    fn a_batch_that_was_not_written_loses_to_later_touches() {
        let mut queue = Queue::default();
        queue.add("both".into(), times(2000));
        queue.add("new".into(), times(2000));
        let failed = ["both", "old"].map(|id| (id.to_owned(), times(1000)));
        queue.restore(failed.into());
        let waiting = |id: &str| queue.waiting[id].accessed.millis();
        assert_eq!(
            [waiting("both"), waiting("new"), waiting("old")],
            [2000, 2000, 1000]
        );
    }

    #[test]
    fn sessions_used_in_one_second_share_a_statement() {
        let batch = [("a", 1100), ("b", 1900), ("c", 2100)];
        let batch = batch.map(|(id, at)| (id.to_owned(), times(at))).into();
        assert_eq!(statements(&batch).len(), 2);
    }
}
