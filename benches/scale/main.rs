//! What reads and writes cost as the work grows: more connections, larger sessions, more of them
//! stored.
//!
//!     cargo bench --bench scale
//!
//! Beside the routes written by hand, in interleaved rounds, on a standalone mongod. Writes the
//! plots of docs/performance.md.

use std::collections::HashMap;
use std::time::Duration;

mod plot;
#[path = "../support/mod.rs"]
mod support;

use plot::{Line, Plot};
use support::load::{Load, Route, Visitor};
use support::options::Options;
use support::server::{Deployment, Server};
use support::side::{self, SESSIONS, Side};
use support::stats::median;
use support::table::Table;

const ROUTES: [Route; 2] = [Route::Read, Route::Write];
/// Where throughput no longer grows on few processors, and where nothing is idle.
const MANY: usize = 32;
/// Sessions in use among all that are stored.
const IN_USE: usize = 1024;

fn main() {
    if support::app::run_if_asked() {
        return;
    }
    let options = Options {
        rounds: 7,
        time: Duration::from_millis(400),
        connections: vec![1, 2, 4, 8, 16, 32, 64, 128, 256],
        stored: vec![1_024, 10_000, 100_000, 1_000_000],
        only: ["connections", "size", "stored"].map(str::to_owned).into(),
        deployments: vec![Deployment::Standalone],
        series: "6.0".to_owned(),
        share: vec![true],
        sealed: false,
    };
    if let Some(options) = options.read() {
        rocket::tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(run(options));
    }
}

/// One size: the visitors of each side, and how many connections they share.
struct Point {
    size: usize,
    name: String,
    connections: usize,
    visitors: Vec<Vec<Visitor>>,
}

async fn run(options: Options) {
    let server = Server::start(options.deployments[0], &options.series).await;
    server.cache("8G").await;
    let sides = side::start(&server, &options.share, options.sealed).await;
    for name in &options.only {
        let plot = match name.as_str() {
            "connections" => connections(&options, &server, &sides).await,
            "size" => sizes(&options, &server, &sides).await,
            _ => stored(&options, &server, &sides).await,
        };
        publish(name, &plot);
    }
}

async fn connections(options: &Options, server: &Server, sides: &[Side]) -> Plot<'static> {
    let mut points = Vec::new();
    for connections in &options.connections {
        points.push(Point {
            size: *connections,
            name: connections.to_string(),
            connections: *connections,
            visitors: side::seed(server, sides, *connections, 1, 0).await,
        });
    }
    Plot {
        title: "Throughput by connections",
        x: "connections, each with a session of one key",
        ..measure(options, sides, &mut points).await
    }
}

async fn sizes(options: &Options, server: &Server, sides: &[Side]) -> Plot<'static> {
    let mut points = Vec::new();
    for (bytes, name) in [
        (100, "100 B"),
        (1 << 10, "1 KB"),
        (4 << 10, "4 KB"),
        (16 << 10, "16 KB"),
        (64 << 10, "64 KB"),
        (256 << 10, "256 KB"),
    ] {
        // Values of a hundred bytes, but never the counter alone.
        let keys = 1 + (bytes / 100).max(1);
        points.push(Point {
            size: bytes,
            name: name.to_owned(),
            connections: MANY,
            visitors: side::seed(server, sides, MANY, keys, bytes).await,
        });
    }
    Plot {
        title: "Throughput by the size of a session",
        x: "bytes of values, a hundred each; 32 connections; one value read or changed",
        ..measure(options, sides, &mut points).await
    }
}

/// The collection grows from size to size, so these points cannot be interleaved.
async fn stored(options: &Options, server: &Server, sides: &[Side]) -> Plot<'static> {
    let models = side::seed(server, sides, 1, 1, 0).await;
    let collections: Vec<&str> = sides.iter().map(|side| &*side.collection).collect();
    // Every session collection knows the token of its own model alone.
    assert_eq!(
        collections[1..],
        [SESSIONS],
        "one kind of session at a time"
    );
    let model = &models[1][0];
    let secret = model
        .cookie
        .split_once('.')
        .map_or("", |(_, secret)| secret);
    let mut there = 0;
    let mut all: Option<Plot> = None;
    let mut ids = Vec::new();
    // What the sessions hold that were in use at an earlier size, by side.
    let mut counts = vec![HashMap::new(); sides.len()];
    for size in options.stored.iter().copied() {
        let made = server
            .multiply(model.id(), &collections, size - there)
            .await;
        server.flush().await;
        there = size;
        // Those in use lie all over the collection.
        ids.extend(made);
        let chosen = ids.iter().step_by((ids.len() / IN_USE).max(1)).take(IN_USE);
        let visitors = |at: usize| {
            let visitors = chosen.clone().map(|id| Visitor {
                cookie: match at {
                    0 => format!("session={id}"),
                    _ => format!("session={id}.{secret}"),
                },
                n: counts[at].get(id).copied().unwrap_or(0),
            });
            visitors.collect::<Vec<_>>()
        };
        let mut point = [Point {
            size,
            name: grouped(size),
            connections: MANY,
            visitors: vec![visitors(0), visitors(1)],
        }];
        let plot = measure(options, sides, &mut point).await;
        for (counts, visitors) in counts.iter_mut().zip(&point[0].visitors) {
            counts.extend(visitors.iter().map(|one| (one.id().to_owned(), one.n)));
        }
        all = Some(match all {
            None => plot,
            Some(mut all) => {
                all.sizes.extend(plot.sizes);
                for (line, more) in all.lines.iter_mut().zip(plot.lines) {
                    line.values.extend(more.values);
                }
                all
            }
        });
    }
    Plot {
        title: "Throughput by the number of stored sessions",
        x: "stored sessions, 1,024 of them in use; 32 connections",
        ..all.expect("a size")
    }
}

/// A number with a comma before each three digits.
fn grouped(number: usize) -> String {
    match number / 1_000 {
        0 => number.to_string(),
        thousands => format!("{},{:03}", grouped(thousands), number % 1_000),
    }
}

/// Reads and writes of each side at each size, in interleaved rounds after one for the caches.
async fn measure(options: &Options, sides: &[Side], points: &mut [Point]) -> Plot<'static> {
    let mut found = vec![vec![vec![Vec::new(); points.len()]; ROUTES.len()]; sides.len()];
    for round in 0..=options.rounds {
        for (place, point) in points.iter_mut().enumerate() {
            eprint!("\r{} in round {round} of {} ", point.name, options.rounds);
            for (number, route) in ROUTES.iter().enumerate() {
                for turn in 0..sides.len() {
                    let at = (turn + round + number) % sides.len();
                    let (addr, visitors) = (sides[at].app.addr, &mut point.visitors[at]);
                    let mut load = Load::open(addr, *route, visitors, point.connections).await;
                    load.run(options.time / 8).await;
                    let cell = load.run(options.time).await;
                    *visitors = load.into_visitors().collect();
                    if round > 0 {
                        found[at][number][place].push(cell.throughput());
                    }
                }
            }
        }
    }
    eprintln!("\r                                   ");
    let mut lines = Vec::new();
    for (number, route) in ROUTES.iter().enumerate() {
        for (at, side) in sides.iter().enumerate() {
            let values = &found[at][number];
            lines.push(Line {
                name: format!("{}, {}", route.name(), side.name),
                colour: number,
                is_dashed: at == 0,
                values: values.iter().map(|rounds| median(rounds)).collect(),
            });
        }
    }
    Plot {
        title: "",
        x: "",
        y: "requests a second",
        sizes: points
            .iter()
            .map(|point| (point.size as f64, point.name.clone()))
            .collect(),
        lines,
    }
}

/// Prints the numbers and draws the plot.
fn publish(name: &str, plot: &Plot) {
    let mut names = vec![plot.x];
    names.extend(plot.lines.iter().map(|line| &*line.name));
    let mut table = Table::new(&names);
    for (at, (_, size)) in plot.sizes.iter().enumerate() {
        let mut cells = vec![size.clone()];
        cells.extend(
            plot.lines
                .iter()
                .map(|line| format!("{:.0}", line.values[at])),
        );
        table.row(cells);
    }
    table.print();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
    std::fs::create_dir_all(&folder).expect("docs/images");
    let file = folder.join(format!("performance-{name}.svg"));
    std::fs::write(file, plot.svg()).expect("a plot");
}
