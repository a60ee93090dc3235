//! The response half: decides which changes are kept, commits them, and sets the headers.

use std::panic::AssertUnwindSafe;

use rocket::catcher::Catcher;
use rocket::futures::FutureExt;
use rocket::http::{Cookie, Header, Status};
use rocket::{Orbit, Request, Response, Rocket};

use crate::config::Transport;
use crate::error::{Error, Operation};
use crate::record::token::Token;
use crate::session::CookieChange;
use crate::web::kind::Attached;
use crate::web::{cookie, mark};

/// Headers that a failed commit takes back, because they describe the content that is replaced or
/// announce a success. So do all that begin with `Content-`, except content security policies, and all of
/// htmx (`HX-`).
const CONTENT_HEADERS: [&str; 18] = [
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
    // The browser would delete the cookie of a session that is still alive.
    "Clear-Site-Data",
    "Digest",
    "Repr-Digest",
    // A reverse proxy would send a file in the place of this response.
    "X-Accel-Redirect",
    "X-Sendfile",
    "X-Lighttpd-Send-File",
    "X-Reproxy-URL",
];

/// Headers for one kind of cache, which then ignores `Cache-Control`.
const CACHE_HEADERS: [&str; 3] = ["Surrogate-Control", "X-Accel-Expires", "Edge-Control"];

/// Decides whether the handler's changes are kept (`set_on_exception`), before response fairings that
/// follow change the session themselves.
///
/// An exception is a request whose response a catcher made. With `set_on_exception = false` it keeps
/// nothing. Otherwise it keeps the changes, except with a 5xx that the application has no catcher
/// for: that is Rocket's own page. A token that the handler was to hand out (`issue_token`) went with
/// the handler's response: nothing is kept then. A response that the handler returned is not an
/// exception, whatever its status. A logout stands always, and so does what `save`, `modify` and pops
/// stored.
pub(super) fn settle_changes(
    attached: &Attached,
    request: &Request<'_>,
    response: &mut Response<'_>,
) {
    let core = &attached.sessions.core;
    let cache = (attached.kind.cache)(request, &core.clock);
    if cache.settle() {
        return;
    }
    let Some(loaded) = cache.loaded() else {
        return; // no guard asked for the session
    };
    if !mark::is_needed(request.rocket(), &core.config) {
        return; // every change is kept, also with a response of a catcher
    }
    // The guard has set it after Rocket wrote the jar into the response.
    let is_late = || mark::is_set(request, &attached.mark);
    if !core.config.set_on_exception && is_late() {
        rocket::warn!(
            "Session: a response fairing that is attached before the session fairing asked for the \
             session, so with `set_on_exception = false` the request's changes were discarded; \
             attach the session fairing before it"
        );
    }
    if mark::remove(response, &attached.mark) {
        return; // the handler made the response
    }
    let Ok(session) = loaded else { return };
    let status = response.status();
    let is_kept = core.config.set_on_exception
        && (status.code < 500 || find_catcher(request.rocket(), status, request).is_some());
    if !is_kept {
        session.discard();
    } else if !is_late() && !session.can_be_answered_by_catcher() {
        rocket::warn!(
            "Session: the request's changes were discarded, because the response that was to hand out the \
             token is not the handler's (a catcher replaced it, or a response fairing that is attached before \
             the session fairing removed its cookies)"
        );
        session.discard();
    }
}

/// Commits the changes of the request's sessions, of every kind, and sets the headers.
///
/// A commit that fails turns the response into the application's own for the status of the error:
/// 503 when the store failed, 500 or 403 when the changes cannot be stored. The cookies of the kinds
/// that were stored go with it.
pub(super) async fn commit<'r>(
    kinds: &[Attached],
    request: &'r Request<'_>,
    response: &mut Response<'r>,
) {
    let mut headers = SessionHeaders::default();
    for attached in kinds {
        commit_one(attached, request, &mut headers).await;
    }
    if headers.varies_by.is_empty() {
        return; // no guard asked for a session
    }
    if let Some(error) = &headers.failed {
        // Boxed, so that responses that do not fail do not carry the room for it.
        let failed = replace_failed(request, response, error.status(), kinds);
        Box::pin(failed).await;
        // The catcher may have asked for the session of a further kind.
        for attached in kinds {
            let core = &attached.sessions.core;
            if (attached.kind.cache)(request, &core.clock)
                .loaded()
                .is_some()
            {
                headers.vary_by(core.config.transport);
            }
        }
    }
    for header in &headers.varies_by {
        add_vary(response, header);
    }
    for cookie in &headers.cookies {
        set_cookie(response, cookie);
    }
    if headers.is_secret || headers.failed.is_some() {
        forbid_caching(response);
    } else {
        set_private(response);
    }
}

/// The headers that the sessions of one request add to its response.
#[derive(Default)]
struct SessionHeaders {
    /// The request headers that name the sessions which were asked for.
    varies_by: Vec<&'static str>,
    cookies: Vec<Cookie<'static>>,
    /// The response has a cookie or a token.
    is_secret: bool,
    /// The error of the highest status.
    failed: Option<Error>,
}

impl SessionHeaders {
    /// Adds the request header that names a session which a guard asked for.
    fn vary_by(&mut self, transport: Transport) {
        let name = match transport {
            Transport::Cookie => "Cookie",
            Transport::Bearer => "Authorization",
        };
        if !self.varies_by.contains(&name) {
            self.varies_by.push(name);
        }
    }
}

async fn commit_one(attached: &Attached, request: &Request<'_>, headers: &mut SessionHeaders) {
    let core = &attached.sessions.core;
    let (config, cache) = (&core.config, (attached.kind.cache)(request, &core.clock));
    if let Some(order) = cache.sign_in() {
        // Boxed, as are the parts of this future that few responses need: Rocket allocates it for
        // each.
        Box::pin(order.carry_out(request, &attached.sessions, cache)).await;
    }
    cache.set_committed();
    let Some(loaded) = cache.loaded() else {
        return; // no guard asked for the session
    };
    headers.vary_by(config.transport);
    let Ok(session) = loaded else {
        return; // The guard has logged the error. With `Option<&Session>` the handler ran nevertheless.
    };
    // Rocket does not catch a panic here: it would close the connection without a response.
    let finished = AssertUnwindSafe(session.finish()).catch_unwind().await;
    let result = finished.unwrap_or_else(|_| Err(Error::unknown(Operation::Commit, PANICKED)));
    let cookie = match result {
        Ok(CookieChange::None) => None,
        Ok(CookieChange::Issued) => {
            headers.is_secret = true;
            None
        }
        Ok(CookieChange::Send(token, life)) => Some(cookie::with_token(&token, life, config)),
        Ok(CookieChange::Remove) => Some(cookie::removal(config)),
        Err(error) => {
            error.log();
            if let Some(order) = cache.sign_in() {
                order.failed(error.clone());
            }
            let code = |error: &Error| error.status().code;
            if headers
                .failed
                .as_ref()
                .is_none_or(|other| code(&error) > code(other))
            {
                headers.failed = Some(error);
            }
            None
        }
    };
    if let Some(cookie) = cookie {
        attached.unfit_domains.check(request, config);
        headers.is_secret = true;
        headers.cookies.push(cookie);
    }
}

/// Adds a request header to `Vary`: the response depends on the session that it names.
fn add_vary(response: &mut Response<'_>, name: &'static str) {
    // With a few headers, comparing all of them costs less than hashing one name.
    let headers = response.headers().iter();
    let lines = headers.filter(|header| header.name() == "Vary");
    let lines: Vec<String> = lines.map(|header| header.value().to_owned()).collect();
    let mut names = lines.iter().flat_map(|line| line.split(',')).map(str::trim);
    if names.any(|other| other == "*" || other.eq_ignore_ascii_case(name)) {
        return;
    }
    if lines.is_empty() {
        response.set_raw_header("Vary", name);
    } else {
        // In one line, for caches that read only the first of several.
        response.set_raw_header("Vary", lines.join(", ") + ", " + name);
    }
}

/// Keeps shared caches from storing the response, unless the application has decided.
fn set_private(response: &mut Response<'_>) {
    let mut headers = response.headers().iter();
    if !headers.any(|header| header.name() == "Cache-Control") {
        drop(headers);
        response.set_raw_header("Cache-Control", "private, no-cache");
    }
}

/// Sets a session cookie.
fn set_cookie(response: &mut Response<'_>, cookie: &Cookie<'static>) {
    // A handler may have set a cookie of our name by hand.
    remove_cookie(response, cookie.name());
    response.adjoin_header(Header::from(cookie));
}

/// Forbids every cache to store the response.
fn forbid_caching(response: &mut Response<'_>) {
    let names: Vec<String> = response
        .headers()
        .iter()
        .filter(|header| is_for_caches(header.name().as_str()) || header.name() == "Expires")
        .map(|header| header.name().as_str().to_owned())
        .collect();
    for name in names {
        response.remove_header(&name);
    }
    response.set_raw_header("Cache-Control", "no-store");
}

/// Removes every `Set-Cookie` of one name.
fn remove_cookie(response: &mut Response<'_>, name: &str) {
    cookie::retain(response, |cookie| {
        let value = cookie.strip_prefix(name);
        !value.is_some_and(|rest| rest.starts_with('='))
    });
}

/// Replaces the response of a request whose changes were not stored by the application's response
/// for `status`, without session cookies and tokens.
async fn replace_failed<'r>(
    request: &'r Request<'_>,
    response: &mut Response<'r>,
    status: Status,
    kinds: &[Attached],
) {
    let catcher = find_catcher(request.rocket(), status, request);
    let caught = match catcher {
        Some(catcher) => run(catcher, status, request).await,
        None => None,
    };
    let caught = match caught {
        Some(caught) => Some(caught),
        None => run(&Catcher::default(), status, request).await,
    };
    let mut replacement = caught.unwrap_or_else(|| {
        let mut bare = Response::new();
        bare.set_status(status);
        bare
    });
    let has_issued = kinds.iter().any(|attached| {
        let cache = (attached.kind.cache)(request, &attached.sessions.core.clock);
        matches!(cache.loaded(), Some(Ok(session)) if session.has_issued())
    });
    // Cookies that the catcher added to the jar are lost: Rocket has read the jar before.
    let kept: Vec<Header<'static>> = response
        .headers()
        .iter()
        .filter(|header| !describes_content(header.name().as_str()))
        .filter(|header| !replacement.headers().contains(header.name().as_str()))
        .filter(|header| !(has_issued && Token::may_be_in(header.value())))
        .map(|header| Header::new(header.name().to_string(), header.value().to_owned()))
        .collect();
    for header in kept {
        replacement.adjoin_header(header);
    }
    for attached in kinds {
        remove_cookie(&mut replacement, &attached.sessions.core.config.cookie_name);
    }
    *response = replacement;
}

/// Returns whether a header tells one kind of cache what `Cache-Control` tells all of them (RFC 9213,
/// and its vendor-specific predecessors).
fn is_for_caches(name: &str) -> bool {
    const ENDING: &str = "-cache-control";
    let at = name.len().checked_sub(ENDING.len());
    let end = at.and_then(|at| name.get(at..));
    end.is_some_and(|end| end.eq_ignore_ascii_case(ENDING))
        || CACHE_HEADERS
            .iter()
            .any(|other| name.eq_ignore_ascii_case(other))
}

/// Returns whether a failed commit takes a header back.
fn describes_content(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("content-") && !name.starts_with("content-security-policy")
        || name.starts_with("hx-")
        || is_for_caches(&name)
        || CONTENT_HEADERS
            .iter()
            .any(|other| name.eq_ignore_ascii_case(other))
}

/// Returns the application's catcher for a status and path, as Rocket chooses it.
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

/// Runs a catcher. Returns `None` when it fails or panics.
async fn run<'r>(
    catcher: &Catcher,
    status: Status,
    request: &'r Request<'_>,
) -> Option<Response<'r>> {
    let handler = AssertUnwindSafe(|| catcher.handler.handle(status, request));
    let future = std::panic::catch_unwind(handler).ok()?;
    AssertUnwindSafe(future).catch_unwind().await.ok()?.ok()
}

const PANICKED: &str = "the commit panicked; please report this as a bug of rocket_mongo_session";
