//! Races: rounds in which several tabs, browsers and administrators do what they do at once, on a
//! real mongod with and without sharing, while sealing is rolled out, and in memory.
//!
//! A round poises its requests inside their handlers, lets them go in an order that its seed
//! decides (at once, or one after the other), delivers the answers in any order, and looks at the
//! outcome. `RACE_SEED` repeats the round that a failure names, `RACE_ROUNDS=2000` has four times
//! as many.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::{BoxFuture, join_all};
use futures::stream::{self, StreamExt};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rocket::tokio;
use rocket_mongo_session::{MemoryStore, Sessions};

use crate::apps::arena::{Arena, ArenaResponse, Op, Poised, Setting, View};
use crate::store::hooked::{Hook, Hooked, Kind};
use crate::support::{Browser, Mongod, seed};

mod controls;
mod ending;
mod expiry;
mod logins;
mod values;
mod versions;

/// How many rounds each race has where requests share commands of MongoDB. It has fewer in other
/// places: `controls` run a hundred at a time, up to ten times, until a store that breaks a promise
/// loses.
const ROUNDS: u64 = 500;
/// How many of them run at once.
const CONCURRENT_ROUNDS: usize = 16;

/// One round of a race: fails by panicking.
pub type Race = fn(Round) -> BoxFuture<'static, ()>;

/// What a round has to work with.
pub struct Round {
    pub arena: Arc<Arena>,
    pub rng: StdRng,
    /// Of this round alone, for names of users.
    pub seed: u64,
}

impl Round {
    /// A number of something, as the seed decides.
    pub fn some(&mut self, least: i64, most: i64) -> i64 {
        self.rng.random_range(least..=most)
    }

    pub fn flip(&mut self) -> bool {
        self.rng.random_bool(0.5)
    }

    /// A browser whose session is stored, with a token that a thief could have.
    pub async fn visitor(&self) -> Browser {
        let browser = self.arena.browser();
        let program = [crate::apps::arena::set("planted", self.seed)];
        let response = self.arena.run(&browser, &program).await;
        assert!(response.sends_cookie(), "{:?}", response.0);
        browser
    }

    /// A browser that is logged in. For a second after a revocation a server lets no login stand, so
    /// it tries again.
    pub async fn member(&self, user: &str) -> Browser {
        let login = Op::Login(user.to_owned());
        let program = [login, crate::apps::arena::set("planted", self.seed)];
        let began = Instant::now();
        loop {
            let browser = self.arena.browser();
            let response = self.arena.run(&browser, &program).await;
            if response.sends_cookie() {
                return browser;
            }
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "{:?}",
                response.0
            );
        }
    }

    /// What the server makes of this browser's cookie now.
    pub async fn look(&self, browser: &Browser) -> View {
        self.arena.run(browser, &[Op::View]).await.results().view(0)
    }

    /// Lets everybody go: in any order, at once or one after the other. The answers are in the
    /// order of the tabs; `order` is the one in which they were let go.
    pub async fn let_go(&mut self, mut poised: Vec<Poised>) -> Vec<ArenaResponse> {
        let mut order: Vec<usize> = (0..poised.len()).collect();
        order.shuffle(&mut self.rng);
        let mut responses: Vec<Option<ArenaResponse>> = poised.iter().map(|_| None).collect();
        for tab in order {
            poised[tab].release();
            match self.rng.random_range(0..4) {
                // To its end, before the next one goes.
                0 => responses[tab] = Some(poised[tab].response().await),
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
        for (tab, response) in poised.iter_mut().zip(responses) {
            all.push(match response {
                Some(response) => response,
                None => tab.response().await,
            });
        }
        all
    }

    /// The answers reach the browser in any order.
    pub fn deliver(&mut self, responses: &[ArenaResponse], browser: &Browser) {
        let mut order: Vec<&ArenaResponse> = responses.iter().collect();
        order.shuffle(&mut self.rng);
        for response in order {
            response.arrive(browser);
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
    concurrent: usize,
) -> Vec<(u64, String)> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds = match number("RACE_SEED") {
        // The same seed is not the same weather: what threads do is not ours to decide.
        Some(seed) => vec![seed; rounds as usize],
        None => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let first = now.map_or(0, |now| now.as_nanos() as u64) & 0xffff_ffff;
            let rounds =
                number("RACE_ROUNDS").map_or(rounds, |more: u64| (rounds * more / ROUNDS).max(1));
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
        .buffer_unordered(concurrent)
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

/// Where a race is run.
#[derive(Clone, Copy)]
pub enum Place {
    MongoDb {
        share: bool,
        encoding: &'static str,
    },
    /// On MongoDB, in two processes of which one seals.
    Rolling,
    Memory,
}

impl Place {
    /// With sessions of this race alone.
    async fn setting(self) -> Setting {
        let setting = match self {
            Place::MongoDb { share, encoding } => {
                Setting::on(Mongod::shared().await, share).key("encoding", encoding)
            }
            Place::Rolling => Setting::on(Mongod::shared().await, true),
            Place::Memory => Setting::in_memory(),
        };
        // A busy machine loses no race by it.
        setting.key("deadline", 60)
    }

    async fn arena(self, setting: &Setting) -> Arc<Arena> {
        match self {
            Place::MongoDb { .. } => Arena::start(setting).await,
            Place::Rolling => Arena::start_rolling(setting).await,
            Place::Memory => {
                let rng = StdRng::seed_from_u64(seed("RACE_STORE_SEED"));
                let store = Hooked::new(Box::new(MemoryStore::new()), Yields(Mutex::new(rng)));
                Arena::start_with(setting, Sessions::with_store(store)).await
            }
        }
    }

    /// The number of rounds here, of a race that has `most` where requests share commands.
    fn rounds(self, most: u64) -> u64 {
        match self {
            Place::MongoDb { share: true, .. } => most,
            Place::MongoDb { share: false, .. } => most * 2 / 5,
            Place::Rolling | Place::Memory => most / 5,
        }
    }
}

/// Runs a race, and tells which seeds lost.
pub async fn run(place: Place, race: Race) {
    let arena = place.arena(&place.setting().await).await;
    let rounds = place.rounds(ROUNDS);
    assert_won(
        failures(&arena, race, rounds, CONCURRENT_ROUNDS).await,
        rounds,
    );
}

/// The same for a race that concerns everybody: in each of a few applications one round comes after
/// the other. It has all of its `rounds` in memory, where none waits for a server.
pub async fn run_apart(place: Place, race: Race, rounds: u64, with: fn(Setting) -> Setting) {
    const APPLICATIONS: u64 = 4;
    let rounds = match place {
        Place::Memory => rounds,
        _ => place.rounds(rounds),
    };
    let alone = (0..APPLICATIONS).map(|number| async move {
        let arena = place.arena(&with(place.setting().await)).await;
        // Shares that add up to all of the rounds.
        failures(&arena, race, (rounds + number) / APPLICATIONS, 1).await
    });
    let failures = join_all(alone).await.concat();
    assert_won(failures, rounds);
}

fn assert_won(failures: Vec<(u64, String)>, rounds: u64) {
    if let Some((seed, how)) = failures.first() {
        panic!(
            "{} of {rounds} rounds failed; the first with RACE_SEED={seed}:\n{how}",
            failures.len()
        );
    }
}

/// Four tests of one race: on a mongod with sharing and native values, on a mongod without and
/// with opaque ones, on a mongod while sealing is rolled out, and in memory.
macro_rules! everywhere {
    ($run:expr) => {
        #[rocket::async_test]
        async fn on_mongodb() {
            let (share, encoding) = (true, "document");
            ($run)($crate::robustness::races::Place::MongoDb { share, encoding }).await;
        }

        #[rocket::async_test]
        async fn on_mongodb_each_alone() {
            let (share, encoding) = (false, "binary");
            ($run)($crate::robustness::races::Place::MongoDb { share, encoding }).await;
        }

        #[rocket::async_test]
        async fn on_mongodb_while_sealing_is_rolled_out() {
            ($run)($crate::robustness::races::Place::Rolling).await;
        }

        #[rocket::async_test]
        async fn in_memory() {
            ($run)($crate::robustness::races::Place::Memory).await;
        }
    };
}
use everywhere;

/// Races whose rounds do not disturb each other.
macro_rules! race {
    ($($name:ident($round:ident) $body:block)+) => {$(
        pub(super) mod $name {
            #[allow(unused_imports)]
            use super::*;
            use $crate::robustness::races::{Round, everywhere, run};

            pub fn round($round: Round) -> futures::future::BoxFuture<'static, ()> {
                #[allow(unused_mut)]
                let mut $round = $round;
                Box::pin(async move $body)
            }

            everywhere!(|place| run(place, round));
        }
    )+};
}
use race;
