//! The session's half of an answer: commit first, then the headers, or the application's own 503.

use std::io::Cursor;
use std::panic::AssertUnwindSafe;

use rocket::catcher::Catcher;
use rocket::futures::FutureExt;
use rocket::http::{Header, Status};
use rocket::{Orbit, Request, Response, Rocket};

use crate::admin::Sessions;
use crate::error::{Error, cause};
use crate::session::CookieChange;
use crate::web::cookie;
use crate::web::guard::{Mark, RequestCache};

/// Headers that describe an answer's content, stand for it, or speak for a request that has failed
/// since. Beside those that begin with `Content-`, but for the policies.
const OF_CONTENT: [&str; 22] = [
    "Set-Cookie",
    "Location",
    "ETag",
    "Last-Modified",
    "Cache-Control",
    "Expires",
    "Pragma",
    "Age",
    "Link",
    "Accept-Ranges",
    "Refresh",
    // The browser would forget a session that goes on.
    "Clear-Site-Data",
    "Digest",
    "Repr-Digest",
    // A server in front would send a file in the place of this answer.
    "X-Accel-Redirect",
    "X-Sendfile",
    "X-Lighttpd-Send-File",
    "X-Reproxy-URL",
    "HX-Redirect",
    "HX-Location",
    "HX-Push-Url",
    "HX-Trigger",
];

/// Headers that speak to one kind of cache alone, which then looks at no other.
const OF_CACHES: [&str; 3] = ["Surrogate-Control", "X-Accel-Expires", "Edge-Control"];

/// Decides what of a request's changes may stay, once it is known who answers, and before the
/// response fairings that follow change the session themselves.
pub(super) async fn judge(sessions: &Sessions, request: &Request<'_>, response: &mut Response<'_>) {
    let core = &sessions.core;
    let cache = RequestCache::of(request, &core.clock);
    let Some(asked) = cache.asked() else {
        return;
    };
    if cache.judge() {
        return;
    }
    // Where no exception keeps anything, the mark tells one.
    let is_exception = !core.config.set_on_exception && !take_mark(response);
    let Ok(session) = asked else {
        return;
    };
    if is_exception || (session.is_pending() && is_rockets_own(request, response).await) {
        session.discard();
    }
}

/// Whether the answer is Rocket's own page for a 5xx, which no catcher of the application has
/// answered: it had none, or the catcher failed as well.
async fn is_rockets_own(request: &Request<'_>, response: &mut Response<'_>) -> bool {
    let status = response.status();
    if status.code < 500 {
        return false;
    }
    let Some(mut own) = run(&Catcher::default(), status, request).await else {
        return false;
    };
    let looks_alike = own.content_type() == response.content_type()
        && own.body().preset_size() == response.body().preset_size();
    if !looks_alike {
        return false;
    }
    let (own, body) = (own.body_mut().to_bytes(), response.body_mut().to_bytes());
    let (Ok(own), Ok(body)) = (own.await, body.await) else {
        return false;
    };
    let is_same = own == body;
    response.set_sized_body(body.len(), Cursor::new(body));
    is_same
}

pub(super) async fn complete<'r>(
    sessions: &Sessions,
    request: &'r Request<'_>,
    response: &mut Response<'r>,
) {
    let cache = RequestCache::of(request, &sessions.core.clock);
    let Some(asked) = cache.asked() else {
        return; // nobody asked for the session
    };
    vary(response);
    let Ok(session) = asked else {
        // The guard has said why. `Option<&Session>` may have answered all the same, for one
        // browser alone.
        keep_private(response);
        return;
    };
    // Rocket does not catch a panic here: the connection would be closed without an answer.
    let finished = AssertUnwindSafe(session.finish()).catch_unwind().await;
    let result = finished.unwrap_or_else(|_| Err(Error::store("committing a session", Panicked)));
    let config = &sessions.core.config;
    match result {
        Ok(CookieChange::None) => keep_private(response),
        Ok(CookieChange::Send(token, life)) => {
            send(response, cookie::sending(&token, life, config));
        }
        Ok(CookieChange::Remove) => send(response, cookie::removing(config)),
        Err(error) => {
            error.log();
            // Boxed, so that the answers that do not fail do not carry the room for it.
            Box::pin(fail(request, response, &config.cookie_name)).await;
        }
    }
}

/// Removes the guard's mark; whether it was there, which means that who asked for the session is
/// who answers.
fn take_mark(response: &mut Response<'_>) -> bool {
    filter_cookies(response, |cookie| !Mark::is(cookie))
}

/// An answer that depends on the session is not another browser's.
fn vary(response: &mut Response<'_>) {
    // Of a few headers a comparison of all costs less than the hash of one.
    let headers = response.headers().iter();
    let lines = headers.filter(|header| header.name() == "Vary");
    let lines: Vec<String> = lines.map(|header| header.value().to_owned()).collect();
    let mut names = lines.iter().flat_map(|line| line.split(',')).map(str::trim);
    if names.any(|name| name == "*" || name.eq_ignore_ascii_case("cookie")) {
        return;
    }
    match lines.is_empty() {
        true => response.set_raw_header("Vary", "Cookie"),
        // In one line: who reads only the first of several would miss ours.
        false => response.set_raw_header("Vary", lines.join(", ") + ", Cookie"),
    };
}

fn keep_private(response: &mut Response<'_>) {
    let mut headers = response.headers().iter();
    if !headers.any(|header| header.name() == "Cache-Control") {
        drop(headers);
        response.set_raw_header("Cache-Control", "private, no-cache");
    }
}

fn send(response: &mut Response<'_>, cookie: rocket::http::Cookie<'static>) {
    // A handler that sets a cookie of our name by hand does not get to send two.
    remove_cookie(response, cookie.name());
    response.adjoin_header(Header::from(&cookie));
    // No cache may keep an answer that carries a token, whatever the application says.
    let said: Vec<String> = response
        .headers()
        .iter()
        .filter(|header| speaks_to_caches(header.name().as_str()) || header.name() == "Expires")
        .map(|header| header.name().as_str().to_owned())
        .collect();
    for name in said {
        response.remove_header(&name);
    }
    response.set_raw_header("Cache-Control", "no-store");
}

/// Removes every `Set-Cookie` of one name.
fn remove_cookie(response: &mut Response<'_>, name: &str) {
    filter_cookies(response, |cookie| {
        let value = cookie.strip_prefix(name);
        !value.is_some_and(|rest| rest.starts_with('='))
    });
}

/// Keeps the `Set-Cookie` headers that are to stay; whether any was removed.
fn filter_cookies(response: &mut Response<'_>, stays: impl Fn(&str) -> bool) -> bool {
    let (mut stay, mut goes) = (Vec::new(), false);
    for cookie in response.headers().get("Set-Cookie") {
        if stays(cookie) {
            stay.push(cookie.to_owned());
        } else {
            goes = true;
        }
    }
    if !goes {
        return false;
    }
    response.remove_header("Set-Cookie");
    for cookie in stay {
        response.adjoin_raw_header("Set-Cookie", cookie);
    }
    true
}

/// Replaces the answer by the application's own for 503: the session could not be saved, and the
/// browser must not be told otherwise.
async fn fail<'r>(request: &'r Request<'_>, response: &mut Response<'r>, cookie_name: &str) {
    let status = Status::ServiceUnavailable;
    let catcher = find_catcher(request.rocket(), status, request);
    let answer = match catcher {
        Some(catcher) => run(catcher, status, request).await,
        None => None,
    };
    let answer = match answer {
        Some(answer) => Some(answer),
        None => run(&Catcher::default(), status, request).await,
    };
    let mut answer = answer.unwrap_or_else(|| {
        let mut bare = Response::new();
        bare.set_status(status);
        bare
    });
    // What the catcher put into the jar has no way out any more: Rocket took the jar's before.
    let kept: Vec<Header<'static>> = response
        .headers()
        .iter()
        .filter(|header| !describes_content(header.name().as_str()))
        .filter(|header| !answer.headers().contains(header.name().as_str()))
        .map(|header| Header::new(header.name().to_string(), header.value().to_owned()))
        .collect();
    for header in kept {
        answer.adjoin_header(header);
    }
    remove_cookie(&mut answer, cookie_name);
    vary(&mut answer);
    answer.set_raw_header("Cache-Control", "no-store");
    *response = answer;
}

/// Whether a header says to some caches what `Cache-Control` says to all (RFC 9213, and before it).
fn speaks_to_caches(name: &str) -> bool {
    const ENDING: &str = "-cache-control";
    let at = name.len().checked_sub(ENDING.len());
    let end = at.and_then(|at| name.get(at..));
    end.is_some_and(|end| end.eq_ignore_ascii_case(ENDING))
        || OF_CACHES
            .iter()
            .any(|other| name.eq_ignore_ascii_case(other))
}

fn describes_content(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("content-") && !name.starts_with("content-security-policy")
        || speaks_to_caches(&name)
        || OF_CONTENT
            .iter()
            .any(|other| name.eq_ignore_ascii_case(other))
}

/// The application's catcher for a status, as Rocket would choose it.
fn find_catcher<'a>(
    rocket: &'a Rocket<Orbit>,
    status: Status,
    request: &Request<'_>,
) -> Option<&'a Catcher> {
    rocket
        .catchers()
        .filter(|catcher| catcher.code.is_none_or(|code| code == status.code))
        .filter(|catcher| {
            let base = catcher.base.path().segments();
            base.prefix_of(request.uri().path().segments())
        })
        .max_by_key(|catcher| {
            let depth = catcher.base.path().segments().len();
            (depth, catcher.code.is_some())
        })
}

/// Runs a catcher; `None` when it fails or panics.
async fn run<'r>(
    catcher: &Catcher,
    status: Status,
    request: &'r Request<'_>,
) -> Option<Response<'r>> {
    let handler = AssertUnwindSafe(|| catcher.handler.handle(status, request));
    let future = std::panic::catch_unwind(handler).ok()?;
    AssertUnwindSafe(future).catch_unwind().await.ok()?.ok()
}

cause!(Panicked, "the store panicked");
