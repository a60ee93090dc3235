//! `Cluster`: a sharded cluster of real mongods, a config server and two shards. In place of a mongos,
//! a [`Front`] and a mongod without data, which runs MongoDB's router code, reply to the driver.
//!
//! MongoDB 6.0 and later. It supports neither change streams nor transactions over several shards.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use bson::{Bson, Document, doc};
use mongodb::Client;
use mongodb::options::ClientOptions;
use rocket::tokio::sync::SemaphorePermit;

use super::front::{Chunks, Front, Router, batch, find_chunks, find_collection, hashes_of};
use super::mongod::CLIENT;
use super::replica_set::{self, ReplicaSet};
use super::{PATIENCE, off_runtime, wait_for, wire};

const SHARDS: [&str; 2] = ["s0", "s1"];

/// A running cluster; its mongods go with it.
pub struct Cluster {
    front: Front,
    ports: Ports,
    shards: Vec<ReplicaSet>,
    _router: ReplicaSet,
    _config: ReplicaSet,
    /// Given back when the mongods are gone: fields are dropped in their order.
    _turn: Option<SemaphorePermit<'static>>,
}

/// Where its own control asks.
#[derive(Clone, Copy)]
struct Ports {
    config: u16,
    router: u16,
}

impl Cluster {
    /// Each shard has this number of members.
    pub async fn start(members: usize) -> Cluster {
        let turn = match members {
            1 => None,
            _ => replica_set::turn().await,
        };
        let cluster = off_runtime(move || Cluster::start_blocking(members)).await;
        Cluster {
            _turn: turn,
            ..cluster
        }
    }

    /// One for all tests of this process that disturb nothing, with shards of one member.
    pub async fn shared() -> &'static Cluster {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        off_runtime(|| SHARED.get_or_init(|| Cluster::start_blocking(1))).await
    }

    fn start_blocking(members: usize) -> Cluster {
        let set = |name: &str, role: &str, members: usize| {
            let set = ReplicaSet::builder().part(name, role).members(members);
            // What has moved away is deleted at once, so that it can come back.
            let set = match role {
                "shardsvr" => set.arg("--setParameter=orphanCleanupDelaySecs=0"),
                _ => set,
            };
            std::thread::spawn(move || set.start_blocking())
        };
        let starting = [set("config", "configsvr", 1), set("router", "shardsvr", 1)];
        let shards = SHARDS.map(|name| set(name, "shardsvr", members));
        let started = |set: std::thread::JoinHandle<ReplicaSet>| {
            set.join()
                .unwrap_or_else(|why| std::panic::resume_unwind(why))
        };
        let [config, router] = starting.map(started);
        let shards: Vec<ReplicaSet> = shards.map(started).into();
        let ports = Ports {
            config: config.hosts()[0],
            router: router.hosts()[0],
        };
        ports.join(&config, &shards);
        let members = shards
            .iter()
            .map(|shard| (shard.name().to_owned(), shard.hosts().to_vec()));
        let members: BTreeMap<_, _> = members.collect();
        Cluster {
            front: Front::start_blocking(Router::new(ports.config, ports.router, members)),
            ports,
            shards,
            _router: router,
            _config: config,
            _turn: None,
        }
    }

    /// The address of a database, for a driver.
    pub fn url(&self, db: &str) -> String {
        format!("mongodb://127.0.0.1:{}/{db}", self.front.port())
    }

    pub fn front(&self) -> &Front {
        &self.front
    }

    pub fn shards(&self) -> &[ReplicaSet] {
        &self.shards
    }

    /// A client of the tests' own.
    pub async fn client(&self) -> Client {
        let mut options = ClientOptions::parse(self.url(""))
            .await
            .expect("the address of a cluster");
        options.app_name = Some(CLIENT.to_owned());
        options.server_selection_timeout = Some(Duration::from_secs(20));
        Client::with_options(options).expect("a client of a cluster")
    }

    /// The shard of this document, whether it is there or not.
    pub async fn shard_of(&self, namespace: &str, id: &str) -> usize {
        let (ports, namespace, id) = (self.ports, namespace.to_owned(), id.to_owned());
        off_runtime(move || {
            let chunks = ports.chunks(&namespace);
            shard(&chunks.all[chunks.position(ports.hash(&id))].1)
        })
        .await
    }

    /// Moves the chunk of this document to the other shard; returns the number of that shard.
    pub async fn move_chunk(&self, namespace: &str, id: &str) -> usize {
        let (ports, namespace, id) = (self.ports, namespace.to_owned(), id.to_owned());
        off_runtime(move || {
            let hash = ports.hash(&id);
            let to = 1 - {
                let chunks = ports.chunks(&namespace);
                shard(&chunks.all[chunks.position(hash)].1)
            };
            // One that is refused (another one has yet to end) is tried again.
            wait_for("a chunk that moves", || {
                let chunks = ports.chunks(&namespace);
                let (min, max) = &chunks.bounds[chunks.position(hash)];
                ports.config(doc! {
                    "_configsvrMoveRange": &namespace, "toShard": SHARDS[to], "min": min, "max": max,
                    "waitForDelete": false, "epoch": &chunks.epoch,
                    "collectionTimestamp": &chunks.timestamp, "writeConcern": { "w": "majority" },
                })
            });
            to
        })
        .await
    }
}

/// The number of a shard.
fn shard(name: &str) -> usize {
    SHARDS
        .iter()
        .position(|shard| *shard == name)
        .expect("a shard")
}

impl Ports {
    /// Makes one cluster of the sets.
    fn join(self, config: &ReplicaSet, shards: &[ReplicaSet]) {
        let majority = doc! { "w": "majority" };
        for shard in shards {
            let order = doc! {
                "_configsvrAddShard": shard.seeds(), "name": shard.name(), "writeConcern": &majority,
            };
            wait_for("a shard of the cluster", || self.config(order.clone()));
        }
        wait_for("a balancer that stops", || {
            self.config(doc! { "_configsvrBalancerStop": 1 })
        });
        // Told of the cluster, but not a part of it: it gets no chunks.
        let version = wait_for("the cluster's own id", || {
            let find = doc! { "find": "version", "filter": {} };
            let found = wire::ask(self.config, "config", find, PATIENCE).ok()?;
            batch(&found).first()?.get("clusterId").cloned()
        });
        let identity = doc! {
            "shardName": "router", "clusterId": version, "configsvrConnectionString": config.seeds(),
        };
        let order = doc! { "_addShard": 1, "shardIdentity": identity };
        wait_for("a mongod that routes", || {
            wire::ask(self.router, "admin", order.clone(), PATIENCE).ok()
        });
    }

    fn config(self, order: Document) -> Option<Document> {
        wire::ask(self.config, "admin", order, PATIENCE).ok()
    }

    fn chunks(self, namespace: &str) -> Chunks {
        wait_for("the chunks of a collection", || {
            let find = |find| wire::ask(self.config, "config", find, PATIENCE).ok();
            let collection = batch(&find(find_collection(namespace))?)
                .into_iter()
                .next()?;
            Chunks::new(&collection, batch(&find(find_chunks(&collection))?))
        })
    }

    fn hash(self, id: &str) -> i64 {
        let question = hashes_of(&[id.to_owned()]);
        let found = wire::ask(self.router, "admin", question, PATIENCE).expect("a hash");
        let hash = batch(&found).into_iter().next();
        let hash = hash.and_then(|one| one.get("hash").and_then(Bson::as_i64));
        hash.expect("a hash")
    }
}
