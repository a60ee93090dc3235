//! What must be reached, and whether it was.

use crate::report::{BY_HAND, Report, Row, SESSION};
use crate::support::load::Route;
use crate::support::server::Deployment;
use crate::support::table::Table;

/// Rounds below which a median says little.
const ROUNDS: usize = 7;
/// Commands a request that a count may be off by: the server's own, and requests at the edges.
const STRAY: f64 = 0.005;
/// Touches that a read may cost: their share of a batched command.
const TOUCHES: f64 = 0.02;
/// Bytes to MongoDB by which one integer is changed, its load included.
const SENT: f64 = 450.0;

/// A line for each target.
pub struct Verdict {
    rounds: usize,
    table: Table,
    reached: usize,
    missed: usize,
}

impl Verdict {
    pub fn new(rounds: usize) -> Verdict {
        Verdict {
            rounds,
            table: Table::new(&["target", "measured", "wanted", ""]),
            reached: 0,
            missed: 0,
        }
    }

    pub fn print(&self) {
        self.table.print();
        println!("{} reached, {} missed", self.reached, self.missed);
        if self.rounds < ROUNDS {
            println!("Fewer than {ROUNDS} rounds: no verdict, a hint.");
        }
    }

    pub fn compare(&mut self, report: &Report) {
        for connections in &report.connections {
            self.ratios(report, *connections);
        }
        // What the other members ask of a replica set's primary is counted with the rest.
        if report.deployment == Deployment::Standalone {
            for connections in &report.connections {
                self.commands(report, *connections);
            }
            self.bytes(report);
        }
    }

    fn ratios(&mut self, report: &Report, connections: usize) {
        let many = connections >= 32;
        let read = match (many, report.deployment) {
            (true, Deployment::Standalone) => 1.9,
            _ => 0.97,
        };
        let write = match (many, report.deployment) {
            (false, _) => 0.97,
            (true, Deployment::Standalone) => 1.9,
            (true, Deployment::ReplicaSet) => 2.0,
        };
        let of_one = Route::Read;
        let wanted = [
            (Route::None, BY_HAND, Route::None, 0.95),
            (Route::Unused, BY_HAND, Route::Unused, 0.95),
            (Route::New, BY_HAND, Route::New, 0.97),
            (Route::Read, BY_HAND, Route::Read, read),
            (Route::Write, BY_HAND, Route::Write, write),
            (Route::ReadLarge, SESSION, of_one, 0.95),
        ];
        for (route, other, other_route, least) in wanted {
            let ratio = report.ratio(connections, (route, SESSION), (other_route, other));
            let Some((ratio, _, _)) = ratio else { continue };
            let over = match other {
                BY_HAND => "by hand",
                _ => other_route.name(),
            };
            self.line(
                &format!(
                    "{} ÷ {over}, {connections} at once, {}",
                    route.name(),
                    report.deployment
                ),
                format!("{ratio:.2}"),
                format!("≥ {least}"),
                (ratio < least).then(|| format!("{:.2}", least - ratio)),
            );
        }
        self.sealed(report, connections);
    }

    /// Sealed sessions beside the same in plain.
    fn sealed(&mut self, report: &Report, connections: usize) {
        let Some(sealed) = report.sealed.filter(|_| connections >= 32) else {
            return;
        };
        for route in [Route::Read, Route::Write] {
            let ratio = report.ratio(connections, (route, sealed), (route, SESSION));
            let Some((ratio, _, _)) = ratio else { continue };
            self.line(
                &format!(
                    "{} sealed ÷ plain, {connections} at once, {}",
                    route.name(),
                    report.deployment
                ),
                format!("{ratio:.2}"),
                "≥ 0.85".to_owned(),
                (ratio < 0.85).then(|| format!("{:.2}", 0.85 - ratio)),
            );
        }
    }

    /// Sharing makes fewer round trips, never more.
    fn commands(&mut self, report: &Report, connections: usize) {
        let shares = report.share && connections > 1;
        let wanted = [
            (Route::None, 0.0, 0.0, 0.0),
            (Route::Unused, 0.0, 0.0, 0.0),
            (Route::New, 0.0, 0.0, 1.0),
            (Route::Read, 1.0, 0.0, 0.0),
            (Route::ReadLarge, 1.0, 0.0, 0.0),
            (Route::Write, 1.0, 1.0, 0.0),
            (Route::WriteLarge, 1.0, 1.0, 0.0),
        ];
        for (route, finds, updates, inserts) in wanted {
            let Some(row) = report.row(connections, route, SESSION) else {
                continue;
            };
            let touches = if finds > updates { TOUCHES } else { STRAY };
            let fits = |count: f64, wanted: f64, spare: f64| {
                count <= wanted + spare && (shares || count >= wanted - STRAY)
            };
            let is_right = fits(row.finds, finds, STRAY)
                && fits(row.updates, updates, touches)
                && fits(row.inserts, inserts, STRAY)
                && row.others <= STRAY;
            self.line(
                &format!(
                    "find, update, insert of {}, {connections} at once",
                    route.name()
                ),
                counts(row),
                format!("{finds:.0}, {updates:.0}, {inserts:.0}"),
                (!is_right).then(String::new),
            );
        }
    }

    /// With the least to share.
    fn bytes(&mut self, report: &Report) {
        let least = report.connections.iter().copied().min().unwrap_or(1);
        for route in [Route::Write, Route::WriteLarge] {
            if let Some(row) = report.row(least, route, SESSION) {
                let what = format!("bytes to MongoDB of {}, its load included", route.name());
                self.at_most(&what, row.bytes, SENT);
            }
        }
    }

    fn at_most(&mut self, what: &str, value: f64, most: f64) {
        let missed = (value > most).then(|| format!("{:.0}", value - most));
        self.line(what, format!("{value:.0}"), format!("≤ {most}"), missed);
    }

    fn line(&mut self, what: &str, value: String, wanted: String, missed_by: Option<String>) {
        let verdict = match missed_by {
            None => {
                self.reached += 1;
                "reached".to_owned()
            }
            Some(by) => {
                self.missed += 1;
                format!("missed {by}").trim_end().to_owned()
            }
        };
        self.table
            .row(vec![what.to_owned(), value, wanted, verdict]);
    }
}

fn counts(row: &Row) -> String {
    format!("{:.3}, {:.3}, {:.3}", row.finds, row.updates, row.inserts)
}
