//! The future of a session's end.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rocket::futures::FutureExt;
use rocket::futures::channel::oneshot;
use rocket::futures::future::Shared;

use super::{Live, Subscriber};
use crate::debug::opaque_debug;
use crate::record::token::Id;
use crate::store::Touch;

/// A future that resolves when a session has ended, wherever that happened: see
/// [`Session::ended`](crate::Session::ended).
///
/// It belongs to no request: move it into a stream, a socket or a task. All clones resolve
/// at the same time, with the same end, and give it again when they are polled again. Dropping the
/// last one ends the subscription.
#[derive(Clone)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct Ended {
    // Dropped before `subscription`: dropping the sender of a subscription that is gone wakes no task, so
    // that it can be done under the lock (`Registry::prune`).
    end: Shared<oneshot::Receiver<End>>,
    subscription: Arc<Subscription>,
}

/// Why a session ended.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// [`logout`](crate::Session::logout), in this process.
    LoggedOut,
    /// It was revoked in this process, by a call of [`Sessions`](crate::Sessions) or by
    /// `max_per_user`.
    Revoked,
    /// A login of the same browser took its place, in any process.
    Replaced,
    /// By its idle or its absolute timeout.
    Expired,
    /// It ended elsewhere, and the reason is not known here: a logout or a revocation in another
    /// process, a deletion by hand, a dropped collection. Or it was never stored.
    Gone,
}

/// What all clones of an [`Ended`] share.
pub(super) struct Subscription {
    live: Live,
    /// The session that it follows, once that is stored.
    pub(super) id: OnceLock<Id>,
}

pub(super) fn subscribe(live: &Live) -> (Ended, Subscriber) {
    let (tell, end) = oneshot::channel();
    let number = live.0.state.lock().registry.next_number();
    let subscription = Arc::new(Subscription {
        live: live.clone(),
        id: OnceLock::new(),
    });
    let subscriber = Subscriber::new(tell, number, &subscription);
    let end = end.shared();
    (Ended { end, subscription }, subscriber)
}

impl Ended {
    /// Records that the session was used: an open stream or socket does not keep it alive by
    /// itself.
    ///
    /// Call it for each message of a client; uses within a second, or a hundredth of the idle
    /// timeout, are recorded once. The record is written in the background, with those of other
    /// sessions in one command. A session that has ended stays ended, and one that is not stored yet
    /// is not touched. No round trip.
    pub fn touch(&self) {
        let inner = &self.subscription.live.0;
        let Some(id) = self.subscription.id.get() else {
            return;
        };
        let (now, config) = (inner.clock.now(), &inner.config);
        let touch = {
            let mut state = inner.state.lock();
            let Some(times) = state.registry.times(id.as_str()) else {
                return;
            };
            let expiry = times.own.expiry(config);
            let precision = expiry.idle.map_or(MAX_PRECISION, |idle| idle / 100);
            let is_recent = now.since(times.accessed) < precision.min(MAX_PRECISION);
            if is_recent || times.ends_at(config) < now {
                return;
            }
            let expires = expiry.expires_at(times.created, now);
            times.accessed = now;
            times.expires = times.expires.max(expires);
            Touch {
                id: id.as_str().to_owned(),
                accessed: now,
                expires,
            }
        };
        inner.store.touch(touch);
    }
}

/// How much of the idle time may pass unrecorded between two uses.
const MAX_PRECISION: Duration = Duration::from_secs(1);

impl Future for Ended {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<End> {
        // A `Shared` that has resolved panics when it is polled again, as do its later clones. An earlier
        // clone resolves again.
        let earlier = self.end.clone();
        let end = ready!(self.end.poll_unpin(context));
        self.end = earlier;
        // Without a sender the response was sent without storing a session.
        Poll::Ready(end.unwrap_or(End::Gone))
    }
}

opaque_debug!(Ended);
