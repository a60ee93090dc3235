//! The guards of sessions and of their handles: `&Session`, `&Sessions`, [`Of`] and [`SessionsOf`].

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use rocket::request::{FromRequest, Outcome, Request};
use rocket::{Ignite, Rocket, Sentinel, async_trait};

use crate::admin::Sessions;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::web::kind::{Kind, KindInfo, Main, fairing_call, sessions_of};
use crate::web::mark;
use crate::web::request_cache::RequestCache;

/// The session of a further [`Kind`]: a request guard that dereferences to [`Session`].
///
/// It fails as `&Session` does: 503, 403, and 500 when the kind's fairing is not attached (a launch
/// with such a route mounted is refused). The guards of one kind share one session in a request. A
/// request costs the sum of the kinds that it takes.
///
/// # Examples
///
/// ```
/// # use rocket::post;
/// # use rocket_mongo_session::{CsrfForm, Error, Kind, NoFields, Of};
/// # struct Admin;
/// # impl Kind for Admin {
/// #     const NAME: &'static str = "admin";
/// # }
/// #[post("/admin/logout", data = "<_button>")]
/// fn logout(admin: Of<'_, Admin>, _button: CsrfForm<NoFields, Admin>) -> Result<(), Error> {
///     admin.logout() // sessions of other kinds stay
/// }
/// ```
pub struct Of<'r, K> {
    session: &'r Session,
    kind: PhantomData<fn() -> K>,
}

impl<'r, K> Of<'r, K> {
    /// Returns the session for the whole time of the request, as a stream needs it.
    #[must_use]
    pub fn session(&self) -> &'r Session {
        self.session
    }
}

/// The handle of a further [`Kind`]: a request guard that dereferences to [`Sessions`].
///
/// ```
/// # use rocket::get;
/// # use rocket_mongo_session::{Error, Kind, SessionsOf};
/// # struct Admin;
/// # impl Kind for Admin {
/// #     const NAME: &'static str = "admin";
/// # }
/// #[get("/admins")]
/// async fn live(admins: SessionsOf<'_, Admin>) -> Result<String, Error> {
///     Ok(format!("administrators: {}", admins.count().await?))
/// }
/// ```
pub struct SessionsOf<'r, K> {
    sessions: &'r Sessions,
    kind: PhantomData<fn() -> K>,
}

impl<'r, K: Kind> SessionsOf<'r, K> {
    /// Returns the handle outside of a request, or `None` when the kind's fairing is not attached.
    #[must_use]
    pub fn fetch<P: rocket::Phase>(rocket: &'r Rocket<P>) -> Option<Self> {
        sessions_of::<K, P>(rocket).map(SessionsOf::new)
    }

    fn new(sessions: &'r Sessions) -> Self {
        SessionsOf {
            sessions,
            kind: PhantomData,
        }
    }
}

macro_rules! of_a_kind {
    ($guard:ident, $target:ty, $field:ident) => {
        impl<K> Deref for $guard<'_, K> {
            type Target = $target;

            fn deref(&self) -> &$target {
                self.$field
            }
        }

        impl<K> Clone for $guard<'_, K> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<K> Copy for $guard<'_, K> {}

        impl<K> fmt::Debug for $guard<'_, K> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.$field.fmt(f)
            }
        }

        impl<K: Kind> Sentinel for $guard<'_, K> {
            fn abort(rocket: &Rocket<Ignite>) -> bool {
                abort_without_fairing::<K>(rocket)
            }
        }
    };
}

of_a_kind!(Of, Session, session);
of_a_kind!(SessionsOf, Sessions, sessions);

#[async_trait]
impl<'r, K: Kind> FromRequest<'r> for Of<'r, K> {
    type Error = Error;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Error> {
        let session = session_of::<K>(request).await;
        outcome(session.map(|session| Of {
            session,
            kind: PhantomData,
        }))
    }
}

#[async_trait]
impl<'r, K: Kind> FromRequest<'r> for SessionsOf<'r, K> {
    type Error = Error;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Error> {
        outcome(handle_of::<K>(request).map(SessionsOf::new))
    }
}

#[async_trait]
impl<'r> FromRequest<'r> for &'r Session {
    type Error = Error;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Error> {
        outcome(session_of::<Main>(request).await)
    }
}

impl Sentinel for &Session {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        abort_without_fairing::<Main>(rocket)
    }
}

#[async_trait]
impl<'r> FromRequest<'r> for &'r Sessions {
    type Error = Error;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Error> {
        outcome(handle_of::<Main>(request))
    }
}

impl Sentinel for &Sessions {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        abort_without_fairing::<Main>(rocket)
    }
}

/// Returns the request's session of a kind, which the first guard loads.
pub(super) async fn session_of<'r, K: Kind>(request: &'r Request<'_>) -> Result<&'r Session> {
    let sessions = handle_of::<K>(request)?;
    let core = &sessions.core;
    let cache = RequestCache::of::<K>(request, &core.clock);
    let is_first = cache.loaded().is_none();
    let loaded = cache.get_or_load(request, sessions).await;
    if !cache.is_settled() {
        mark::guard_asks(
            request,
            &KindInfo::of::<K>(),
            &core.config,
            loaded,
            is_first,
        );
    }
    let session = loaded.as_ref().map_err(Error::clone)?;
    if cache.is_committed() {
        session.make_read_only(); // the catcher of a failed commit asks
    }
    Ok(session)
}

fn handle_of<'r, K: Kind>(request: &'r Request<'_>) -> Result<&'r Sessions> {
    let sessions = sessions_of::<K, _>(request.rocket());
    // Rocket asks no `Sentinel` of catchers, so a guard can run without the fairing.
    sessions.ok_or(Error::NotAttached).inspect_err(Error::log)
}

/// Returns a guard's outcome: an error with the status that it stands for.
fn outcome<T>(result: Result<T>) -> Outcome<T, Error> {
    match result {
        Ok(value) => Outcome::Success(value),
        Err(error) => Outcome::Error((error.status(), error)),
    }
}

/// Refuses a launch in which a mounted route has a guard of a kind whose fairing is not attached.
pub(super) fn abort_without_fairing<K: Kind>(rocket: &Rocket<Ignite>) -> bool {
    if sessions_of::<K, _>(rocket).is_some() {
        return false;
    }
    rocket::error!(
        "Sessions: a mounted route asks for a session of the kind `{}`, but its fairing is not \
         attached; add `.attach({})`",
        K::NAME,
        fairing_call::<K>(),
    );
    true
}
