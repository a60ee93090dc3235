//! What a request remembers of its session.

use std::future::Future;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rocket::http::Cookie;
use rocket::request::Request;
use rocket::tokio::sync::OnceCell;

use crate::clock::{Clock, Moment};
use crate::error::Result;
use crate::session::Session;

/// The session of one request, loaded at most once, whoever asks for it first. It lives in the
/// request, where the response fairing finds it.
pub(crate) struct RequestCache {
    session: OnceCell<Result<Session>>,
    /// When the request came in: before any guard had looked at a password.
    started: Moment,
    /// The answer was judged: who asks from here on is another response fairing.
    judged: AtomicBool,
}

impl RequestCache {
    pub(crate) fn of<'r>(request: &'r Request<'_>, clock: &Clock) -> &'r RequestCache {
        request.local_cache(|| RequestCache {
            session: OnceCell::new(),
            started: clock.now(),
            judged: AtomicBool::new(false),
        })
    }

    pub(super) async fn session<L>(&self, load: impl FnOnce() -> L) -> &Result<Session>
    where
        L: Future<Output = Result<Session>>,
    {
        self.session.get_or_init(load).await
    }

    /// What was loaded, if anybody asked.
    pub(crate) fn asked(&self) -> Option<&Result<Session>> {
        self.session.get()
    }

    pub(super) fn started(&self) -> Moment {
        self.started
    }

    /// Says that who answers is known by now; whether it was said before.
    pub(crate) fn judge(&self) -> bool {
        self.judged.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_judged(&self) -> bool {
        self.judged.load(Ordering::Relaxed)
    }
}

/// Tells the response fairing whether a catcher answered, where that makes a difference
/// (`set_on_exception = false`). Rocket drops the cookies that a handler added when a catcher
/// answers in its place, so a cookie that the guard adds is there only if no catcher did. It never
/// reaches the browser; its value is random, since a client's own cookie would look alike.
pub(crate) struct Mark;

static MARK: LazyLock<String> = LazyLock::new(|| {
    // Without random bytes no session can be made either; a client could then at most have its
    // own request's exception overlooked.
    crate::record::token::Id::draw().map_or_else(|_| String::new(), |id| id.to_string())
});

impl Mark {
    const NAME: &'static str = "_rms";

    pub(super) fn is_set(request: &Request<'_>) -> bool {
        let pending = request.cookies().get_pending(Self::NAME);
        pending.is_some_and(|cookie| cookie.value() == *MARK)
    }

    pub(super) fn set(request: &Request<'_>) {
        request
            .cookies()
            .add(Cookie::new(Self::NAME, MARK.as_str()));
    }

    /// Whether one `Set-Cookie` header is the mark.
    pub(crate) fn is(header: &str) -> bool {
        let value = header
            .strip_prefix(Self::NAME)
            .and_then(|rest| rest.strip_prefix('='));
        value.is_some_and(|rest| rest.split(';').next() == Some(MARK.as_str()))
    }
}
