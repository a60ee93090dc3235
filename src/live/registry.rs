//! Who follows which session.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bson::{RawBson, RawDocumentBuf};
use rocket::futures::channel::oneshot;

use super::End;
use super::ended::Subscription;
use crate::document::{Document, date};
use crate::record::token::Id;
use crate::record::{Times, field};

/// The sender of one [`Ended`](super::Ended). Dropping it means that no session was stored.
pub(crate) struct Subscriber {
    tell: oneshot::Sender<End>,
    /// A later subscription has a greater number.
    number: u64,
    /// Shared by the clones of the [`Ended`](super::Ended), until the last one is dropped.
    subscription: Weak<Subscription>,
}

impl Subscriber {
    pub(super) fn new(
        tell: oneshot::Sender<End>,
        number: u64,
        subscription: &Arc<Subscription>,
    ) -> Self {
        Subscriber {
            tell,
            number,
            subscription: Arc::downgrade(subscription),
        }
    }

    /// Whether a clone of its future is left.
    fn is_used(&self) -> bool {
        self.subscription.strong_count() > 0
    }

    /// The receiver may have been dropped; ignore it.
    pub(super) fn end(self, end: End) {
        let _ = self.tell.send(end);
    }
}

/// A stored session that is to be followed.
#[derive(Clone)]
pub(crate) struct Followed {
    pub(crate) id: Id,
    pub(crate) user: Option<RawBson>,
    /// What is known of its times.
    pub(crate) times: Option<Times>,
}

/// A session that is followed.
struct Entry {
    subscribers: Vec<Subscriber>,
    user: Option<RawBson>,
    times: Option<Times>,
}

#[derive(Default)]
pub(super) struct Registry {
    sessions: HashMap<Id, Entry>,
    numbers: u64,
}

impl Registry {
    pub(super) fn last_number(&self) -> u64 {
        self.numbers
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn add(&mut self, subscriber: Subscriber, session: Followed) {
        let Some(subscription) = subscriber.subscription.upgrade() else {
            return;
        };
        let _ = subscription.id.set(session.id.clone());
        let entry = self.sessions.entry(session.id).or_insert(Entry {
            subscribers: Vec::with_capacity(1),
            user: session.user,
            times: None,
        });
        entry.times = session.times.or(entry.times);
        entry.subscribers.push(subscriber);
    }

    /// Removes the subscriptions whose futures were dropped.
    pub(super) fn prune(&mut self) {
        self.sessions.retain(|_, entry| {
            entry.subscribers.retain(Subscriber::is_used);
            !entry.subscribers.is_empty()
        });
    }

    /// Whether a future waits for the end of a session.
    pub(super) fn is_followed(&self) -> bool {
        let mut subscribers = self.sessions.values().flat_map(|entry| &entry.subscribers);
        subscribers.any(Subscriber::is_used)
    }

    /// Takes out all that follow a session.
    pub(super) fn take(&mut self, id: &str) -> Vec<Subscriber> {
        let entry = self.sessions.remove(id);
        entry.map(|entry| entry.subscribers).unwrap_or_default()
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.sessions.contains_key(id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    pub(super) fn ids(&self) -> Vec<String> {
        let ids = self.sessions.keys();
        ids.map(|id| id.as_str().to_owned()).collect()
    }

    pub(super) fn times(&mut self, id: &str) -> Option<&mut Times> {
        self.sessions.get_mut(id)?.times.as_mut()
    }

    pub(super) fn set_times(&mut self, id: &str, times: Times) {
        if let Some(entry) = self.sessions.get_mut(id) {
            entry.times = Some(times);
        }
    }

    /// A session as its filters see it, and its first subscription.
    pub(super) fn document(&self, id: &str) -> Option<(Document, u64)> {
        let entry = self.sessions.get(id)?;
        let mut document = RawDocumentBuf::new();
        document.append(field::ID, id);
        if let Some(user) = &entry.user {
            document.append_ref(field::USER, user.as_raw_bson_ref());
        }
        if let Some(times) = &entry.times {
            document.append(field::EXPIRES, date(times.expires));
        }
        let first = entry.subscribers.iter().map(|one| one.number).min();
        Some((Document::from_raw(document), first.unwrap_or_default()))
    }
}
