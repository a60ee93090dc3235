//! A crowd: browsers with two tabs each that do at random what browsers do, and write down what
//! they were told.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use mongodb::bson::{Document, doc};
use mongodb::{Client, Collection};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rocket::serde::json::{Value, json};
use rocket::tokio::task::JoinHandle;
use rocket::tokio::{spawn, time};

use crate::arena::{Arena, Op, Results, request, set};
use crate::history::{Event, History, Told, Work};
use crate::support::Browser;

pub struct Crowd {
    pub history: Arc<History>,
    stop: Arc<AtomicBool>,
    visitors: Vec<Arc<Visitor>>,
    tabs: Vec<JoinHandle<()>>,
}

/// A browser of the crowd.
struct Visitor {
    number: usize,
    arena: Arc<Arena>,
    history: Arc<History>,
    browser: Mutex<Arc<Browser>>,
    /// Numbers for marks and values, each used once.
    next: AtomicU64,
    /// Cookies that it had before, which a thief may have copied.
    old: Mutex<Vec<String>>,
}

/// What is done how often.
const WORKS: [(Work, u32); 15] = [
    (Work::Read, 10),
    (Work::Set(0), 8),
    (Work::Increment(1), 12),
    (Work::Push(0), 10),
    (Work::Append(0), 6),
    (Work::Pair(0), 6),
    (Work::Flash(0), 6),
    (Work::Pop, 4),
    (Work::Renew, 2),
    (Work::Keep, 2),
    (Work::Elevate, 2),
    (Work::Login(0), 2),
    (Work::Logout, 2),
    (Work::Plant(0), 1),
    (Work::Revoke, 1),
];

const KEPT: [&str; 8] = ["mark", "n", "r", "a", "b", "log", "mod", "kept"];

impl Crowd {
    /// So many browsers with two tabs each, until `disperse`.
    pub fn gather(arena: &Arc<Arena>, browsers: usize, seed: u64) -> Crowd {
        let history = Arc::new(History::new());
        let stop = Arc::new(AtomicBool::new(false));
        let visitors: Vec<_> = (0..browsers)
            .map(|number| {
                Arc::new(Visitor::new(
                    number,
                    Arc::clone(arena),
                    Arc::clone(&history),
                ))
            })
            .collect();
        let tabs = visitors.iter().flat_map(|visitor| [visitor; 2]).enumerate();
        let live = |(tab, visitor): (usize, &Arc<Visitor>)| {
            let rng = StdRng::seed_from_u64(seed.wrapping_mul(1000).wrapping_add(tab as u64));
            spawn(Arc::clone(visitor).live(rng, Arc::clone(&stop)))
        };
        let tabs = tabs.map(live).collect();
        Crowd {
            history,
            stop,
            tabs,
            visitors,
        }
    }

    /// Waits until so many more requests were answered well, which may take an election, but has an
    /// end.
    pub async fn see(&self, more: usize) {
        let (aim, began) = (self.history.answered() + more, Instant::now());
        while self.history.answered() < aim {
            assert!(
                began.elapsed() < Duration::from_secs(120),
                "the application does not recover"
            );
            time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Everybody ends what they are at; then each browser looks at its session once more.
    pub async fn disperse(self) -> Arc<History> {
        self.stop.store(true, Ordering::Relaxed);
        for tab in self.tabs {
            tab.await.expect("a tab does not panic");
        }
        for visitor in &self.visitors {
            visitor.act(Work::Read, false).await;
            visitor.replay(&mut StdRng::seed_from_u64(0)).await;
        }
        self.history
    }
}

impl Visitor {
    fn new(number: usize, arena: Arc<Arena>, history: Arc<History>) -> Visitor {
        Visitor {
            number,
            arena,
            history,
            browser: Mutex::new(Arc::new(blank())),
            next: AtomicU64::new(0),
            old: Mutex::default(),
        }
    }

    async fn live(self: Arc<Self>, mut rng: StdRng, stop: Arc<AtomicBool>) {
        let choices: Vec<&(Work, u32)> = WORKS.iter().collect();
        while !stop.load(Ordering::Relaxed) {
            if rng.random_range(0..20) == 0 {
                self.replay(&mut rng).await;
                continue;
            }
            let picked = choices.choose_weighted(&mut rng, |(_, weight)| *weight);
            let mut work = picked.map_or(Work::Read, |(work, _)| work.clone());
            if self.cookie().is_none() {
                work = Work::Plant(0);
            }
            let saves = rng.random_bool(0.5);
            self.act(self.numbered(work, &mut rng), saves).await;
        }
    }

    fn number(&self) -> u64 {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        (self.number as u64 + 1) * 10_000_000 + next
    }

    fn numbered(&self, work: Work, rng: &mut StdRng) -> Work {
        match work {
            Work::Plant(_) => Work::Plant(self.number()),
            Work::Set(_) => Work::Set(self.number()),
            Work::Increment(_) => Work::Increment(rng.random_range(1..5)),
            Work::Push(_) => Work::Push(self.number()),
            Work::Append(_) => Work::Append(self.number()),
            Work::Pair(_) => Work::Pair(self.number()),
            Work::Flash(_) => Work::Flash(self.number()),
            Work::Login(_) => Work::Login(self.number()),
            other => other,
        }
    }

    fn browser(&self) -> Arc<Browser> {
        Arc::clone(&self.browser.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn cookie(&self) -> Option<String> {
        self.browser().cookie("session")
    }

    /// One request, from the cookies that the browser has now to those it has then.
    async fn act(&self, work: Work, saves: bool) {
        if work == Work::Revoke {
            return self.revoke().await;
        }
        let browser = self.browser();
        let cookie = browser.cookie("session");
        let program = program(&work, self.number, saves);
        let event = self.ask(&browser, cookie, work, &program).await;
        let is_lost = event.told == Told::Open && (event.work.ends() || event.work == Work::Renew);
        let is_dead = event.view.as_ref().is_some_and(|view| view.is_new) && event.given.is_none();
        self.history.record(event);
        if is_lost || is_dead {
            // Nobody knows which session it has now; it begins anew.
            *self.browser.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(blank());
        }
    }

    /// An administrator ends all sessions of this browser's principal.
    async fn revoke(&self) {
        let mut event = Event::new(self.number, Work::Revoke, None);
        event.invoked = self.history.now();
        let user = format!("user{}", self.number);
        if self.arena.sessions().revoke_user(user).await.is_ok() {
            event.told = Told::Done;
        }
        event.returned = self.history.now();
        self.history.record(event);
    }

    async fn ask(
        &self,
        browser: &Browser,
        cookie: Option<String>,
        work: Work,
        program: &[Op],
    ) -> Event {
        let mut event = Event::new(self.number, work, cookie.clone());
        let request = request(browser, program);
        event.invoked = self.history.now();
        let answer = self.arena.send(request).await;
        event.returned = self.history.now();
        event.answered(&answer);
        if answer.status() == 200 {
            told(&mut event, &answer.results());
            answer.arrive(browser);
            if event.given.is_some()
                && let Some(cookie) = cookie
            {
                self.old
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(cookie);
            }
        }
        event
    }

    /// Somebody tries a cookie that the browser had once.
    async fn replay(&self, rng: &mut StdRng) {
        let old = self
            .old
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(cookie) = old.choose(rng) else {
            return;
        };
        let thief = blank();
        thief.set_cookie(&format!("session={cookie}; Path=/"));
        let event = self
            .ask(&thief, Some(cookie.clone()), Work::Read, &[Op::View])
            .await;
        self.history.record(event);
    }
}

fn blank() -> Browser {
    Browser::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 80)))
}

fn program(work: &Work, browser: usize, saves: bool) -> Vec<Op> {
    let user = format!("user{browser}");
    let begins = match work {
        Work::Plant(_) => Op::Fresh,
        _ => Op::Stored,
    };
    let mut program = vec![Op::View, begins];
    match work {
        Work::Read | Work::Revoke => {}
        Work::Plant(mark) => program.push(set("mark", *mark)),
        Work::Set(number) => program.push(set("r", *number)),
        Work::Increment(by) => program.push(Op::Increment("n".into(), *by)),
        Work::Push(number) => program.push(Op::Push("log".into(), json!(number))),
        Work::Append(number) => program.push(Op::Append("mod".into(), json!(number))),
        Work::Pair(number) => program.extend([set("a", *number), set("b", *number)]),
        Work::Flash(number) => program.push(Op::Flash(json!(number))),
        Work::Pop => program.push(Op::Pop),
        Work::Login(mark) => program.extend([Op::Login(user), set("mark", *mark)]),
        Work::Keep => {
            let keys = KEPT.iter().map(|key| (*key).to_owned());
            program.push(Op::LoginKeeping(user, keys.collect()));
        }
        Work::Elevate => program.push(Op::Elevate),
        Work::Renew => program.push(Op::Renew),
        Work::Logout => program.push(Op::Logout),
    }
    let is_data = !work.ends() && !matches!(work, Work::Renew | Work::Plant(_) | Work::Read);
    if saves && is_data {
        program.push(Op::Save);
    }
    program
}

/// What the steps of a program said.
fn told(event: &mut Event, results: &Results) {
    event.view = Some(results.view(0));
    event.told = Told::Done;
    for index in 1..results.len() {
        match results.get(index) {
            Ok(_) => {}
            // Ended: it did not even begin, without a session to begin with.
            Err(error) if error.starts_with("Gone") || error.starts_with("Ended") => {
                event.told = Told::Gone;
                return;
            }
            // Open, as far as the handler knows.
            Err(_) => {
                event.told = Told::Open;
                return;
            }
        }
    }
    if event.work == Work::Pop && results.len() > 2 {
        let popped = results.value(2).as_array().cloned().unwrap_or_default();
        event.popped = popped.iter().filter_map(Value::as_u64).collect();
    }
    // A `modify` and a pop are done when they say so.
    let is_saved = match event.work {
        Work::Append(_) | Work::Pop => results.len() > 2,
        Work::Set(_) | Work::Increment(_) | Work::Push(_) | Work::Pair(_) | Work::Flash(_) => {
            results.len()
                > if matches!(event.work, Work::Pair(_)) {
                    4
                } else {
                    3
                }
        }
        _ => false,
    };
    if is_saved {
        event.told = Told::Saved;
    }
}

/// All that is stored in a database's sessions.
pub async fn stored(client: &Client, db: &str) -> Vec<Document> {
    let sessions: Collection<Document> = client.database(db).collection("session");
    let found = sessions.find(doc! {}).await.expect("a find");
    found.try_collect().await.expect("the documents")
}
