//! The soak: crowds on a replica set of three, with and without sharing, while at random one fault
//! after another happens, for as long as it is told. `scripts/soak SECONDS` runs it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use mongodb::Client;
use mongodb::bson::doc;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rocket::tokio::spawn;
use rocket::tokio::task::JoinHandle;
use rocket::tokio::time::sleep;
use rocket_mongo_session::EventKind;

use crate::apps::arena::Arena;
use crate::apps::database;
use crate::robustness::crowd::Crowd;
use crate::robustness::faults::{self, APP, DEADLINE};
use crate::robustness::history::{Terms, Verdict};
use crate::support::{FailPoint, Failure, Mode, ReplicaSet, Traffic, eventually};

/// The time between two checks of a crowd.
const ROUND: Duration = Duration::from_secs(45);

/// What is open when every pool is as large as it gets: 32 connections and two monitors to each of
/// three nodes for each of two applications, 10 and two for the tests' own client, each with three
/// ends in this process (the driver's, and both of the proxy); and some more for the rest.
const FILES: u64 = (2 * 34 + 12) * 3 * 3 + 80;

/// An application, where it keeps its sessions, and who reads its events.
struct Stand {
    arena: Arc<Arena>,
    db: String,
    listener: Listener,
}

/// Reads the events of an application, through every fault.
struct Listener {
    heard: Arc<Mutex<Heard>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Heard {
    events: u64,
    /// Sessions that have ended since the last round.
    ended: BTreeSet<String>,
    /// Whether something was missed in this round, and how often in all.
    has_missed: bool,
    missed: u64,
}

impl Listener {
    fn to(arena: &Arena) -> Listener {
        let heard = Arc::<Mutex<Heard>>::default();
        let (mut events, notes) = (arena.sessions().events(), Arc::clone(&heard));
        let task = spawn(async move {
            while let Some(event) = events.next().await {
                let event = event.expect("a replica set has a change stream");
                let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
                notes.events += 1;
                match event.kind {
                    EventKind::Missed => {
                        notes.has_missed = true;
                        notes.missed += 1;
                    }
                    EventKind::LoggedOut
                    | EventKind::Revoked
                    | EventKind::Expired
                    | EventKind::Deleted => {
                        notes.ended.insert(event.id);
                    }
                    _ => {}
                }
            }
        });
        Listener { heard, task }
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it has heard of every one of these ends, or that it has missed something.
    async fn hears(&self, ends: &BTreeSet<String>) {
        eventually("the events of every end", async || {
            assert!(!self.task.is_finished(), "the stream of events has ended");
            let heard = self.lock();
            heard.has_missed || ends.is_subset(&heard.ended)
        })
        .await;
        let mut heard = self.lock();
        heard.ended.clear();
        heard.has_missed = false;
    }
}

#[rocket::async_test]
#[ignore = "it runs for SOAK_SECONDS, a minute unless that is set"]
async fn every_invariant_holds_under_random_faults() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let length = Duration::from_secs(number("SOAK_SECONDS").unwrap_or(60));
    let seed = number("SOAK_SEED").unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    println!("soak: {length:?}, SOAK_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let set = ReplicaSet::builder().behind_proxies().start().await;
    let client = set.client().await;
    let mut stands = Vec::new();
    for share in [true, false] {
        let db = database();
        let arena = Arena::start(&faults::setting(&set.url(&db), share)).await;
        faults::serves(&arena).await;
        let listener = Listener::to(&arena);
        stands.push(Stand {
            arena,
            db,
            listener,
        });
    }

    let began = Instant::now();
    let mut total = Verdict::default();
    let mut faults = BTreeMap::<&str, usize>::new();
    let mut footprints = Vec::new();
    while began.elapsed() < length {
        let verdicts = round(&set, &client, &stands, &mut rng, &mut faults).await;
        for verdict in verdicts {
            total.add(verdict);
        }
        footprints.push(Footprint::now());
        println!(
            "{:6.0?} s: {} faults, {total}",
            began.elapsed().as_secs(),
            faults.values().sum::<usize>()
        );
        if !total.violations.is_empty() {
            break;
        }
    }
    println!("faults: {faults:?}");
    println!("after each round: {footprints:?}");
    for stand in &stands {
        println!("{:?}", stand.arena.sessions().stats());
        let heard = stand.listener.lock();
        println!("{} events, {} times missed", heard.events, heard.missed);
    }
    println!("soak: {:?} with SOAK_SEED={seed}\n{total}", began.elapsed());
    total.assert();
    Footprint::assert_steady(&footprints);
}

/// One crowd at each stand, and faults, until the round is over; then everything is mended.
async fn round(
    set: &ReplicaSet,
    client: &Client,
    stands: &[Stand],
    rng: &mut StdRng,
    faults: &mut BTreeMap<&'static str, usize>,
) -> Vec<Verdict> {
    let began = Instant::now();
    let mut crowds = Vec::new();
    for stand in stands {
        let apps = [Arc::clone(&stand.arena)];
        crowds.push(Crowd::gather(&apps, rng.random()).await);
    }
    while began.elapsed() < ROUND {
        sleep(Duration::from_millis(rng.random_range(500..3000))).await;
        *faults.entry(fault(set, rng).await).or_default() += 1;
        for crowd in &crowds {
            crowd.see(30).await;
        }
    }
    let mut verdicts = Vec::new();
    for (crowd, stand) in crowds.into_iter().zip(stands) {
        let healed = crowd.history.now();
        faults::serves(&stand.arena).await;
        crowd.see_all_succeed(healed).await;
        let terms = Terms {
            deadline: Duration::from_secs(DEADLINE),
            failover: true,
            several_apps: false,
            sealing_starts: false,
            healed: Some(healed),
        };
        let streams = Arc::clone(crowd.history.streams());
        verdicts.push(faults::check(client, &stand.db, crowd, terms).await);
        stand.listener.hears(&streams.told()).await;
        // Room for the next crowd, whose members have the same names.
        eventually("an empty collection", async || {
            let all = stand.arena.sessions().revoke_all_with(|_| {});
            all.await.is_ok()
        })
        .await;
    }
    verdicts
}

/// Something happens, and is over when this returns.
async fn fault(set: &ReplicaSet, rng: &mut StdRng) -> &'static str {
    let primary = set.primary().await;
    let other = (primary + rng.random_range(1..3)) % 3;
    let while_it_lasts = Duration::from_millis(rng.random_range(300..6000));
    match rng.random_range(0..12) {
        0 => {
            set.kill(primary).await;
            sleep(while_it_lasts).await;
            set.restart(primary).await;
            "kill -9 of the primary"
        }
        1 => {
            set.kill(other).await;
            sleep(while_it_lasts).await;
            set.restart(other).await;
            "kill -9 of a secondary"
        }
        2 => {
            set.step_down().await;
            "step-down"
        }
        3 => {
            set.pause(primary).await;
            sleep(while_it_lasts).await;
            set.resume(primary).await;
            "SIGSTOP of the primary"
        }
        4 => {
            set.pause(other).await;
            sleep(while_it_lasts).await;
            set.resume(other).await;
            "SIGSTOP of a secondary"
        }
        5 => {
            set.pause((primary + 1) % 3).await;
            set.pause((primary + 2) % 3).await;
            sleep(while_it_lasts).await;
            set.resume((primary + 1) % 3).await;
            set.resume((primary + 2) % 3).await;
            "SIGSTOP of both secondaries"
        }
        6 => {
            set.restart(rng.random_range(0..3)).await;
            "clean restart of a node"
        }
        7 => {
            set.proxy(primary).set(Traffic::Reset);
            sleep(Duration::from_millis(200)).await;
            set.proxy(primary).set(Traffic::Pass);
            "connections reset"
        }
        8 => {
            let held = [Traffic::Hold, Traffic::HoldReplies, Traffic::HoldRequests];
            set.proxy(primary).set(held[rng.random_range(0..3)]);
            sleep(while_it_lasts).await;
            set.proxy(primary).set(Traffic::Pass);
            "network silent"
        }
        9 => {
            let command = COMMANDS[rng.random_range(1..COMMANDS.len())];
            set.proxy(primary)
                .cut_replies(command, rng.random_range(0..5), rng.random_range(1..4));
            sleep(Duration::from_millis(500)).await;
            set.proxy(primary).cut_replies(command, 0, 0);
            "replies lost"
        }
        10 => {
            let failure = match rng.random_range(0..3) {
                0 => Failure::close_connection(),
                1 => Failure::write_concern(64),
                _ => Failure::block(Duration::from_millis(rng.random_range(100..5000))),
            };
            let client = set.nodes()[primary].client().await;
            let commands = &COMMANDS[rng.random_range(1..COMMANDS.len())..];
            let mode = Mode::Times(rng.random_range(1..6));
            let point = FailPoint::on(&client, commands, mode, failure.app_name(APP)).await;
            sleep(Duration::from_millis(500)).await;
            point.clear().await;
            "failed commands"
        }
        _ => {
            let client = set.nodes()[primary].client().await;
            for name in client.list_database_names().await.unwrap_or_default() {
                if name.starts_with("arena_") {
                    let drop = doc! { "dropIndexes": "session", "index": "*" };
                    // It may be an election's moment; then it is not done.
                    let _ = client.database(&name).run_command(drop).await;
                }
            }
            "indexes dropped"
        }
    }
}

const COMMANDS: [&str; 5] = ["find", "update", "insert", "delete", "findAndModify"];

/// What this process holds, where the system tells; zeros where it does not.
#[derive(Clone, Copy, Debug)]
struct Footprint {
    /// Resident memory, in MiB.
    memory: u64,
    threads: u64,
    /// Open files and sockets.
    files: u64,
}

impl Footprint {
    fn now() -> Footprint {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let number = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let files = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Footprint {
            memory: number("VmRSS:").unwrap_or(0) / 1024,
            threads: number("Threads:").unwrap_or(0),
            files: u64::try_from(files).unwrap_or(u64::MAX),
        }
    }

    /// What grows with every round is larger in the second half of the rounds than in the first. (The
    /// largest of each half counts, because a round may have several times the requests of another,
    /// and the allocator keeps what it has needed.) Pools grow when they must, and seldom shrink, but
    /// have a limit.
    fn assert_steady(rounds: &[Footprint]) {
        const MIN_ROUNDS: usize = 6;
        if rounds.len() < MIN_ROUNDS {
            return;
        }
        let (first, second) = rounds.split_at(rounds.len() / 2);
        let largest = |half: &[Footprint], part: fn(&Footprint) -> u64| {
            half.iter().map(part).max().unwrap_or(0)
        };
        let most = |part| largest(first, part) * 13 / 10;
        let memory = |one: &Footprint| one.memory;
        let threads = |one: &Footprint| one.threads;
        assert!(
            largest(second, memory) <= most(memory),
            "memory: {rounds:?}"
        );
        assert!(
            largest(second, threads) <= most(threads) + 4,
            "threads: {rounds:?}"
        );
        let files = largest(second, |one| one.files);
        assert!(files <= FILES, "files: {rounds:?}");
    }
}
