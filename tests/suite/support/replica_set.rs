//! `ReplicaSet`: three mongods that elect a primary, as a deployment has them, with elections in
//! seconds.

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use bson::{Document, doc};
use mongodb::Client;
use mongodb::options::ClientOptions;
use rocket::tokio::sync::{Semaphore, SemaphorePermit};

use super::mongod::{CLIENT, Mongod};
use super::proxy::Proxy;
use super::{PATIENCE, off_runtime, wait_for, wire};

/// The time without a primary after which members hold an election, in milliseconds: soon, for
/// tests that bring elections about and wait for their ends.
const ELECTION_TIMEOUT: i32 = 2000;

/// For one question: a member that waits for others does not answer at once.
const REPLY_TIME: Duration = Duration::from_secs(15);

/// Three mongods and a crowd are work for a whole machine: two such tests at a time would starve
/// each other's members of the heartbeats that they are elected by.
static TURN: Semaphore = Semaphore::const_new(1);

/// A running replica set; its mongods go with it.
pub struct ReplicaSet {
    nodes: Vec<Mongod>,
    /// In front of each node, if it was built so: then the nodes, too, know each other by these.
    proxies: Vec<Proxy>,
    /// How the members are called, in the set's own configuration and so by every driver.
    hosts: Vec<u16>,
    name: String,
    /// Given back when the mongods are gone: fields are dropped in their order.
    _turn: Option<SemaphorePermit<'static>>,
}

#[derive(Clone)]
pub struct Builder {
    node: super::mongod::Builder,
    members: usize,
    proxied: bool,
    election_timeout: i32,
    name: String,
    is_config: bool,
}

impl Builder {
    pub fn series(mut self, series: &str) -> Self {
        self.node = self.node.series(series);
        self
    }

    /// One more argument of each member's command line.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.node = self.node.arg(arg);
        self
    }

    /// One member is a replica set, too: it has retryable writes and transactions, and starts
    /// sooner.
    pub fn members(mut self, count: usize) -> Self {
        self.members = count;
        self
    }

    /// Puts a proxy in front of each member, under whose address the set knows it. A driver goes to
    /// the addresses that the set names, so this is the only way in between; and what the proxy
    /// holds back, it holds back from the other members as well.
    pub fn behind_proxies(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// Makes it a part of a sharded cluster: its config server (`configsvr`) or a shard (`shardsvr`).
    pub(super) fn part(mut self, name: &str, role: &str) -> Self {
        self.name = name.to_owned();
        self.is_config = role == "configsvr";
        self.arg(format!("--{role}"))
    }

    /// How long members do without a primary before they hold an election. Much, where none is
    /// wanted: a busy machine does not cause one.
    pub fn election_timeout(mut self, millis: i32) -> Self {
        self.election_timeout = millis;
        self
    }

    /// Of sets with several members one is used at a time: when it is ready, this waits for the
    /// last one to be gone. (That of all tests is another matter.)
    pub async fn start(self) -> ReplicaSet {
        let is_one = self.members == 1;
        let set = off_runtime(move || self.start_blocking()).await;
        let turn = match is_one {
            true => None,
            false => turn().await,
        };
        ReplicaSet { _turn: turn, ..set }
    }

    pub(super) fn start_blocking(self) -> ReplicaSet {
        let node = self
            .node
            .arg(format!("--replSet={}", self.name))
            .arg("--oplogSize=64");
        let starting: Vec<_> = (0..self.members)
            .map(|_| {
                let node = node.clone();
                std::thread::spawn(move || node.start_blocking())
            })
            .collect();
        let nodes: Vec<Mongod> = starting
            .into_iter()
            .map(|one| {
                one.join()
                    .unwrap_or_else(|why| std::panic::resume_unwind(why))
            })
            .collect();
        let proxies: Vec<Proxy> = nodes
            .iter()
            .filter(|_| self.proxied)
            .map(|node| Proxy::start_blocking(node.port()))
            .collect();
        let hosts = match self.proxied {
            true => proxies.iter().map(Proxy::port).collect(),
            false => nodes.iter().map(Mongod::port).collect(),
        };
        let set = ReplicaSet {
            nodes,
            proxies,
            hosts,
            name: self.name,
            _turn: None,
        };
        set.initiate(self.election_timeout, self.is_config);
        set
    }
}

impl ReplicaSet {
    pub async fn start() -> ReplicaSet {
        ReplicaSet::builder().start().await
    }

    pub fn builder() -> Builder {
        Builder {
            node: Mongod::builder(),
            members: 3,
            proxied: false,
            election_timeout: ELECTION_TIMEOUT,
            name: "rs".to_owned(),
            is_config: false,
        }
    }

    /// One set for all tests of this process: for what needs a replica set and disturbs nothing.
    pub async fn shared() -> &'static ReplicaSet {
        static SHARED: OnceLock<ReplicaSet> = OnceLock::new();
        let calm = || ReplicaSet::builder().election_timeout(10_000);
        off_runtime(move || SHARED.get_or_init(|| calm().start_blocking())).await
    }

    pub fn url(&self, db: &str) -> String {
        format!(
            "mongodb://{}/{db}?replicaSet={}",
            self.addresses(),
            self.name
        )
    }

    fn addresses(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().map(|port| address(*port)).collect();
        hosts.join(",")
    }

    /// As the config server of a sharded cluster takes it.
    pub(super) fn seeds(&self) -> String {
        format!("{}/{}", self.name, self.addresses())
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// As its own configuration has them.
    pub(super) fn hosts(&self) -> &[u16] {
        &self.hosts
    }

    pub fn nodes(&self) -> &[Mongod] {
        &self.nodes
    }

    pub fn proxy(&self, index: usize) -> &Proxy {
        self.proxies
            .get(index)
            .expect("a set that was built `behind_proxies`")
    }

    /// A client of the tests' own, of the whole set: it follows the primary.
    pub async fn client(&self) -> Client {
        let mut options = ClientOptions::parse(self.url(""))
            .await
            .expect("the address of a replica set");
        options.app_name = Some(CLIENT.to_owned());
        options.connect_timeout = Some(Duration::from_secs(5));
        options.server_selection_timeout = Some(Duration::from_secs(20));
        Client::with_options(options).expect("a client of a replica set")
    }

    /// Returns the index of the primary, and waits for one.
    pub async fn primary(&self) -> usize {
        self.wait_for_primary().await
    }

    /// The index of the node that takes writes, once there is one.
    pub async fn wait_for_primary(&self) -> usize {
        let members = self.members();
        off_runtime(move || wait_for("a primary", || members.primary())).await
    }

    /// Makes the primary step down, and returns the index of the one that follows it.
    pub async fn step_down(&self) -> usize {
        let members = self.members();
        off_runtime(move || {
            let old = wait_for("a primary", || members.primary());
            wait_for("another primary", || {
                let now = members.primary()?;
                if now != old {
                    return Some(now);
                }
                // Without force it hands over to a member that is in step, at once; with it, the
                // others find out at the end of their election timeout. Where none is in step it
                // refuses, and where none was elected in time it is the primary again: once more.
                let order = doc! { "replSetStepDown": 6, "secondaryCatchUpPeriodSecs": 5 };
                let _ = wire::ask(members.ports[old], "admin", order, REPLY_TIME);
                None
            })
        })
        .await
    }

    pub async fn kill(&self, index: usize) {
        self.nodes[index].kill().await;
    }

    /// Starts a node again, and waits until it is a member in good standing.
    pub async fn restart(&self, index: usize) {
        self.nodes[index].restart().await;
        let port = self.nodes[index].port();
        off_runtime(move || {
            wait_for("a restarted member", || {
                let hello = hello(port).ok()?;
                (is(&hello, "isWritablePrimary") || is(&hello, "secondary")).then_some(())
            })
        })
        .await;
    }

    pub async fn pause(&self, index: usize) {
        self.nodes[index].pause().await;
    }

    pub async fn resume(&self, index: usize) {
        self.nodes[index].resume().await;
    }

    fn members(&self) -> Members {
        Members {
            ports: self.nodes.iter().map(Mongod::port).collect(),
            hosts: self.hosts.iter().map(|port| address(*port)).collect(),
        }
    }

    fn initiate(&self, election_timeout: i32, is_config: bool) {
        let members = self.members();
        let list: Vec<_> = (0i32..)
            .zip(&members.hosts)
            .map(|(id, host)| doc! { "_id": id, "host": host })
            .collect();
        // Without chaining a secondary that stands still holds no other one up.
        let settings = doc! {
            "electionTimeoutMillis": election_timeout,
            "heartbeatIntervalMillis": 500,
            "chainingAllowed": false,
        };
        let mut config = doc! { "_id": &self.name, "members": list, "settings": settings };
        if is_config {
            config.insert("configsvr", true);
        }
        let order = doc! { "replSetInitiate": config };
        let asked = wire::ask(members.ports[0], "admin", order, PATIENCE);
        asked.unwrap_or_else(|error| panic!("the replica set cannot be initiated: {error}"));

        // The first election needs no timeout.
        wait_for("a first primary", || {
            let order = doc! { "replSetStepUp": 1 };
            let _ = wire::ask(members.ports[0], "admin", order, REPLY_TIME);
            members.primary()
        });
        let everyone = members.ports.len();
        wait_for("all members to be in sync", || {
            let hellos = members.ports.iter().filter_map(|port| hello(*port).ok());
            let in_sync =
                |hello: &Document| is(hello, "isWritablePrimary") || is(hello, "secondary");
            (hellos.filter(in_sync).count() == everyone).then_some(())
        });
        // What every member has acknowledged proves more than what they say of themselves. The
        // election may not be the last one, so it is asked until it is done.
        let everyone = doc! { "w": everyone as i32, "wtimeout": 10_000 };
        let data = doc! { "set": "ready" };
        members.does(doc! { "appendOplogNote": 1, "data": data, "writeConcern": everyone });
    }
}

/// Waits until no other test has a set with several members.
pub(super) async fn turn() -> Option<SemaphorePermit<'static>> {
    TURN.acquire().await.ok()
}

/// How the members can be asked, past any proxy, and how they are called.
struct Members {
    ports: Vec<u16>,
    hosts: Vec<String>,
}

impl Members {
    /// The member that takes writes. The majority must know it by name: one that was cut off, or
    /// stood still, reports that it is the primary until it hears of the next one.
    fn primary(&self) -> Option<usize> {
        let hellos: Vec<Option<Document>> =
            self.ports.iter().map(|port| hello(*port).ok()).collect();
        (0..hellos.len()).find(|&index| {
            let said = hellos.iter().flatten();
            let by = said.filter(|hello| hello.get_str("primary") == Ok(&self.hosts[index]));
            let writes = |hello| is(hello, "isWritablePrimary");
            hellos[index].as_ref().is_some_and(writes) && by.count() * 2 > hellos.len()
        })
    }

    /// Asks the primary, whichever it is, until it has done so.
    fn does(&self, order: Document) {
        wait_for(&format!("{order}"), || {
            let primary = self.ports[self.primary()?];
            let done = wire::ask(primary, "admin", order.clone(), REPLY_TIME).ok()?;
            (!done.contains_key("writeConcernError")).then_some(())
        });
    }
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn hello(port: u16) -> io::Result<Document> {
    wire::ask(port, "admin", doc! { "hello": 1 }, Duration::from_secs(1))
}

fn is(hello: &Document, what: &str) -> bool {
    hello.get_bool(what).unwrap_or(false)
}
