//! The per-request cache: the session of a kind, loaded at most once, and when the request began.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rocket::http::Method;
use rocket::request::Request;
use rocket::tokio::sync::OnceCell;

use crate::admin::Sessions;
use crate::clock::{Clock, Started};
use crate::error::Result;
use crate::session::Session;
use crate::web::kind::Kind;
use crate::web::load;
use crate::web::sign_in::SignIn;

/// Lives in Rocket's request-local state, where guards and fairings share it. Each kind has its own.
pub(crate) struct RequestCache {
    session: OnceCell<Result<Session>>,
    /// Before any guard ran: a revocation that begins while a guard checks a password ends the
    /// login that follows.
    started: Started,
    /// It came as a HEAD request. Rocket runs the route of GET for it, as a GET request.
    is_head: bool,
    /// The response fairing has decided which changes are kept.
    is_settled: AtomicBool,
    /// The commit has passed this kind: a session that is loaded now is never stored.
    is_committed: AtomicBool,
    /// A login that a test has ordered.
    sign_in: OnceLock<Arc<SignIn>>,
}

struct Cached<K>(RequestCache, PhantomData<fn() -> K>);

impl RequestCache {
    pub(super) fn of<'r, K: Kind>(request: &'r Request<'_>, clock: &Clock) -> &'r RequestCache {
        let cached = request.local_cache(|| {
            let cache = RequestCache {
                session: OnceCell::new(),
                started: clock.started(),
                is_head: request.method() == Method::Head,
                is_settled: AtomicBool::new(false),
                is_committed: AtomicBool::new(false),
                sign_in: OnceLock::new(),
            };
            Cached::<K>(cache, PhantomData)
        });
        &cached.0
    }

    /// Returns the session. The first call loads it; calls meanwhile wait for that.
    pub(super) async fn get_or_load(
        &self,
        request: &Request<'_>,
        sessions: &Sessions,
    ) -> &Result<Session> {
        let load = || load::load(request, sessions, self.started, self.is_head);
        self.session.get_or_init(load).await
    }

    /// Returns what was loaded, or `None` when no guard has asked for the session.
    pub(super) fn loaded(&self) -> Option<&Result<Session>> {
        self.session.get()
    }

    /// Marks the handler's changes as settled. Returns whether they were settled before.
    pub(super) fn settle(&self) -> bool {
        self.is_settled.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.is_settled.load(Ordering::Relaxed)
    }

    /// Records that the commit has passed this kind.
    pub(super) fn set_committed(&self) {
        self.is_committed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_committed(&self) -> bool {
        self.is_committed.load(Ordering::Relaxed)
    }

    pub(super) fn order_sign_in(&self, order: Arc<SignIn>) {
        let _ = self.sign_in.set(order);
    }

    pub(super) fn sign_in(&self) -> Option<&Arc<SignIn>> {
        self.sign_in.get()
    }
}
