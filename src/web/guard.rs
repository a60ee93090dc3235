//! The guards `&Session` and `&Sessions`.

use rocket::http::Status;
use rocket::request::{FromRequest, Outcome, Request};
use rocket::{Ignite, Rocket, Sentinel, async_trait};

use crate::admin::Sessions;
use crate::error::Error;
use crate::session::Session;
use crate::web::request_cache::RequestCache;
use crate::web::{load, mark};

#[async_trait]
impl<'r> FromRequest<'r> for &'r Session {
    type Error = Error;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Error> {
        let Some(sessions) = request.rocket().state::<Sessions>() else {
            return not_attached();
        };
        let core = &sessions.core;
        let cache = RequestCache::of(request, &core.clock);
        let is_first = cache.loaded().is_none();
        let load = || load::load(request, sessions, cache.started(), cache.is_head());
        let loaded = cache.get_or_load(load).await;
        if !cache.is_settled() && !mark::is_set(request) {
            // Either this is the first guard, or a catcher asks after Rocket dropped the handler's
            // response and with it the mark.
            if let (false, false, Ok(session)) = (is_first, core.config.set_on_exception, loaded) {
                session.discard();
            }
            mark::set(request);
        }
        match loaded {
            Ok(session) => Outcome::Success(session),
            Err(error) => Outcome::Error((error.status(), error.clone())),
        }
    }
}

impl Sentinel for &Session {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        abort_without_fairing(rocket)
    }
}

#[async_trait]
impl<'r> FromRequest<'r> for &'r Sessions {
    type Error = Error;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Error> {
        match request.rocket().state::<Sessions>() {
            Some(sessions) => Outcome::Success(sessions),
            None => not_attached(),
        }
    }
}

impl Sentinel for &Sessions {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        abort_without_fairing(rocket)
    }
}

/// Rocket asks no `Sentinel` of catchers, so a guard can run without the fairing.
fn not_attached<S>() -> Outcome<S, Error> {
    Error::NotAttached.log();
    Outcome::Error((Status::InternalServerError, Error::NotAttached))
}

/// Refuses a launch in which a mounted route has a session guard and no fairing is attached.
pub(super) fn abort_without_fairing(rocket: &Rocket<Ignite>) -> bool {
    if rocket.state::<Sessions>().is_some() {
        return false;
    }
    rocket::error!(
        "Sessions: a mounted route asks for a session, but no session fairing is attached; add \
         `.attach(Sessions::fairing())`"
    );
    true
}
