//! The ground floor: the collection, permits for the driver's pool, the deadline, the topology, and
//! the write concern that follows from it.

use std::future::Future;
use std::time::Duration;

use mongodb::bson::{Document as Query, RawDocumentBuf, doc};
use mongodb::options::{
    Acknowledgment, FindOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Collection, Database};
use rocket::tokio;
use rocket::tokio::sync::{Semaphore, SemaphorePermit};
use rocket::tokio::time::{Instant, timeout_at};

use super::error::{self, failed};
use super::server_session::ServerSessions;
use crate::document::Document;
use crate::error::{Error, Operation, Result};
use crate::lock::Mutex;
use crate::metrics::{InUse, Usage};
use crate::store::Durability;
use crate::tasks::Tasks;

/// The pause before a command is sent again. An election takes seconds; a few attempts a second
/// find its end soon enough.
pub(super) const RETRY_DELAY: Duration = Duration::from_millis(50);

/// The upper limit of a deadline, so that no arithmetic with it overflows: a century.
const MAX_DEADLINE: Duration = Duration::from_secs(100 * 366 * 86_400);

/// How long before the deadline a wait for a connection ends, at most.
const MAX_PERMIT_MARGIN: Duration = Duration::from_millis(100);

pub(super) struct Client {
    pub(super) sessions: Collection<RawDocumentBuf>,
    pub(super) database: Database,
    pub(super) deadline: Duration,
    /// As many as the driver's pool has connections. An operation that finds none waits here, where
    /// the deadline ends its wait, and not in the driver's queue, where it could not.
    permits: Semaphore,
    pub(super) permit_count: usize,
    pub(super) usage: Usage,
    /// The loads and writes that run.
    pub(super) tasks: Tasks,
    topology: Mutex<Option<Topology>>,
    pub(super) server_sessions: ServerSessions,
}

/// The right to use a connection, until it is dropped.
pub(super) struct Permit<'a> {
    _permit: SemaphorePermit<'a>,
    _in_use: InUse<'a>,
}

/// The kind of deployment, by its reply to `hello`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    Standalone,
    ReplicaSet,
    Sharded,
    /// It calls itself a router, but lacks a field of MongoDB's own routers. Such services (a
    /// DocumentDB gateway) take transaction numbers and ignore them: a write that is sent again would
    /// take effect twice.
    Gateway,
}

impl Topology {
    /// Whether a numbered write can be sent again and takes effect once.
    pub(super) fn deduplicates(self) -> bool {
        matches!(self, Topology::ReplicaSet | Topology::Sharded)
    }

    /// Whether a document can move to another server while a command runs.
    pub(super) fn moves_documents(self) -> bool {
        self == Topology::Sharded
    }

    fn of(hello: &Query) -> Self {
        // `isreplicaset` is a member of a set that is yet to be initiated.
        let is_member =
            hello.contains_key("setName") || hello.get_bool("isreplicaset").is_ok_and(|is| is);
        let is_router = hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid");
        match (is_member, is_router) {
            (true, _) => Topology::ReplicaSet,
            // MongoDB's routers have it since 4.4, the first version that the crate works with.
            (_, true) if hello.contains_key("topologyVersion") => Topology::Sharded,
            (_, true) => Topology::Gateway,
            _ => Topology::Standalone,
        }
    }
}

impl Client {
    pub(super) fn new<T: Send + Sync>(
        collection: &Collection<T>,
        deadline: Duration,
        connections: u32,
        kind: &str,
    ) -> Self {
        let sessions = collection.clone_with_type::<RawDocumentBuf>();
        let database = sessions.client().database(&sessions.namespace().db);
        let permit_count = connections.max(1) as usize;
        Client {
            sessions,
            database,
            deadline: deadline.min(MAX_DEADLINE),
            permits: Semaphore::new(permit_count),
            permit_count,
            usage: Usage::of_kind(kind),
            tasks: Tasks::default(),
            topology: Mutex::default(),
            server_sessions: ServerSessions::default(),
        }
    }

    /// Returns the deadline of an operation that begins now.
    pub(super) fn until(&self) -> Instant {
        Instant::now() + self.deadline
    }

    /// Waits for a permit until shortly before the deadline, so that the error says what was waited for.
    /// Nothing starts after the deadline.
    pub(super) async fn permit(&self, operation: Operation, until: Instant) -> Result<Permit<'_>> {
        let permit = match self.permits.try_acquire() {
            Ok(permit) => {
                self.usage.connection.did_not_wait();
                permit
            }
            Err(_) => {
                let _wait = self.usage.connection.wait();
                // Boxed, because it is rare, and every operation allocates this future.
                let margin = MAX_PERMIT_MARGIN.min(self.deadline / 10);
                let latest = until.checked_sub(margin).unwrap_or(until);
                let acquired = Box::pin(timeout_at(latest, self.permits.acquire())).await;
                let exhausted = || Error::store(operation, error::POOL_EXHAUSTED);
                acquired.ok().and_then(Result::ok).ok_or_else(exhausted)?
            }
        };
        match Instant::now() < until {
            true => Ok(Permit {
                _permit: permit,
                _in_use: self.usage.connection_in_use(),
            }),
            false => Err(Error::store(operation, error::LATE)),
        }
    }

    /// Runs a read. It is sent again until the deadline where its connection proves dead (beyond the
    /// driver's own single retry), and while the server asks for a pause.
    pub(super) async fn read<T, F>(
        &self,
        operation: Operation,
        until: Instant,
        action: impl FnMut() -> F,
    ) -> Result<T>
    where
        F: Future<Output = mongodb::error::Result<T>>,
    {
        let _permit = self.permit(operation, until).await?;
        retry(operation, until, action).await
    }

    /// Finds documents on the primary. A router that reads with `available`, as a URL or the cluster can
    /// ask for, would also find sessions that have ended on the shard that owns them.
    ///
    /// `query` makes the filter and the options for each attempt: the options take a kilobyte, which the
    /// futures of this call would carry.
    pub(super) async fn find(
        &self,
        operation: Operation,
        until: Instant,
        query: impl Fn() -> (Query, FindOptions),
    ) -> Result<Vec<Document>> {
        let find = async || {
            let found = {
                let (filter, mut options) = query();
                options.selection_criteria = Some(primary());
                options.read_concern.get_or_insert_with(ReadConcern::local);
                options.max_time = Some(left(until));
                self.sessions.find(filter).with_options(options)
            };
            let mut cursor = found.await?;
            let mut documents = Vec::new();
            // The cursor's stream would allocate a future for each document.
            while cursor.advance().await? {
                documents.push(Document::from_bytes(cursor.current().as_bytes().to_vec()));
            }
            Ok(documents)
        };
        self.read(operation, until, find).await
    }

    /// Returns the topology, after asking the server if it is not known: before the first write,
    /// and again after an election or a lost connection.
    pub(super) async fn topology(&self, operation: Operation, until: Instant) -> Result<Topology> {
        let known = *self.topology.lock();
        if let Some(topology) = known {
            return Ok(topology);
        }
        let hello = async || self.database.run_command(doc! { "hello": 1 }).await;
        let topology = Topology::of(&retry(operation, until, hello).await?);
        *self.topology.lock() = Some(topology);
        Ok(topology)
    }

    /// Another server may reply from now on.
    pub(super) fn forget_topology(&self) {
        *self.topology.lock() = None;
    }

    /// Returns the write concern: a majority, or the journal of a standalone server where `Identity`
    /// asks for it. The collection's own (from the URL) has the last word on `w`. A write that may be
    /// lost (without a durability) waits for one server.
    pub(super) fn write_concern(
        &self,
        topology: Topology,
        durability: Option<Durability>,
    ) -> Option<WriteConcern> {
        let Some(durability) = durability else {
            return Some(WriteConcern::nodes(1));
        };
        let mut concern = self.sessions.write_concern().cloned();
        if topology == Topology::Standalone {
            if durability == Durability::Identity {
                concern.get_or_insert_default().journal = Some(true);
            }
            return concern;
        }
        let mut concern = concern.unwrap_or_default();
        concern.w.get_or_insert(Acknowledgment::Majority);
        concern.w_timeout.get_or_insert(self.deadline.min(MAX_TIME));
        Some(concern)
    }
}

/// Runs an action, again until the deadline where its connection was lost or the server asks for a
/// pause.
async fn retry<T, F>(
    operation: Operation,
    until: Instant,
    mut action: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = mongodb::error::Result<T>>,
{
    loop {
        let error = match action().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let lost = error::is_transient(&error).then_some(RETRY_DELAY);
        match error::throttled(&error).or(lost) {
            Some(pause) if Instant::now() + pause < until => tokio::time::sleep(pause).await,
            _ => return Err(failed(operation, error)),
        }
    }
}

/// The longest `maxTimeMS`: a 32-bit number for the server.
const MAX_TIME: Duration = Duration::from_millis(i32::MAX as u64);

/// Returns the time that is left, at least a millisecond: zero would mean no limit.
pub(super) fn left(until: Instant) -> Duration {
    let left = until.saturating_duration_since(Instant::now());
    left.clamp(Duration::from_millis(1), MAX_TIME)
}

/// Returns the time that is left as a `maxTimeMS`.
pub(super) fn left_millis(until: Instant) -> i64 {
    i64::try_from(left(until).as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn primary() -> SelectionCriteria {
    SelectionCriteria::ReadPreference(ReadPreference::Primary)
}

/// Our documents cross to the driver as bytes, because the application may have switched the driver
/// to another version of the bson crate than ours.
pub(super) fn from_driver(document: RawDocumentBuf) -> Document {
    Document::from_bytes(document.into_bytes())
}

pub(super) fn to_driver(bytes: &[u8], operation: Operation) -> Result<Query> {
    Query::from_reader(bytes).map_err(|error| error::bson(operation, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topology_is_known_by_its_hello() {
        let cases = [
            (doc! { "setName": "rs0" }, Topology::ReplicaSet),
            (doc! { "isreplicaset": true }, Topology::ReplicaSet),
            (
                doc! { "msg": "isdbgrid", "topologyVersion": {} },
                Topology::Sharded,
            ),
            (doc! { "msg": "isdbgrid" }, Topology::Gateway),
            (doc! { "isWritablePrimary": true }, Topology::Standalone),
        ];
        for (hello, topology) in cases {
            assert_eq!(Topology::of(&hello), topology, "{hello}");
        }
        assert!(!Topology::Gateway.deduplicates() && !Topology::Standalone.deduplicates());
    }
}
