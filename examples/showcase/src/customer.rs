//! Request guards for customers and for administrators.

use rocket::State;
use rocket::http::Status;
use rocket::outcome::{Outcome, try_outcome};
use rocket::request::{FromRequest, Outcome as Guarded, Request};
use rocket_mongo_session::{Error, Kind, Of, Session};

use crate::failure::{Failure, Result};
use crate::users::{ADMIN, User, Users};

/// A request of a signed-in user; 401 otherwise.
pub struct Customer(pub User);

/// The kind of the administrator's sessions, beside the one that the same person has as a customer: with
/// a short timeout, and a cookie that browsers send from the shop's own pages alone (see `Rocket.toml`).
pub struct Admin;

impl Kind for Admin {
    const NAME: &'static str = "admin";
}

/// A request of an administrator; 401 for visitors, and for administrators whose session of this kind
/// has ended; 403 for other users.
pub struct Administrator;

/// The account of the session's user, looked up once for each request. `None` for a closed account,
/// even if sessions remain.
pub async fn signed_in<'r>(
    request: &'r Request<'_>,
    session: &Session,
) -> &'r Result<Option<User>> {
    let find = async {
        let Some(name) = session.user::<String>()? else {
            return Ok(None);
        };
        match request.guard::<&State<Users>>().await {
            Outcome::Success(users) => users.find(&name).await,
            _ => Ok(None),
        }
    };
    request.local_cache_async(find).await
}

/// Checks again that the session exists, and stores its changes so far.
///
/// Guards run before the form is read, and a client may send a form slowly. A user who was signed out
/// meanwhile must not act, so a handler calls this before it changes anything outside of the session.
pub async fn still_signed_in(session: &Session) -> Result<()> {
    session.touch(); // so that `save` writes
    session.save().await.map_err(|error| match error {
        Error::Gone => Failure::SignedOut,
        other => Failure::from(other),
    })
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Customer {
    type Error = Option<Failure>;

    async fn from_request(request: &'r Request<'_>) -> Guarded<Self, Self::Error> {
        let session = try_outcome!(
            request
                .guard::<&Session>()
                .await
                .map_error(|(status, error)| (status, Some(Failure::from(error))))
        );
        match signed_in(request, session).await {
            Ok(Some(user)) => Outcome::Success(Customer(user.clone())),
            Ok(None) => Outcome::Error((Status::Unauthorized, None)),
            Err(failure) => Outcome::Error((failure.status(), Some(failure.clone()))),
        }
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Administrator {
    type Error = Option<Failure>;

    async fn from_request(request: &'r Request<'_>) -> Guarded<Self, Self::Error> {
        let session = try_outcome!(
            request
                .guard::<Of<'_, Admin>>()
                .await
                .map_error(|(status, error)| (status, Some(Failure::from(error))))
        );
        match session.user::<String>() {
            Ok(Some(name)) if name == ADMIN => return Outcome::Success(Administrator),
            Ok(_) => {}
            Err(error) => {
                let failure = Failure::from(error);
                return Outcome::Error((failure.status(), Some(failure)));
            }
        }
        let Customer(user) = try_outcome!(request.guard::<Customer>().await);
        let status = match user.is_admin() {
            true => Status::Unauthorized,
            false => Status::Forbidden,
        };
        Outcome::Error((status, None))
    }
}
