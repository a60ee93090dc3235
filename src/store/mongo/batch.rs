//! Operations that travel together: while a few commands are under way, what arrives waits for the
//! next one and shares it. An idle server adds no hop, and a command that hangs holds nobody up for
//! long.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rocket::tokio;
use rocket::tokio::sync::oneshot;
use rocket::tokio::time::{Instant, timeout};

use super::Inner;

/// What one shared command carries at most: operations, and bytes of theirs.
const MOST: usize = 128;
const MOST_BYTES: usize = 1 << 20;

/// How long a command keeps the next one waiting. One whose connection is dead may never end: the
/// driver knows no timeout of a socket.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long operations go alone after a shared command has failed: whatever made it fail, the next
/// ones are not to fail together.
const APART: Duration = Duration::from_secs(2);

/// A kind of operation that travels together.
pub(super) trait Kind: Sized + Send + 'static {
    type Job: Send;
    type Reply: Send;

    /// Those of a store.
    fn of(store: &Inner) -> &Together<Self>;

    /// Sends one command for all of them, and tells each what became of it.
    fn run(turn: Turn<Self>, batch: Vec<Waiting<Self>>) -> impl Future<Output = ()> + Send;
}

/// The operations of one kind.
pub(super) struct Together<K: Kind> {
    queue: Mutex<Queue<K>>,
    few: usize,
}

struct Queue<K: Kind> {
    in_flight: usize,
    waiting: VecDeque<Waiting<K>>,
    apart_until: Option<Instant>,
}

/// An operation, who waits for it, and until when it may start.
pub(super) struct Waiting<K: Kind> {
    pub(super) job: K::Job,
    pub(super) reply: oneshot::Sender<K::Reply>,
    pub(super) until: Instant,
    bytes: usize,
}

/// How an operation goes.
pub(super) enum Way<K: Kind> {
    /// At once, in a command of its own, which the next one follows.
    Alone(Turn<K>, K::Job),
    /// At once, and nothing follows.
    Apart(K::Job),
    With(oneshot::Receiver<K::Reply>),
}

impl<K: Kind> Together<K> {
    /// So many commands may be under way before operations begin to wait for each other.
    pub(super) fn new(few: usize) -> Self {
        Together {
            queue: Mutex::new(Queue {
                in_flight: 0,
                waiting: VecDeque::new(),
                apart_until: None,
            }),
            few,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<K>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A shared command has failed.
    pub(super) fn failed(&self) {
        self.lock().apart_until = Some(Instant::now() + APART);
    }

    /// A command has ended: the operations for the next one, which takes its place, or nothing.
    fn next(&self) -> Option<Vec<Waiting<K>>> {
        let mut queue = self.lock();
        let now = Instant::now();
        // Nothing starts after its deadline; who waits for it has been told by its own clock.
        queue.waiting.retain(|waiting| waiting.until > now);
        let mut bytes = 0;
        let fitting = queue.waiting.iter().take(MOST).take_while(|waiting| {
            bytes += waiting.bytes;
            bytes <= MOST_BYTES
        });
        // One that is larger than the limit goes by itself.
        let count = fitting.count().max(1).min(queue.waiting.len());
        if count == 0 {
            queue.in_flight = queue.in_flight.saturating_sub(1);
            return None;
        }
        Some(queue.waiting.drain(..count).collect())
    }

    /// Nothing can follow: whoever waits is told by the end of its channel.
    fn close(&self) {
        let mut queue = self.lock();
        queue.in_flight = queue.in_flight.saturating_sub(1);
        queue.waiting.clear();
    }
}

/// How an operation of so many bytes goes that arrives now.
pub(super) fn join<K: Kind>(
    store: &Arc<Inner>,
    until: Instant,
    bytes: usize,
    job: K::Job,
) -> Way<K> {
    let together = K::of(store);
    let mut queue = together.lock();
    if queue.apart_until.is_some() {
        if queue.apart_until > Some(Instant::now()) {
            return Way::Apart(job);
        }
        queue.apart_until = None;
    }
    if queue.in_flight < together.few {
        queue.in_flight += 1;
        let turn = Turn {
            store: Arc::clone(store),
            queue: K::of,
        };
        return Way::Alone(turn, job);
    }
    let (reply, answer) = oneshot::channel();
    queue.waiting.push_back(Waiting {
        job,
        reply,
        until,
        bytes,
    });
    Way::With(answer)
}

/// A command that is under way. However it ends, the next one follows.
pub(super) struct Turn<K: Kind> {
    pub(super) store: Arc<Inner>,
    queue: fn(&Inner) -> &Together<K>,
}

impl<K: Kind> Turn<K> {
    /// Waits for the command, and lets the next one go when it has ended or takes long.
    pub(super) async fn over<T>(self, command: impl Future<Output = T>) -> T {
        let mut command = pin!(command);
        match timeout(PATIENCE, &mut command).await {
            Ok(done) => done,
            Err(_) => {
                drop(self);
                command.await
            }
        }
    }
}

impl<K: Kind> Drop for Turn<K> {
    fn drop(&mut self) {
        let together = (self.queue)(&self.store);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return together.close(); // the runtime ends
        };
        if let Some(batch) = together.next() {
            let turn = Turn {
                store: Arc::clone(&self.store),
                queue: self.queue,
            };
            runtime.spawn(K::run(turn, batch));
        }
    }
}
