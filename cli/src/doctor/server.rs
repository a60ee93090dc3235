//! What the server is, how it is reached, and what it lets this user do.

use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use rocket::tokio::time::{Instant, sleep};
use rocket_mongo_session::mongodb::Client;
use rocket_mongo_session::mongodb::bson::doc;

use super::Examination;
use super::connection::{Refused, ask};
use super::report::Outcome;

/// The ends of life (<https://www.mongodb.com/legal/support-policy/lifecycles>, read 2026-11-29).
const ENDS_OF_LIFE: &[(&str, (i32, u32, u32))] = &[
    ("4.4", (2024, 2, 29)),
    ("5.0", (2024, 10, 31)),
    ("6.0", (2025, 7, 31)),
    ("7.0", (2027, 8, 31)),
    ("8.0", (2029, 10, 31)),
    ("8.2", (2026, 7, 31)),
];

/// Before this series the store cannot tell ages.
const OLDEST: (u32, u32) = (4, 4);
const ROUND_TRIPS: u32 = 30;
/// Slower than this a page is felt to be slow.
const SLOW: Duration = Duration::from_millis(20);
const MAX_SKEW_MILLIS: i64 = 1_000;
/// The server deletes an expired document five minutes later; beyond that it deletes live ones.
const GRACE_MILLIS: i64 = 300_000;

impl Examination {
    pub(super) fn is_standalone(&self) -> bool {
        !self.hello.contains_key("setName") && self.hello.get_str("msg") != Ok("isdbgrid")
    }
}

pub(super) async fn look(this: &Examination) {
    this.report.begin("asking the server who it is");
    let version = server_version(this).await;
    if this.wants("version") {
        check_version(this, version);
    }
    if this.wants("topology") {
        topology(this);
    }
    let tls = match (this.connection.has_tls(), this.connection.is_local()) {
        (true, _) => (Outcome::Holds, "encrypted"),
        (false, true) => (
            Outcome::Holds,
            "not encrypted, and all servers are on this machine",
        ),
        (false, false) => (Outcome::Attention, "not encrypted"),
    };
    if this.wants("tls") {
        this.report.write("tls", tls.0, tls.1);
    }
    this.check("authentication", authentication(this)).await;
    if this.wants("latency") || this.wants("clock") {
        this.report.begin("measuring round trips");
        latency_and_clock(this).await;
    }
    this.check("connections", connections(this)).await;
}

/// Returns the version of the server, and writes it at the head of the report.
async fn server_version(this: &Examination) -> Result<String, Refused> {
    let info = ask(&this.database, doc! { "buildInfo": 1 }).await?;
    let version = info.get_str("version").unwrap_or_default();
    let kind = match info.contains_key("ferretdb") || info.contains_key("ferretdbVersion") {
        true => "FerretDB, which says it is MongoDB",
        false => "MongoDB",
    };
    this.report
        .set_server(format!("{kind} {version}, {}", topology_name(this)));
    Ok(version.to_owned())
}

fn check_version(this: &Examination, version: Result<String, Refused>) {
    let version = match version {
        Ok(version) => version,
        Err(refusal) => {
            return this.report.write("version", Outcome::NotTried, refusal);
        }
    };
    let parts: Vec<u32> = version
        .split('.')
        .map_while(|part| part.parse().ok())
        .collect();
    let &[major, minor, ..] = parts.as_slice() else {
        return this.report.write(
            "version",
            Outcome::NotTried,
            format!("{version}: no known form"),
        );
    };
    let series = format!("{major}.{minor}");
    let end = ENDS_OF_LIFE.iter().find(|(known, _)| *known == series);
    let end = end.and_then(|(_, (year, month, day))| NaiveDate::from_ymd_opt(*year, *month, *day));
    let today = DateTime::<Utc>::from(std::time::SystemTime::now()).date_naive();
    if (major, minor) < OLDEST {
        let found = format!("{version}, older than any that this crate is tested with (4.4)");
        return this.report.write("version", Outcome::Broken, found);
    }
    match end {
        Some(end) if end < today => {
            this.report.write(
                "version",
                Outcome::Attention,
                format!("{version}: its end of life was {end}"),
            );
        }
        Some(end) => {
            this.report
                .write("version", Outcome::Holds, format!("{version}, until {end}"))
        }
        None => this.report.write_as(
            "version",
            Outcome::Attention,
            format!("{version}: its end of life is not known to this program"),
            "It may be past its end of life.",
            "Look it up: https://www.mongodb.com/legal/support-policy/lifecycles",
        ),
    }
}

fn topology_name(this: &Examination) -> String {
    let hello = &this.hello;
    match (hello.get_str("setName"), hello.get_str("msg")) {
        (_, Ok("isdbgrid")) => "sharded cluster".to_owned(),
        (Ok(_), _) => match hello.get_array("hosts").map_or(0, Vec::len) {
            1 => "replica set of 1 member".to_owned(),
            members => format!("replica set of {members} members"),
        },
        _ => "standalone server".to_owned(),
    }
}

fn topology(this: &Examination) {
    let name = topology_name(this);
    match this.is_standalone() {
        true => this.report.write("topology", Outcome::Attention, name),
        false if name.ends_with(" of 1 member") => this.report.write_as(
            "topology",
            Outcome::Attention,
            name,
            "Sessions are as durable as this one member, without failover.",
            "Run a replica set of three members in production.",
        ),
        false => this.report.write("topology", Outcome::Holds, name),
    }
}

async fn authentication(this: &Examination) {
    match ask(&this.database, doc! { "connectionStatus": 1 }).await {
        Ok(status) => {
            let users = status.get_document("authInfo");
            let users = users.and_then(|info| info.get_array("authenticatedUsers"));
            match users.map_or(0, Vec::len) {
                0 => this.report.write(
                    "authentication",
                    Outcome::Attention,
                    "the connection is not logged in",
                ),
                _ => this
                    .report
                    .write("authentication", Outcome::Holds, "logged in"),
            }
        }
        Err(refusal) => this
            .report
            .write("authentication", Outcome::NotTried, refusal),
    }
}

/// The clock is told by the quickest of the round trips: it is off by half of that at most.
async fn latency_and_clock(this: &Examination) {
    let mut times = Vec::new();
    let mut skew: Option<(Duration, i64)> = None;
    for _ in 0..ROUND_TRIPS {
        let (started, at) = (Instant::now(), Utc::now());
        match ask(&this.database, doc! { "hello": 1 }).await {
            Ok(hello) => {
                let time = started.elapsed();
                times.push(time);
                let half = i64::try_from(time.as_millis() / 2).unwrap_or(i64::MAX);
                let theirs = hello
                    .get_datetime("localTime")
                    .map(|at| at.timestamp_millis());
                if let Ok(theirs) = theirs
                    && skew.is_none_or(|(best, _)| time < best)
                {
                    skew = Some((time, theirs - (at.timestamp_millis() + half)));
                }
            }
            Err(refusal) if this.wants("latency") => {
                return this.report.write("latency", Outcome::Broken, refusal);
            }
            Err(refusal) => {
                return this.report.write("clock", Outcome::NotTried, refusal);
            }
        }
    }
    times.sort_unstable();
    let at = |place: usize| times.get(place).copied().unwrap_or_default();
    let (median, longest) = (at(times.len() / 2), at(times.len().saturating_sub(1)));
    let found = format!("median {}, longest {}", millis(median), millis(longest));
    let outcome = if median > SLOW {
        Outcome::Attention
    } else {
        Outcome::Holds
    };
    if this.wants("latency") {
        this.report.write("latency", outcome, found);
    }
    if this.wants("clock") {
        clock(this, skew);
    }
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// Says how far the server's clock is off: the time of a round trip, and the difference in
/// milliseconds.
fn clock(this: &Examination, skew: Option<(Duration, i64)>) {
    match skew {
        None => this
            .report
            .write("clock", Outcome::NotTried, "hello has no localTime"),
        Some((within, skew)) => {
            let direction = if skew < 0 { "behind" } else { "ahead" };
            let found = format!(
                "the server's is {} ms {direction}, to within {}",
                skew.abs(),
                millis(within / 2)
            );
            let outcome = match skew.abs() {
                off if off < MAX_SKEW_MILLIS => Outcome::Holds,
                off if off < GRACE_MILLIS => Outcome::Attention,
                _ => Outcome::Broken,
            };
            this.report.write("clock", outcome, found);
        }
    }
}

/// Opens a second pool that is full from the beginning.
async fn connections(this: &Examination) {
    const PATIENCE: Duration = Duration::from_secs(15);
    this.report.begin("opening connections");
    let wanted = this.connection.pool_size();
    let mut options = this.connection.options.clone();
    options.min_pool_size = Some(wanted);
    options.max_connecting = Some(wanted);
    let ready = &this.connection.ready;
    let before = ready.load(Ordering::Relaxed);
    let client = match Client::with_options(options) {
        Ok(client) => client,
        Err(error) => {
            return this.report.write("connections", Outcome::NotTried, error);
        }
    };
    let started = Instant::now();
    let opened = || ready.load(Ordering::Relaxed).saturating_sub(before);
    // The first command makes the pool known to the driver.
    let ping = ask(&client.database(this.database.name()), doc! { "ping": 1 }).await;
    while ping.is_ok() && opened() < wanted && started.elapsed() < PATIENCE {
        sleep(Duration::from_millis(20)).await;
    }
    let found = format!(
        "{} of {wanted}, in {:.1} s",
        opened().min(wanted),
        started.elapsed().as_secs_f64()
    );
    client.shutdown().immediate(true).await;
    let outcome = if opened() >= wanted {
        Outcome::Holds
    } else {
        Outcome::Broken
    };
    this.report.write("connections", outcome, found);
}

/// Whether the scratch collections can be used and removed.
pub(super) async fn privileges(this: &Examination) -> bool {
    this.report.begin("trying the privileges");
    let (report, database) = (&this.report, &this.database);
    let scratch = this.scratch.collection();
    let name = scratch.name();
    // First of all: what cannot be removed is not made.
    if let Err(refusal) = ask(database, doc! { "drop": name }).await
        && refusal.is_unauthorized()
    {
        let advice = format!(
            "Grant the doctor's user the role readWrite on the database {}, for as long as it runs.",
            database.name()
        );
        let means = "What cannot be removed is not made, so nothing was tried.";
        let found = "missing: dropCollection";
        report.write_as("privileges", Outcome::Attention, found, means, &advice);
        report.stop("the privileges are not enough to try it: see the line `privileges`");
        return false;
    }
    if !this.wants("privileges") {
        return true;
    }
    let insert = doc! { "insert": name, "documents": [{ "_id": "a" }] };
    let change = doc! { "q": { "_id": "a" }, "u": { "$set": { "n": 1 } } };
    let update = doc! { "update": name, "updates": [change] };
    let remove = doc! { "delete": name, "deletes": [{ "q": { "_id": "a" }, "limit": 1 }] };
    let index = doc! { "key": { "expires": 1 }, "name": "ttl", "expireAfterSeconds": 60 };
    let create = doc! { "createIndexes": name, "indexes": [index] };
    let change = doc! { "keyPattern": { "expires": 1 }, "expireAfterSeconds": 61 };
    let modify = doc! { "collMod": name, "index": change };
    let stream = doc! { "aggregate": name, "pipeline": [{ "$changeStream": {} }], "cursor": {} };
    // An action, whether sessions need it, and a command that needs it.
    let trials = [
        ("insert", true, insert),
        ("find", true, doc! { "find": name }),
        ("update", true, update),
        ("remove", true, remove),
        ("createIndex", false, create),
        ("collMod", false, modify),
        (
            "dropIndex",
            false,
            doc! { "dropIndexes": name, "index": "ttl" },
        ),
        ("changeStream", false, stream),
    ];
    let mut missing = Vec::new();
    let mut is_enough = true;
    for (action, is_needed, command) in trials {
        match ask(database, command).await {
            Err(refusal) if refusal.is_unauthorized() => {
                missing.push(action);
                is_enough &= !is_needed;
            }
            // What the server cannot do at all is another check's.
            Ok(_) | Err(Refused { .. }) => {}
        }
    }
    let found = format!("missing: {}", missing.join(", "));
    match (missing.is_empty(), is_enough) {
        (true, _) => report.write("privileges", Outcome::Holds, "all"),
        (false, true) => report.write("privileges", Outcome::Attention, found),
        (false, false) => report.write("privileges", Outcome::Broken, found),
    }
    is_enough
}
