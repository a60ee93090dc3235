//! [`CsrfHeader`].

use std::fmt;
use std::marker::PhantomData;

use rocket::request::{FromRequest, Outcome};
use rocket::{Ignite, Request, Rocket, Sentinel, async_trait};

use super::{CsrfError, abort_for_bearer, check, refuse, session};
use crate::web::guard::abort_without_fairing;
use crate::web::kind::{Kind, Main};

/// Proof that the CSRF token in the request's `X-CSRF-Token` header was checked: a request guard for
/// `fetch()` and other clients that send no form.
///
/// A refusal is a 403 through the application's catchers, and the log has the reason.
///
/// # Examples
///
/// ```
/// use rocket::{post, serde::json::Json};
/// use rocket_mongo_session::{CsrfHeader, Error, Session};
///
/// #[post("/count", data = "<count>")]
/// fn count(_checked: CsrfHeader, session: &Session, count: Json<u32>) -> Result<(), Error> {
///     session.set("count", &*count)
/// }
/// ```
#[doc(alias("X-CSRF-Token", "XSRF", "fetch", "ajax"))]
pub struct CsrfHeader<K = Main>(PhantomData<fn() -> K>);

impl<K> Clone for CsrfHeader<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for CsrfHeader<K> {}

impl<K> fmt::Debug for CsrfHeader<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CsrfHeader")
    }
}

#[async_trait]
impl<'r, K: Kind> FromRequest<'r> for CsrfHeader<K> {
    type Error = CsrfError<'r>;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, CsrfError<'r>> {
        let session = match session::<K>(request).await {
            Ok(session) => session,
            Err(error) => return Outcome::Error(error),
        };
        match check::<&str>(session, request, &[]) {
            Ok(()) => Outcome::Success(CsrfHeader(PhantomData)),
            Err(refusal) => Outcome::Error(refuse::<K>(request, refusal, Vec::new())),
        }
    }
}

impl<K: Kind> Sentinel for CsrfHeader<K> {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        abort_without_fairing::<K>(rocket) || abort_for_bearer::<K>(rocket)
    }
}
