//! Follows the session to its end.

use super::{Inner, Session};
use crate::commit::Core;
use crate::live::{Ended, Followed};
use crate::record::token::Id;
use crate::state::{Base, Stored};

impl Session {
    /// Returns a future that resolves when this session has ended, wherever that happened, with the
    /// reason as far as this process knows it: [`End`](crate::End).
    ///
    /// For streams, websockets and long requests, which `select!` on it. Within this process it
    /// resolves at once, in other processes within a second, on every topology. A session ends by
    /// logout, revocation, expiry, deletion, and by a login that replaces it; a renewal and an elevation
    /// do not end it. While the database cannot be reached nothing ends, and what ended meanwhile is
    /// reported afterwards. A shutdown does not resolve it; use Rocket's [`Shutdown`](rocket::Shutdown)
    /// for that.
    ///
    /// Called before a [`login`](Session::login) of the same request it is about the old session, after
    /// it about the new one. On a session that is not stored it follows the one that this request
    /// stores; if the response is sent without one, it is [`End::Gone`](crate::End::Gone).
    ///
    /// While at least one session is followed, the process asks the database about all of them with one
    /// find every half a second. An open stream does not keep its session alive: see
    /// [`Ended::touch`](crate::Ended::touch).
    ///
    /// # Examples
    ///
    /// ```
    /// # use rocket::get;
    /// use std::time::Duration;
    ///
    /// use rocket::response::stream::{Event, EventStream};
    /// use rocket::tokio::{select, time};
    /// use rocket_mongo_session::Session;
    ///
    /// #[get("/ticks")]
    /// fn ticks(session: &Session) -> EventStream![] {
    ///     let mut ended = session.ended();
    ///     let mut tick = time::interval(Duration::from_secs(1));
    ///     EventStream! {
    ///         loop {
    ///             select! {
    ///                 _ = tick.tick() => yield Event::data("tick"),
    ///                 end = &mut ended => {
    ///                     yield Event::data(format!("{end:?}")).event("end");
    ///                     break;
    ///                 }
    ///             }
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// No round trip.
    pub fn ended(&self) -> Ended {
        let live = &self.core.live;
        let (ended, subscriber) = live.subscribe();
        let mut inner = self.lock();
        let followed = match &inner.state.base {
            Base::Stored(stored) => Some(followed(stored)),
            Base::Empty | Base::Login(_) if inner.state.is_committed => {
                inner.stored_last.as_deref().cloned()
            }
            Base::Empty | Base::Login(_) => {
                inner.subscribers.push(subscriber);
                return ended;
            }
        };
        drop(inner);
        match followed {
            Some(followed) => live.follow(subscriber, followed),
            None => drop(subscriber), // which means that nothing was stored
        }
        ended
    }
}

fn followed(stored: &Stored) -> Followed {
    let meta = &stored.record.meta;
    Followed {
        id: meta.id.clone(),
        user: meta.user.clone(),
        times: Some(meta.times),
    }
}

impl Inner {
    /// The request has stored a new session: the subscribers that wait for it follow it.
    pub(super) fn follow_new(&mut self, core: &Core, id: &Id, is_last: bool) {
        if self.subscribers.is_empty() && !is_last {
            return;
        }
        let followed = Followed {
            id: id.clone(),
            user: self.state.user().cloned(),
            times: None,
        };
        for subscriber in self.subscribers.drain(..) {
            core.live.follow(subscriber, followed.clone());
        }
        self.stored_last = is_last.then(|| Box::new(followed));
    }
}
