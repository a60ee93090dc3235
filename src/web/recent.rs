//! A guard for routes that only a recent login may use.

use std::time::Duration;

use rocket::http::Status;
use rocket::outcome::Outcome;
use rocket::request::{FromRequest, Outcome as GuardOutcome, Request};
use rocket::{Ignite, Rocket, Sentinel, async_trait};

use crate::error::Error;
use crate::session::Session;
use crate::web::guard::not_attached;

/// Proof that the user logged in, or was elevated, at most `SECONDS` ago: a request guard for
/// sensitive routes, as to change a password (OWASP ASVS 7.5.1, 7.5.3).
///
/// When the login is older, or nobody is logged in, the guard answers **401** through the
/// application's catchers, which can send the user to the login page. What counts is
/// [`Session::created`], which nothing but a login or an elevation moves.
///
/// ```
/// use rocket::post;
/// use rocket_mongo_session::{RecentLogin, Session};
///
/// #[post("/account/close")]
/// fn close(_recent: RecentLogin<300>, session: &Session) {
///     // logged in within the last five minutes
/// #   let _ = session;
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RecentLogin<const SECONDS: u64>;

#[async_trait]
impl<'r, const SECONDS: u64> FromRequest<'r> for RecentLogin<SECONDS> {
    /// `None`: nobody is logged in, or the login is older. `Some`: there is no session to ask, as of
    /// `&Session`.
    type Error = Option<Error>;

    async fn from_request(request: &'r Request<'_>) -> GuardOutcome<Self, Option<Error>> {
        match request.guard::<&Session>().await {
            Outcome::Success(session) if session.logged_in_within(Duration::from_secs(SECONDS)) => {
                Outcome::Success(RecentLogin)
            }
            Outcome::Success(_) => Outcome::Error((Status::Unauthorized, None)),
            Outcome::Error((status, error)) => Outcome::Error((status, Some(error))),
            Outcome::Forward(status) => Outcome::Forward(status),
        }
    }
}

impl<const SECONDS: u64> Sentinel for RecentLogin<SECONDS> {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        not_attached(rocket)
    }
}
