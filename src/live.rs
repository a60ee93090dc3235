//! Live sessions: notifies streams and sockets when their session ends, and gives every process the
//! events of sessions.
//!
//! [`registry`] has the streams of this process, by session. The end of a session in this process is
//! notified at once, by [`Live::ending`] around the call that ends it. An end elsewhere, or by the
//! clock, is noticed by [`poll`], twice a second while a session is followed. [`events`] reads the
//! store's changes, once for all readers of the process. Only the process that ended a session knows
//! why it ended, and whose it was: [`reasons`] remembers that for a minute.

use std::future::Future;
use std::sync::Arc;

use bson::RawBson;
use bson::raw::RawBsonRef;
use rocket::tokio;
use rocket::tokio::sync::watch;

use crate::clock::Clock;
use crate::config::Config;
use crate::document::Filter;
use crate::error::{Error, Result};
use crate::lock::Mutex;
use crate::record::field;
use crate::store::Order;
use crate::store::bounded::Bounded;

mod ended;
mod events;
mod poll;
mod reasons;
mod registry;

pub use ended::{End, Ended};
pub use events::{Event, EventKind, Events};
pub(crate) use registry::{Followed, Subscriber};

use reasons::Reasons;
use registry::Registry;

/// The live sessions of one process.
#[derive(Clone)]
pub(crate) struct Live(Arc<Inner>);

struct Inner {
    store: Bounded,
    config: Config,
    clock: Clock,
    state: Mutex<State>,
    /// Makes the poll begin at once.
    wake: Arc<tokio::sync::Notify>,
    feed: Mutex<Option<events::Feed>>,
    is_stopped: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    registry: Registry,
    reasons: Reasons,
    is_polling: bool,
}

impl Live {
    pub(crate) fn new(store: &Bounded, config: &Config, clock: &Clock) -> Self {
        Live(Arc::new(Inner {
            store: store.clone(),
            config: config.clone(),
            clock: clock.clone(),
            state: Mutex::default(),
            wake: Arc::default(),
            feed: Mutex::default(),
            is_stopped: watch::Sender::new(false),
        }))
    }

    /// Runs a call that ends sessions, and notifies the streams that follow them. `did_end` says by
    /// the call's result whether it has ended them; `None`: some of them, which a poll right after the
    /// call finds.
    pub(crate) async fn ending<T>(
        &self,
        ids: &[&str],
        end: End,
        user: Option<&RawBson>,
        call: impl Future<Output = Result<T>>,
        did_end: impl FnOnce(&T) -> Option<bool>,
    ) -> Result<T> {
        for id in ids {
            self.intend(id, end, user);
        }
        let result = call.await;
        let has_ended = match &result {
            Ok(done) => did_end(done),
            Err(Error::Store { .. }) => Some(false),
            Err(_) => None,
        };
        let mut state = self.0.state.lock();
        for id in ids {
            match has_ended {
                Some(true) => state.reasons.confirm(id, end, user),
                // It was not there, so it has ended before, which a poll finds, or belongs to another
                // user: anybody's requests may name it.
                Some(false) => state.reasons.take_back(id),
                None => {}
            }
        }
        if has_ended.is_none() {
            self.0.wake_for(&state, ids);
        }
        drop(state);
        if has_ended == Some(true) {
            self.0.tell(ids.iter().map(|id| (*id, end)));
        }
        result
    }

    /// Remembers why a session ends, and whose it is, before it does.
    pub(crate) fn intend(&self, id: &str, end: End, user: Option<&RawBson>) {
        self.0.state.lock().reasons.intend(id, end, user);
    }

    /// Runs a call that ends all sessions that a filter chooses. A poll right after it notifies the
    /// streams that follow them. `named`: what [`name_for_readers`](Live::name_for_readers) has returned.
    pub(crate) async fn ending_all<T>(
        &self,
        filter: &Filter,
        end: End,
        named: Vec<String>,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let call_number = self.0.state.lock().reasons.intend_many(filter.clone(), end);
        let mut running = RunningCall {
            live: &self.0,
            call_number,
            has_failed: false,
        };
        let result = call.await;
        running.has_failed = matches!(result, Err(Error::Store { .. }));
        if running.has_failed {
            let mut state = self.0.state.lock();
            named.iter().for_each(|id| state.reasons.take_back(id));
        }
        result
    }

    /// Makes the poll begin at once.
    pub(crate) fn look(&self) {
        self.0.wake.notify_one();
    }

    /// Remembers whose sessions a call for many ends, if anybody reads events: the event of a
    /// deletion has only the id. One round trip then, for a thousand sessions at most, of which it
    /// returns the ids.
    pub(crate) async fn name_for_readers(&self, sessions: &Filter, end: End) -> Vec<String> {
        const MAX_NAMED: u32 = 1000;
        if self.0.feed.lock().is_none() {
            return Vec::new();
        }
        // If it fails, the events have no user and no reason.
        let found = self
            .0
            .store
            .find(sessions.clone(), Order::OldestFirst, 0, MAX_NAMED)
            .await;
        let named = found
            .unwrap_or_default()
            .into_iter()
            .filter_map(|document| {
                let id = document.id()?;
                let user = document.get(field::USER).map(RawBsonRef::to_raw_bson);
                self.intend(id, end, user.as_ref());
                Some(id.to_owned())
            });
        named.collect()
    }

    /// A new subscription, which follows no session yet, and the subscriber that ends it.
    pub(crate) fn subscribe(&self) -> (Ended, Subscriber) {
        ended::subscribe(self)
    }

    /// Makes a subscription follow a stored session. Sends nothing: the next poll includes it.
    pub(crate) fn follow(&self, subscriber: Subscriber, session: Followed) {
        let mut state = self.0.state.lock();
        match state.reasons.certain(session.id.as_str()) {
            Some(end) => {
                drop(state);
                subscriber.end(end);
            }
            None => {
                state.registry.add(subscriber, session);
                self.0.start_polling(state);
            }
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.0.is_stopped.borrow()
    }

    /// The process shuts down: events end. Streams that are still open see that by Rocket's `Shutdown`,
    /// and are told as before when their session ends.
    pub(crate) fn stop(&self) {
        self.0.is_stopped.send_replace(true);
    }

    /// Returns a future that resolves when the process shuts down, or nothing uses the sessions any
    /// more. It does not keep them.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut is_stopped = self.0.is_stopped.subscribe();
        async move {
            let _ = is_stopped.wait_for(|is_stopped| *is_stopped).await;
        }
    }
}

impl Inner {
    /// Lets the next poll begin at once, if one of these sessions is followed.
    fn wake_for(&self, state: &State, ids: &[&str]) {
        if ids.iter().any(|id| state.registry.contains(id)) {
            self.wake.notify_one();
        }
    }

    /// Notifies what follows these sessions, which have ended.
    fn tell<'a>(&self, ended: impl Iterator<Item = (&'a str, End)>) {
        let mut told = Vec::new();
        {
            let mut state = self.state.lock();
            for (id, end) in ended {
                let subscribers = state.registry.take(id);
                told.extend(subscribers.into_iter().map(|one| (one, end)));
            }
        }
        // Not under the lock: a subscriber's task may run, or end, right here.
        for (subscriber, end) in told {
            subscriber.end(end);
        }
    }
}

/// A call that ends many sessions, until it has ended or its future is dropped.
struct RunningCall<'a> {
    live: &'a Inner,
    call_number: u64,
    /// It has ended no session.
    has_failed: bool,
}

impl Drop for RunningCall<'_> {
    fn drop(&mut self) {
        let mut state = self.live.state.lock();
        let newest = state.registry.last_number();
        // While no session is followed, a job may make thousands of calls.
        let explains = !self.has_failed && state.registry.is_followed();
        let newest = explains.then_some(newest);
        state.reasons.finish_many(self.call_number, newest);
        drop(state);
        self.live.wake.notify_one();
    }
}

#[cfg(test)]
mod tests;
