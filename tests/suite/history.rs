//! What a crowd of browsers did and was told, and whether that can be: the invariants I1 to I14.
//!
//! A request that was not answered, or answered with 503, is open: it may have had all of its
//! effect or none, then or later. A change that was not saved by name (`save`) is open as well when
//! its session ended, or moved on to a new login, while the request was under way. Everything else
//! is held against the crate:
//!
//! | | what it says | where it is checked |
//! |---|---|---|
//! | I1 | what was acknowledged is readable until its session ends | `values` (sets, lists), `tokens` (the session itself) |
//! | I2 | a counter lies between what was acknowledged and what was attempted | `values` |
//! | I3 | after a logout or a revocation its token lets nobody in | `tokens` |
//! | I4 | after a login, an elevation, a renewal the old token lets nobody in | `tokens` |
//! | I5 | of each request all or nothing is there | `values` (the pair) |
//! | I6 | nobody sees another's session | `values` (the mark, the principal) |
//! | I7 | every stored document is explained, its token unique, its end a date | `documents` |
//! | I8 | `created` stands still, `accessed` and `expires` only grow | `times` |
//! | I9 | no secret in a body or in a header but the cookie's own | `Event::new` |
//! | I10 | every request ends in time | `times` |
//! | I11 | after the fault, requests succeed again | `faults`, by asking |
//! | I12 | a message is delivered once, and not lost | `values` |
//! | I13 | cookie and cache headers are right on every answer | `Event::new` |
//! | I14 | no 503 sets a cookie | `Event::new` |

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mongodb::bson::Document;

use crate::arena::{Answer, View};

mod catches;
mod check;
mod tokens;
mod values;

/// What a request was for. The numbers are its own, and nobody else's.
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
    /// A new session with everything that the old one had.
    Keep,
    Elevate,
    Renew,
    Logout,
    /// Every session of the browser's principal, by the administrator.
    Revoke,
}

impl Work {
    /// Whether the session that it was sent with is not the browser's afterwards.
    pub fn ends(&self) -> bool {
        use Work::*;
        matches!(self, Login(_) | Keep | Elevate | Logout | Revoke)
    }

    /// Whether a token may be dead because of it.
    fn kills(&self) -> bool {
        self.ends() || *self == Work::Renew
    }

    fn creates(&self) -> bool {
        matches!(
            self,
            Work::Plant(_) | Work::Login(_) | Work::Keep | Work::Elevate
        )
    }
}

/// What the answer said of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Told {
    /// It is done.
    Done,
    /// It is done, and `save` said so.
    Saved,
    /// `save` (or `modify`, or a pop) said that the session is gone, so nothing was done.
    Gone,
    /// 503, another error, or no answer at all.
    Open,
}

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
    /// What is wrong with the answer itself.
    pub complaint: Option<String>,
    /// The mark of the sessions that it belongs to; the checker's to find.
    line: Option<u64>,
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
            complaint: None,
            line: None,
        }
    }

    /// Takes over what the answer says; what its steps say is the caller's to know.
    pub fn answered(&mut self, answer: &Answer) {
        let response = &answer.0;
        let cookies: Vec<_> = response
            .set_cookies()
            .into_iter()
            .filter(|cookie| cookie.starts_with("session="))
            .map(str::to_owned)
            .collect();
        let value = |cookie: &String| {
            let value = cookie.strip_prefix("session=")?.split(';').next()?;
            (!value.is_empty()).then(|| value.to_owned())
        };
        self.given = cookies.first().and_then(value);
        let cache = response.header("Cache-Control").unwrap_or_default();
        let vary = response.headers_named("Vary").join(",");
        let secrets = [&self.cookie, &self.given];
        let mut secrets = secrets.into_iter().flatten();
        let others = response
            .headers
            .iter()
            .filter(|(name, _)| name != "Set-Cookie");
        let text: String = others.map(|(_, value)| value.as_str()).collect();
        let text = text + &response.text();
        self.complaint = if !matches!(response.status, 200 | 503) {
            Some(format!(
                "a status that nothing explains: {}",
                response.status
            ))
        } else if cookies.len() > 1 {
            Some(format!("I13: {} cookies", cookies.len()))
        } else if !vary.to_ascii_lowercase().contains("cookie") {
            Some("I13: no Vary: Cookie".to_owned())
        } else if !cookies.is_empty() && cache != "no-store" {
            Some(format!("I13: a cookie with Cache-Control: {cache}"))
        } else if response.status >= 500 && !cookies.is_empty() {
            Some(format!("I14: a {} with a cookie", response.status))
        } else if secrets.any(|cookie| text.contains(secret_of(cookie))) {
            Some("I9: a token outside of its cookie".to_owned())
        } else {
            None
        };
    }

    /// The mark of the session that it was loaded with.
    fn mark(&self) -> Option<u64> {
        self.view.as_ref()?.values.get("mark")?.as_u64()
    }

    /// The id of the session that it was loaded with.
    fn id(&self) -> Option<&str> {
        let view = self.view.as_ref().filter(|view| !view.is_new)?;
        view.id.as_deref()
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
    /// How many were answered well.
    answered: AtomicUsize,
}

/// What a history came to.
#[derive(Debug, Default)]
pub struct Verdict {
    pub requests: usize,
    pub done: usize,
    pub gone: usize,
    pub open: usize,
    pub sessions: usize,
    pub by_work: BTreeMap<String, usize>,
    pub slowest: Duration,
    pub violations: Vec<String>,
}

impl History {
    pub fn new() -> History {
        History {
            began: Instant::now(),
            events: Mutex::default(),
            answered: AtomicUsize::new(0),
        }
    }

    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub fn record(&self, event: Event) {
        if event.told != Told::Open {
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(event);
    }

    pub fn events(&self) -> Vec<Event> {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Holds the history against the invariants; `documents` is what is stored at the end.
    pub fn check(&self, documents: &[Document], terms: Terms) -> Verdict {
        check::check(self.events(), documents, terms)
    }
}

/// What depends on the faults and the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The longest that a request may take.
    pub longest: Duration,
    /// Touches wait for one member only: with a primary that is lost, `accessed` may go back to
    /// what was written before.
    pub touches_may_be_lost: bool,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} requests ({} done, {} gone, {} open) on {} sessions, the slowest {:?}, {} violations",
            self.requests,
            self.done,
            self.gone,
            self.open,
            self.sessions,
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
        for (work, count) in other.by_work {
            *self.by_work.entry(work).or_default() += count;
        }
        self.slowest = self.slowest.max(other.slowest);
        self.violations.extend(other.violations);
    }

    /// Panics when an invariant does not hold.
    pub fn assert(&self) {
        let some: Vec<_> = self.violations.iter().take(5).collect();
        assert!(
            some.is_empty(),
            "{} violations: {some:#?}",
            self.violations.len()
        );
    }
}
