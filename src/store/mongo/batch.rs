//! Request coalescing: while a command is in flight, new operations queue up and go out as one command.
//!
//! With up to eight operations outstanding each has a command of its own at once. With more, the next
//! command goes when one ends, or when waiting no longer saves work ([`Pace`]). Every command runs in
//! a task of the batcher's own, so that no caller can hold up the others by not polling its future.

mod pace;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rocket::futures::FutureExt;
use rocket::tokio;
use rocket::tokio::sync::oneshot;
use rocket::tokio::time::{Instant, sleep};

use self::pace::Pace;
use super::error;
use crate::error::{Error, Operation, Result};
use crate::lock::Mutex;
use crate::metrics;
use crate::spans::{Origin, run_batch};
use crate::tasks::Tasks;

/// Operations in one command, and bytes of the documents that they are about.
const MAX_OPERATIONS: usize = 128;
const MAX_BYTES: usize = 1 << 20;

/// Commands in flight while further operations queue up. More make the batches smaller, and none waits
/// for longer than [`Pace`] lets it. Measured at 8, 32 and 128 connections of a standalone server, two
/// rounds each, CPU time of the application and of mongod for a load, in µs: one 194, 96 and 72; two
/// 233, 116 and 73; by hand 187, 142 and 154. For an update on three nodes at 32 connections (with the
/// batching of 0.1.0-dev): one 1044, two 1304, four 1385, by hand 1782.
const MAX_IN_FLIGHT: usize = 1;

/// With up to this number of operations outstanding, none waits for another: while processors have time
/// left, a wait costs more than a command. Throughput of reads beside by hand on two processors, two runs
/// each: at 6 connections with four 0.75 and 0.69, with eight 0.82 and 0.81; at 8 connections 0.76 and
/// 0.63, and 0.99 and 0.83; at 12 0.86 and 0.80, and 0.79 and 0.86.
const DIRECT: usize = 8;

/// The results of one command, in the order of its jobs; or why it failed as a whole.
type Results<R> = Result<Vec<Result<R>>>;

/// Sends one command for all jobs, which may take until the latest of their deadlines.
type Run<J, R> =
    Box<dyn Fn(Vec<J>, Instant) -> Pin<Box<dyn Future<Output = Results<R>> + Send>> + Send + Sync>;

pub(super) struct Batcher<J, R>(Arc<Shared<J, R>>);

struct Shared<J, R> {
    queue: Mutex<Queue<J, Result<R>>>,
    run: Run<J, R>,
    operation: Operation,
    tasks: Tasks,
    waits: metrics::Queue,
}

/// The operations of one command, and its place among those in flight.
struct Batch<J, R> {
    waiting: Vec<Waiting<J, Result<R>>>,
    place: Place<J, R>,
}

/// The place of a command in flight. It is free when this is dropped, however the command ends: with its
/// runtime as well.
struct Place<J, R> {
    shared: Arc<Shared<J, R>>,
    operations: usize,
    started: Instant,
}

impl<J, R> Drop for Place<J, R> {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        self.shared.queue.lock().finished(self.operations, took);
    }
}

struct Queue<J, R> {
    waiting: VecDeque<Waiting<J, R>>,
    /// Commands in flight, and the operations in them.
    commands: usize,
    operations: usize,
    /// The most operations that were outstanding lately.
    peak: usize,
    pace: Pace,
    /// A task looks for operations that are overdue.
    is_watched: bool,
    /// Commands in flight at most.
    most: usize,
}

struct Waiting<J, R> {
    job: J,
    bytes: usize,
    since: Instant,
    until: Instant,
    reply: oneshot::Sender<R>,
    origin: Origin,
    /// `None` until it has to wait.
    wait: Option<metrics::Wait>,
}

impl<J: Send + 'static, R: Send + 'static> Batcher<J, R> {
    /// Batches operations while a command is in flight, and has never more than `most` in flight.
    pub(super) fn new<F>(
        most: usize,
        operation: Operation,
        tasks: &Tasks,
        waits: &metrics::Queue,
        run: impl Fn(Vec<J>, Instant) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Results<R>> + Send + 'static,
    {
        let queue = Queue {
            waiting: VecDeque::new(),
            commands: 0,
            operations: 0,
            peak: 0,
            pace: Pace::default(),
            is_watched: false,
            most,
        };
        Batcher(Arc::new(Shared {
            queue: Mutex::new(queue),
            run: Box::new(move |jobs, until| Box::pin(run(jobs, until))),
            operation,
            tasks: tasks.clone(),
            waits: waits.clone(),
        }))
    }

    /// Carries one operation out, in a command that starts before `until`.
    pub(super) async fn submit(&self, job: J, bytes: usize, until: Instant) -> Result<R> {
        let (reply, replied) = oneshot::channel();
        let since = Instant::now();
        let (next, is_to_be_watched) = {
            let mut queue = self.0.queue.lock();
            queue.waiting.push_back(Waiting {
                job,
                bytes,
                since,
                until,
                reply,
                origin: Origin::current(),
                wait: None,
            });
            let next = queue.next();
            match queue.waiting.back_mut() {
                Some(job) if job.wait.is_none() => job.wait = Some(self.0.waits.wait()),
                _ => self.0.waits.did_not_wait(),
            }
            (next, queue.is_to_be_watched())
        };
        if let Some(batch) = next {
            self.0.start(batch);
        }
        if is_to_be_watched {
            self.0.watch_queue();
        }
        // Without a reply its command panicked, or could not start before the deadline.
        let lost = |_| Err(Error::without_result(self.0.operation, error::LOST));
        replied.await.unwrap_or_else(lost)
    }
}

impl<J: Send + 'static, R: Send + 'static> Shared<J, R> {
    fn batch(self: &Arc<Self>, waiting: Vec<Waiting<J, Result<R>>>) -> Batch<J, R> {
        let place = Place {
            shared: Arc::clone(self),
            operations: waiting.len(),
            started: Instant::now(),
        };
        Batch { waiting, place }
    }

    /// Runs a command for these operations, and those that follow it, in a task.
    fn start(self: &Arc<Self>, waiting: Vec<Waiting<J, Result<R>>>) {
        let batch = self.batch(waiting);
        // Without a runtime (it is shutting down) the callers see their channels close.
        if tokio::runtime::Handle::try_current().is_ok() {
            let shared = Arc::clone(self);
            self.tasks.spawn(async move {
                let mut next = Some(batch);
                while let Some(batch) = next.take() {
                    next = shared.run(batch).await;
                }
            });
        }
    }

    /// Runs one batch. Returns the one that follows it.
    async fn run(self: &Arc<Self>, batch: Batch<J, R>) -> Option<Batch<J, R>> {
        let Batch { waiting, place } = batch;
        let until = waiting.iter().map(|waiting| waiting.until).max();
        let (mut jobs, mut replies, mut origins) = (Vec::new(), Vec::new(), Vec::new());
        for waiting in waiting {
            jobs.push(waiting.job);
            replies.push(waiting.reply);
            origins.push(waiting.origin);
        }
        let command = async { (self.run)(jobs, until.unwrap_or(place.started)).await };
        let command = run_batch(self.operation, origins, command);
        let results = match AssertUnwindSafe(command).catch_unwind().await {
            Ok(Ok(results)) => results,
            Ok(Err(error)) => replies.iter().map(|_| Err(error.clone())).collect(),
            // It panicked. The callers see their channels close.
            Err(_) => Vec::new(),
        };
        drop(place);
        let next = self.queue.lock().next();
        for (reply, result) in replies.into_iter().zip(results) {
            // The caller may be gone; ignore it.
            let _ = reply.send(result);
        }
        next.map(|waiting| self.batch(waiting))
    }

    /// Starts the operations that are overdue because commands hang, in a task that runs while
    /// operations are queued: those that are sent at once cost no timer.
    fn watch_queue(self: &Arc<Self>) {
        let task = OverdueTask(Some(Arc::clone(self)));
        if tokio::runtime::Handle::try_current().is_ok() {
            tokio::spawn(task.run());
        }
    }
}

/// The task that looks for overdue operations. If it is dropped before its end, the next operation that
/// is queued starts another one.
struct OverdueTask<J: Send + 'static, R: Send + 'static>(Option<Arc<Shared<J, R>>>);

impl<J: Send + 'static, R: Send + 'static> OverdueTask<J, R> {
    async fn run(mut self) {
        while let Some(shared) = &self.0 {
            let Some(pause) = shared.queue.lock().next_check() else {
                self.0 = None; // which the queue knows
                return;
            };
            sleep(pause).await;
            // The lock is free again when the batch starts.
            let overdue = || shared.queue.lock().overdue();
            while let Some(batch) = overdue() {
                shared.start(batch);
            }
        }
    }
}

impl<J: Send + 'static, R: Send + 'static> Drop for OverdueTask<J, R> {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.queue.lock().is_watched = false;
        }
    }
}

impl<J, R> Queue<J, R> {
    fn finished(&mut self, operations: usize, took: Duration) {
        self.pace.note(took);
        self.commands = self.commands.saturating_sub(1);
        self.operations = self.operations.saturating_sub(operations);
        self.peak = self.peak * 3 / 4;
    }

    /// The operations of the next command, if one may go now.
    fn next(&mut self) -> Option<Vec<Waiting<J, R>>> {
        self.peak = self.peak.max(self.operations + self.waiting.len());
        let limit = match self.peak > DIRECT {
            true => MAX_IN_FLIGHT,
            false => DIRECT.min(self.most),
        };
        match self.commands < limit {
            true => self.take(),
            false => None,
        }
    }

    /// Whether a task must begin to look for operations that are overdue.
    fn is_to_be_watched(&mut self) -> bool {
        !self.waiting.is_empty() && !std::mem::replace(&mut self.is_watched, true)
    }

    /// The pause until an operation may be overdue; `None` when none is queued any more.
    fn next_check(&mut self) -> Option<Duration> {
        let Some(first) = self.waiting.front() else {
            self.is_watched = false;
            return None;
        };
        let patience = self.pace.patience();
        // One that is overdue already waits for the end of another command.
        let left = patience.saturating_sub(first.since.elapsed());
        Some(if left.is_zero() { patience } else { left })
    }

    /// The operations of the next command, if the first has waited for too long.
    fn overdue(&mut self) -> Option<Vec<Waiting<J, R>>> {
        let now = Instant::now();
        // While nothing can start, late operations must not pile up.
        let is_late = |first: &Waiting<J, R>| first.until <= now;
        while self.waiting.front().is_some_and(is_late) {
            self.waiting.pop_front();
        }
        let first = self.waiting.front()?;
        let is_overdue = first.since.elapsed() >= self.pace.patience();
        match is_overdue && self.commands < self.most {
            true => self.take(),
            false => None,
        }
    }

    fn take(&mut self) -> Option<Vec<Waiting<J, R>>> {
        // Nothing starts after its deadline; its caller sees the channel close.
        let now = Instant::now();
        self.waiting.retain(|waiting| waiting.until > now);
        let mut bytes = 0;
        let fitting = self
            .waiting
            .iter()
            .take(MAX_OPERATIONS)
            .take_while(|waiting| {
                bytes += waiting.bytes;
                bytes <= MAX_BYTES
            });
        // One that is larger than the limit goes by itself.
        let count = fitting.count().max(1).min(self.waiting.len());
        if count == 0 {
            return None;
        }
        self.commands += 1;
        self.operations += count;
        Some(self.waiting.drain(..count).collect())
    }
}
