//! Guards that check the CSRF token: [`CsrfForm`] for forms, [`CsrfHeader`] for other clients.
//!
//! The token is the second protection against cross-site requests. The first is part of every
//! `&Session` guard, which refuses an unsafe request that the browser calls cross-origin (OWASP CSRF
//! Prevention Cheat Sheet, "Fetch Metadata" and "Synchronizer Token Pattern").

use rocket::http::Status;
use rocket::{Ignite, Phase, Request, Rocket};

pub use self::form::{CsrfForm, NoFields};
pub use self::header::CsrfHeader;
pub use self::refusal::{CsrfError, CsrfRefusal, RefusedForm};
use crate::config::Transport;
use crate::error::Error;
use crate::session::Session;
use crate::web::guard::session_of;
use crate::web::kind::{Kind, sessions_of};

mod form;
mod header;
mod refusal;

/// The header with the token.
const HEADER: &str = "X-CSRF-Token";

/// Checks the token of a request: in one field, in one header, or the same session's in both.
fn check<T: AsRef<str>>(
    session: &Session,
    request: &Request<'_>,
    fields: &[T],
) -> Result<(), CsrfRefusal> {
    let headers = headers(request);
    let is_right = |token: &T| session.verify_csrf(token.as_ref());
    match (fields, headers.as_slice()) {
        ([], []) => Err(CsrfRefusal::Missing),
        ([_, _, ..], _) | (_, [_, _, ..]) => Err(CsrfRefusal::Ambiguous),
        _ if !session.has_csrf() => Err(CsrfRefusal::NoSession),
        ([field], [header]) if is_right(field) != session.verify_csrf(header) => {
            Err(CsrfRefusal::Ambiguous)
        }
        (fields, headers) => {
            let mut headers = headers.iter();
            let is_right =
                fields.iter().all(is_right) && headers.all(|token| session.verify_csrf(token));
            is_right.then_some(()).ok_or(CsrfRefusal::Mismatch)
        }
    }
}

/// Returns the tokens in the headers. A script whose page has no token sends an empty one.
fn headers<'r>(request: &'r Request<'_>) -> Vec<&'r str> {
    let headers = request.headers().get(HEADER);
    headers.filter(|token| !token.trim().is_empty()).collect()
}

/// Counts and logs a refusal, and makes its error.
fn refuse<'r, K: Kind>(
    request: &Request<'_>,
    refusal: CsrfRefusal,
    fields: Vec<(String, String)>,
) -> (Status, CsrfError<'r>) {
    if let Some(sessions) = sessions_of::<K, _>(request.rocket()) {
        sessions.core.stats.csrf_refused.count();
    }
    let route = request.route().map(|route| route.uri.to_string());
    rocket::warn!(
        "CSRF: a {} request was refused by the route {}: {refusal}",
        request.method(),
        route.as_deref().unwrap_or("(none)"),
    );
    let form = RefusedForm { refusal, fields };
    (Status::Forbidden, CsrfError::Token(form))
}

async fn session<'r, K: Kind>(
    request: &'r Request<'_>,
) -> Result<&'r Session, (Status, CsrfError<'r>)> {
    let error = match session_of::<K>(request).await {
        // A launch with such a route is refused, but a guard can be asked for without a route.
        Ok(_) if is_bearer::<K, _>(request.rocket()) => Error::WrongTransport {
            call: "CsrfForm and CsrfHeader",
            needs: "cookie",
        },
        Ok(session) => return Ok(session),
        Err(error) => error,
    };
    Err((error.status(), CsrfError::Session(error)))
}

fn is_bearer<K: Kind, P: Phase>(rocket: &Rocket<P>) -> bool {
    let sessions = sessions_of::<K, P>(rocket);
    sessions.is_some_and(|sessions| sessions.core.config.transport == Transport::Bearer)
}

/// Refuses a launch with a check that no client of the kind could pass, and that none needs.
fn abort_for_bearer<K: Kind>(rocket: &Rocket<Ignite>) -> bool {
    let is_bearer = is_bearer::<K, _>(rocket);
    if is_bearer {
        rocket::error!(
            "Sessions: a mounted route checks a CSRF token of the kind `{}`, whose `transport` is \
             \"bearer\"; no browser sends such a token by itself, so remove the guard",
            K::NAME,
        );
    }
    is_bearer
}
