//! A store at which every request waits, before each operation, until it is told to continue.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::store::hooked::{Hook, Hooked, Kind};

/// Which request waits at which operations. Requests are polled one at a time, on one thread.
#[derive(Clone, Default)]
pub struct Steps(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    current: Option<usize>,
    requests: BTreeMap<usize, Request>,
    /// Who waits for something to change here.
    watchers: Vec<Waker>,
}

#[derive(Default)]
struct Request {
    waiting: Vec<Kind>,
    granted: Option<Kind>,
    /// Operations that the store is at.
    running: usize,
}

impl Inner {
    fn changed(&mut self) {
        self.watchers.drain(..).for_each(Waker::wake);
    }
}

impl Steps {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn clear(&self) {
        *self.lock() = Inner::default();
    }

    /// Counts what happens from now on, in tasks as well, as this request's; or as no request's.
    pub fn are_of(&self, number: Option<usize>) {
        self.lock().current = number;
    }

    /// Wakes this one at the next change.
    pub fn watch(&self, context: &Context<'_>) {
        self.lock().watchers.push(context.waker().clone());
    }

    /// The operations that it waits at.
    pub fn waiting(&self, number: usize) -> Vec<Kind> {
        let inner = self.lock();
        let mut waiting = inner
            .requests
            .get(&number)
            .map_or(Vec::new(), |one| one.waiting.clone());
        waiting.sort_unstable();
        waiting
    }

    pub fn is_waiting(&self, number: usize) -> bool {
        let inner = self.lock();
        let request = inner.requests.get(&number);
        request
            .is_some_and(|one| one.running == 0 && one.granted.is_none() && !one.waiting.is_empty())
    }

    pub fn grant(&self, number: usize, kind: Kind) {
        if let Some(request) = self.lock().requests.get_mut(&number) {
            request.granted = Some(kind);
        }
        self.lock().changed();
    }

    /// Waits for its turn. What does not belong to a request of the case (what is left for later)
    /// does not wait.
    pub async fn pass(&self, kind: Kind) -> Pass {
        let number = self.lock().current;
        let Some(number) = number else {
            return Pass(None);
        };
        {
            let mut inner = self.lock();
            let request = inner.requests.entry(number).or_default();
            request.waiting.push(kind);
            inner.changed();
        }
        poll_fn(|context| {
            let mut inner = self.lock();
            inner.watchers.push(context.waker().clone());
            let request = inner.requests.entry(number).or_default();
            if request.granted != Some(kind) {
                return Poll::Pending;
            }
            request.granted = None;
            if let Some(at) = request.waiting.iter().position(|other| *other == kind) {
                request.waiting.remove(at);
            }
            request.running += 1;
            Poll::Ready(())
        })
        .await;
        Pass(Some((self.clone(), number)))
    }
}

/// An operation in progress.
pub struct Pass(Option<(Steps, usize)>);

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some((steps, number)) = &self.0 {
            let mut inner = steps.lock();
            if let Some(request) = inner.requests.get_mut(number) {
                request.running -= 1;
            }
            inner.changed();
        }
    }
}

impl Hook for Steps {
    async fn around<T: Send>(&self, kind: Kind, operation: impl Future<Output = T> + Send) -> T {
        let _pass = self.pass(kind).await;
        operation.await
    }
}

pub type Stepped = Hooked<Steps>;
