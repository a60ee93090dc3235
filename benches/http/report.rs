//! What was measured, as tables.

use crate::support::load::Route;
use crate::support::options::Options;
use crate::support::server::{Deployment, Server};
use crate::support::stats::{median, quantile};
use crate::support::table::Table;
use crate::{Sample, Samples};

/// The place of the application by hand among all, and of the first with sessions.
pub const BY_HAND: usize = 0;
pub const SESSION: usize = 1;

/// All that was measured on one deployment.
pub struct Report {
    pub deployment: Deployment,
    pub connections: Vec<usize>,
    pub share: bool,
    /// The place of the application with sealed sessions.
    pub sealed: Option<usize>,
    heading: String,
    sides: Vec<String>,
    rows: Vec<Row>,
}

/// One route of one application at one number of connections; times in microseconds, counts a
/// request.
pub struct Row {
    connections: usize,
    route: Route,
    side: usize,
    /// Of each round, requests a second.
    throughputs: Vec<f64>,
    p50: f64,
    p99: f64,
    p999: f64,
    app: f64,
    server: f64,
    clients: f64,
    pub finds: f64,
    pub updates: f64,
    pub inserts: f64,
    pub others: f64,
    pub bytes: f64,
}

impl Report {
    pub fn new(options: &Options, server: &Server, sides: &[&str], samples: Samples) -> Report {
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        Report {
            deployment: server.deployment,
            connections: options.connections.clone(),
            share: options.share[0],
            sealed: options.sealed.then_some(options.share.len() + 1),
            heading: format!(
                "{}, MongoDB {}, {processors} processors, {} rounds of {:?} a cell",
                server.deployment, server.version, options.rounds, options.time
            ),
            sides: sides.iter().map(|side| (*side).to_owned()).collect(),
            rows: samples
                .into_iter()
                .map(|((connections, route, side), samples)| {
                    Row::new(connections, route, side, samples)
                })
                .collect(),
        }
    }

    pub fn row(&self, connections: usize, route: Route, side: usize) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| (row.connections, row.route, row.side) == (connections, route, side))
    }

    /// One route's throughput over another's, by the median of the rounds' own ratios; and the
    /// lowest and the highest of them.
    pub fn ratio(
        &self,
        connections: usize,
        (route, side): (Route, usize),
        (other_route, other_side): (Route, usize),
    ) -> Option<(f64, f64, f64)> {
        let row = self.row(connections, route, side)?;
        let other = self.row(connections, other_route, other_side)?;
        let pairs = row.throughputs.iter().zip(&other.throughputs);
        let ratios: Vec<f64> = pairs.map(|(its, others)| its / others).collect();
        let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = ratios.iter().copied().fold(0.0, f64::max);
        Some((median(&ratios), lowest, highest))
    }

    pub fn print(&self) {
        println!("{}\n", self.heading);
        for connections in &self.connections {
            let clients = match connections {
                1 => "1 connection".to_owned(),
                n => format!("{n} connections"),
            };
            let mut table = Table::new(&[
                &clients,
                "",
                "req/s",
                "÷ by hand (rounds)",
                "p50",
                "p99",
                "p99.9",
                "app",
                "mongod",
                "clients",
                "find",
                "update",
                "insert",
                "other",
                "bytes",
            ]);
            for row in &self.rows {
                if row.connections == *connections {
                    table.row(self.cells(row));
                }
            }
            table.print();
        }
        println!(
            "p50, p99: µs. app, mongod, clients: their CPU time, µs a request. find to bytes: \
             commands, and bytes sent to MongoDB, a request.\n"
        );
    }

    fn cells(&self, row: &Row) -> Vec<String> {
        let place = (row.route, row.side);
        let ratio = match self.ratio(row.connections, place, (row.route, BY_HAND)) {
            Some((median, low, high)) if row.side != BY_HAND => {
                format!("**{median:.2}** ({low:.2} to {high:.2})")
            }
            _ => String::new(),
        };
        let mut cells = vec![
            row.route.name().to_owned(),
            self.sides[row.side].clone(),
            format!("{:.0}", median(&row.throughputs)),
            ratio,
        ];
        let times = [row.p50, row.p99, row.p999, row.app, row.server, row.clients];
        cells.extend(times.map(|micros| format!("{micros:.0}")));
        let counts = [row.finds, row.updates, row.inserts, row.others];
        cells.extend(counts.map(|count| format!("{count:.3}")));
        cells.push(format!("{:.0}", row.bytes));
        cells
    }
}

impl Row {
    fn new(connections: usize, route: Route, side: usize, samples: Vec<Sample>) -> Row {
        let requests: u64 = samples.iter().map(|sample| sample.cell.requests).sum();
        let each = |count: &dyn Fn(&Sample) -> f64| {
            samples.iter().map(count).sum::<f64>() / requests as f64
        };
        let micros = 1e6;
        let mut latencies: Vec<u32> = samples
            .iter()
            .flat_map(|sample| sample.cell.latencies.iter().copied())
            .collect();
        Row {
            connections,
            route,
            side,
            throughputs: samples
                .iter()
                .map(|sample| sample.cell.throughput())
                .collect(),
            p50: quantile(&mut latencies, 0.5),
            p99: quantile(&mut latencies, 0.99),
            p999: quantile(&mut latencies, 0.999),
            app: each(&|sample| sample.app.as_secs_f64() * micros),
            server: each(&|sample| sample.server.cpu.as_secs_f64() * micros),
            clients: each(&|sample| sample.clients.as_secs_f64() * micros),
            finds: each(&|sample| sample.server.finds),
            updates: each(&|sample| sample.server.updates),
            inserts: each(&|sample| sample.server.inserts),
            others: each(&|sample| sample.server.others),
            bytes: each(&|sample| sample.server.bytes_in),
        }
    }
}
