//! The server under the applications: a mongod of the tests' harness, or three, and its counters.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::{Client, Database};
use rocket::futures::TryStreamExt;
use rocket_mongo_session::mongodb;

use super::app::COUNTER;
use super::harness::{Mongod, ReplicaSet};
use super::proc;

/// The database of all applications; each has a collection of its own in it.
const DATABASE: &str = "bench";

pub struct Server {
    pub deployment: Deployment,
    nodes: Nodes,
    client: Client,
    pub version: String,
    /// What a question for the counters adds to them by itself.
    question: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deployment {
    Standalone,
    /// Of three nodes, whose majority has every write before it is answered.
    ReplicaSet,
}

impl std::fmt::Display for Deployment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Deployment::Standalone => "standalone",
            Deployment::ReplicaSet => "replica set",
        })
    }
}

enum Nodes {
    Standalone(Box<Mongod>),
    ReplicaSet(Box<ReplicaSet>),
}

/// The server's counters at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub finds: f64,
    pub updates: f64,
    pub inserts: f64,
    /// Every other command that reads or writes data.
    pub others: f64,
    pub bytes_in: f64,
    pub cpu: Duration,
}

impl Server {
    pub async fn start(deployment: Deployment, series: &str) -> Server {
        let (nodes, client) = match deployment {
            Deployment::Standalone => {
                let mongod = Mongod::builder().series(series).start().await;
                let client = mongod.client().await;
                (Nodes::Standalone(Box::new(mongod)), client)
            }
            Deployment::ReplicaSet => {
                let set = ReplicaSet::builder().series(series).start().await;
                let client = set.client().await;
                (Nodes::ReplicaSet(Box::new(set)), client)
            }
        };
        let mut server = Server {
            deployment,
            nodes,
            client,
            version: String::new(),
            question: 0.0,
        };
        server.version = server
            .status()
            .await
            .get_str("version")
            .expect("a version")
            .to_owned();
        let (first, second) = (server.counters().await, server.counters().await);
        server.question = second.bytes_in - first.bytes_in;
        server
    }

    /// The address as an application writes it.
    pub fn url(&self) -> String {
        match &self.nodes {
            Nodes::Standalone(mongod) => mongod.url(DATABASE),
            Nodes::ReplicaSet(set) => set.url(DATABASE),
        }
    }

    /// Makes each update command take longer by this.
    pub async fn delay_updates(&self, delay: Duration) {
        let mode = if delay.is_zero() { "off" } else { "alwaysOn" };
        let data = doc! {
            "failCommands": ["update"],
            "blockConnection": true,
            "blockTimeMS": delay.as_millis() as i64,
        };
        let point = doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data };
        let set = self.client.database("admin").run_command(point).await;
        set.expect("a server with test commands");
    }

    /// Waits until everything is on the disk, so that no checkpoint of it is written later.
    pub async fn flush(&self) {
        let admin = self.client.database("admin");
        let flush = admin.run_command(doc! { "fsync": 1 });
        flush.await.expect("a checkpoint");
    }

    pub fn database(&self) -> Database {
        self.client.database(DATABASE)
    }

    /// Of a replica set the commands and bytes are the primary's, the CPU time is everybody's.
    pub async fn counters(&self) -> Counters {
        let status = self.status().await;
        let commands = status
            .get_document("metrics")
            .and_then(|metrics| metrics.get_document("commands"))
            .expect("counts of commands");
        let count = |name: &str| {
            let counts = commands.get_document(name).ok();
            counts.map_or(0.0, |counts| number(counts, "total"))
        };
        // `getMore` and `aggregate` of a replica set's members are not told from ours; ours has
        // neither.
        let others = ["delete", "findAndModify", "count", "distinct"];
        let network = status.get_document("network").expect("network counters");
        Counters {
            finds: count("find"),
            updates: count("update"),
            inserts: count("insert"),
            others: others.into_iter().map(count).sum(),
            bytes_in: number(network, "bytesIn"),
            cpu: self.pids().into_iter().map(proc::cpu).sum(),
        }
    }

    /// What was counted after `earlier`, without the questions for it.
    pub async fn since(&self, earlier: &Counters) -> Counters {
        let now = self.counters().await;
        Counters {
            finds: now.finds - earlier.finds,
            updates: now.updates - earlier.updates,
            inserts: now.inserts - earlier.inserts,
            others: now.others - earlier.others,
            bytes_in: now.bytes_in - earlier.bytes_in - self.question,
            cpu: now.cpu.saturating_sub(earlier.cpu),
        }
    }

    /// The documents that the server's TTL indexes have deleted since it started.
    pub async fn ttl_deleted(&self) -> i64 {
        let status = self.status().await;
        let ttl = status
            .get_document("metrics")
            .and_then(|metrics| metrics.get_document("ttl"));
        number(ttl.expect("counts of the TTL monitor"), "deletedDocuments") as i64
    }

    async fn status(&self) -> Document {
        let question = doc! { "serverStatus": 1, "repl": 0, "wiredTiger": 0, "locks": 0 };
        self.client
            .database("admin")
            .run_command(question)
            .await
            .expect("serverStatus")
    }

    fn pids(&self) -> Vec<u32> {
        match &self.nodes {
            Nodes::Standalone(mongod) => vec![mongod.pid()],
            Nodes::ReplicaSet(set) => set.nodes().iter().map(Mongod::pid).collect(),
        }
    }

    /// Waits until the session layer has made its indexes, and makes the same in another
    /// collection.
    pub async fn copy_indexes(&self, from: &str, to: &str) {
        let database = self.database();
        let (from, to) = (
            database.collection::<Document>(from),
            database.collection::<Document>(to),
        );
        for _ in 0..500 {
            // A collection that does not exist yet is an error.
            let indexes = match from.list_indexes().await {
                Ok(indexes) => indexes.try_collect::<Vec<_>>().await.expect("indexes"),
                Err(_) => Vec::new(),
            };
            let ours = indexes
                .into_iter()
                .filter(|index| index.keys != doc! { "_id": 1 })
                .collect::<Vec<_>>();
            if ours.len() == 2 {
                to.create_indexes(ours).await.expect("indexes by hand");
                return;
            }
            rocket::tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the session layer has made no indexes");
    }

    /// The same documents in another collection.
    pub async fn copy_documents(&self, from: &str, to: &str, ids: &[&str]) {
        let database = self.database();
        let chosen = doc! { "_id": { "$in": ids } };
        let found = database.collection::<Document>(from).find(chosen).await;
        let found = found.expect("documents").try_collect::<Vec<_>>().await;
        let to = database.collection::<Document>(to);
        let copied = to.insert_many(found.expect("documents")).await;
        copied.expect("the same documents");
    }

    /// Makes copies of a document under other ids, in several collections alike; the ids.
    pub async fn multiply(&self, id: &str, collections: &[&str], count: usize) -> Vec<String> {
        const BATCH: usize = 5000;
        let database = self.database();
        let first = database.collection::<Document>(collections[0]);
        let model = first.find_one(doc! { "_id": id }).await;
        let model = model.expect("a document").expect("a document");
        let mut ids = Vec::new();
        while ids.len() < count {
            let batch = (0..BATCH.min(count - ids.len())).map(|_| {
                let mut document = model.clone();
                let id = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
                document.insert("_id", id);
                document
            });
            let batch: Vec<Document> = batch.collect();
            for collection in collections {
                let collection = database.collection::<Document>(collection);
                let inserted = collection.insert_many(&batch).await;
                inserted.expect("copies of a document");
            }
            let made = batch
                .iter()
                .filter_map(|document| document.get_str("_id").ok());
            ids.extend(made.map(str::to_owned));
        }
        ids
    }

    /// Gives the server's cache another size than the tests' servers have.
    pub async fn cache(&self, size: &str) {
        let config = format!("cache_size={size}");
        let order = doc! { "setParameter": 1, "wiredTigerEngineRuntimeConfig": config };
        let set = self.client.database("admin").run_command(order).await;
        set.expect("another size of the cache");
    }

    pub async fn documents(&self, collection: &str) -> u64 {
        let collection = self.database().collection::<Document>(collection);
        let count = collection.count_documents(doc! {}).await;
        count.expect("a count of documents")
    }

    /// The number that a session counts in, as it is stored.
    pub async fn stored_number(&self, collection: &str, id: &str) -> Option<i64> {
        let collection = self.database().collection::<Document>(collection);
        let found = collection.find_one(doc! { "_id": id }).await;
        let document = found.expect("a document")?;
        document.get_document("value").ok()?.get_i64(COUNTER).ok()
    }

    /// The length of the document that was made last.
    pub async fn document_length(&self, collection: &str) -> f64 {
        let collection = self.database().collection::<RawDocumentBuf>(collection);
        let latest = collection.find_one(doc! {}).sort(doc! { "created": -1 });
        let document = latest.await.expect("a document").expect("a document");
        document.as_bytes().len() as f64
    }

    /// The fields of the document that was made last, with their types, and its length.
    pub async fn latest_shape(&self, collection: &str) -> String {
        let collection = self.database().collection::<RawDocumentBuf>(collection);
        let latest = collection.find_one(doc! {}).sort(doc! { "created": -1 });
        let document = latest.await.expect("a document").expect("a document");
        let fields = document.iter().map(|field| {
            let (name, value) = field.expect("a field");
            format!("{name}: {:?}", value.element_type())
        });
        let fields = fields.collect::<Vec<_>>().join(", ");
        format!("{fields} ({} bytes)", document.as_bytes().len())
    }
}

fn number(document: &Document, name: &str) -> f64 {
    match document.get(name) {
        Some(value) => value
            .as_i64()
            .map(|number| number as f64)
            .or_else(|| value.as_i32().map(f64::from))
            .or_else(|| value.as_f64())
            .expect("a number"),
        None => 0.0,
    }
}
