//! Faults on real processes: what a crowd was told while servers died, stalled, stepped down or lost
//! answers, and single requests at the exact point of a fault.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mongodb::Client;
use mongodb::bson::Document;
use rand::RngExt;
use rocket::serde::json::json;
use rocket::tokio::spawn;
use rocket::tokio::time::sleep;
use rocket_mongo_session::testing::Clock;

use crate::apps::arena::{Arena, Op, Setting, set};
use crate::apps::database;
use crate::robustness::crowd::{Crowd, stored};
use crate::robustness::history::{Terms, Verdict};
use crate::support::{ReplicaSet, eventually};

mod commands;
mod dropped;
mod failover;
mod pool;
mod process;
mod replies;
mod revocations;
mod shutdown;
mod stuck;
mod ttl;

/// Of one database operation, in seconds.
pub const DEADLINE: u64 = 3;

/// The name by which fail points know the application.
pub const APP: &str = "app";

/// An application under test whose sessions are at this address.
pub fn setting(url: &str, share: bool) -> Setting {
    let separator = if url.contains('?') { '&' } else { '?' };
    Setting::in_memory()
        .url(format!("{url}{separator}appName={APP}"))
        .key("share", share)
        .key("deadline", DEADLINE)
}

/// How a crowd reaches its sessions, and what the fault may cost that it is to meet.
struct Load {
    share: bool,
    /// More options for the database's address.
    options: &'static str,
    /// The processes that serve it.
    apps: usize,
    /// How far the clock of each is ahead of that of the one before it.
    apart: Duration,
    /// The last of them seals.
    seals: bool,
    failover: bool,
}

impl Load {
    /// On one application, while another primary may be elected.
    fn sharing(share: bool) -> Load {
        Load {
            share,
            options: "",
            apps: 1,
            apart: Duration::ZERO,
            seals: false,
            failover: true,
        }
    }

    /// Half of the tabs ask a second application with the same database.
    fn on_two_apps(mut self) -> Load {
        self.apps = 2;
        self
    }

    /// A rolling deploy of `seal`: of two applications the second one seals.
    fn while_sealing_is_rolled_out(mut self) -> Load {
        self.seals = true;
        self.on_two_apps()
    }

    /// The clocks of two applications differ by so much.
    fn apart(mut self, by: Duration) -> Load {
        self.apart = by;
        self
    }

    /// The primary stays the primary.
    fn without_failover(mut self) -> Load {
        self.failover = false;
        self
    }

    fn with(mut self, options: &'static str) -> Load {
        self.options = options;
        self
    }
}

/// A clock that runs as the system's does, and is ahead of it.
fn clock_ahead(by: Duration) -> Clock {
    let (clock, start) = (Clock::new(), Instant::now());
    clock.advance(by);
    let ticks = clock.clone();
    spawn(async move {
        let mut shown = Duration::ZERO;
        loop {
            sleep(Duration::from_millis(20)).await;
            let step = start.elapsed().saturating_sub(shown);
            shown += step;
            ticks.advance(step);
        }
    });
    clock
}

/// Lets a crowd loose on a replica set, does something to the set, and holds what the crowd was
/// told against the invariants. `FAULT_SEED` makes the crowd want the same again (but when
/// something happens is the machine's to decide).
async fn survives(
    set: &ReplicaSet,
    load: Load,
    fault: impl AsyncFnOnce(&ReplicaSet, &Crowd),
) -> Verdict {
    let verdict = endures(set, load, fault).await;
    verdict.assert();
    verdict
}

/// As `survives`, and gives what the checker says.
async fn endures(
    set: &ReplicaSet,
    load: Load,
    fault: impl AsyncFnOnce(&ReplicaSet, &Crowd),
) -> Verdict {
    let given = std::env::var("FAULT_SEED").ok();
    let given = given.and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    println!("FAULT_SEED={seed}");
    let db = database();
    let url = format!("{}{}", set.url(&db), load.options);
    let mut apps = Vec::new();
    for number in 0..load.apps {
        let mut setting = setting(&url, load.share);
        if !load.apart.is_zero() {
            let ahead = load.apart * u32::try_from(number).unwrap_or(u32::MAX);
            setting = setting.clock(&clock_ahead(ahead));
        }
        if load.seals {
            setting = setting.key("seal", number + 1 == load.apps);
        }
        let app = Arena::start(&setting).await;
        serves(&app).await;
        apps.push(app);
    }
    let crowd = Crowd::gather(&apps, seed).await;
    crowd.see(100).await;
    fault(set, &crowd).await;
    let healed = crowd.history.now();
    crowd.see(100).await;
    crowd.see_all_succeed(healed).await;
    for app in &apps {
        serves(app).await;
    }
    let terms = Terms {
        deadline: Duration::from_secs(DEADLINE),
        failover: load.failover,
        several_apps: load.apps > 1,
        sealing_starts: load.seals,
        healed: Some(healed),
    };
    let verdict = check(&set.client().await, &db, crowd, terms).await;
    println!("{verdict}");
    verdict
}

/// Lets a crowd disperse, and holds what it was told and what is stored then against the
/// invariants.
pub async fn check(client: &Client, db: &str, crowd: Crowd, terms: Terms) -> Verdict {
    let history = crowd.disperse().await;
    let mut documents = stored(client, db).await;
    documents.retain(|one| !is_probe(one));
    let streams = history.streams();
    streams.settle(&documents, Duration::from_secs(30)).await;
    history.check(&documents, terms)
}

/// I11: twenty requests in a row succeed, in bounded time after the fault, of every kind that
/// there is.
pub async fn serves(arena: &Arc<Arena>) {
    let began = Instant::now();
    let mut in_a_row = 0;
    while in_a_row < 20 {
        match every_call(arena).await {
            Ok(requests) => in_a_row += requests,
            Err(why) => {
                in_a_row = 0;
                let elapsed = began.elapsed();
                assert!(
                    elapsed < Duration::from_secs(60),
                    "it does not recover: {why}"
                );
            }
        }
    }
}

/// One browser, from its first request to its logout: how many requests that were, or why one
/// failed.
async fn every_call(arena: &Arena) -> Result<usize, String> {
    let browser = arena.browser();
    let keeps = ["probe", "n", "list", "m"].map(str::to_owned).to_vec();
    let programs = [
        vec![set("probe", 1)],
        vec![Op::Increment("n".into(), 1)],
        vec![Op::Push("list".into(), json!(1))],
        vec![Op::Add("m".into(), 1)],
        vec![Op::Flash(json!("hello")), Op::Save],
        vec![Op::Pop],
        vec![Op::Renew],
        vec![Op::LoginKeeping("probe".into(), keeps)],
        vec![Op::Elevate],
        vec![Op::View, Op::Logout],
    ];
    for program in &programs {
        let response = arena.run(&browser, program).await;
        if response.status() != 200 {
            return Err(format!("{program:?}: {:?}", response.0));
        }
        let results = response.results();
        for step in 0..results.len() {
            let result = results.get(step).as_ref();
            result.map_err(|error| format!("{program:?}: {error}"))?;
        }
        // What was answered was also done.
        match program.as_slice() {
            [Op::Pop] => assert_eq!(*results.value(0), json!(["hello"])),
            [Op::View, ..] => {
                let view = results.view(0);
                assert_eq!((view.int("probe"), view.int("n"), view.int("m")), (1, 1, 1));
                assert_eq!(view.list("list"), [json!(1)]);
                assert_eq!(view.user.as_deref(), Some("probe"));
            }
            _ => {}
        }
    }
    assert_eq!(browser.cookie("session"), None);
    Ok(programs.len())
}

/// A session of `serves`, which no history knows.
fn is_probe(document: &Document) -> bool {
    document
        .get_document("value")
        .is_ok_and(|value| value.contains_key("probe"))
}

/// Runs each of the tests with and without sharing.
macro_rules! both_ways {
    ($($name:ident => $body:ident;)+) => {$(
        mod $name {
            #[rocket::async_test]
            async fn sharing() {
                super::$body(true).await;
            }

            #[rocket::async_test]
            async fn each_alone() {
                super::$body(false).await;
            }
        }
    )+};
}
use both_ways;

async fn view(arena: &Arena, browser: &crate::support::Browser) -> crate::apps::arena::View {
    arena.run(browser, &[Op::View]).await.results().view(0)
}
