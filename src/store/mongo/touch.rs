//! Touches: that sessions were in use, written in the background, many in one command.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mongodb::bson::{DateTime, Document as Query, doc};
use rocket::tokio;

use super::error::Failure;
use super::{Inner, left, reading};
use crate::clock::Moment;
use crate::detach;
use crate::document::Document;
use crate::error::{Error, Result};
use crate::store::Touch;

/// How long a written batch keeps the next one waiting, so that it grows.
const PAUSE: Duration = Duration::from_millis(100);
/// Touches whose times differ by less than this are written with one time, the latest.
const ALIKE: Duration = Duration::from_secs(1);
/// Sessions that may wait for their touch. Beyond it a touch is dropped: the next read of that
/// session asks again.
const MOST: usize = 100_000;
/// Sessions in one statement, and statements in one command, which keep it far below the server's
/// limits.
const STATEMENT: usize = 1000;
const STATEMENTS: usize = 1000;

#[derive(Default)]
pub(super) struct Touches {
    queue: Mutex<Queue>,
    /// One batch at a time: whoever flushes waits for the one that is under way.
    turn: tokio::sync::Mutex<()>,
    batches: AtomicU64,
}

#[derive(Default)]
struct Queue {
    waiting: HashMap<String, Times>,
    /// What is being written.
    leaving: HashMap<String, Times>,
    /// A task writes, and will write what comes.
    is_attended: bool,
}

#[derive(Clone, Copy)]
struct Times {
    accessed: Moment,
    expires: Moment,
}

impl Times {
    fn later(self, other: Times) -> Times {
        Times {
            accessed: self.accessed.max(other.accessed),
            expires: self.expires.max(other.expires),
        }
    }
}

impl Touches {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// A loaded document with the times that are still on their way to the database.
    pub(super) fn seen(&self, id: &str, document: Document) -> Document {
        let queue = self.lock();
        let (waiting, leaving) = (queue.waiting.get(id), queue.leaving.get(id));
        let times = match (waiting, leaving) {
            (Some(a), Some(b)) => a.later(*b),
            (Some(times), None) | (None, Some(times)) => *times,
            (None, None) => return document,
        };
        drop(queue);
        let touch = Touch {
            id: id.to_owned(),
            accessed: times.accessed,
            expires: times.expires,
        };
        // A touch sets no field to the present time.
        let now = times.accessed;
        touch.update().apply(&document, now).unwrap_or(document)
    }
}

/// Queues a touch, and sees to it that somebody writes it.
pub(super) fn add(store: &Arc<Inner>, touch: Touch) {
    let mut queue = store.touches.lock();
    if queue.waiting.len() >= MOST {
        return;
    }
    let times = Times {
        accessed: touch.accessed,
        expires: touch.expires,
    };
    let waiting = queue.waiting.entry(touch.id).or_insert(times);
    *waiting = waiting.later(times);
    if !queue.is_attended
        && let Ok(runtime) = tokio::runtime::Handle::try_current()
    {
        queue.is_attended = true;
        drop(queue);
        runtime.spawn(attend(Arc::clone(store)));
    }
}

/// Writes batch after batch until nothing waits.
async fn attend(store: Arc<Inner>) {
    loop {
        write_batch(&store).await;
        tokio::time::sleep(PAUSE).await;
        let mut queue = store.touches.lock();
        if queue.waiting.is_empty() {
            queue.is_attended = false;
            return;
        }
    }
}

/// Writes what waits now, and waits for what is being written.
pub(super) async fn flush(store: &Arc<Inner>) {
    write_batch(store).await;
}

async fn write_batch(store: &Inner) {
    let _turn = store.touches.turn.lock().await;
    let batch = {
        let mut queue = store.touches.lock();
        let batch = std::mem::take(&mut queue.waiting);
        queue.leaving.clone_from(&batch);
        batch
    };
    if batch.is_empty() {
        return;
    }
    let mut statements = statements(&batch).into_iter().peekable();
    let mut failed = None;
    while statements.peek().is_some() && failed.is_none() {
        let some = statements.by_ref().take(STATEMENTS).collect();
        failed = write(store, some).await.err();
    }
    let mut queue = store.touches.lock();
    queue.leaving.clear();
    if let Some(error) = failed {
        error.log();
        // Once more with the next ones. Whoever is touched again has later times.
        for (id, times) in batch {
            if queue.waiting.len() < MOST {
                let waiting = queue.waiting.entry(id).or_insert(times);
                *waiting = waiting.later(times);
            }
        }
    }
}

async fn write(store: &Inner, statements: Vec<Query>) -> Result<()> {
    const OPERATION: &str = "noting that sessions were in use";
    let until = store.until();
    let _place = store.place(OPERATION, until).await?;
    let command = doc! {
        "update": store.sessions.name(),
        "updates": statements,
        "ordered": false,
        // Losing one costs at most a second of idle time, so nobody waits for a majority.
        "writeConcern": { "w": 1 },
        "maxTimeMS": i64::try_from(left(until).as_millis()).unwrap_or(i64::MAX),
    };
    store.touches.batches.fetch_add(1, Ordering::Relaxed);
    let database = store.database.clone();
    let command = async move { database.run_command(command).await };
    match detach::within(store.deadline, command).await {
        Some(done) => done.map(drop).map_err(|error| reading(OPERATION, error)),
        None => Err(Error::store(OPERATION, Failure::Late)),
    }
}

/// One statement for all sessions whose times may be written as one.
fn statements(batch: &HashMap<String, Times>) -> Vec<Query> {
    let mut groups: HashMap<(i64, Duration), (Times, Vec<String>)> = HashMap::new();
    let step = i64::try_from(ALIKE.as_millis()).unwrap_or(1);
    for (id, times) in batch {
        let life = times.expires.since(times.accessed);
        // A session that nears its absolute end, or never ends, shares with none of another end.
        let key = (times.accessed.millis().div_euclid(step), life);
        let group = groups.entry(key).or_insert_with(|| (*times, Vec::new()));
        group.0 = group.0.later(*times);
        group.1.push(id.clone());
    }
    let mut statements = Vec::new();
    for (times, ids) in groups.into_values() {
        for ids in ids.chunks(STATEMENT) {
            let raise = doc! {
                "accessed": times.accessed.seconds(),
                "expires": DateTime::from_millis(times.expires.millis()),
            };
            statements.push(doc! {
                "q": { "_id": { "$in": ids.to_vec() } },
                "u": { "$max": raise },
                "multi": true,
            });
        }
    }
    statements
}
