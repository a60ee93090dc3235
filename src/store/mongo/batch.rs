//! Request coalescing: while a few commands are in flight, new operations queue up and go out as one
//! command.
//!
//! With up to four operations outstanding each has a command of its own at once. With more, the next
//! command goes when one ends, or when waiting no longer saves work ([`Pace`]). Every command runs in
//! a task of the batcher's own, so that no caller can hold up the others by not polling its future.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rocket::tokio;
use rocket::tokio::sync::oneshot;
use rocket::tokio::time::{Instant, timeout};

/// Operations in one command, and bytes of the documents that they are about.
const MAX_OPERATIONS: usize = 128;
const MAX_BYTES: usize = 1 << 20;

/// With up to this number of operations outstanding, none waits for another.
const DIRECT: usize = 4;

/// The shortest wait that a timer ends. Below it the end of a command comes first anyway.
const MIN_PATIENCE: Duration = Duration::from_millis(5);

/// Sends one command for all jobs. Its results are in the order of the jobs.
type Run<J, R> = Box<dyn Fn(Vec<J>) -> Pin<Box<dyn Future<Output = Vec<R>> + Send>> + Send + Sync>;

/// The operation had no result: its command panicked, or could not start before the deadline.
pub(super) struct Lost;

pub(super) struct Batcher<J, R>(Arc<Shared<J, R>>);

struct Shared<J, R> {
    queue: Mutex<Queue<J, R>>,
    run: Run<J, R>,
}

struct Queue<J, R> {
    waiting: VecDeque<Waiting<J, R>>,
    /// Commands in flight, and the operations in them.
    commands: usize,
    operations: usize,
    /// The most operations that were outstanding lately.
    peak: usize,
    pace: Pace,
    /// Commands in flight while operations queue up, and at most.
    few: usize,
    most: usize,
}

struct Waiting<J, R> {
    job: J,
    bytes: usize,
    since: Instant,
    until: Instant,
    reply: oneshot::Sender<R>,
}

impl<J: Send + 'static, R: Send + 'static> Batcher<J, R> {
    /// Batches operations while `few` commands are in flight, and has never more than `most`.
    pub(super) fn new<F>(
        few: usize,
        most: usize,
        run: impl Fn(Vec<J>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Vec<R>> + Send + 'static,
    {
        let queue = Queue {
            waiting: VecDeque::new(),
            commands: 0,
            operations: 0,
            peak: 0,
            pace: Pace::default(),
            few: few.min(most),
            most,
        };
        Batcher(Arc::new(Shared {
            queue: Mutex::new(queue),
            run: Box::new(move |jobs| Box::pin(run(jobs))),
        }))
    }

    /// Carries one operation out, in a command that starts before `until`.
    pub(super) async fn submit(&self, job: J, bytes: usize, until: Instant) -> Result<R, Lost> {
        let (reply, mut replied) = oneshot::channel();
        let since = Instant::now();
        let (next, mut patience) = {
            let mut queue = self.0.lock();
            queue.waiting.push_back(Waiting {
                job,
                bytes,
                since,
                until,
                reply,
            });
            (queue.next(), queue.pace.patience())
        };
        if let Some(batch) = next {
            self.0.start(batch);
        }
        // A timer of each caller's: whichever is polled starts the next command.
        loop {
            match timeout(patience, &mut replied).await {
                Ok(result) => return result.map_err(|_| Lost),
                Err(_) => {
                    let overdue = self.0.lock().overdue();
                    if let Some(batch) = overdue {
                        self.0.start(batch);
                    }
                    patience = patience.saturating_mul(2);
                }
            }
        }
    }
}

impl<J: Send + 'static, R: Send + 'static> Shared<J, R> {
    fn lock(&self) -> MutexGuard<'_, Queue<J, R>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a batch, and those that follow it, in a task.
    fn start(self: &Arc<Self>, batch: Vec<Waiting<J, R>>) {
        // Without a runtime (it is shutting down) the callers see their channels close.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let shared = Arc::clone(self);
            runtime.spawn(async move {
                let mut next = Some(batch);
                while let Some(batch) = next.take() {
                    next = shared.run(batch).await;
                }
            });
        }
    }

    /// Runs one batch. Returns the one that follows it.
    async fn run(self: &Arc<Self>, batch: Vec<Waiting<J, R>>) -> Option<Vec<Waiting<J, R>>> {
        let mut in_flight = InFlight {
            shared: self,
            operations: batch.len(),
            is_over: false,
        };
        let (jobs, replies): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|waiting| (waiting.job, waiting.reply))
            .unzip();
        let started = Instant::now();
        let results = (self.run)(jobs).await;
        let took = started.elapsed();
        in_flight.is_over = true;
        let next = {
            let mut queue = self.lock();
            queue.pace.note(took);
            queue.finished(in_flight.operations);
            queue.next()
        };
        for (reply, result) in replies.into_iter().zip(results) {
            // The caller may be gone; ignore it.
            let _ = reply.send(result);
        }
        next
    }
}

/// A command in flight. If its task panics, another one continues with what waits.
struct InFlight<'a, J: Send + 'static, R: Send + 'static> {
    shared: &'a Arc<Shared<J, R>>,
    operations: usize,
    is_over: bool,
}

impl<J: Send + 'static, R: Send + 'static> Drop for InFlight<'_, J, R> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let next = {
            let mut queue = self.shared.lock();
            queue.finished(self.operations);
            queue.next()
        };
        if let Some(batch) = next {
            self.shared.start(batch);
        }
    }
}

impl<J, R> Queue<J, R> {
    fn finished(&mut self, operations: usize) {
        self.commands = self.commands.saturating_sub(1);
        self.operations = self.operations.saturating_sub(operations);
        self.peak = self.peak * 3 / 4;
    }

    /// The operations of the next command, if one may go now.
    fn next(&mut self) -> Option<Vec<Waiting<J, R>>> {
        self.peak = self.peak.max(self.operations + self.waiting.len());
        let limit = match self.peak > DIRECT {
            true => self.few,
            false => DIRECT.min(self.most),
        };
        match self.commands < limit {
            true => self.take(),
            false => None,
        }
    }

    /// The operations of the next command, if the first has waited for too long.
    fn overdue(&mut self) -> Option<Vec<Waiting<J, R>>> {
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

/// How long commands take, and from that how long an operation should wait for the end of one.
///
/// The least that a command takes is distance (to the server, to a majority): waiting for it saves
/// nothing, since the next command could travel beside it. What commands usually take beyond it is
/// work, on processors that the next command would share: waiting for it costs nothing.
#[derive(Default)]
struct Pace {
    usual: Duration,
    least: Duration,
}

impl Pace {
    fn note(&mut self, took: Duration) {
        if self.usual.is_zero() {
            (self.usual, self.least) = (took, took);
        }
        self.usual = (self.usual * 7 + took) / 8;
        // It forgets: the network of an hour ago may not be that of now.
        self.least = took.min(self.least + self.least / 16);
    }

    fn patience(&self) -> Duration {
        let work = self.usual.saturating_sub(self.least);
        (work * 2 + self.least / 8).max(MIN_PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use rocket::futures::future::join_all;
    use rocket::tokio::sync::Semaphore;
    use rocket::tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    /// A batcher of numbers whose commands wait until they may end, and what each carried.
    struct Bench {
        batcher: Arc<Batcher<u32, u32>>,
        sent: UnboundedReceiver<Vec<u32>>,
        ends: Arc<Semaphore>,
    }

    /// The job whose command panics.
    const PANIC: u32 = 666;

    fn bench(few: usize, most: usize) -> Bench {
        let (sends, sent) = unbounded_channel();
        let ends = Arc::new(Semaphore::new(0));
        let may_end = Arc::clone(&ends);
        let batcher = Batcher::new(few, most, move |jobs: Vec<u32>| {
            sends.send(jobs.clone()).unwrap();
            let may_end = Arc::clone(&may_end);
            async move {
                assert!(!jobs.contains(&PANIC), "for a test");
                may_end.acquire().await.unwrap().forget();
                jobs.iter().map(|job| job * 10).collect()
            }
        });
        Bench {
            batcher: Arc::new(batcher),
            sent,
            ends,
        }
    }

    impl Bench {
        /// Submits jobs that nothing but the end of a command starts.
        fn submit(
            &self,
            jobs: impl IntoIterator<Item = u32>,
        ) -> Vec<tokio::task::JoinHandle<Option<u32>>> {
            self.submit_sized(jobs, 1)
        }

        fn submit_sized(
            &self,
            jobs: impl IntoIterator<Item = u32>,
            bytes: usize,
        ) -> Vec<tokio::task::JoinHandle<Option<u32>>> {
            let jobs = jobs.into_iter().map(|job| {
                let batcher = Arc::clone(&self.batcher);
                let until = Instant::now() + Duration::from_secs(600);
                tokio::spawn(async move { batcher.submit(job, bytes, until).await.ok() })
            });
            jobs.collect()
        }

        /// Makes every operation as patient as a day is long.
        fn never_overdue(self) -> Self {
            let day = Duration::from_secs(86_400);
            self.batcher.0.lock().pace = Pace {
                usual: day,
                least: Duration::ZERO,
            };
            self
        }

        async fn wait_for_queue(&self, operations: usize) {
            while self.batcher.0.lock().waiting.len() < operations {
                tokio::task::yield_now().await;
            }
        }
    }

    async fn results(tasks: Vec<tokio::task::JoinHandle<Option<u32>>>) -> Vec<Option<u32>> {
        join_all(tasks)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect()
    }

    #[rocket::async_test]
    async fn up_to_four_operations_have_a_command_each() {
        let mut bench = bench(1, 10).never_overdue();
        let tasks = bench.submit(1..=4);
        for _ in 0..4 {
            assert_eq!(bench.sent.recv().await.unwrap().len(), 1);
        }
        bench.ends.add_permits(4);
        assert_eq!(results(tasks).await, [10, 20, 30, 40].map(Some));
    }

    #[rocket::async_test]
    async fn operations_beyond_four_share_the_next_command() {
        let mut bench = bench(1, 10).never_overdue();
        let first = bench.submit(1..=4);
        for _ in 0..4 {
            bench.sent.recv().await.unwrap();
        }
        let rest = bench.submit(5..=20);
        bench.wait_for_queue(16).await;
        bench.ends.add_permits(100);
        assert_eq!(bench.sent.recv().await.unwrap().len(), 16);
        assert_eq!(results(first).await, [10, 20, 30, 40].map(Some));
        assert_eq!(
            results(rest).await,
            (5..=20).map(|job| Some(job * 10)).collect::<Vec<_>>()
        );
    }

    #[rocket::async_test]
    async fn a_command_that_hangs_holds_up_no_other() {
        let mut bench = bench(1, 6);
        let hung = bench.submit(1..=4);
        for _ in 0..4 {
            bench.sent.recv().await.unwrap();
        }
        let rest = bench.submit(5..=20);
        bench.wait_for_queue(1).await;
        // Nothing has ended, and yet the next command goes.
        assert!(!bench.sent.recv().await.unwrap().is_empty());
        bench.ends.add_permits(100);
        results(hung).await;
        assert!(results(rest).await.iter().all(Option::is_some));
    }

    #[rocket::async_test]
    async fn no_more_commands_run_than_there_are_permits() {
        let mut bench = bench(1, 2);
        let tasks = bench.submit(1..=8);
        for _ in 0..2 {
            bench.sent.recv().await.unwrap();
        }
        bench.wait_for_queue(6).await;
        let first = bench.batcher.0.lock().waiting.front().unwrap().since;
        while first.elapsed() < MIN_PATIENCE * 2 {
            tokio::task::yield_now().await;
        }
        assert!(bench.batcher.0.lock().overdue().is_none());
        bench.ends.add_permits(100);
        assert!(results(tasks).await.iter().all(Option::is_some));
    }

    #[rocket::async_test]
    async fn a_panic_is_an_error_of_its_own_jobs_only() {
        let mut bench = bench(1, 10).never_overdue();
        let first = bench.submit(1..=4);
        for _ in 0..4 {
            bench.sent.recv().await.unwrap();
        }
        let panics = bench.submit([PANIC, 5]);
        bench.wait_for_queue(2).await;
        bench.ends.add_permits(4);
        assert_eq!(results(panics).await, [None, None]);
        assert!(results(first).await.iter().all(Option::is_some));
        bench.ends.add_permits(1);
        assert_eq!(results(bench.submit([7])).await, [Some(70)]);
        assert_eq!(bench.batcher.0.lock().commands, 0);
        assert_eq!(bench.batcher.0.lock().operations, 0);
    }

    #[rocket::async_test]
    async fn a_caller_that_stops_polling_stops_no_other() {
        let mut bench = bench(1, 10).never_overdue();
        let until = Instant::now() + Duration::from_secs(600);
        let mut put_aside = Vec::new();
        for job in 1..=5 {
            let mut submit = Box::pin(bench.batcher.submit(job, 1, until));
            let polled = rocket::futures::future::poll_immediate(submit.as_mut()).await;
            assert!(polled.is_none(), "nothing has ended");
            put_aside.push(submit);
        }
        bench.ends.add_permits(100);
        assert_eq!(results(bench.submit([6])).await, [Some(60)]);
        while bench.sent.try_recv().is_ok() {}
        drop(put_aside);
        assert_eq!(results(bench.submit([7])).await, [Some(70)]);
    }

    #[rocket::async_test]
    async fn a_batch_is_bounded_by_operations_and_by_bytes() {
        let mut bench = bench(1, 10).never_overdue();
        let first = bench.submit(1..=4);
        for _ in 0..4 {
            bench.sent.recv().await.unwrap();
        }
        let many = bench.submit(0..200);
        bench.wait_for_queue(200).await;
        let large = bench.submit_sized(0..3, MAX_BYTES / 2);
        bench.wait_for_queue(203).await;
        bench.ends.add_permits(300);
        let mut sizes = Vec::new();
        while sizes.iter().sum::<usize>() < 203 {
            sizes.push(bench.sent.recv().await.unwrap().len());
        }
        // 72 small ones and one large one; two large ones are exactly as much as fits.
        assert_eq!(sizes, [MAX_OPERATIONS, 73, 2]);
        results(first).await;
        results(many).await;
        results(large).await;
    }

    #[rocket::async_test]
    async fn what_is_late_before_its_command_starts_is_not_sent() {
        let mut bench = bench(1, 1).never_overdue();
        let first = bench.submit([1]);
        bench.sent.recv().await.unwrap();
        let batcher = Arc::clone(&bench.batcher);
        let late = tokio::spawn(async move { batcher.submit(2, 1, Instant::now()).await.ok() });
        bench.wait_for_queue(1).await;
        bench.ends.add_permits(10);
        assert_eq!(late.await.unwrap(), None);
        results(first).await;
        assert!(bench.sent.try_recv().is_err());
    }

    #[test]
    fn patience_is_short_where_commands_are_far_and_long_where_they_are_work() {
        let millis = Duration::from_millis;
        let mut far = Pace::default();
        let mut busy = Pace::default();
        for round in 0..100 {
            far.note(millis(100 + round % 3));
            busy.note(millis(if round % 2 == 0 { 2 } else { 16 }));
        }
        assert!(far.patience() < millis(25), "{:?}", far.patience());
        assert!(busy.patience() > millis(10), "{:?}", busy.patience());
        assert_eq!(Pace::default().patience(), MIN_PATIENCE);
    }
}
