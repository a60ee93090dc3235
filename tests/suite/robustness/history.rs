//! What a crowd of browsers did and was told, and whether that can be: the invariants I1 to I15.
//!
//! A request that was not answered, or answered with 503, is open: it may have had all of its
//! effect or none, then or later. A change that was not saved by name (`save`) is open as well in
//! the sessions to which its own moved on while the request ran, and beside a renewal while sealing is
//! rolled out. Everything else is held against the crate:
//!
//! | | what it says | where it is checked |
//! |---|---|---|
//! | I1 | what was acknowledged is readable until its session ends | `values` (sets, pairs, lists), `tokens` (the session itself) |
//! | I2 | a counter lies between what was acknowledged and what was attempted, and without a failover only grows | `values` |
//! | I3 | after a logout or a revocation its token opens no session, and its document is deleted | `tokens`, `documents` |
//! | I4 | after a login, an elevation, a renewal the old token opens no session | `tokens`, `documents` |
//! | I5 | of each request all or nothing is there | `values` (the pair) |
//! | I6 | no browser sees another's session, or gets another's token | `values` (the mark, the principal), `tokens` |
//! | I7 | every stored document is explained, its token unique, its end a date | `documents` |
//! | I8 | `created` moves with an elevation alone, and it, `accessed` and `expires` only grow | `times` |
//! | I9 | no secret in a body or in a header but the cookie's own | `secrets` |
//! | I10 | every request ends in time, and one that fails says nothing but that | `times`, `response` |
//! | I11 | after the fault everything that can be asked for succeeds again | `recovery` |
//! | I12 | a message is delivered once, and not lost | `messages` |
//! | I13 | cookie and cache headers are right on every response | `response` |
//! | I14 | no 503 sets a cookie | `response` |
//! | I15 | a stream is told of its session's end, and of none while the session is stored | `streams` |

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mongodb::bson::Document;

use crate::apps::arena::View;

mod catches;
mod check;
mod controls;
mod documents;
mod lineage;
mod messages;
mod recovery;
mod response;
mod secrets;
mod streams;
mod times;
mod tokens;
mod values;

pub use streams::Streams;

/// The purpose of a request. Its numbers are unique.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    Read,
    /// A new session, with this mark.
    Plant(u64),
    Set(u64),
    Increment(i64),
    Push(u64),
    /// As `Push`, by `modify`.
    Append(u64),
    /// Two keys at once.
    Pair(u64),
    Flash(u64),
    Pop,
    /// A new session with this mark, and nothing of the old one.
    Login(u64),
    /// A new session with everything that the old one had, but its messages.
    Keep,
    /// The same session with another token, from now on.
    Elevate,
    /// The same session with another token.
    Renew,
    Logout,
    /// Every session of the browser's principal, by the administrator.
    Revoke,
}

impl Work {
    /// One of each kind, its number still to be given.
    pub const KINDS: [Work; 15] = [
        Work::Read,
        Work::Plant(0),
        Work::Set(0),
        Work::Increment(0),
        Work::Push(0),
        Work::Append(0),
        Work::Pair(0),
        Work::Flash(0),
        Work::Pop,
        Work::Login(0),
        Work::Keep,
        Work::Elevate,
        Work::Renew,
        Work::Logout,
        Work::Revoke,
    ];

    /// The name of its kind.
    pub fn kind(&self) -> String {
        let name = format!("{self:?}");
        name.split('(').next().unwrap_or_default().to_owned()
    }

    /// Whether the session that it was sent with is not the browser's afterwards.
    pub fn ends(&self) -> bool {
        use Work::*;
        matches!(self, Login(_) | Keep | Logout | Revoke)
    }

    /// Whether the session that it was sent with continues under another token.
    pub fn replaces_token(&self) -> bool {
        matches!(self, Work::Elevate | Work::Renew)
    }

    fn creates(&self) -> bool {
        matches!(self, Work::Plant(_) | Work::Login(_)) || self.carries()
    }

    /// Whether the session that it makes has what the old one had.
    fn carries(&self) -> bool {
        *self == Work::Keep
    }

    /// The mark of the session that it makes.
    fn mark(&self) -> Option<u64> {
        match self {
            Work::Plant(mark) | Work::Login(mark) => Some(*mark),
            _ => None,
        }
    }
}

/// The result in the response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Told {
    /// It is done.
    Done,
    /// It is done, and `save` said so.
    Saved,
    /// `save` (or `modify`, or a pop) said that the session is gone, so nothing was done.
    Gone,
    /// Unknown.
    Open,
}

/// One request and what came of it.
#[derive(Clone, Debug)]
pub struct Event {
    pub browser: usize,
    pub work: Work,
    /// Microseconds since the history began.
    pub invoked: u64,
    pub returned: u64,
    pub told: Told,
    /// The cookie that was sent, and the one that came back.
    pub cookie: Option<String>,
    pub given: Option<String>,
    /// The session as the request loaded it.
    pub view: Option<View>,
    pub popped: Vec<u64>,
    /// Violations of the response itself.
    pub complaints: Vec<String>,
    /// Words in the response, outside of its cookie, that are long enough for a secret.
    pub words: Vec<String>,
}

impl Event {
    pub fn new(browser: usize, work: Work, cookie: Option<String>) -> Event {
        Event {
            browser,
            work,
            invoked: 0,
            returned: u64::MAX,
            told: Told::Open,
            cookie,
            given: None,
            view: None,
            popped: Vec::new(),
            complaints: Vec::new(),
            words: Vec::new(),
        }
    }

    /// Whether it was told that it is done, in either way.
    fn is_done(&self) -> bool {
        matches!(self.told, Told::Done | Told::Saved)
    }

    /// Whether it did what it is for: a login that was overtaken is done, and has no session.
    fn has_succeeded(&self) -> bool {
        let sends_token = self.work.creates() || self.work.replaces_token();
        self.is_done() && (self.given.is_some() || !sends_token)
    }

    /// Whether a login was given up, by itself: it made no session, and the old one stands.
    fn was_dropped(&self) -> bool {
        let is_login = matches!(self.work, Work::Login(_) | Work::Keep);
        is_login && self.is_done() && self.given.is_none()
    }

    /// The id of the session that it was sent with.
    fn asked(&self) -> Option<&str> {
        self.cookie.as_deref().map(id_of)
    }

    /// The id of the session that it was let into.
    fn let_in(&self) -> Option<&str> {
        let view = self.view.as_ref().filter(|view| !view.is_new)?;
        view.id.as_deref()
    }

    /// The mark of the session that it was let into.
    fn mark(&self) -> Option<u64> {
        self.view.as_ref()?.values.get("mark")?.as_u64()
    }

    /// What is open never is: it may have its effect at any time.
    fn is_over_before(&self, other: &Event) -> bool {
        self.told != Told::Open && self.returned < other.invoked
    }

    fn overlaps(&self, other: &Event) -> bool {
        !self.is_over_before(other) && !other.is_over_before(self)
    }
}

fn secret_of(cookie: &str) -> &str {
    cookie.split_once('.').map_or(cookie, |(_, secret)| secret)
}

fn id_of(cookie: &str) -> &str {
    cookie.split_once('.').map_or(cookie, |(id, _)| id)
}

/// Everything that happened, as those who were there saw it.
pub struct History {
    began: Instant,
    events: Mutex<Vec<Event>>,
    /// How many were answered well, and how many were left open.
    answered: AtomicUsize,
    open: AtomicUsize,
    streams: Arc<Streams>,
}

/// What a history came to.
#[derive(Debug, Default)]
pub struct Verdict {
    pub requests: usize,
    pub done: usize,
    pub gone: usize,
    pub open: usize,
    pub sessions: usize,
    pub streams: usize,
    pub by_work: BTreeMap<String, usize>,
    pub slowest: Duration,
    pub violations: Vec<String>,
    /// All that happened, when some of it cannot be.
    pub events: Vec<Event>,
}

impl History {
    pub fn new() -> History {
        History {
            began: Instant::now(),
            events: Mutex::default(),
            answered: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            streams: Arc::default(),
        }
    }

    /// The streams of this history's browsers.
    pub fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    pub fn left_open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub fn record(&self, event: Event) {
        let count = match event.told {
            Told::Open => &self.open,
            _ => &self.answered,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.lock().push(event);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kinds of work that have not succeeded yet since a moment.
    pub fn missing_since(&self, moment: u64) -> Vec<String> {
        recovery::missing(&self.lock(), moment)
    }

    /// Holds the history against the invariants; `documents` is what is stored at the end.
    pub fn check(&self, documents: &[Document], terms: Terms) -> Verdict {
        let mut verdict = check::check(self.lock().clone(), documents, terms);
        verdict.streams = self.streams.count();
        verdict.violations.extend(self.streams.check(documents));
        verdict
    }
}

/// What depends on the faults and the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The longest that one operation of the store may take.
    pub deadline: Duration,
    /// Another member may have become the primary. Then what one member alone has may be lost:
    /// touches, and what a read has shown of a write that was not acknowledged.
    pub failover: bool,
    /// One browser's requests go to several applications. What one of them notes of a session's use
    /// the others see when it is written.
    pub several_apps: bool,
    /// One application seals and another does not. The first write that is sealed needs a data key, and
    /// is dropped beside a renewal as beside a login.
    pub sealing_starts: bool,
    /// When everything was whole again, after which everything must succeed.
    pub healed: Option<u64>,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} requests ({} done, {} gone, {} open) on {} sessions with {} streams, the slowest {:?}, {} \
             violations",
            self.requests,
            self.done,
            self.gone,
            self.open,
            self.sessions,
            self.streams,
            self.slowest,
            self.violations.len()
        )?;
        write!(f, "\n{:?}", self.by_work)
    }
}

impl Verdict {
    /// What another history came to, as well.
    pub fn add(&mut self, other: Verdict) {
        self.requests += other.requests;
        self.done += other.done;
        self.gone += other.gone;
        self.open += other.open;
        self.sessions += other.sessions;
        self.streams += other.streams;
        for (work, count) in other.by_work {
            *self.by_work.entry(work).or_default() += count;
        }
        self.slowest = self.slowest.max(other.slowest);
        self.violations.extend(other.violations);
        self.events.extend(other.events);
    }

    /// Whether something was found that breaks this invariant.
    pub fn breaks(&self, invariant: &str) -> bool {
        let start = format!("{invariant}:");
        self.violations.iter().any(|one| one.starts_with(&start))
    }

    /// Panics when an invariant does not hold, and says where to read how that came about.
    pub fn assert(&self) {
        let some: Vec<_> = self.violations.iter().take(5).collect();
        if some.is_empty() {
            return;
        }
        let name = format!("history-{}-{}.txt", std::process::id(), self.requests);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let events = self.events.iter().map(|event| format!("{event:?}\n"));
        let written = fs::write(&path, events.collect::<String>());
        panic!(
            "{} violations, of the history in {} ({written:?}): {some:#?}",
            self.violations.len(),
            path.display()
        );
    }
}
