//! The guards: `&Session` and `&Sessions`.

use rocket::http::Status;
use rocket::request::{FromRequest, Outcome, Request};
use rocket::{Ignite, Rocket, Sentinel, async_trait};

use crate::admin::Sessions;
use crate::error::Error;
use crate::session::Session;

use crate::web::load;
pub(crate) use crate::web::request_cache::{Mark, RequestCache};

#[async_trait]
impl<'r> FromRequest<'r> for &'r Session {
    type Error = Error;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Error> {
        let Some(sessions) = request.rocket().state::<Sessions>() else {
            Error::NotAttached.log();
            return Outcome::Error((Status::InternalServerError, Error::NotAttached));
        };
        let core = &sessions.core;
        let cache = RequestCache::of(request, &core.clock);
        let asked_before = cache.asked().is_some();
        let load = || load::load(request, sessions, cache.started());
        let loaded = cache.session(load).await;
        if !core.config.set_on_exception && !cache.is_judged() && !Mark::is_set(request) {
            // Either nobody had asked before, or a catcher asks, after the handler's answer was
            // dropped: what it changes itself belongs to its own.
            if let (true, Ok(session)) = (asked_before, loaded) {
                session.discard();
            }
            Mark::set(request);
        }
        match loaded {
            Ok(session) => Outcome::Success(session),
            Err(error) => Outcome::Error((error.status(), error.clone())),
        }
    }
}

impl Sentinel for &Session {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        not_attached(rocket)
    }
}

#[async_trait]
impl<'r> FromRequest<'r> for &'r Sessions {
    type Error = Error;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Error> {
        match request.rocket().state::<Sessions>() {
            Some(sessions) => Outcome::Success(sessions),
            None => {
                Error::NotAttached.log();
                Outcome::Error((Status::InternalServerError, Error::NotAttached))
            }
        }
    }
}

impl Sentinel for &Sessions {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        not_attached(rocket)
    }
}

pub(crate) fn not_attached(rocket: &Rocket<Ignite>) -> bool {
    if rocket.state::<Sessions>().is_some() {
        return false;
    }
    rocket::error!("A mounted route asks for a session, but no session fairing is attached.");
    rocket::info_!("Attach one: `rocket.attach(Sessions::fairing())`.");
    true
}
