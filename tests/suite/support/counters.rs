//! What the server was asked: by its counters (`Commands`) and, exactly, by its profiler
//! (`Profile`); and what it is at now.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use mongodb::bson::{Document, doc};
use mongodb::{Client, Database};

use super::mongod::CLIENT;

/// How often each command was asked for: the server's own `serverStatus.metrics.commands.*.total`.
///
/// It counts what everybody asks, so it is exact only on a mongod of one's own, and even there the
/// drivers' monitors add `hello`, this adds `serverStatus`, and the server's own work (TTL deletes
/// come without a command) adds none.
#[derive(Clone, Debug, Default)]
pub struct Commands(BTreeMap<String, i64>);

impl Commands {
    pub async fn now(client: &Client) -> Commands {
        let status = client
            .database("admin")
            .run_command(doc! { "serverStatus": 1, "wiredTiger": 0 })
            .await
            .expect("serverStatus");
        let metrics = status
            .get_document("metrics")
            .and_then(|metrics| metrics.get_document("commands"));
        let counts = metrics
            .expect("counts of commands")
            .iter()
            .filter_map(|(name, counts)| {
                let total = counts.as_document()?.get_i64("total").ok()?;
                Some((name.clone(), total))
            });
        Commands(counts.collect())
    }

    /// What was asked after `earlier`; commands that were not are left out.
    pub fn since(&self, earlier: &Commands) -> Commands {
        let grown = self
            .0
            .iter()
            .map(|(name, total)| (name.clone(), total - earlier.get(name)));
        Commands(grown.filter(|(_, more)| *more != 0).collect())
    }

    /// The count of one command, by its name on the wire: `find`, `insert`, `update`, `delete`,
    /// `findAndModify`.
    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

/// Returns the operations on sessions in progress of clients with this `appName`, those that a fail
/// point holds included: of one command, or of any.
pub async fn in_progress(client: &Client, app_name: &str, command: Option<&str>) -> usize {
    const ALL: [&str; 5] = ["find", "insert", "update", "delete", "findAndModify"];
    let commands = command.as_ref().map_or(&ALL[..], std::slice::from_ref);
    // By the command, because one that is held has no namespace yet.
    let commands = commands
        .iter()
        .map(|name| doc! { format!("command.{name}"): "session" });
    let commands: Vec<Document> = commands.collect();
    let question = doc! { "currentOp": 1, "appName": app_name, "$or": commands };
    let reply = client.database("admin").run_command(question).await;
    let reply = reply.expect("the operations in progress");
    reply.get_array("inprog").expect("operations").len()
}

/// Every operation on one database, in the order in which they ended: exact on a shared server,
/// too.
///
/// What the tests' own clients ask (by their application name) and what the server does on its own
/// are left out.
pub struct Profile(Database);

/// One operation as the profiler saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `find`, `insert`, `update`, `delete`, `findAndModify`, `createIndexes` …: the command's name
    /// on the wire.
    pub name: String,
    /// The collection, if there is one.
    pub collection: String,
    /// The command; of an update or a delete its one statement (`q`, `u`, `multi`, `upsert`, …), an
    /// entry for each.
    pub command: Document,
    /// The whole entry: `nMatched`, `keysExamined`, `errCode`, `appName`, `millis` …
    pub entry: Document,
}

impl Profile {
    /// From now on. Takes away what an earlier profile of this database saw.
    ///
    /// In a replica set, a profile is of one member: use the client of that node.
    pub async fn start(client: &Client, db: &str) -> Profile {
        let profile = Profile(client.database(db));
        profile.restart().await;
        profile
    }

    /// The same on a secondary, which takes no profile away and makes none of our size: for the
    /// first one of its database, of a few operations.
    pub async fn start_on_a_secondary(client: &Client, db: &str) -> Profile {
        let profile = Profile(client.database(db));
        profile.level(2).await;
        profile
    }

    /// Forgets what was seen so far.
    pub async fn restart(&self) {
        self.level(0).await;
        self.0
            .collection::<Document>("system.profile")
            .drop()
            .await
            .expect("no system.profile");
        // The server's own size for it is 1 MB, and the oldest would go unnoticed.
        let room = doc! { "create": "system.profile", "capped": true, "size": 64 << 20 };
        self.0.run_command(room).await.expect("a system.profile");
        self.level(2).await;
    }

    /// Everything that clients asked of this database, but the tests' own, and the reads of the
    /// generation.
    pub async fn commands(&self) -> Vec<Seen> {
        let profile = self.0.collection::<Document>("system.profile");
        let entries = profile
            .find(doc! {})
            .sort(doc! { "$natural": 1 })
            .await
            .expect("a profile");
        let entries: Vec<Document> = entries.try_collect().await.expect("a profile");
        let seen = entries.into_iter().filter_map(Seen::from_entry);
        seen.filter(|seen| !seen.is_lease()).collect()
    }

    /// The names alone, which is what most tests ask about: `["find", "update"]`.
    pub async fn names(&self) -> Vec<String> {
        self.commands()
            .await
            .into_iter()
            .map(|seen| seen.name)
            .collect()
    }

    /// Stops it.
    pub async fn stop(self) {
        self.level(0).await;
    }

    async fn level(&self, level: i32) {
        // Without a limit on the time (slowms) and on the share (sampleRate), which other levels go
        // by.
        self.0
            .run_command(doc! { "profile": level })
            .await
            .expect("a profiler");
    }
}

impl Seen {
    /// Whether a process asks for the generation of all sessions: once a second, beside its work.
    fn is_lease(&self) -> bool {
        let filter = self.command.get_document("filter");
        self.name == "find" && filter.is_ok_and(|filter| filter.get_str("_id") == Ok("~epoch"))
    }

    fn from_entry(entry: Document) -> Option<Seen> {
        // The server's own operations have no client; the TTL monitor's are such.
        if !entry.contains_key("client") || entry.get_str("appName") == Ok(CLIENT) {
            return None;
        }
        let op = entry.get_str("op").unwrap_or_default();
        let command = entry.get_document("command").cloned().unwrap_or_default();
        let name = match op {
            "update" | "insert" | "getmore" | "query" | "remove" | "command" => {
                name_of(op, &command)
            }
            other => other.to_owned(),
        };
        let collection = entry
            .get_str("ns")
            .ok()
            .and_then(|ns| ns.split_once('.'))
            .map_or("", |(_, name)| name);
        Some(Seen {
            name,
            collection: collection.to_owned(),
            command,
            entry,
        })
    }
}

/// The profiler's own words, in those of the wire.
fn name_of(op: &str, command: &Document) -> String {
    match op {
        "command" => command.keys().next().map_or("", String::as_str),
        "query" => "find",
        "remove" => "delete",
        "getmore" => "getMore",
        other => other,
    }
    .to_owned()
}
