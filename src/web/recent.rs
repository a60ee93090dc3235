//! The guard [`RecentLogin`].

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use rocket::http::Status;
use rocket::request::{FromRequest, Outcome, Request};
use rocket::{Ignite, Rocket, Sentinel, async_trait};

use crate::error::Error;
use crate::web::guard::{abort_without_fairing, session_of};
use crate::web::kind::{Kind, Main};

/// Proof that the user logged in, or was elevated, at most `SECONDS` ago: a request guard for
/// sensitive routes, such as the change of a password (OWASP ASVS 7.5.1, 7.5.3).
///
/// If the login is older, or no user is logged in, the guard responds with **401** through the application's
/// catchers, which can redirect to the login page. The time of the login is
/// [`Session::created`](crate::Session::created). `RecentLogin<300, Admin>` asks the session of a
/// further [`Kind`].
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
#[doc(alias("sudo mode", "step-up", "reauthentication", "fresh login"))]
pub struct RecentLogin<const SECONDS: u64, K = Main>(PhantomData<fn() -> K>);

impl<const SECONDS: u64, K> Clone for RecentLogin<SECONDS, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<const SECONDS: u64, K> Copy for RecentLogin<SECONDS, K> {}

impl<const SECONDS: u64, K> fmt::Debug for RecentLogin<SECONDS, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecentLogin")
    }
}

#[async_trait]
impl<'r, const SECONDS: u64, K: Kind> FromRequest<'r> for RecentLogin<SECONDS, K> {
    /// `None` if no user is logged in or the login is older; `Some` if the session's guard failed.
    type Error = Option<Error>;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Option<Error>> {
        match session_of::<K>(request).await {
            Ok(session) if session.logged_in_within(Duration::from_secs(SECONDS)) => {
                Outcome::Success(RecentLogin(PhantomData))
            }
            Ok(_) => Outcome::Error((Status::Unauthorized, None)),
            Err(error) => Outcome::Error((error.status(), Some(error))),
        }
    }
}

impl<const SECONDS: u64, K: Kind> Sentinel for RecentLogin<SECONDS, K> {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        abort_without_fairing::<K>(rocket)
    }
}
