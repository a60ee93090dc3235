//! `Front`: speaks as a mongos for the cluster of [`Cluster`](super::Cluster).
//!
//! A mongod has MongoDB's router code, too, under other names (`clusterFind`): finds, aggregations and
//! writes without a transaction number go there. With a number such a write ends the mongod's process, so
//! what is numbered is routed here: by the hash of its `_id` and the config server's chunks, with the
//! shard's version, which the shard checks. Every collection is sharded by its hashed `_id`, which is a
//! string.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::{Bson, Document, doc};
use rocket::futures::future::join_all;
use rocket::tokio::io::AsyncWriteExt;
use rocket::tokio::net::{TcpListener, TcpStream};
use rocket::tokio::sync::{Mutex as AsyncMutex, oneshot};
use rocket::tokio::time::{sleep, timeout};
use rocket::tokio::{runtime, select, spawn};

use super::{proxy, wire};

mod chunks;
mod merged;

use chunks::config_find;
pub(super) use chunks::{Chunks, batch, find_chunks, find_collection, hashes_of};
use merged::Merged;

/// The names of the router's code in a mongod.
const ROUTED: [(&str, &str); 6] = [
    ("aggregate", "clusterAggregate"),
    ("delete", "clusterDelete"),
    ("find", "clusterFind"),
    ("getMore", "clusterGetMore"),
    ("insert", "clusterInsert"),
    ("update", "clusterUpdate"),
];

/// What the shard of the database does for a router.
const DEFINITIONS: [(&str, &str); 3] = [
    ("collMod", "_shardsvrCollMod"),
    ("drop", "_shardsvrDropCollection"),
    ("dropIndexes", "_shardsvrDropIndexes"),
];

/// The lists of statements of writes.
const LISTS: [(&str, &str); 3] = [
    ("delete", "deletes"),
    ("insert", "documents"),
    ("update", "updates"),
];

/// StaleConfig, StaleShardVersion, StaleEpoch and StaleDbVersion: the chunks are elsewhere.
const STALE: [i32; 4] = [13388, 63, 150, 249];

/// The shard's primary is another one now, or about to be.
const NOT_PRIMARY: [i32; 7] = [91, 189, 10107, 11600, 11602, 13435, 13436];

/// How often a command is sent again, as by a mongos: after the loss of a primary, and for chunks that
/// have moved.
const RETRIES: usize = 3;
const MAX_REFRESHES: usize = 30;

/// What a client of a mongos hears of the server.
const HELLO: &str = "isWritablePrimary ismaster helloOk topologyVersion maxBsonObjectSize \
                     maxMessageSizeBytes maxWriteBatchSize localTime logicalSessionTimeoutMinutes \
                     minWireVersion maxWireVersion";

/// Commands without a time limit of their own have this one.
const LIMIT: Duration = Duration::from_secs(20);

/// A reply; one that says that the command failed is an error.
type Reply = Result<Document, Document>;

pub struct Front {
    port: u16,
    router: Arc<Router>,
    /// Dropped with this, which ends its thread.
    _stop: oneshot::Sender<()>,
}

impl Front {
    /// In a thread of its own, as a proxy is.
    pub(super) fn start_blocking(router: Router) -> Front {
        let (port, listener) = proxy::listen();
        let (stop, stopped) = oneshot::channel();
        let router = Arc::new(router);
        let serving = Arc::clone(&router);
        std::thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime for a front");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener of a runtime");
                let serve = async {
                    while let Ok((client, _)) = listener.accept().await {
                        spawn(connection(Arc::clone(&serving), client));
                    }
                };
                select! {
                    _ = serve => {},
                    _ = stopped => {},
                }
            });
        });
        Front {
            port,
            router,
            _stop: stop,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// How often a shard refused a command because its chunks had moved.
    pub fn reroutings(&self) -> usize {
        self.router.reroutings.load(Ordering::SeqCst)
    }
}

async fn connection(router: Arc<Router>, mut client: TcpStream) -> Option<()> {
    // Requests and replies are small and wait for each other.
    let _ = client.set_nodelay(true);
    loop {
        let request = proxy::message(&mut client).await?;
        let command = wire::request(&request)?;
        let reply = router.serve(command).await;
        let reply = wire::reply(&request, &reply)?;
        client.write_all(&reply).await.ok()?;
    }
}

/// What the front knows of the cluster.
pub(super) struct Router {
    config: u16,
    /// The mongod that runs the router's code.
    router: u16,
    shards: BTreeMap<String, Vec<u16>>,
    primaries: Mutex<BTreeMap<String, u16>>,
    /// Connections that are not in use.
    idle: Mutex<BTreeMap<u16, Vec<TcpStream>>>,
    chunks: AsyncMutex<BTreeMap<String, Arc<Chunks>>>,
    hashes: Mutex<BTreeMap<String, i64>>,
    reroutings: AtomicUsize,
}

impl Router {
    pub(super) fn new(config: u16, router: u16, shards: BTreeMap<String, Vec<u16>>) -> Router {
        Router {
            config,
            router,
            shards,
            primaries: Mutex::default(),
            idle: Mutex::default(),
            chunks: AsyncMutex::default(),
            hashes: Mutex::default(),
            reroutings: AtomicUsize::new(0),
        }
    }

    async fn serve(&self, command: Document) -> Document {
        let limit = match command.get("maxTimeMS") {
            Some(Bson::Int32(millis)) => Duration::from_millis(millis.unsigned_abs().into()),
            Some(Bson::Int64(millis)) => Duration::from_millis(millis.unsigned_abs()),
            _ => LIMIT,
        };
        let reply = timeout(limit, self.carry_out(command)).await;
        let expired = |_| Err(refusal(50, "MaxTimeMSExpired", "no time is left"));
        reply.unwrap_or_else(expired).unwrap_or_else(|error| error)
    }

    async fn carry_out(&self, mut command: Document) -> Reply {
        let Some((name, target)) = command.iter().next() else {
            return Err(refusal(59, "CommandNotFound", "no command"));
        };
        let (name, is_numbered) = (name.clone(), command.contains_key("txnNumber"));
        let database = command.get_str("$db").unwrap_or_default();
        let namespace = format!("{database}.{}", target.as_str().unwrap_or_default());
        let is_write = LISTS.iter().any(|(write, _)| *write == name);
        if is_write {
            self.chunks(&namespace, None).await?;
        }
        match name.as_str() {
            "hello" | "isMaster" | "ismaster" => self.hello(&command).await,
            _ if is_write && is_numbered => self.write(&name, &namespace, command).await,
            "findAndModify" => self.find_and_modify(&namespace, command).await,
            "count" => {
                let replies = self.on_shards(&namespace, None, command).await?;
                let counts = replies.iter().filter_map(|reply| reply.get_i32("n").ok());
                Ok(doc! { "n": counts.sum::<i32>(), "ok": 1.0 })
            }
            "createIndexes" => {
                self.on_shards(&namespace, None, command).await?;
                Ok(doc! { "ok": 1.0 })
            }
            "listIndexes" => self.on_shard(self.first_shard(), &command).await,
            "collMod" | "drop" | "dropIndexes" => self.define(&namespace, command).await,
            "aggregate" if command.to_string().contains("$changeStream") => {
                // It would end the router's process.
                Err(refusal(40573, "Location40573", "no change streams here"))
            }
            _ => {
                let routed = rename(&mut command, &ROUTED);
                // Around that code a mongos forgets the chunks that it knew, and asks again.
                let refresh = doc! {
                    "_flushRoutingTableCacheUpdates": &namespace, "syncFromConfig": true, "$db": "admin",
                };
                for _ in 0..MAX_REFRESHES {
                    match self.ask(self.router, &routed).await {
                        Err(error) if is_stale(&error) => {
                            self.moved().await;
                            self.ask(self.router, &refresh).await?;
                        }
                        reply => return reply,
                    }
                }
                Err(no_progress())
            }
        }
    }

    /// The router's own, with the word by which drivers know a mongos.
    async fn hello(&self, command: &Document) -> Reply {
        let asked = "hello isMaster ismaster helloOk topologyVersion maxAwaitTimeMS $db";
        let reply = self.ask(self.router, &fields(command, asked)).await?;
        let mut hello = fields(&reply, HELLO);
        hello.extend(doc! { "msg": "isdbgrid", "ok": 1.0 });
        Ok(hello)
    }

    /// Statements with a number: to each shard those that are its own, in one command with the same number.
    async fn write(&self, name: &str, namespace: &str, mut command: Document) -> Reply {
        let list = LISTS.iter().find(|(write, _)| *write == name);
        let (_, list) = list.expect("a write");
        let Some(Bson::Array(statements)) = command.remove(list) else {
            return Err(refusal(9, "FailedToParse", "no statements"));
        };
        let ids = statements.iter().map(|statement| {
            let statement = statement.as_document()?;
            id_of(statement.get_document("q").unwrap_or(statement))
        });
        let ids: Vec<String> = ids.collect::<Option<_>>().ok_or_else(no_id)?;
        let hashes = self.hashes(&ids).await?;
        let is_ordered = command.get_bool("ordered").unwrap_or(true);
        let mut merged = Merged::default();
        let mut pending: Vec<usize> = (0..statements.len()).collect();
        let (mut known, mut refreshes) = (None, 0);
        while refreshes < MAX_REFRESHES {
            let chunks = self.chunks(namespace, known.as_ref()).await?;
            let mut parts: Vec<(&str, Vec<usize>)> = Vec::new();
            for &at in &pending {
                let shard = chunks.shard(hashes[at]);
                let place = parts.iter().position(|(other, _)| *other == shard);
                match place {
                    Some(place) => parts[place].1.push(at),
                    // In order: to one shard after the other.
                    None if is_ordered && !parts.is_empty() => break,
                    None => parts.push((shard, vec![at])),
                }
            }
            let sending = parts.iter().map(async |(shard, part)| {
                let mut command = command.clone();
                let own: Vec<Bson> = part.iter().map(|&at| statements[at].clone()).collect();
                let numbers: Vec<i32> = part.iter().map(|&at| at as i32).collect();
                command.insert(*list, own);
                command.insert("stmtIds", numbers);
                command.insert("shardVersion", &chunks.versions[*shard]);
                self.on_shard(shard, &command).await
            });
            let replies = join_all(sending).await;
            let (mut is_over, mut is_outdated) = (false, false);
            for ((_, part), reply) in parts.iter().zip(replies) {
                let again = merged.add(part, reply, is_ordered);
                is_outdated |= !again.is_empty();
                pending.retain(|at| !part.contains(at) || again.contains(at));
                is_over |= is_ordered && !merged.errors.is_empty();
            }
            if pending.is_empty() || is_over {
                return Ok(merged.reply());
            }
            if is_outdated {
                self.moved().await;
                known = Some(chunks);
                refreshes += 1;
            }
        }
        Err(no_progress())
    }

    async fn find_and_modify(&self, namespace: &str, command: Document) -> Reply {
        let query = command.get_document("query").ok().and_then(id_of);
        let hashes = self.hashes(&[query.ok_or_else(no_id)?]).await?;
        let hash = hashes.first().copied();
        let replies = self.on_shards(namespace, hash, command).await?;
        replies.into_iter().next().ok_or_else(no_id)
    }

    /// On the shard of this hash, or on every shard that has a chunk; the first error is that of all.
    async fn on_shards(
        &self,
        namespace: &str,
        hash: Option<i64>,
        command: Document,
    ) -> Result<Vec<Document>, Document> {
        let mut known = None;
        for _ in 0..MAX_REFRESHES {
            let chunks = self.chunks(namespace, known.as_ref()).await?;
            let is_meant = |shard: &str| hash.is_none_or(|hash| shard == chunks.shard(hash));
            let versions = chunks.versions.iter();
            let versions = versions.filter(|(shard, _)| is_meant(shard));
            let sending = versions.map(async |(shard, version)| {
                let mut command = command.clone();
                command.insert("shardVersion", version);
                self.on_shard(shard, &command).await
            });
            let replies = join_all(sending).await.into_iter();
            match replies.collect::<Result<Vec<_>, _>>() {
                Err(error) if is_stale(&error) => {
                    self.moved().await;
                    known = Some(chunks);
                }
                replies => return replies,
            }
        }
        Err(no_progress())
    }

    /// Before the next attempt: the shard that has a chunk now may have yet to hear of it.
    async fn moved(&self) {
        self.reroutings.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_millis(20)).await;
    }

    /// On the shard that leads such changes of a database.
    async fn define(&self, namespace: &str, mut command: Document) -> Reply {
        let database = namespace.split('.').next().unwrap_or_default();
        let mut find = config_find("databases", doc! { "_id": database });
        find.insert("$db", "config");
        let found = batch(&self.ask(self.config, &find).await?);
        let version = found.first().and_then(|database| database.get("version"));
        let mut command = rename(&mut command, &DEFINITIONS);
        command.insert("databaseVersion", version.cloned().unwrap_or(Bson::Null));
        command.insert("writeConcern", doc! { "w": "majority" });
        self.on_shard(self.first_shard(), &command).await
    }

    /// The chunks of a collection, newer than those that are known to be old. A collection that is not
    /// there is made.
    async fn chunks(
        &self,
        namespace: &str,
        old: Option<&Arc<Chunks>>,
    ) -> Result<Arc<Chunks>, Document> {
        let mut all = self.chunks.lock().await;
        if let Some(chunks) = all.get(namespace)
            && !old.is_some_and(|old| Arc::ptr_eq(old, chunks))
        {
            return Ok(Arc::clone(chunks));
        }
        let on_config = async |mut find: Document| {
            find.insert("$db", "config");
            Ok::<_, Document>(batch(&self.ask(self.config, &find).await?))
        };
        loop {
            if let Some(collection) = on_config(find_collection(namespace)).await?.first() {
                let chunks = on_config(find_chunks(collection)).await?;
                if let Some(chunks) = Chunks::new(collection, chunks) {
                    let chunks = Arc::new(chunks);
                    all.insert(namespace.to_owned(), Arc::clone(&chunks));
                    return Ok(chunks);
                }
            }
            self.shard_collection(namespace).await?;
        }
    }

    async fn shard_collection(&self, namespace: &str) -> Result<(), Document> {
        let (database, collection) = namespace.split_once('.').unwrap_or((namespace, ""));
        let majority = doc! { "w": "majority" };
        let create = doc! {
            "_configsvrCreateDatabase": database, "primaryShardId": self.first_shard(),
            "writeConcern": &majority, "$db": "admin",
        };
        let made = self.ask(self.config, &create);
        let version = made.await?.get("databaseVersion").cloned();
        let sharded = doc! {
            "_shardsvrCreateCollection": collection, "shardKey": { "_id": "hashed" },
            "databaseVersion": version.unwrap_or(Bson::Null), "writeConcern": majority, "$db": database,
        };
        match self.on_shard(self.first_shard(), &sharded).await {
            // It has yet to hear of the database.
            Err(error) if !is_stale(&error) => Err(error),
            _ => Ok(()),
        }
    }

    async fn hashes(&self, ids: &[String]) -> Result<Vec<i64>, Document> {
        let known = |id: &String| lock(&self.hashes).get(id).copied();
        let missing: Vec<String> = ids
            .iter()
            .filter(|id| known(id).is_none())
            .cloned()
            .collect();
        if !missing.is_empty() {
            let mut question = hashes_of(&missing);
            question.insert("$db", "admin");
            let found = batch(&self.ask(self.router, &question).await?);
            let found = found.iter().filter_map(|one| one.get_i64("hash").ok());
            lock(&self.hashes).extend(missing.into_iter().zip(found));
        }
        Ok(ids.iter().filter_map(known).collect())
    }

    fn first_shard(&self) -> &str {
        let first = self.shards.keys().next();
        first.map_or("", String::as_str)
    }

    /// On the primary of a shard. As a mongos does, it looks for another primary and sends the command
    /// again when it loses one.
    async fn on_shard(&self, shard: &str, command: &Document) -> Reply {
        let mut reply = Ok(Document::new());
        for attempt in 0..=RETRIES {
            let primary = self.primary(shard, attempt > 0).await;
            reply = self.ask(primary, command).await;
            let error = match &reply {
                Ok(reply) => reply.get_document("writeConcernError").ok(),
                Err(error) => Some(error),
            };
            if !error.is_some_and(is_lost) {
                break;
            }
        }
        reply
    }

    async fn primary(&self, shard: &str, is_lost: bool) -> u16 {
        let known = lock(&self.primaries).get(shard).copied();
        if let (false, Some(port)) = (is_lost, known) {
            return port;
        }
        let hello = doc! { "hello": 1, "$db": "admin" };
        loop {
            for &port in &self.shards[shard] {
                let hello = timeout(Duration::from_secs(1), self.ask(port, &hello)).await;
                let writes = |hello: &Document| hello.get_bool("isWritablePrimary") == Ok(true);
                if hello.is_ok_and(|hello| hello.as_ref().is_ok_and(writes)) {
                    lock(&self.primaries).insert(shard.to_owned(), port);
                    return port;
                }
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// One command on one server.
    async fn ask(&self, port: u16, command: &Document) -> Reply {
        let idle = lock(&self.idle).entry(port).or_default().pop();
        let ask = async {
            let mut server = match idle {
                Some(server) => server,
                None => TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?,
            };
            let _ = server.set_nodelay(true);
            server.write_all(&wire::message(command)?).await?;
            let reply = proxy::message(&mut server).await;
            let reply = reply.ok_or(io::ErrorKind::UnexpectedEof)?;
            let reply = wire::request(&reply).ok_or(io::ErrorKind::InvalidData)?;
            lock(&self.idle).entry(port).or_default().push(server);
            Ok::<_, io::Error>(reply)
        };
        match ask.await {
            Ok(reply) if reply.get_f64("ok") == Ok(1.0) => Ok(reply),
            Ok(reply) => Err(reply),
            Err(error) => {
                // The others of that process are dead, too.
                lock(&self.idle).remove(&port);
                Err(refusal(6, "HostUnreachable", &error.to_string()))
            }
        }
    }
}

/// The same command under its name in another place.
fn rename(command: &mut Document, names: &[(&str, &str)]) -> Document {
    let mut parts = std::mem::take(command).into_iter();
    let (name, value) = parts.next().unwrap_or_default();
    let other = names.iter().find(|(from, _)| *from == name);
    let name = other.map_or(name.as_str(), |(_, to)| to);
    let mut renamed = doc! { name: value };
    renamed.extend(parts);
    renamed
}

/// The fields of these names.
fn fields(of: &Document, names: &str) -> Document {
    let found = names
        .split(' ')
        .map(|name| (name.to_owned(), of.get(name).cloned()));
    found
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// The `_id` that a filter or a document names.
fn id_of(document: &Document) -> Option<String> {
    document.get_str("_id").ok().map(str::to_owned)
}

fn no_id() -> Document {
    refusal(61, "ShardKeyNotFound", "a write without a string as _id")
}

fn no_progress() -> Document {
    refusal(82, "NoProgressMade", "the chunks move all the time")
}

fn refusal(code: i32, name: &str, text: &str) -> Document {
    doc! { "ok": 0.0, "code": code, "codeName": name, "errmsg": text }
}

fn code(error: &Document) -> i32 {
    error.get_i32("code").unwrap_or(1)
}

fn is_stale(error: &Document) -> bool {
    STALE.contains(&code(error))
}

fn is_lost(error: &Document) -> bool {
    code(error) == 6 || NOT_PRIMARY.contains(&code(error))
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
