//! Which operations share a command, and when it starts.

use std::time::Duration;

use rocket::futures::future::join_all;
use rocket::tokio::sync::Semaphore;
use rocket::tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::pace::MIN_PATIENCE;
use super::*;

/// A batcher of numbers whose commands wait until they may end, and what each carried.
struct Bench {
    batcher: Arc<Batcher<u32, u32>>,
    sent: UnboundedReceiver<Vec<u32>>,
    ends: Arc<Semaphore>,
}

/// The job whose command panics, and the one whose command fails.
const PANIC: u32 = 666;
const FAILS: u32 = 667;

fn bench(most: usize) -> Bench {
    let (sends, sent) = unbounded_channel();
    let ends = Arc::new(Semaphore::new(0));
    let may_end = Arc::clone(&ends);
    let waits = metrics::Usage::of_kind("main").batch;
    let batcher = Batcher::new(
        most,
        Operation::LoadSession,
        &Tasks::default(),
        &waits,
        move |jobs: Vec<u32>, _| {
            sends.send(jobs.clone()).unwrap();
            let may_end = Arc::clone(&may_end);
            async move {
                assert!(!jobs.contains(&PANIC), "for a test");
                may_end.acquire().await.unwrap().forget();
                match jobs.contains(&FAILS) {
                    true => Err(Error::Gone),
                    false => Ok(jobs.iter().map(|job| Ok(job * 10)).collect()),
                }
            }
        },
    );
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
        self.batcher.0.queue.lock().pace = Pace {
            usual: day,
            least: Duration::ZERO,
        };
        self
    }

    /// Submits as many jobs as have a command each, and waits until their commands run.
    async fn occupy(&mut self) -> Vec<tokio::task::JoinHandle<Option<u32>>> {
        let tasks = self.submit(0..DIRECT as u32);
        for _ in 0..DIRECT {
            assert_eq!(self.sent.recv().await.unwrap().len(), 1);
        }
        tasks
    }

    async fn wait_for_queue(&self, operations: usize) {
        while self.batcher.0.queue.lock().waiting.len() < operations {
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
async fn few_operations_have_a_command_each() {
    let mut bench = bench(10).never_overdue();
    let tasks = bench.occupy().await;
    bench.ends.add_permits(DIRECT);
    let expected: Vec<_> = (0..DIRECT as u32).map(|job| Some(job * 10)).collect();
    assert_eq!(results(tasks).await, expected);
}

#[rocket::async_test]
async fn operations_beyond_these_share_the_next_command() {
    let mut bench = bench(10).never_overdue();
    let first = bench.occupy().await;
    let rest = bench.submit(5..=20);
    bench.wait_for_queue(16).await;
    bench.ends.add_permits(100);
    assert_eq!(bench.sent.recv().await.unwrap().len(), 16);
    assert!(results(first).await.iter().all(Option::is_some));
    assert_eq!(
        results(rest).await,
        (5..=20).map(|job| Some(job * 10)).collect::<Vec<_>>()
    );
}

#[rocket::async_test]
async fn a_command_that_hangs_holds_up_no_other() {
    let mut bench = bench(DIRECT + 2);
    let hung = bench.occupy().await;
    let rest = bench.submit(5..=20);
    // Nothing has ended, and yet the next command goes.
    assert!(!bench.sent.recv().await.unwrap().is_empty());
    bench.ends.add_permits(100);
    results(hung).await;
    assert!(results(rest).await.iter().all(Option::is_some));
}

#[rocket::async_test]
async fn no_more_commands_run_than_there_are_permits() {
    let mut bench = bench(2);
    let tasks = bench.submit(0..8);
    for _ in 0..2 {
        bench.sent.recv().await.unwrap();
    }
    bench.wait_for_queue(6).await;
    let first = bench.batcher.0.queue.lock().waiting.front().unwrap().since;
    while first.elapsed() < MIN_PATIENCE * 2 {
        tokio::task::yield_now().await;
    }
    assert!(bench.batcher.0.queue.lock().overdue().is_none());
    bench.ends.add_permits(100);
    assert!(results(tasks).await.iter().all(Option::is_some));
}

#[rocket::async_test]
async fn a_panic_is_an_error_of_its_own_jobs_only() {
    let mut bench = bench(10).never_overdue();
    let first = bench.occupy().await;
    let panics = bench.submit([PANIC, 5]);
    bench.wait_for_queue(2).await;
    bench.ends.add_permits(DIRECT);
    assert_eq!(results(panics).await, [None, None]);
    assert!(results(first).await.iter().all(Option::is_some));
    bench.ends.add_permits(1);
    assert_eq!(results(bench.submit([7])).await, [Some(70)]);
    assert_eq!(bench.batcher.0.queue.lock().commands, 0);
    assert_eq!(bench.batcher.0.queue.lock().operations, 0);
}

#[rocket::async_test]
async fn a_caller_that_stops_polling_stops_no_other() {
    let mut bench = bench(10).never_overdue();
    let until = Instant::now() + Duration::from_secs(600);
    let mut put_aside = Vec::new();
    for job in 0..=DIRECT as u32 {
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
    let mut bench = bench(10).never_overdue();
    let first = bench.occupy().await;
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
async fn operations_of_a_command_that_fails_fail_with_its_error() {
    let bench = bench(10);
    bench.ends.add_permits(1);
    let until = Instant::now() + Duration::from_secs(600);
    let failed = bench.batcher.submit(FAILS, 1, until).await;
    assert!(matches!(failed, Err(Error::Gone)), "{failed:?}");
    let panicked = bench.batcher.submit(PANIC, 1, until).await;
    assert!(matches!(panicked, Err(Error::Store { .. })), "{panicked:?}");
}

#[rocket::async_test]
async fn what_is_late_before_its_command_starts_is_not_sent() {
    let mut bench = bench(1).never_overdue();
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

#[rocket::async_test]
async fn what_is_late_does_not_pile_up_while_nothing_can_start() {
    let mut bench = bench(1);
    let hung = bench.submit([1]);
    bench.sent.recv().await.unwrap();
    let now = Instant::now();
    let late = (2..10).map(|job| bench.batcher.submit(job, 1, now));
    // The command hangs, and yet everybody hears.
    let results = join_all(late).await;
    assert!(results.iter().all(Result::is_err));
    assert!(bench.batcher.0.queue.lock().waiting.is_empty());
    bench.ends.add_permits(1);
    assert_eq!(self::results(hung).await, [Some(10)]);
}

/// With its runtime, for instance, while the store lives on.
#[test]
fn a_queue_whose_watch_was_dropped_is_watched_again() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut bench = bench(10).never_overdue();
    runtime.block_on(async {
        bench.occupy().await;
        bench.submit([5]);
        bench.wait_for_queue(1).await;
    });
    assert!(bench.batcher.0.queue.lock().is_watched);
    drop(runtime);
    assert!(!bench.batcher.0.queue.lock().is_watched);
}

#[test]
fn commands_that_end_with_their_runtime_leave_their_places() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let first = runtime();
    let mut bench = first.block_on(async {
        let mut bench = bench(10).never_overdue();
        bench.occupy().await;
        bench.submit(100..103);
        bench.wait_for_queue(3).await;
        bench
    });
    drop(first);
    runtime().block_on(async {
        assert_eq!(bench.batcher.0.queue.lock().commands, 0);
        let task = bench.submit([200]);
        let sent = bench.sent.recv().await.unwrap();
        assert_eq!(sent, [100, 101, 102, 200]);
        bench.ends.add_permits(1);
        assert_eq!(results(task).await, [Some(2000)]);
    });
}
