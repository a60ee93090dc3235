//! For the tests of applications: a [`Clock`] that a test can advance, and logins without the login
//! route.

use rocket::http::Method;
use rocket::local::{asynchronous, blocking};
use serde::Serialize;

pub use crate::clock::Clock;
use crate::error::Result;
use crate::web::{Kind, Main, cookie_is_kept, order_sign_in, prepare_sign_in};

#[cfg(feature = "unstable-store")]
#[doc(hidden)]
pub mod conformance;

/// Signs a user in without the application's login route: the cookie of a new session is in the
/// client's jar.
///
/// It is [`login`](crate::Session::login), over the session that the client has. No handler runs. The
/// application's fairings do, and its catcher for 404, for a request of the method TRACE to the
/// cookie's `path`.
///
/// # Examples
///
/// ```
/// use rocket::local::asynchronous::Client;
/// use rocket::{get, routes};
/// use rocket_mongo_session::{Error, Session, Sessions, testing};
///
/// #[get("/me")]
/// fn me(session: &Session) -> Result<Option<String>, Error> {
///     session.user()
/// }
///
/// # rocket::execute(async {
/// let rocket = rocket::build().attach(Sessions::in_memory()).mount("/", routes![me]);
/// let client = Client::tracked(rocket).await.unwrap();
/// testing::sign_in(&client, "alice").await.unwrap();
/// assert_eq!(client.get("/me").dispatch().await.into_string().await.unwrap(), "alice");
/// # });
/// ```
///
/// # Errors
///
/// [`Error::UntrackedClient`](crate::Error::UntrackedClient) when the client keeps no cookies,
/// [`Error::NotAttached`](crate::Error::NotAttached) without the fairing, and what a login fails with.
pub async fn sign_in(client: &asynchronous::Client, user: impl Serialize + Send) -> Result<()> {
    sign_in_of::<Main>(client, user).await
}

/// Signs a user in to a further [`Kind`] of session, as [`sign_in`] does.
///
/// # Errors
///
/// Those of [`sign_in`]; [`Error::WrongTransport`](crate::Error::WrongTransport) for a kind with
/// `transport = "bearer"`.
pub async fn sign_in_of<K: Kind>(
    client: &asynchronous::Client,
    user: impl Serialize + Send,
) -> Result<()> {
    let order = prepare_sign_in::<K>(client.rocket(), user)?;
    let request = client.req(Method::Trace, order.path.as_str());
    order_sign_in::<K>(request.inner(), &order);
    let response = request.dispatch().await;
    cookie_is_kept(&order, response.cookies(), &client.cookies())
}

/// Signs a user in without the application's login route, with Rocket's blocking client; see
/// [`sign_in`].
///
/// # Examples
///
/// ```
/// # use rocket::local::blocking::Client;
/// # use rocket_mongo_session::{Sessions, testing};
/// let client = Client::tracked(rocket::build().attach(Sessions::in_memory())).unwrap();
/// testing::sign_in_blocking(&client, "alice").unwrap();
/// assert!(client.cookies().get("session").is_some());
/// ```
///
/// # Errors
///
/// Those of [`sign_in`].
pub fn sign_in_blocking(client: &blocking::Client, user: impl Serialize + Send) -> Result<()> {
    sign_in_blocking_of::<Main>(client, user)
}

/// Signs a user in to a further [`Kind`] of session, with Rocket's blocking client.
///
/// # Errors
///
/// Those of [`sign_in_of`].
pub fn sign_in_blocking_of<K: Kind>(
    client: &blocking::Client,
    user: impl Serialize + Send,
) -> Result<()> {
    let order = prepare_sign_in::<K>(client.rocket(), user)?;
    let request = client.req(Method::Trace, order.path.as_str());
    order_sign_in::<K>(request.inner(), &order);
    let response = request.dispatch();
    cookie_is_kept(&order, response.cookies(), &client.cookies())
}
