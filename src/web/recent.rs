//! The guard [`RecentLogin`].

use std::time::Duration;

use rocket::http::Status;
use rocket::outcome::Outcome;
use rocket::request::{FromRequest, Outcome as GuardOutcome, Request};
use rocket::{Ignite, Rocket, Sentinel, async_trait};

use crate::error::Error;
use crate::session::Session;
use crate::web::guard::abort_without_fairing;

/// Proof that the user logged in, or was elevated, at most `SECONDS` ago: a request guard for
/// sensitive routes, such as the change of a password (OWASP ASVS 7.5.1, 7.5.3).
///
/// If the login is older, or nobody is logged in, the guard answers **401** through the application's
/// catchers, which can redirect to the login page. The time of the login is [`Session::created`].
///
/// # Examples
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
#[doc(alias("sudo mode", "step-up", "reauthentication", "fresh login"))]
#[non_exhaustive]
pub struct RecentLogin<const SECONDS: u64>;

#[async_trait]
impl<'r, const SECONDS: u64> FromRequest<'r> for RecentLogin<SECONDS> {
    /// `None` if nobody is logged in or the login is older; `Some` if `&Session` failed.
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
        abort_without_fairing(rocket)
    }
}
