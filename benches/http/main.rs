//! Session routes beside the same routes written by hand, over HTTP, on a real mongod.
//!
//!     cargo bench --bench http
//!
//! One run measures both in interleaved rounds, so that other load of the machine affects both, and
//! compares the median of the rounds' ratios. docs/performance.md explains how to read it.

use std::collections::BTreeMap;
use std::time::Duration;

mod report;
#[path = "../support/mod.rs"]
mod support;
mod verdict;

use report::Report;
use support::load::{Cell, Load, Route, Visitor};
use support::options::Options;
use support::proc;
use support::server::{Counters, Deployment, Server};
use support::side::{self, Side};
use verdict::Verdict;

fn main() {
    if support::app::run_if_asked() {
        return;
    }
    let options = Options {
        rounds: 8,
        time: Duration::from_millis(500),
        connections: vec![1, 32],
        stored: Vec::new(),
        only: Route::ALL.map(|route| route.name().to_owned()).into(),
        deployments: vec![Deployment::Standalone, Deployment::ReplicaSet],
        series: "6.0".to_owned(),
        share: vec![true],
        sealed: false,
    };
    if let Some(options) = options.read() {
        // One thread, which the clients share: it is one of few processors that they must not take.
        rocket::tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(run(options));
    }
}

async fn run(options: Options) {
    let mut verdict = Verdict::new(options.rounds);
    for deployment in &options.deployments {
        let server = Server::start(*deployment, &options.series).await;
        let report = measure_all(&options, &server).await;
        report.print();
        verdict.compare(&report);
    }
    verdict.print();
}

/// An application, and the browsers that ask it.
struct Contender {
    side: Side,
    small: Vec<Visitor>,
    large: Vec<Visitor>,
    /// New sessions that were answered for.
    created: u64,
}

/// What one cell measured.
struct Sample {
    cell: Cell,
    /// CPU time of the application and of the clients.
    app: Duration,
    clients: Duration,
    server: Counters,
}

/// By connections, route and application.
type Samples = BTreeMap<(usize, Route, usize), Vec<Sample>>;

async fn measure_all(options: &Options, server: &Server) -> Report {
    let wanted = |route: &Route| options.only.iter().any(|name| name == route.name());
    let routes: Vec<Route> = Route::ALL.into_iter().filter(wanted).collect();
    let mut contenders = contenders(options, server).await;
    let mut samples = Samples::new();

    let mut pairs: Vec<(usize, Route)> = Vec::new();
    for connections in &options.connections {
        pairs.extend(routes.iter().map(|route| (*connections, *route)));
    }
    // The first round is for the caches and the pools, and is thrown away.
    for round in 0..=options.rounds {
        eprint!(
            "\r{}, round {round} of {} ",
            server.deployment, options.rounds
        );
        pairs.rotate_left(1);
        for (connections, route) in &pairs {
            // Neighbours in time, and each of them first as often as the others.
            for turn in 0..contenders.len() {
                let at = (turn + round) % contenders.len();
                let one = &mut contenders[at];
                let sample = measure(one, server, *route, *connections, options.time).await;
                if round > 0 {
                    let place = (*connections, *route, at);
                    samples.entry(place).or_default().push(sample);
                }
            }
        }
    }
    eprintln!("\r                                ");
    check_stored(server, &contenders).await;
    let names: Vec<&str> = contenders.iter().map(|one| &*one.side.name).collect();
    Report::new(options, server, &names, samples)
}

/// What was answered for is there, and both kinds of application store the same.
async fn check_stored(server: &Server, contenders: &[Contender]) {
    for one in contenders {
        let (name, collection) = (&one.side.name, &one.side.collection);
        let visitors = one.small.iter().chain(&one.large);
        let wanted = one.created + visitors.clone().count() as u64;
        let stored = server.documents(collection).await;
        assert_eq!(stored, wanted, "{name}: sessions that are stored");
        for visitor in visitors {
            if !one.side.is_sealed() {
                let n = server.stored_number(collection, visitor.id()).await;
                assert_eq!(n, Some(visitor.n), "{name}: a change was lost");
            }
        }
    }
    let by_hand = server.latest_shape(&contenders[0].side.collection).await;
    for one in contenders[1..].iter().filter(|one| !one.side.is_sealed()) {
        let shape = server.latest_shape(&one.side.collection).await;
        assert_eq!(shape, by_hand, "the documents of both kinds");
    }
}

/// The applications, each with its browsers.
async fn contenders(options: &Options, server: &Server) -> Vec<Contender> {
    let visitors = options.connections.iter().copied().max().unwrap_or(1);
    let sides = side::start(server, &options.share, options.sealed).await;
    let small = side::seed(server, &sides, visitors, 1, 0).await;
    let large = side::seed(server, &sides, visitors, 50, 4096).await;
    let visitors = small.into_iter().zip(large);
    sides
        .into_iter()
        .zip(visitors)
        .map(|(side, (small, large))| Contender {
            side,
            small,
            large,
            created: 0,
        })
        .collect()
}

async fn measure(
    one: &mut Contender,
    server: &Server,
    route: Route,
    connections: usize,
    time: Duration,
) -> Sample {
    let visitors = match route.is_large() {
        true => &mut one.large,
        false => &mut one.small,
    };
    let app = &one.side.app;
    let mut load = Load::open(app.addr, route, &visitors[..connections], connections).await;
    let warm_up = (time / 8).min(Duration::from_millis(100));
    let warm = load.run(warm_up).await;
    let (app, me) = (app.pid(), std::process::id());
    let before = server.counters().await;
    let (app_before, me_before) = (proc::cpu(app), proc::cpu(me));
    let cell = load.run(time).await;
    let (app_after, me_after) = (proc::cpu(app), proc::cpu(me));
    let sample = Sample {
        app: app_after.saturating_sub(app_before),
        clients: me_after.saturating_sub(me_before),
        server: server.since(&before).await,
        cell,
    };
    for (visitor, now) in visitors.iter_mut().zip(load.into_visitors()) {
        *visitor = now;
    }
    if route == Route::New {
        one.created += warm.requests + sample.cell.requests;
    }
    sample
}
