//! A login without a route, for tests: ordered in the request's cache and carried out with the
//! response, on the runtime of the application.

use std::sync::{Arc, OnceLock};

use bson::RawBson;
use rocket::http::{Cookie, CookieJar};
use rocket::{Orbit, Request, Rocket};
use serde::Serialize;

use crate::admin::Sessions;
use crate::config::Transport;
use crate::document::value;
use crate::error::{Error, Result};
use crate::web::kind::{Kind, sessions_of};
use crate::web::request_cache::RequestCache;

/// An ordered login of a user.
pub(crate) struct SignIn {
    user: RawBson,
    error: OnceLock<Error>,
    /// The path and the name of the cookie.
    pub(crate) path: String,
    cookie_name: String,
}

impl SignIn {
    /// Logs in, over the session that the client's cookie names.
    pub(super) async fn carry_out(
        &self,
        request: &Request<'_>,
        sessions: &Sessions,
        cache: &RequestCache,
    ) {
        let session = cache.get_or_load(request, sessions).await;
        let result = session.as_ref().map_err(Error::clone);
        if let Err(error) = result.and_then(|session| session.login(&self.user)) {
            self.failed(error);
        }
    }

    pub(super) fn failed(&self, error: Error) {
        let _ = self.error.set(error);
    }
}

/// Prepares a login of a user.
///
/// # Errors
///
/// [`Error::NotAttached`], [`Error::WrongTransport`], [`Error::BadUser`].
pub(crate) fn prepare_sign_in<K: Kind>(
    rocket: &Rocket<Orbit>,
    user: impl Serialize,
) -> Result<Arc<SignIn>> {
    let sessions = sessions_of::<K, _>(rocket).ok_or(Error::NotAttached)?;
    let config = &sessions.core.config;
    if config.transport == Transport::Bearer {
        return Err(Error::WrongTransport {
            call: "testing::sign_in",
            needs: "cookie",
        });
    }
    Ok(Arc::new(SignIn {
        user: value::encode_principal(&user).ok_or(Error::BadUser)?,
        error: OnceLock::new(),
        path: config.path.clone(),
        cookie_name: config.cookie_name.clone(),
    }))
}

/// Orders the login with a request.
pub(crate) fn order_sign_in<K: Kind>(request: &Request<'_>, order: &Arc<SignIn>) {
    if let Some(sessions) = sessions_of::<K, _>(request.rocket()) {
        let cache = RequestCache::of::<K>(request, &sessions.core.clock);
        cache.order_sign_in(Arc::clone(order));
    }
}

/// Checks that the login was stored, and that the client keeps the cookie of the response.
pub(crate) fn cookie_is_kept(
    order: &SignIn,
    sent: &CookieJar<'_>,
    kept: &CookieJar<'_>,
) -> Result<()> {
    if let Some(error) = order.error.get() {
        return Err(error.clone());
    }
    let value = |cookie: &Cookie<'_>| cookie.value().to_owned();
    let sent = sent.get(&order.cookie_name).map(value);
    match sent.is_some() && sent == kept.get(&order.cookie_name).map(value) {
        true => Ok(()),
        false => Err(Error::UntrackedClient),
    }
}
