//! Races: rounds in which several tabs, browsers and administrators do what they do at once, on a
//! real mongod with and without sharing, and in memory.
//!
//! A round poises its requests inside their handlers, lets them go in an order that its seed
//! decides (at once, or one after the other), delivers the answers in any order, and looks at what
//! became of it. `RACE_SEED` repeats the round that a failure names, `RACE_ROUNDS` changes how many
//! there are.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rocket::tokio;
use rocket_mongo_session::{MemoryStore, Sessions};

use crate::arena::{Answer, Arena, Op, Poised, Setting, View};
use crate::hooked::{Hook, Hooked, Kind};
use crate::support::{Browser, Mongod, seed};

mod controls;
mod ending;
mod expiry;
mod logins;
mod values;
mod versions;

/// How many rounds each race has.
const ROUNDS: u64 = 500;
/// How many of them are under way at once.
const TOGETHER: usize = 16;

/// One round of a race: fails by panicking.
pub type Race = fn(Round) -> BoxFuture<'static, ()>;

/// What a round has to work with.
pub struct Round {
    pub arena: Arc<Arena>,
    pub rng: StdRng,
    /// Nobody else's, for names of users.
    pub seed: u64,
}

impl Round {
    /// So many of something, as the seed decides.
    pub fn some(&mut self, least: i64, most: i64) -> i64 {
        self.rng.random_range(least..=most)
    }

    pub fn flip(&mut self) -> bool {
        self.rng.random_bool(0.5)
    }

    /// A browser whose session is stored, with a token that a thief could have.
    pub async fn visitor(&self) -> Browser {
        let browser = self.arena.browser();
        let program = [crate::arena::set("planted", self.seed)];
        let answer = self.arena.run(&browser, &program).await;
        assert!(answer.sends_cookie(), "{:?}", answer.0);
        browser
    }

    /// A browser that is logged in.
    pub async fn member(&self, user: &str) -> Browser {
        let browser = self.arena.browser();
        let program = [
            Op::Login(user.to_owned()),
            crate::arena::set("planted", self.seed),
        ];
        let answer = self.arena.run(&browser, &program).await;
        assert!(answer.sends_cookie(), "{:?}", answer.0);
        browser
    }

    /// What the server makes of this browser's cookie now.
    pub async fn look(&self, browser: &Browser) -> View {
        self.arena.run(browser, &[Op::View]).await.results().view(0)
    }

    /// Lets everybody go: in any order, at once or one after the other. The answers are in the
    /// order of the tabs; `order` is the one in which they were let go.
    pub async fn let_go(&mut self, mut poised: Vec<Poised>) -> Vec<Answer> {
        let mut order: Vec<usize> = (0..poised.len()).collect();
        order.shuffle(&mut self.rng);
        let mut answers: Vec<Option<Answer>> = poised.iter().map(|_| None).collect();
        for tab in order {
            poised[tab].release();
            match self.rng.random_range(0..4) {
                // To its end, before the next one goes.
                0 => answers[tab] = Some(poised[tab].answer().await),
                // A little ahead.
                1 => {
                    for _ in 0..self.rng.random_range(1..20) {
                        tokio::task::yield_now().await;
                    }
                }
                _ => {}
            }
        }
        let mut all = Vec::new();
        for (tab, answer) in poised.iter_mut().zip(answers) {
            all.push(match answer {
                Some(answer) => answer,
                None => tab.answer().await,
            });
        }
        all
    }

    /// The answers reach the browser in any order.
    pub fn deliver(&mut self, answers: &[Answer], browser: &Browser) {
        let mut order: Vec<&Answer> = answers.iter().collect();
        order.shuffle(&mut self.rng);
        for answer in order {
            answer.arrive(browser);
        }
    }

    /// A browser that kept the cookies that this one has now.
    pub async fn assert_dead(&self, thief: &Browser, what: &str) {
        let twin = thief.twin();
        let view = self.look(&twin).await;
        assert!(
            view.is_new && view.user.is_none() && view.values.is_empty(),
            "{what}: {view:?}"
        );
    }
}

/// What went wrong: the seed of each round that failed, and how.
pub async fn failures(
    arena: &Arc<Arena>,
    race: Race,
    rounds: u64,
    together: usize,
) -> Vec<(u64, String)> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds = match number("RACE_SEED") {
        // The same seed is not the same weather: what threads do is not ours to decide.
        Some(seed) => vec![seed; rounds as usize],
        None => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let first = now.map_or(0, |now| now.as_nanos() as u64) & 0xffff_ffff;
            let rounds = number("RACE_ROUNDS").map_or(rounds, |more| rounds * more / ROUNDS);
            (first..first + rounds).collect()
        }
    };
    stream::iter(seeds)
        .map(|seed| {
            let round = Round {
                arena: Arc::clone(arena),
                rng: StdRng::seed_from_u64(seed),
                seed,
            };
            async move { (seed, tokio::spawn(race(round)).await) }
        })
        .buffer_unordered(together)
        .filter_map(async |(seed, ended)| Some((seed, said(ended.err()?))))
        .collect()
        .await
}

fn said(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => panic
                .downcast::<&str>()
                .map_or("a panic".to_owned(), |text| (*text).to_owned()),
        },
        Err(error) => error.to_string(),
    }
}

/// Lets others go first around every operation of a store, as the way to a database and back does:
/// without it, what is in memory would never be interrupted.
struct Yields(Mutex<StdRng>);

impl Yields {
    async fn some(&self) {
        let times = {
            let mut rng = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            rng.random_range(0..6)
        };
        for _ in 0..times {
            tokio::task::yield_now().await;
        }
    }
}

impl Hook for Yields {
    async fn around<T: Send>(&self, _: Kind, operation: impl Future<Output = T> + Send) -> T {
        self.some().await;
        let output = operation.await;
        self.some().await;
        output
    }
}

/// Runs a race on a MongoDB, and tells which seeds lost.
pub async fn run(setting: Setting, race: Race, rounds: u64, together: usize) {
    // A busy machine loses no race by it.
    let arena = Arena::start(&setting.key("deadline", 60)).await;
    assert_won(&arena, race, rounds, together).await;
}

/// The same in memory.
pub async fn run_in_memory(setting: Setting, race: Race, rounds: u64, together: usize) {
    let yields = Yields(Mutex::new(StdRng::seed_from_u64(seed("RACE_STORE_SEED"))));
    let store = Hooked::new(Box::new(MemoryStore::new()), yields);
    let fairing = Sessions::with_store(store);
    let arena = Arena::start_with(&setting.key("deadline", 60), fairing).await;
    assert_won(&arena, race, rounds, together).await;
}

async fn assert_won(arena: &Arc<Arena>, race: Race, rounds: u64, together: usize) {
    let failures = failures(arena, race, rounds, together).await;
    if let Some((seed, how)) = failures.first() {
        panic!(
            "{} of {rounds} rounds failed; the first with RACE_SEED={seed}:\n{how}",
            failures.len()
        );
    }
}

pub async fn run_shared(share: bool, encoding: &str, race: Race, together: usize) {
    let setting = Setting::on(Mongod::shared().await, share).key("encoding", encoding);
    run(setting, race, ROUNDS, together).await;
}

/// Three tests of one race: on a mongod with sharing and native values, on a mongod without and
/// with opaque ones, and in memory.
macro_rules! race {
    ($($name:ident($round:ident) $body:block)+) => {$(
        pub(super) mod $name {
            #[allow(unused_imports)]
            use super::*;
            use $crate::races::{ROUNDS, Round, TOGETHER, run_in_memory, run_shared};

            pub fn round($round: Round) -> futures::future::BoxFuture<'static, ()> {
                #[allow(unused_mut)]
                let mut $round = $round;
                Box::pin(async move $body)
            }

            #[rocket::async_test]
            async fn on_mongodb() {
                run_shared(true, "document", round, TOGETHER).await;
            }

            #[rocket::async_test]
            async fn on_mongodb_each_alone() {
                run_shared(false, "binary", round, TOGETHER).await;
            }

            #[rocket::async_test]
            async fn in_memory() {
                let setting = $crate::arena::Setting::in_memory();
                run_in_memory(setting, round, ROUNDS, TOGETHER).await;
            }
        }
    )+};
}
use race;
