//! Operations that travel together: while a few commands are under way, what arrives waits for the
//! next one and shares it. An idle server adds no hop.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rocket::tokio::sync::oneshot;
use rocket::tokio::time::Instant;

use crate::error::Result;

/// What one shared command carries at most: operations, and bytes of theirs.
const MOST: usize = 128;
const MOST_BYTES: usize = 1 << 20;

/// The operations of one kind.
pub(super) struct Together<J> {
    queue: Mutex<Queue<J>>,
    few: usize,
}

struct Queue<J> {
    under_way: usize,
    waiting: VecDeque<Waiting<J>>,
}

/// An operation, who waits for it, and until when it may start.
pub(super) struct Waiting<J> {
    pub(super) job: J,
    pub(super) reply: oneshot::Sender<Result<Reply>>,
    pub(super) until: Instant,
    bytes: usize,
}

/// What a shared command answers one of its operations.
pub(super) enum Reply {
    Found(Option<crate::document::Document>),
    Updated(crate::store::Updated),
    /// The command failed in a way that lets the operation be tried alone.
    TryAlone,
}

/// How an operation goes.
pub(super) enum Way {
    /// At once, in a command of its own; [`Together::next`] must be called after it.
    Alone,
    With(oneshot::Receiver<Result<Reply>>),
}

impl<J> Together<J> {
    /// So many commands may be under way before operations begin to wait for each other.
    pub(super) fn new(few: usize) -> Self {
        Together {
            queue: Mutex::new(Queue {
                under_way: 0,
                waiting: VecDeque::new(),
            }),
            few,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<J>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn join(&self, until: Instant, bytes: usize, job: impl FnOnce() -> J) -> Way {
        let mut queue = self.lock();
        if queue.under_way < self.few {
            queue.under_way += 1;
            return Way::Alone;
        }
        let (reply, answer) = oneshot::channel();
        queue.waiting.push_back(Waiting {
            job: job(),
            reply,
            until,
            bytes,
        });
        Way::With(answer)
    }

    /// A command has ended: the operations for the next one, which takes its place, or nothing.
    pub(super) fn next(&self) -> Option<Vec<Waiting<J>>> {
        let mut queue = self.lock();
        let now = Instant::now();
        // Nothing starts after its deadline; who waits for it has been told by its own clock.
        queue.waiting.retain(|waiting| waiting.until > now);
        let mut bytes = 0;
        let fitting = queue.waiting.iter().take(MOST).take_while(|waiting| {
            bytes += waiting.bytes;
            bytes <= MOST_BYTES
        });
        // One that is larger than the limit goes alone.
        let count = fitting.count().max(1).min(queue.waiting.len());
        if count == 0 {
            queue.under_way = queue.under_way.saturating_sub(1);
            return None;
        }
        Some(queue.waiting.drain(..count).collect())
    }
}
