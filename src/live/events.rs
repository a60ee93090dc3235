//! What happens to sessions, as a stream.
//!
//! One task reads the store's changes for all readers of the process, while there are any, and gives
//! each change its name. A slow reader loses the oldest events that wait for it, and gets an event
//! that says so.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bson::RawBson;
use rocket::futures::stream::{self, BoxStream, Stream, StreamExt};
use rocket::tokio;
use rocket::tokio::sync::broadcast::{self, error::RecvError};
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

use super::{End, Inner, Live};
use crate::clock::Moment;
use crate::debug::opaque_debug;
use crate::document::{Filter, value};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::record::token::Id;
use crate::record::{field, session_of_tombstone};
use crate::store::{Change, ChangeKind, Order, Watch};
use crate::tasks::TaskGuard;

/// How many events wait for a reader.
const MAX_WAITING: usize = 1024;

/// A stream of what happens to sessions in every process: see
/// [`Sessions::events`](crate::Sessions::events).
#[must_use = "a stream does nothing unless it is read"]
pub struct Events(BoxStream<'static, Result<Event>>);

/// Something that happened to a session. It has no value and no secret of the session.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Event {
    /// The session's public id; empty for [`EventKind::Missed`].
    pub id: String,
    /// What happened.
    pub kind: EventKind,
    /// When it happened, by the database's clock: to the millisecond with MongoDB 6.0 and later, and
    /// to the second before.
    pub at: OffsetDateTime,
    user: Option<Arc<RawBson>>,
}

/// What happened to a session.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A session without a user was stored.
    Created,
    /// A user signed in: a session with a user was stored.
    LoggedIn,
    /// [`elevate`](crate::Session::elevate).
    Elevated,
    /// [`renew`](crate::Session::renew).
    Renewed,
    /// [`logout`](crate::Session::logout), in this process.
    LoggedOut,
    /// It was revoked by this process.
    Revoked,
    /// It was deleted after it had expired, by [`purge_expired`](crate::Sessions::purge_expired) of
    /// this process. A deletion by MongoDB's TTL index cannot be distinguished from others, and is
    /// [`Deleted`](EventKind::Deleted).
    Expired,
    /// It was deleted, and more is not known: by a logout or a revocation of another process, by the
    /// TTL index, by hand, or by a call of this process that purged or revoked more than 1,000 sessions
    /// (1,000 of them get the reason). Or a login took its place: then its [`user`](Event::user) is the
    /// one who signed in.
    Deleted,
    /// Events were missed before this item: the reader was slow, the database does not have the
    /// stream's position any more, or the collection was dropped.
    Missed,
}

impl Event {
    /// Returns whose session it is; `None` for a session without a user, and when it is not known.
    ///
    /// It is known of logins, elevations and renewals, and of sessions that this process ended. An
    /// elevation and a renewal cost one find of the task that reads the changes.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`] when the user is not a `T`.
    pub fn user<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        value::decode_principal(self.user.as_deref())
    }

    fn new(id: &str, kind: EventKind, at: Moment, user: Option<RawBson>) -> Self {
        Event {
            id: id.to_owned(),
            kind,
            at: at.date(),
            user: user.map(Arc::new),
        }
    }
}

impl Stream for Events {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

opaque_debug!(Events);

/// The channel that all readers of a process receive from. The task that reads the store sends to it.
pub(super) struct Feed {
    sender: broadcast::Sender<Result<Event>>,
    /// The changes that the task will read, until it runs.
    watch: Option<Box<dyn Watch>>,
}

impl Live {
    /// A reader of what happens from now on.
    pub(crate) fn events(&self) -> Events {
        let receiver = {
            let mut feed = self.0.feed.lock();
            let feed = feed.get_or_insert_with(|| Feed {
                sender: broadcast::Sender::new(MAX_WAITING),
                watch: Some(self.0.store.watch()),
            });
            feed.sender.subscribe()
        };
        self.0.start_reading();
        let live = self.clone();
        let reader = stream::unfold((live, receiver), |(live, mut receiver)| async move {
            // Here there is a runtime, where the call may have had none.
            live.0.start_reading();
            let item = match receiver.recv().await {
                Ok(item) => item,
                Err(RecvError::Lagged(_)) => {
                    let now = live.0.clock.now();
                    Ok(Event::new("", EventKind::Missed, now, None))
                }
                Err(RecvError::Closed) => return None,
            };
            Some((item, (live, receiver)))
        });
        // Polled again after its end, an `Unfold` panics.
        Events(reader.fuse().boxed())
    }
}

impl Inner {
    /// Starts the task that reads the store's changes, unless it runs.
    fn start_reading(self: &Arc<Self>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let watch = self.feed.lock().as_mut().and_then(|feed| feed.watch.take());
        if let Some(watch) = watch {
            // A task that ends before it has ended the streams does so here.
            let guard = TaskGuard::new(self, |live| *live.feed.lock() = None);
            runtime.spawn(read_while_received(guard, watch));
        }
    }

    /// Sends an item; `false` when the last reader is gone and the feed has ended.
    fn send(&self, items: impl IntoIterator<Item = Result<Event>>) -> bool {
        let mut feed = self.feed.lock();
        let Some(open) = &*feed else { return false };
        if open.sender.receiver_count() == 0 || *self.is_stopped.borrow() {
            *feed = None;
            return false;
        }
        for item in items {
            let _ = open.sender.send(item);
        }
        true
    }
}

async fn read_while_received(mut guard: TaskGuard<Inner>, mut watch: Box<dyn Watch>) {
    let mut names = Names::default();
    loop {
        let change = watch.next().await;
        let Some(inner) = guard.owner.upgrade() else {
            return;
        };
        let continues = match change {
            Ok(None) => inner.send(None),
            Ok(Some(change)) => {
                let event = names.event(&inner, change).await;
                inner.send(event.map(Ok))
            }
            Err(error) => {
                // The streams end after the error. A stream that subscribes from now on reads from a
                // new feed.
                if let Some(feed) = inner.feed.lock().take() {
                    let _ = feed.sender.send(Err(error));
                }
                false
            }
        };
        if !continues {
            guard.disarm();
            return;
        }
    }
}

/// Earlier changes that give later ones their users.
#[derive(Default)]
struct Names {
    /// The users of the latest logins.
    logins: Recent,
    /// Sessions that a login replaces, and the user who signed in.
    replaced: Recent,
}

impl Names {
    /// The event that a change is, if it is one of a session.
    async fn event(&mut self, live: &Inner, change: Change) -> Option<Event> {
        let Change { id, kind, at, .. } = change;
        if kind == ChangeKind::Missed {
            return Some(Event::new("", EventKind::Missed, at, None));
        }
        if let (Some(old), ChangeKind::Inserted) = (session_of_tombstone(&id), kind) {
            let by = change.by.and_then(|by| self.logins.users.get(&by)?.clone());
            self.replaced.insert(old.to_owned(), by);
            return None;
        }
        // The id of a session of the Python package may be its credential.
        Id::parse(&id).filter(|id| !id.is_legacy())?;
        let (kind, user) = match kind {
            ChangeKind::Inserted => match change.user {
                Some(user) => {
                    self.logins.insert(id.clone(), Some(user.clone()));
                    (EventKind::LoggedIn, Some(user))
                }
                None => (EventKind::Created, None),
            },
            ChangeKind::Renewed => (EventKind::Renewed, live.user_of(&id).await),
            ChangeKind::Elevated => (EventKind::Elevated, live.user_of(&id).await),
            ChangeKind::Deleted | ChangeKind::Expired | ChangeKind::Missed => {
                self.deletion(live, &id, kind)
            }
        };
        Some(Event::new(&id, kind, at, user))
    }

    fn deletion(
        &mut self,
        live: &Inner,
        id: &str,
        kind: ChangeKind,
    ) -> (EventKind, Option<RawBson>) {
        let state = live.state.lock();
        if let Some(reason) = state.reasons.of(id) {
            return (EventKind::from(reason.end), reason.user.clone());
        }
        if let Some(user) = self.replaced.users.remove(id) {
            return (EventKind::Deleted, user);
        }
        // Not by a call for many that this process runs meanwhile: that call names the sessions that
        // it ends.
        let kind = match kind {
            ChangeKind::Expired => EventKind::Expired,
            _ => EventKind::Deleted,
        };
        (kind, None)
    }
}

impl From<End> for EventKind {
    fn from(end: End) -> Self {
        match end {
            End::LoggedOut => EventKind::LoggedOut,
            End::Revoked => EventKind::Revoked,
            End::Expired => EventKind::Expired,
            End::Replaced | End::Gone => EventKind::Deleted,
        }
    }
}

impl Inner {
    /// The user of a stored session, which never changes. The change of a renewal has only the id.
    async fn user_of(&self, id: &str) -> Option<RawBson> {
        let found = self
            .store
            .find(Filter::id(id), Order::OldestFirst, 0, 1)
            .await
            .ok()?;
        let user = found.first()?.get(field::USER)?;
        Some(user.to_raw_bson())
    }
}

/// The users of the sessions that were added last.
#[derive(Default)]
struct Recent {
    users: HashMap<String, Option<RawBson>>,
    order: VecDeque<String>,
}

impl Recent {
    const MAX: usize = 4096;

    fn insert(&mut self, id: String, user: Option<RawBson>) {
        if self.order.len() >= Self::MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.users.remove(&oldest);
        }
        self.order.push_back(id.clone());
        self.users.insert(id, user);
    }
}
