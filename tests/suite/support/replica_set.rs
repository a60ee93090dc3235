//! `ReplicaSet`: three mongods that elect a primary, as a deployment has them, with elections in
//! seconds.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bson::{Document, doc};
use mongodb::Client;
use mongodb::options::ClientOptions;

use super::mongod::{CLIENT, Mongod};
use super::proxy::Proxy;
use super::{off_runtime, wait_for, wire};

const NAME: &str = "rs";

/// For an election or an initial sync on a slow machine; seconds are usual.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running replica set; its mongods go with it.
pub struct ReplicaSet {
    nodes: Vec<Mongod>,
    /// In front of each node, if it was built so: then the nodes, too, know each other by these.
    proxies: Vec<Proxy>,
    /// How the members are called, in the set's own configuration and so by every driver.
    hosts: Vec<u16>,
}

#[derive(Clone)]
pub struct Builder {
    node: super::mongod::Builder,
    members: usize,
    proxied: bool,
}

impl Builder {
    pub fn series(mut self, series: &str) -> Self {
        self.node = self.node.series(series);
        self
    }

    /// One member is a replica set, too: it has retryable writes and transactions, and starts
    /// sooner.
    pub fn members(mut self, count: usize) -> Self {
        self.members = count;
        self
    }

    /// One more argument for each mongod.
    pub fn arg(mut self, arg: &str) -> Self {
        self.node = self.node.arg(arg);
        self
    }

    /// Puts a proxy in front of each member, under whose address the set knows it. A driver goes to
    /// the addresses that the set names, so this is the only way in between; and what the proxy
    /// holds back, it holds back from the other members as well.
    pub fn behind_proxies(mut self) -> Self {
        self.proxied = true;
        self
    }

    pub async fn start(self) -> ReplicaSet {
        off_runtime(move || self.start_blocking()).await
    }

    fn start_blocking(self) -> ReplicaSet {
        let node = self
            .node
            .arg(format!("--replSet={NAME}"))
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
        };
        set.initiate();
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
        }
    }

    /// One set for all tests of this process: for what needs a replica set and disturbs nothing.
    pub async fn shared() -> &'static ReplicaSet {
        static SHARED: OnceLock<ReplicaSet> = OnceLock::new();
        off_runtime(|| SHARED.get_or_init(|| ReplicaSet::builder().start_blocking())).await
    }

    pub fn url(&self, db: &str) -> String {
        let hosts: Vec<_> = self
            .hosts
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        format!("mongodb://{}/{db}?replicaSet={NAME}", hosts.join(","))
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

    /// The index of the primary; waits while there is none.
    pub async fn primary(&self) -> usize {
        self.wait_for_primary().await
    }

    /// The index of the node that takes writes, once there is one.
    pub async fn wait_for_primary(&self) -> usize {
        let ports = self.ports();
        off_runtime(move || wait_for("a primary", PATIENCE, || primary_of(&ports))).await
    }

    /// Makes the primary step down, and returns the index of the one that follows it.
    pub async fn step_down(&self) -> usize {
        let ports = self.ports();
        off_runtime(move || {
            let old = wait_for("a primary", PATIENCE, || primary_of(&ports));
            // Without force it hands over to a member that is in step, at once; with it, the others
            // find out at the end of their election timeout.
            let order = doc! { "replSetStepDown": 6, "secondaryCatchUpPeriodSecs": 5 };
            let asked = wire::ask(ports[old], "admin", order, Duration::from_secs(20));
            asked.unwrap_or_else(|error| panic!("the primary does not step down: {error}"));
            wait_for("another primary", PATIENCE, || {
                primary_of(&ports).filter(|new| *new != old)
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
            wait_for("a restarted member", PATIENCE, || {
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

    /// The nodes' own ports: the harness asks them past any proxy.
    fn ports(&self) -> Arc<[u16]> {
        self.nodes.iter().map(Mongod::port).collect()
    }

    fn initiate(&self) {
        let members: Vec<_> = (0i32..)
            .zip(&self.hosts)
            .map(|(id, port)| doc! { "_id": id, "host": format!("127.0.0.1:{port}") })
            .collect();
        // Without chaining a secondary that stands still holds no other one up.
        let settings = doc! {
            "electionTimeoutMillis": 2000,
            "heartbeatIntervalMillis": 500,
            "chainingAllowed": false,
        };
        let config = doc! { "_id": NAME, "members": members, "settings": settings };
        let asked = wire::ask(
            self.nodes[0].port(),
            "admin",
            doc! { "replSetInitiate": config },
            PATIENCE,
        );
        asked.unwrap_or_else(|error| panic!("the replica set cannot be initiated: {error}"));

        let ports = self.ports();
        let primary = wait_for("a first primary", PATIENCE, || primary_of(&ports));
        wait_for("all members to be in sync", PATIENCE, || {
            let settled = ports
                .iter()
                .filter(|port| hello(**port).is_ok_and(|hello| is(&hello, "secondary")))
                .count();
            (settled == ports.len() - 1).then_some(())
        });
        // What every member has acknowledged proves more than what they say of themselves.
        let everyone = doc! { "w": ports.len() as i32, "wtimeout": PATIENCE.as_millis() as i64 };
        let write = doc! { "insert": "ready", "documents": [{}], "writeConcern": everyone.clone() };
        let written = wire::ask(ports[primary], "harness", write, PATIENCE).expect("a first write");
        assert!(
            !written.contains_key("writeConcernError"),
            "no write reaches every member: {written}"
        );
        let gone = wire::ask(
            ports[primary],
            "harness",
            doc! { "dropDatabase": 1, "writeConcern": everyone },
            PATIENCE,
        );
        gone.expect("a dropped database");
    }
}

fn primary_of(ports: &[u16]) -> Option<usize> {
    ports
        .iter()
        .position(|port| hello(*port).is_ok_and(|hello| is(&hello, "isWritablePrimary")))
}

fn hello(port: u16) -> io::Result<Document> {
    wire::ask(
        port,
        "admin",
        doc! { "hello": 1 },
        Duration::from_millis(500),
    )
}

fn is(hello: &Document, what: &str) -> bool {
    hello.get_bool(what).unwrap_or(false)
}
