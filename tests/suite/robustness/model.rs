//! Random programs of several requests, interleaved at random between any two operations of the
//! store, against a reference: what every call answers, which cookie is sent, what is stored in
//! the end, and which operations it took.
//!
//! Each request of the application and its twin in the reference go one operation of the store at a
//! time, in the order that the case says, so a failure repeats, and shrinks to a few lines.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use rocket::serde::json::json;
use rocket::tokio::runtime;
use rocket_mongo_session::testing::Clock;
use rocket_mongo_session::{MemoryStore, MongoStore, Sessions, Store};

use crate::apps::arena::{Arena, ArenaResponse, Float, Op, Results, Setting, View, request, set};
use crate::apps::database;
use crate::apps::probe::id_of;
use crate::support::{Browser, Mongod, in_time, seed};

mod reference;
mod stepped;

use reference::{Expected, Output, Seen, Token, World};
use stepped::{Stepped, Steps};

/// One request: the cookie that it has (0 is the browser's own, others are such that were given
/// before), and what it does.
#[derive(Clone, Debug)]
struct Tab {
    cookie: usize,
    program: Vec<Op>,
}

/// Requests that run at the same time, phase after phase, and the order in which they continue.
#[derive(Clone, Debug)]
struct Case {
    phases: Vec<Vec<Tab>>,
    order: Vec<usize>,
}

fn op() -> impl Strategy<Value = Op> {
    let number = prop::sample::select(vec!["n", "m"]);
    let user = prop::sample::select(vec!["ann", "bob"]);
    let small = -1_i64..3;
    let page = prop::sample::select(vec!["/a", "/b?c=d"]);
    let number_to_count_down = number.clone().prop_map(|key| Op::CountDown(key.to_owned()));
    prop_oneof![
        3 => Just(Op::View),
        4 => (number.clone(), small.clone()).prop_map(|(key, value)| set(key, value)),
        2 => number.clone().prop_map(|key| Op::Remove(key.to_owned())),
        1 => Just(Op::Remove("list".to_owned())),
        1 => Just(Op::Clear),
        4 => (number.clone(), small.clone()).prop_map(|(key, by)| Op::Increment(key.to_owned(), by)),
        3 => small.clone().prop_map(|item| Op::Push("list".to_owned(), json!(item))),
        1 => (number.clone(), small.clone()).prop_map(|(key, by)| Op::Edit(key.to_owned(), by)),
        3 => (number, small.clone()).prop_map(|(key, by)| Op::Add(key.to_owned(), by)),
        2 => number_to_count_down,
        2 => small.clone().prop_map(|item| Op::Append("list".to_owned(), json!(item))),
        2 => small.prop_map(|item| Op::Flash(json!(item))),
        2 => Just(Op::Pop),
        2 => prop::sample::select(&Float::ALL[..]).prop_map(Op::SetFloat),
        2 => Just(Op::Negate),
        2 => Just(Op::Save),
        1 => user.clone().prop_map(|user| Op::Login(user.to_owned())),
        2 => user.prop_map(|user| Op::LoginKeeping(user.to_owned(), vec!["n".into(), "list".into()])),
        1 => Just(Op::Elevate),
        2 => Just(Op::Renew),
        1 => Just(Op::Logout),
        1 => Just(Op::LogoutKeeping(vec!["n".into(), "list".into()])),
        1 => page.prop_map(|page| Op::ReturnTo(page.to_owned())),
        1 => Just(Op::TakeReturnTo),
        1 => prop::sample::select(vec![Op::SkipTouch, Op::ResetTimes]),
        // What follows is not carried out.
        1 => prop::sample::select(vec![Op::Fail(404), Op::Fail(500), Op::Panic]),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let cookie = prop_oneof![4 => Just(0_usize), 1 => 1..4_usize];
    let tab = (cookie, vec(op(), 0..6)).prop_map(|(cookie, program)| Tab { cookie, program });
    let phases = vec(vec(tab, 1..4), 1..5);
    (phases, vec(0..1000_usize, 24)).prop_map(|(phases, order)| Case { phases, order })
}

/// Where cases are tried out. One for all of them: sessions keep apart by themselves.
struct Setup {
    runtime: runtime::Runtime,
    arena: Arc<Arena>,
    steps: Steps,
    seals: bool,
}

impl Setup {
    fn new(seals: bool, store: impl AsyncFnOnce(&Clock) -> Box<dyn Store>) -> Setup {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let steps = Steps::default();
        let arena = runtime.block_on(async {
            // A clock that stands still: nothing becomes due by itself.
            let clock = Clock::new();
            let stepped = Stepped::new(store(&clock).await, steps.clone());
            let setting = Setting::in_memory().clock(&clock).key("seal", seals);
            Arena::start_with(&setting, Sessions::with_store(stepped)).await
        });
        Setup {
            runtime,
            arena,
            steps,
            seals,
        }
    }

    fn try_out(&self, cases: u32) {
        let config = Config {
            cases,
            failure_persistence: None,
            rng_seed: RngSeed::Fixed(seed("PROPTEST_RNG_SEED")),
            max_shrink_iters: 4000,
            ..Config::default()
        };
        let mut runner = TestRunner::new(config);
        let result = runner.run(&case(), |case| self.runtime.block_on(self.play(&case)));
        if let Err(failure) = result {
            panic!("{failure}");
        }
    }

    async fn stored(&self) -> Result<u64, TestCaseError> {
        let stored = self.arena.sessions().count().await;
        stored.map_err(|error| TestCaseError::fail(error.to_string()))
    }

    async fn play(&self, case: &Case) -> Result<(), TestCaseError> {
        let mut play = Play {
            setup: self,
            world: World::new(self.seals),
            browser: self.arena.browser(),
            own: None,
            cookies: Vec::new(),
            tokens: HashMap::new(),
            ids: Ids::default(),
            order: case.order.iter().copied().cycle(),
            before: self.stored().await?,
        };
        for phase in &case.phases {
            play.phase(phase).await?;
        }
        play.end().await
    }
}

/// A case that is being played.
struct Play<'a, O> {
    setup: &'a Setup,
    world: World,
    browser: Browser,
    /// What the browser's cookie stands for in the reference.
    own: Option<Token>,
    /// Every cookie that was ever given.
    cookies: Vec<String>,
    tokens: HashMap<String, Token>,
    ids: Ids,
    order: O,
    /// How many sessions earlier cases have left. (They are not revoked: for a second after that a
    /// server lets no login stand.)
    before: u64,
}

/// What sessions are called, in the application and in the reference.
#[derive(Default)]
struct Ids(HashMap<String, u32>);

impl Ids {
    /// Whether this is the one's name for what the other calls so: none has two.
    fn agree(&mut self, real: &str, expected: u32) -> bool {
        let known = self.0.values().any(|other| *other == expected);
        match self.0.get(real) {
            Some(other) => *other == expected,
            None if known => false,
            None => self.0.insert(real.to_owned(), expected).is_none(),
        }
    }
}

type Request<T> = Pin<Box<dyn Future<Output = T>>>;

/// A request and its twin.
struct Twins {
    number: usize,
    program: Vec<Op>,
    real: Request<ArenaResponse>,
    model: Request<Expected>,
    response: Option<ArenaResponse>,
    expected: Option<Expected>,
}

impl<O: Iterator<Item = usize>> Play<'_, O> {
    fn pick(&mut self, from: usize) -> usize {
        self.order.next().unwrap_or(0) % from
    }

    async fn phase(&mut self, tabs: &[Tab]) -> Result<(), TestCaseError> {
        let steps = &self.setup.steps;
        steps.clear();
        let mut all: Vec<Twins> = tabs.iter().map(|tab| self.twins(tab)).collect();
        for (number, twins) in all.iter_mut().enumerate() {
            twins.number = number;
            twins.advance(steps, &self.world).await?;
        }
        let mut ended = Vec::new();
        while !all.is_empty() {
            if let Some(at) = all.iter().position(|twins| twins.response.is_some()) {
                ended.push(all.swap_remove(at));
                continue;
            }
            let at = self.pick(all.len());
            let twins = &mut all[at];
            let waiting = steps.waiting(twins.number);
            let expected = self.world.waiting(twins.number);
            prop_assert_eq!(
                &waiting,
                &expected,
                "the operations of {:?}",
                &twins.program
            );
            let kind = waiting[self.order.next().unwrap_or(0) % waiting.len()];
            steps.grant(twins.number, kind);
            self.world.grant(twins.number, kind);
            twins.advance(steps, &self.world).await?;
        }
        while !ended.is_empty() {
            let at = self.pick(ended.len());
            self.deliver(ended.swap_remove(at))?;
        }
        Ok(())
    }

    fn twins(&self, tab: &Tab) -> Twins {
        let cookie = match tab.cookie.checked_sub(1) {
            Some(old) if !self.cookies.is_empty() => {
                Some(self.cookies[old % self.cookies.len()].clone())
            }
            _ => self.browser.cookie("session"),
        };
        let sender = self.setup.arena.browser();
        if let Some(cookie) = &cookie {
            sender.set_cookie(&format!("session={cookie}; Path=/"));
        }
        let arena = Arc::clone(&self.setup.arena);
        let request = request(&sender, &tab.program);
        let token = cookie.and_then(|cookie| self.tokens.get(&cookie).copied());
        Twins {
            number: 0,
            program: tab.program.clone(),
            real: Box::pin(async move { arena.send(request).await }),
            model: Box::pin(reference::expected(
                self.world.clone(),
                token,
                tab.program.clone(),
            )),
            response: None,
            expected: None,
        }
    }

    /// The answers of a request and of its twin are the same.
    fn deliver(&mut self, twins: Twins) -> Result<(), TestCaseError> {
        let (Some(response), Some(expected)) = (twins.response, twins.expected) else {
            return Err(TestCaseError::fail("a request that does not end"));
        };
        let program = twins.program;
        prop_assert_eq!(response.status(), expected.status, "{}", response.0.text());
        if expected.status == 200 {
            self.same_results(&response.results(), &expected.results, &program)?;
        }
        let given = response.0.set_cookies().iter().find_map(|cookie| {
            let value = cookie.strip_prefix("session=")?.split(';').next()?;
            (!value.is_empty()).then(|| value.to_owned())
        });
        prop_assert_eq!(
            given.is_some(),
            expected.token.is_some(),
            "the cookie of {:?}",
            program
        );
        let removed = given.is_none() && !response.0.set_cookies().is_empty();
        prop_assert_eq!(removed, expected.removes, "the removal of {:?}", program);
        if let (Some(cookie), Some(token)) = (given, expected.token) {
            let same = self.ids.agree(id_of(&cookie), token.session);
            prop_assert!(same, "the session that the cookie of {:?} names", program);
            self.tokens.insert(cookie.clone(), token);
            self.cookies.push(cookie);
            self.own = Some(token);
        } else if removed {
            self.own = None;
        }
        response.arrive(&self.browser);
        let holds = self
            .browser
            .cookie("session")
            .map(|cookie| self.tokens.get(&cookie).copied());
        prop_assert_eq!(holds, self.own.map(Some));
        Ok(())
    }

    fn same_results(
        &mut self,
        results: &Results,
        expected: &[Result<Output, &'static str>],
        program: &[Op],
    ) -> Result<(), TestCaseError> {
        prop_assert_eq!(results.len(), expected.len());
        for (index, expected) in expected.iter().enumerate() {
            let what = format!("step {index} of {program:?}");
            match (results.get(index), expected) {
                (Ok(_), Ok(Output::View(expected))) => {
                    same_view(&results.view(index), expected, &mut self.ids, &what)?;
                }
                (Ok(value), Ok(Output::Value(expected))) => {
                    prop_assert_eq!(value, expected, "{}", what);
                }
                (Err(error), Err(expected)) => {
                    prop_assert!(error.starts_with(expected), "{}: {}", what, error);
                }
                (real, expected) => {
                    prop_assert!(false, "{}: {:?}, and not {:?}", what, real, expected);
                }
            }
        }
        Ok(())
    }

    /// Every token that was ever given leads to what the reference says.
    async fn end(mut self) -> Result<(), TestCaseError> {
        self.setup.steps.clear();
        for cookie in &self.cookies {
            let visitor = self.setup.arena.browser();
            visitor.set_cookie(&format!("session={cookie}; Path=/"));
            let response = self.setup.arena.run(&visitor, &[Op::View]).await;
            let expected = self.world.look(self.tokens[cookie]);
            let view = response.results().view(0);
            same_view(&view, &expected, &mut self.ids, "in the end")?;
        }
        // And no other session is there.
        let stored = self.setup.stored().await? - self.before;
        prop_assert_eq!(stored, self.world.alive(), "sessions that are stored");
        Ok(())
    }
}

fn same_view(real: &View, expected: &Seen, ids: &mut Ids, what: &str) -> Result<(), TestCaseError> {
    prop_assert_eq!(real.is_new, expected.is_new, "{}: {:?}", what, real);
    let same = match (&real.id, expected.id) {
        (Some(real), Some(expected)) => ids.agree(real, expected),
        (real, expected) => real.is_none() && expected.is_none(),
    };
    prop_assert!(same, "{}: {:?}, and not {:?}", what, real, expected);
    prop_assert_eq!(&real.values, &expected.values, "{}", what);
    prop_assert_eq!(&real.flash, &expected.flash, "{}", what);
    prop_assert_eq!(&real.user, &expected.user, "{}", what);
    Ok(())
}

impl Twins {
    /// Continues until both wait at the store again, or have ended.
    async fn advance(&mut self, steps: &Steps, world: &World) -> Result<(), TestCaseError> {
        let number = self.number;
        steps.are_of(Some(number));
        let real = poll_fn(|context| {
            steps.watch(context);
            if self.response.is_none()
                && let Poll::Ready(response) = self.real.as_mut().poll(context)
            {
                self.response = Some(response);
            }
            // Otherwise it sleeps between two attempts, or the database is at work.
            match self.response.is_some() || steps.is_waiting(number) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        in_time("a request's way to the store or to its response", real).await;
        steps.are_of(None);
        world.is_of(Some(number));
        poll_fn(|context| {
            if self.expected.is_none()
                && let Poll::Ready(expected) = self.model.as_mut().poll(context)
            {
                self.expected = Some(expected);
            }
            Poll::Ready(())
        })
        .await;
        world.is_of(None);
        let (real, model) = (self.response.is_some(), self.expected.is_some());
        prop_assert_eq!(
            real,
            model,
            "whether it is over: {:?} waits for {:?}, the reference for {:?}",
            &self.program,
            steps.waiting(number),
            world.waiting(number)
        );
        Ok(())
    }
}

async fn in_memory(clock: &Clock) -> Box<dyn Store> {
    Box::new(MemoryStore::with_clock(clock))
}

async fn on_mongodb(_: &Clock) -> Box<dyn Store> {
    let client = Mongod::shared().await.client().await;
    let sessions = client
        .database(&database())
        .collection::<mongodb::bson::Document>("session");
    let deadline = std::time::Duration::from_secs(10);
    Box::new(MongoStore::new(&sessions, deadline, 8, true))
}

#[test]
fn every_interleaving_is_one_that_the_reference_allows() {
    Setup::new(false, in_memory).try_out(2000);
}

#[test]
fn every_interleaving_is_one_that_the_reference_allows_on_mongodb() {
    Setup::new(false, on_mongodb).try_out(200);
}

#[test]
fn every_interleaving_of_sealed_sessions_is_one_that_the_reference_allows() {
    Setup::new(true, in_memory).try_out(1000);
}

#[test]
fn every_interleaving_of_sealed_sessions_is_one_that_the_reference_allows_on_mongodb() {
    Setup::new(true, on_mongodb).try_out(100);
}

fn tab(cookie: usize, program: &[Op]) -> Tab {
    let program = program.to_vec();
    Tab { cookie, program }
}

/// One case that was found.
fn plays(case: &Case) {
    let setup = Setup::new(false, in_memory);
    let played = setup.runtime.block_on(setup.play(case));
    played.unwrap_or_else(|failure| panic!("{failure}"));
}

/// The session that an old cookie names under another secret ends after its load: the login with that
/// cookie leaves no tombstone, so the other request stores a session.
#[test]
fn a_login_with_a_wrong_secret_leaves_no_tombstone_of_a_session_that_ends_meanwhile() {
    let n = || "n".to_owned();
    // The requests of the last phase in the order of their steps, and one number for which of the
    // operations that a step waits at; before them the eight of the other phases.
    let steps = [0, 2, 1, 2, 0, 1, 1, 0, 0];
    let order = std::iter::repeat_n(0, 8).chain(steps.into_iter().flat_map(|at| [at, 0]));
    let order = order.chain(std::iter::repeat_n(0, 24));
    plays(&Case {
        phases: vec![
            vec![tab(0, &[Op::Increment(n(), 0)])],
            vec![tab(0, &[Op::Elevate])],
            vec![
                tab(0, &[Op::Add(n(), 1), Op::Increment(n(), 0)]),
                tab(1, &[Op::Login("ann".into())]),
                tab(0, &[Op::Logout]),
            ],
        ],
        order: order.collect(),
    });
}

/// A modification that finds no session has written nothing, so the value is not in doubt: the next
/// call that leaves it as it is sends nothing.
#[test]
fn a_modification_that_found_no_session_leaves_no_doubt() {
    let m = || "m".to_owned();
    // The six of the first phase, then which request makes its next step.
    let steps = [1, 0, 1, 1, 1];
    let order = std::iter::repeat_n(0, 6).chain(steps.into_iter().flat_map(|at| [at, 0]));
    plays(&Case {
        phases: vec![
            vec![tab(0, &[Op::SetFloat(Float::NotANumber)])],
            vec![tab(0, &[])],
            vec![
                tab(0, &[Op::Clear, Op::Add(m(), 0), Op::CountDown(m())]),
                tab(0, &[Op::Login("ann".into())]),
            ],
        ],
        order: order.chain(std::iter::repeat_n(0, 24)).collect(),
    });
}
