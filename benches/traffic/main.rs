//! Traffic as sites have it, beside the same routes written by hand, on a standalone mongod.
//!
//!     cargo bench --bench traffic
//!
//! `-- --only rates,herd` measures parts: requests that arrive at fixed rates; reads and writes of
//! which a few sessions get half; one browser with 64 requests at once; cookies of sessions that have
//! ended; large sessions beside small ones; commits that take long; a restart while all browsers wait.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rocket::tokio::task::{JoinSet, LocalSet};
use rocket::tokio::time::sleep_until;

#[path = "../support/mod.rs"]
mod support;

use support::load::{Connection, Visitor, request};
use support::options::Options;
use support::server::{Deployment, Server};
use support::side::{self, Side};
use support::stats::{median, quantile};
use support::table::Table;

/// Sessions in use, and connections that wait for requests which arrive at a rate.
const BROWSERS: usize = 256;
const CONNECTIONS: usize = 64;
/// The sessions that get half of the mixed requests.
const HOT: usize = 8;
/// The values of a large session.
const LARGE_BYTES: usize = 64 << 10;

/// Requests a second.
const READS: [u32; 4] = [1000, 2000, 4000, 8000];
const WRITES: [u32; 4] = [500, 1000, 2000, 4000];

fn main() {
    if support::app::run_if_asked() {
        return;
    }
    let parts = ["rates", "mixed", "browser", "ended", "large", "far", "herd"];
    let options = Options {
        rounds: 7,
        time: Duration::from_secs(1),
        connections: vec![CONNECTIONS],
        stored: Vec::new(),
        only: parts.map(str::to_owned).into(),
        deployments: vec![Deployment::Standalone],
        series: "6.0".to_owned(),
        share: vec![true],
        sealed: false,
    };
    if let Some(options) = options.read() {
        let runtime = rocket::tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        LocalSet::new().block_on(&runtime, run(options));
    }
}

async fn run(options: Options) {
    for deployment in &options.deployments {
        let server = Server::start(*deployment, &options.series).await;
        println!("{deployment}, MongoDB {}\n", server.version);
        let mut sides = side::start(&server, &options.share, options.sealed).await;
        let small = side::seed(&server, &sides, BROWSERS, 1, 0).await;
        for part in &options.only {
            match part.as_str() {
                "rates" => rates(&options, &sides, &small).await,
                "mixed" => {
                    let mixed = small.iter().map(|all| mixed(all)).collect();
                    closed(
                        &options,
                        &sides,
                        "9 reads to a write, 8 hot sessions",
                        mixed,
                    )
                    .await;
                }
                "browser" => {
                    let one = small.iter().map(|all| vec![Kind::of(&all[..1], 9)]);
                    closed(
                        &options,
                        &sides,
                        "one browser, 9 reads to a write",
                        one.collect(),
                    )
                    .await;
                }
                "ended" => {
                    let ended = sides.iter().map(|side| vec![Kind::ended(side)]);
                    closed(
                        &options,
                        &sides,
                        "reads of sessions that have ended",
                        ended.collect(),
                    )
                    .await;
                }
                "large" => large(&options, &server, &sides, &small).await,
                "far" => far(&options, &server, &sides, &small).await,
                _ => herd(&options, &mut sides, &small).await,
            }
        }
    }
}

/// Requests that are sent in turn, with the status that each has.
#[derive(Clone)]
struct Kind {
    requests: Vec<Vec<u8>>,
    status: u16,
}

impl Kind {
    /// For each visitor a number of reads, then a write; without reads, writes alone.
    fn of(visitors: &[Visitor], reads: usize) -> Kind {
        let requests = (0..=reads).flat_map(|at| {
            let path = if at == reads { "/write" } else { "/read" };
            visitors
                .iter()
                .map(move |visitor| request(path, Some(&visitor.cookie)))
        });
        Kind {
            requests: requests.collect(),
            status: 200,
        }
    }

    fn reads(visitors: &[Visitor]) -> Kind {
        let requests = visitors
            .iter()
            .map(|one| request("/read", Some(&one.cookie)));
        Kind {
            requests: requests.collect(),
            status: 200,
        }
    }

    /// Well-formed cookies whose sessions are not stored. By hand that is a 401; here the session is empty.
    fn ended(side: &Side) -> Kind {
        let random = |bytes: usize| {
            let bytes: Vec<u8> = (0..bytes).map(|_| rand::random()).collect();
            URL_SAFE_NO_PAD.encode(bytes)
        };
        let requests = (0..BROWSERS).map(|_| {
            let cookie = match side.is_by_hand() {
                true => format!("session={}", random(16)),
                false => format!("session={}.{}", random(16), random(32)),
            };
            request("/read", Some(cookie))
        });
        Kind {
            requests: requests.collect(),
            status: if side.is_by_hand() { 401 } else { 200 },
        }
    }
}

/// The requests of half of the connections are for a few sessions.
fn mixed(visitors: &[Visitor]) -> Vec<Kind> {
    let (hot, cold) = visitors.split_at(HOT);
    vec![Kind::of(hot, 9), Kind::of(cold, 9)]
}

/// Latencies in microseconds, and the throughput of each round.
#[derive(Default)]
struct Sample {
    latencies: Vec<u32>,
    throughputs: Vec<f64>,
}

impl Sample {
    fn add(&mut self, mut latencies: Vec<u32>, took: Duration) {
        self.throughputs
            .push(latencies.len() as f64 / took.as_secs_f64());
        self.latencies.append(&mut latencies);
    }

    fn cells(&mut self) -> Vec<String> {
        let mut cells = vec![format!("{:.0}", median(&self.throughputs))];
        for share in [0.5, 0.99, 0.999, 1.0] {
            cells.push(format!("{:.0}", quantile(&mut self.latencies, share)));
        }
        cells
    }
}

fn table(what: &str) -> Table {
    Table::new(&[what, "", "req/s", "p50, µs", "p99", "p99.9", "longest"])
}

/// Requests arrive at fixed rates, whether those before them have their responses or not. A latency
/// begins when the request is due, so that one that waits for a connection counts as late.
async fn rates(options: &Options, sides: &[Side], visitors: &[Vec<Visitor>]) {
    let loads = READS.map(|rate| (rate, false)).into_iter();
    let loads: Vec<_> = loads.chain(WRITES.map(|rate| (rate, true))).collect();
    let mut samples: Vec<Vec<Sample>> = Vec::new();
    samples.resize_with(loads.len(), || {
        sides.iter().map(|_| Sample::default()).collect()
    });
    for round in 0..=options.rounds {
        for (load, samples) in loads.iter().zip(&mut samples) {
            for turn in 0..sides.len() {
                let at = (turn + round) % sides.len();
                let kind = match load.1 {
                    true => Kind::of(&visitors[at], 0),
                    false => Kind::reads(&visitors[at]),
                };
                let (latencies, took) = arrive(&sides[at], kind, load.0, options.time).await;
                if round > 0 {
                    samples[at].add(latencies, took);
                }
            }
        }
    }
    let mut table = table("arriving a second");
    for ((rate, is_write), samples) in loads.iter().zip(&mut samples) {
        for (side, sample) in sides.iter().zip(samples) {
            let kind = if *is_write { "writes" } else { "reads" };
            let mut cells = vec![format!("{rate} {kind}"), side.name.clone()];
            cells.extend(sample.cells());
            table.row(cells);
        }
    }
    table.print();
}

async fn arrive(side: &Side, kind: Kind, rate: u32, time: Duration) -> (Vec<u32>, Duration) {
    let all = (f64::from(rate) * time.as_secs_f64()) as u32;
    let next = Rc::new(Cell::new(0));
    let mut connections = Vec::new();
    for _ in 0..BROWSERS {
        connections.push(Connection::open(side.app.addr).await);
    }
    let requests = Rc::new(kind);
    let start = Instant::now() + Duration::from_millis(5);
    let mut running = JoinSet::new();
    for (at, mut connection) in connections.into_iter().enumerate() {
        let (next, kind) = (next.clone(), requests.clone());
        running.spawn_local(async move {
            let mut latencies = Vec::new();
            loop {
                let number: u32 = next.replace(next.get() + 1);
                if number >= all {
                    break latencies;
                }
                let due = start + Duration::from_secs(1) * number / rate;
                sleep_until(due.into()).await;
                // A browser of its own for each connection, so that no two writes are for one session.
                let response = connection.ask(&kind.requests[at]).await;
                latencies.push(due.elapsed().as_micros() as u32);
                assert_eq!(response.status, kind.status, "at a fixed rate");
            }
        });
    }
    let mut latencies = Vec::new();
    while let Some(ended) = running.join_next().await {
        latencies.extend(ended.expect("expected responses"));
    }
    (latencies, start.elapsed())
}

/// Each connection sends a request as soon as it has the response to the one before.
async fn closed(options: &Options, sides: &[Side], what: &str, kinds: Vec<Vec<Kind>>) {
    let mut samples: Vec<Sample> = sides.iter().map(|_| Sample::default()).collect();
    for round in 0..=options.rounds {
        for turn in 0..sides.len() {
            let at = (turn + round) % sides.len();
            let (latencies, took) = ask(&sides[at], &kinds[at], options.time).await;
            if round > 0 {
                samples[at].add(latencies.concat(), took);
            }
        }
    }
    let mut table = table(what);
    for (side, sample) in sides.iter().zip(&mut samples) {
        let mut cells = vec![format!("{CONNECTIONS} connections"), side.name.clone()];
        cells.extend(sample.cells());
        table.row(cells);
    }
    table.print();
}

/// The latencies of each kind.
async fn ask(side: &Side, kinds: &[Kind], time: Duration) -> (Vec<Vec<u32>>, Duration) {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(side.app.addr).await);
    }
    let start = Instant::now();
    let mut running = JoinSet::new();
    for (at, mut connection) in connections.into_iter().enumerate() {
        let number = at % kinds.len();
        let kind = kinds[number].clone();
        running.spawn_local(async move {
            let mut latencies = Vec::new();
            while start.elapsed() < time {
                let one = rand::random_range(0..kind.requests.len());
                let asked = Instant::now();
                let response = connection.ask(&kind.requests[one]).await;
                latencies.push(asked.elapsed().as_micros() as u32);
                assert_eq!(response.status, kind.status);
            }
            (number, latencies)
        });
    }
    let mut latencies = vec![Vec::new(); kinds.len()];
    while let Some(ended) = running.join_next().await {
        let (number, more) = ended.expect("expected responses");
        latencies[number].extend(more);
    }
    (latencies, start.elapsed())
}

/// What a small session notices of large ones: the latencies of the small ones alone.
async fn large(options: &Options, server: &Server, sides: &[Side], small: &[Vec<Visitor>]) {
    let keys = 1 + LARGE_BYTES / 100;
    let large = side::seed(server, sides, HOT, keys, LARGE_BYTES).await;
    let mut samples: Vec<[Sample; 2]> = sides.iter().map(|_| Default::default()).collect();
    for round in 0..=options.rounds {
        for turn in 0..sides.len() {
            let at = (turn + round) % sides.len();
            // One connection of eight is for large sessions, or none.
            for (is_beside, samples) in samples[at].iter_mut().enumerate() {
                let mut kinds = vec![Kind::of(&small[at], 9); 8];
                if is_beside == 1 {
                    kinds[0] = Kind::of(&large[at], 9);
                }
                let (mut latencies, took) = ask(&sides[at], &kinds, options.time).await;
                if round > 0 {
                    samples.add(latencies.split_off(1).concat(), took);
                }
            }
        }
    }
    let mut table = table("56 connections, small sessions");
    for (side, samples) in sides.iter().zip(&mut samples) {
        let names = [
            "beside 8 of small sessions",
            "beside 8 of sessions of 64 KB",
        ];
        for (name, sample) in names.iter().zip(samples) {
            let mut cells = vec![(*name).to_owned(), side.name.clone()];
            cells.extend(sample.cells());
            table.row(cells);
        }
    }
    table.print();
}

/// Writes where each update takes long, as with a majority far away.
async fn far(options: &Options, server: &Server, sides: &[Side], visitors: &[Vec<Visitor>]) {
    for delay in [20, 100] {
        server.delay_updates(Duration::from_millis(delay)).await;
        let writes = visitors.iter().map(|all| vec![Kind::of(all, 0)]);
        let what = format!("writes, each update takes {delay} ms longer");
        closed(options, sides, &what, writes.collect()).await;
    }
    server.delay_updates(Duration::ZERO).await;
}

/// All browsers ask at once, as soon as the application has started again: the first request of each.
async fn herd(options: &Options, sides: &mut [Side], visitors: &[Vec<Visitor>]) {
    let mut samples: Vec<Sample> = sides.iter().map(|_| Sample::default()).collect();
    for round in 0..=options.rounds {
        for turn in 0..sides.len() {
            let at = (turn + round) % sides.len();
            sides[at].restart();
            let mut running = JoinSet::new();
            let start = Instant::now();
            for visitor in &visitors[at] {
                let (addr, request) = (sides[at].app.addr, request("/read", Some(&visitor.cookie)));
                running.spawn_local(async move {
                    let response = Connection::open(addr).await.ask(&request).await;
                    assert_eq!(response.status, 200, "after a restart");
                    start.elapsed().as_micros() as u32
                });
            }
            let mut latencies = Vec::new();
            while let Some(ended) = running.join_next().await {
                latencies.push(ended.expect("expected responses"));
            }
            if round > 0 {
                samples[at].add(latencies, start.elapsed());
            }
        }
    }
    let mut table = table("256 browsers at once after a restart");
    for (side, sample) in sides.iter().zip(&mut samples) {
        let mut cells = vec!["the first request of each".to_owned(), side.name.clone()];
        cells.extend(sample.cells());
        table.row(cells);
    }
    table.print();
}
