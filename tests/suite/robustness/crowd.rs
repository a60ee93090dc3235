//! A crowd: browsers with two tabs each that do at random what browsers do, and write down what
//! they were told.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use mongodb::bson::{Document, doc};
use mongodb::{Client, Collection};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{RngExt, SeedableRng};
use rocket::serde::json::{Value, json};
use rocket::tokio::task::JoinHandle;
use rocket::tokio::{spawn, time};

use crate::apps::arena::{Arena, Leaving, Op, Results, request, set};
use crate::robustness::history::{Event, History, Told, Work};
use crate::support::{Browser, Request};

pub struct Crowd {
    pub history: Arc<History>,
    stop: Arc<AtomicBool>,
    visitors: Vec<Arc<Visitor>>,
    tabs: Vec<JoinHandle<()>>,
}

/// A browser of the crowd.
struct Visitor {
    number: usize,
    /// The processes that serve it, as behind a balancer.
    apps: Vec<Arc<Arena>>,
    /// Nothing edits its sessions from outside.
    is_sealed: bool,
    history: Arc<History>,
    /// The only allowed body of a failed response.
    unavailable: String,
    browser: Mutex<Arc<Browser>>,
    /// Numbers for marks and values, each used once.
    next: AtomicU64,
    /// When its principal's sessions may be revoked the next time.
    next_revocation: AtomicU64,
    /// Cookies that it had before, which a thief may have copied.
    old: Mutex<BTreeSet<String>>,
}

/// How often something is done.
fn weight(work: &Work) -> u32 {
    match work {
        Work::Increment(_) => 12,
        Work::Read | Work::Push(_) => 10,
        Work::Set(_) => 8,
        Work::Append(_) | Work::Pair(_) | Work::Flash(_) => 6,
        Work::Pop => 4,
        Work::Login(_) | Work::Keep | Work::Elevate | Work::Renew | Work::Logout => 2,
        Work::Plant(_) | Work::Revoke => 1,
    }
}

/// How a handler ends that changes something: the response saves, or the handler, which waits for
/// the outcome or does not.
const SAVES: [Option<Op>; 8] = [
    None,
    None,
    None,
    Some(Op::Save),
    Some(Op::Save),
    Some(Op::LeaveSave(Leaving::Dropped)),
    Some(Op::LeaveSave(Leaving::PutAside)),
    Some(Op::LeaveSave(Leaving::TimedOut)),
];

/// Their tabs send twice as many requests at once: more than have a command each, so that batches are
/// formed also where two applications share them.
const BROWSERS: usize = 10;

const KEPT: [&str; 8] = ["mark", "n", "r", "a", "b", "log", "mod", "kept"];

impl Crowd {
    /// Starts browsers with two tabs each, until `disperse`. The tabs of a browser ask the
    /// applications in turn, so that with two of them a session is in use at both.
    pub async fn gather(apps: &[Arc<Arena>], seed: u64) -> Crowd {
        let history = Arc::new(History::new());
        let stop = Arc::new(AtomicBool::new(false));
        let unavailable = apps[0].unavailable().await;
        let is_sealed = apps.iter().any(|app| app.seals());
        let visitor = |number| Visitor {
            number,
            apps: apps.to_vec(),
            is_sealed,
            history: Arc::clone(&history),
            unavailable: unavailable.clone(),
            browser: Mutex::new(Arc::new(apps[0].browser())),
            next: AtomicU64::new(0),
            next_revocation: AtomicU64::new(0),
            old: Mutex::default(),
        };
        let visitors: Vec<_> = (0..BROWSERS).map(|one| Arc::new(visitor(one))).collect();
        let tabs = visitors.iter().flat_map(|visitor| [visitor; 2]).enumerate();
        let live = |(tab, visitor): (usize, &Arc<Visitor>)| {
            let rng = StdRng::seed_from_u64(seed.wrapping_mul(1000).wrapping_add(tab as u64));
            let app = Arc::clone(&apps[tab % apps.len()]);
            spawn(Arc::clone(visitor).live(app, rng, Arc::clone(&stop)))
        };
        let tabs = tabs.map(live).collect();
        Crowd {
            history,
            stop,
            tabs,
            visitors,
        }
    }

    /// Waits for a number of further successful requests.
    pub async fn see(&self, more: usize) {
        let aim = self.history.answered() + more;
        self.until(|history| history.answered() >= aim).await;
    }

    /// Waits for a number of further failed requests.
    pub async fn see_fail(&self, more: usize) {
        let aim = self.history.left_open() + more;
        self.until(|history| history.left_open() >= aim).await;
    }

    /// Waits until something of every kind has succeeded that began after a moment.
    pub async fn see_all_succeed(&self, since: u64) {
        self.until(|history| history.missing_since(since).is_empty())
            .await;
    }

    /// It may take an election, but has an end.
    async fn until(&self, is_so: impl Fn(&History) -> bool) {
        let began = Instant::now();
        while !is_so(&self.history) {
            assert!(
                began.elapsed() < Duration::from_secs(120),
                "the application does not recover: {} requests were answered, {} were not",
                self.history.answered(),
                self.history.left_open()
            );
            time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Everybody ends what they are at; then each browser looks at its session once more, and
    /// thieves try every cookie that it had before.
    pub async fn disperse(self) -> Arc<History> {
        self.stop.store(true, Ordering::Relaxed);
        for tab in self.tabs {
            tab.await.expect("a tab does not panic");
        }
        for visitor in &self.visitors {
            let mut apps = visitor.apps.iter().cycle();
            let mut app = || apps.next().expect("an application");
            visitor.act(app(), Work::Read, None).await;
            let old = visitor.old().clone();
            for cookie in old {
                visitor.replay(app(), cookie).await;
            }
        }
        self.history
    }
}

impl Visitor {
    async fn live(self: Arc<Self>, app: Arc<Arena>, mut rng: StdRng, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            let stolen = match rng.random_range(0..20) {
                0 => self.old().iter().choose(&mut rng).cloned(),
                _ => None,
            };
            if let Some(cookie) = stolen {
                self.replay(&app, cookie).await;
                continue;
            }
            let picked = Work::KINDS.choose_weighted(&mut rng, weight);
            let mut work = picked.expect("some work").clone();
            if self.browser().cookie("session").is_none() {
                work = Work::Plant(0);
            }
            if work == Work::Revoke && !self.may_revoke() {
                work = Work::Read;
            }
            let saves = SAVES.choose(&mut rng).cloned().flatten();
            self.act(&app, self.numbered(work, &mut rng), saves).await;
        }
    }

    /// For a second after a revocation no login stands, and some must.
    fn may_revoke(&self) -> bool {
        const PAUSE: u64 = 5_000_000;
        let now = self.history.now();
        let moved =
            self.next_revocation
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                    (next <= now).then_some(now + PAUSE)
                });
        moved.is_ok()
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

    fn old(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.old.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request, from the cookies that the browser has now to those it has then.
    async fn act(&self, app: &Arena, work: Work, saves: Option<Op>) {
        if work == Work::Revoke {
            return self.revoke(app).await;
        }
        let browser = self.browser();
        let mut program = program(&work, self.number, saves);
        if let Work::Increment(by) = work
            && by == 1
            && !self.is_sealed
        {
            // As a job of the application does it, from outside.
            program.truncate(2);
            program.push(Op::Edit("n".into(), by));
        }
        let stream = self.number();
        program.insert(1, Op::Follow(stream));
        let event = self.ask(app, &browser, work, &program).await;
        self.keep_stream(app, stream, &event);
        let is_lost =
            event.told == Told::Open && (event.work.ends() || event.work.replaces_token());
        let is_dead = event.view.as_ref().is_some_and(|view| view.is_new) && event.given.is_none();
        let sent = event.cookie.clone();
        self.history.record(event);
        if is_lost || is_dead {
            // Its session is unknown now; it starts again.
            *self.browser.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(app.browser());
        }
        if let Some(sent) = sent
            && self.browser().cookie("session").as_ref() != Some(&sent)
        {
            self.old().insert(sent);
        }
    }

    /// The stream that a request has opened: of the session that it was let into, or of the one that
    /// it was given.
    fn keep_stream(&self, app: &Arena, number: u64, event: &Event) {
        let Some(ended) = app.followed(number) else {
            return;
        };
        let Some(view) = &event.view else { return };
        let id = match view.is_new {
            false => view.id.as_deref(),
            true => event.given.as_deref().map(crate::apps::probe::id_of),
        };
        let number = self.apps.iter().position(|one| std::ptr::eq(&**one, app));
        if let (Some(id), Some(number)) = (id, number) {
            self.history.streams().follow(number, id, ended);
        }
    }

    /// An administrator ends all sessions of this browser's principal.
    async fn revoke(&self, app: &Arena) {
        let mut event = Event::new(self.number, Work::Revoke, None);
        event.invoked = self.history.now();
        let user = format!("user{}", self.number);
        if app.sessions().of(user).revoke_all().await.is_ok() {
            event.told = Told::Done;
        }
        event.returned = self.history.now();
        self.history.record(event);
    }

    async fn ask(&self, app: &Arena, browser: &Browser, work: Work, program: &[Op]) -> Event {
        let request = request(browser, program);
        // Not the jar's, which the other tab may change at any time.
        let mut event = Event::new(self.number, work, cookie_of(&request));
        event.invoked = self.history.now();
        let response = app.send(request).await;
        event.returned = self.history.now();
        event.answered(&response, &self.unavailable);
        if response.status() == 200 {
            told(&mut event, program, &response.results());
            response.arrive(browser);
        }
        event
    }

    /// Sends a cookie that the browser had before, as a thief would.
    async fn replay(&self, app: &Arena, cookie: String) {
        let thief = app.browser();
        thief.set_cookie(&format!("session={cookie}; Path=/"));
        let event = self.ask(app, &thief, Work::Read, &[Op::View]).await;
        self.history.record(event);
    }
}

/// The session's cookie that a request sends.
fn cookie_of(request: &Request) -> Option<String> {
    let (_, value) = request.headers.iter().find(|(name, _)| name == "Cookie")?;
    let pairs = std::str::from_utf8(value).ok()?.split("; ");
    let mut values = pairs.filter_map(|pair| pair.strip_prefix("session="));
    values.next().map(str::to_owned)
}

fn program(work: &Work, browser: usize, saves: Option<Op>) -> Vec<Op> {
    let user = format!("user{browser}");
    let begins = match work {
        Work::Plant(_) => Op::Fresh,
        _ => Op::Stored,
    };
    let mut program = vec![Op::View, begins];
    match work {
        // What it shows of the CSRF secret must not be that.
        Work::Read => program.push(Op::Csrf),
        Work::Revoke => {}
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
    use Work::{Flash, Increment, Pair, Push, Set};
    // A `modify` and a pop are done at once, and leave nothing to be saved.
    if matches!(work, Set(_) | Increment(_) | Push(_) | Pair(_) | Flash(_)) {
        program.extend(saves);
    }
    program
}

/// What the steps of a program said.
fn told(event: &mut Event, program: &[Op], results: &Results) {
    event.view = Some(results.view(0));
    let failed = (0..results.len()).find_map(|step| results.get(step).as_ref().err());
    event.told = match (failed, program.last()) {
        // Ended: it did not even begin, without a session to begin with.
        (Some(error), _) if error.starts_with("Gone") || error.starts_with("Ended") => Told::Gone,
        (None, Some(Op::Edit(..))) if *results.value(program.len() - 1) != true => Told::Gone,
        // Open, as far as the handler knows.
        (Some(_), _) => Told::Open,
        (None, Some(Op::Save | Op::Append(..) | Op::Edit(..) | Op::Pop)) => Told::Saved,
        (None, _) => Told::Done,
    };
    if event.work == Work::Pop && event.told == Told::Saved {
        let popped = results.value(program.len() - 1).as_array();
        event.popped = popped
            .into_iter()
            .flatten()
            .filter_map(Value::as_u64)
            .collect();
    }
}

/// All that is stored in a database's sessions.
pub async fn stored(client: &Client, db: &str) -> Vec<Document> {
    let sessions: Collection<Document> = client.database(db).collection("session");
    // Not the epoch, which never expires.
    let sessions_only = doc! { "_id": { "$ne": "~epoch" } };
    let found = sessions.find(sessions_only).await.expect("a find");
    found.try_collect().await.expect("the documents")
}
