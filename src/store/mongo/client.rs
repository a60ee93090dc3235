//! The ground floor: the collection, permits for the driver's pool, the deadline, the topology, and
//! the write concern that follows from it.

use std::future::Future;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use mongodb::bson::{Document as Query, RawDocumentBuf, doc};
use mongodb::options::{Acknowledgment, ReadPreference, SelectionCriteria, WriteConcern};
use mongodb::{Collection, Database};
use rocket::tokio;
use rocket::tokio::sync::{Semaphore, SemaphorePermit};
use rocket::tokio::time::{Instant, timeout_at};

use super::error::{self, Failure, reading};
use super::server_session::ServerSessions;
use crate::document::Document;
use crate::error::{Error, Operation, Result};
use crate::store::Durability;

/// The pause before a command is sent again. An election takes seconds; a few attempts a second
/// find its end soon enough.
pub(super) const RETRY_DELAY: Duration = Duration::from_millis(50);

/// What no deadline exceeds, so that no arithmetic with it overflows: a century.
const MAX_DEADLINE: Duration = Duration::from_secs(100 * 366 * 86_400);

pub(super) struct Client {
    pub(super) sessions: Collection<RawDocumentBuf>,
    pub(super) database: Database,
    pub(super) deadline: Duration,
    /// As many as the driver's pool has connections. An operation that finds none waits here, where
    /// the deadline ends its wait, and not in the driver's queue, where it could not.
    permits: Semaphore,
    pub(super) permit_count: usize,
    topology: AtomicU8,
    pub(super) server_sessions: ServerSessions,
}

/// What kind of deployment answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    Standalone = 1,
    ReplicaSet,
    Sharded,
    /// It calls itself a router, without what MongoDB's own say of themselves. Such services (a
    /// DocumentDB gateway) take transaction numbers and ignore them: a write that is sent again
    /// would take effect twice.
    Gateway,
}

impl Topology {
    /// Whether a numbered write can be sent again and takes effect once.
    pub(super) fn deduplicates(self) -> bool {
        matches!(self, Topology::ReplicaSet | Topology::Sharded)
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
            topology: AtomicU8::new(0),
            server_sessions: ServerSessions::default(),
        }
    }

    /// Returns the deadline of an operation that begins now.
    pub(super) fn until(&self) -> Instant {
        Instant::now() + self.deadline
    }

    /// Waits for a permit until the deadline. Nothing starts after it.
    pub(super) async fn permit(
        &self,
        operation: Operation,
        until: Instant,
    ) -> Result<SemaphorePermit<'_>> {
        let exhausted = || Error::store(operation, Failure::PoolExhausted);
        let permit = match self.permits.try_acquire() {
            Ok(permit) => permit,
            Err(_) => match timeout_at(until, self.permits.acquire()).await {
                Ok(Ok(permit)) => permit,
                _ => return Err(exhausted()),
            },
        };
        match Instant::now() < until {
            true => Ok(permit),
            false => Err(exhausted()),
        }
    }

    /// Runs a read, again while the server asks for a pause (its request rate is exceeded).
    pub(super) async fn read<T, F>(
        &self,
        operation: Operation,
        until: Instant,
        mut action: impl FnMut() -> F,
    ) -> Result<T>
    where
        F: Future<Output = mongodb::error::Result<T>>,
    {
        let _permit = self.permit(operation, until).await?;
        loop {
            let error = match action().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            match error::throttled(&error) {
                Some(pause) if Instant::now() + pause < until => tokio::time::sleep(pause).await,
                _ => return Err(reading(operation, error)),
            }
        }
    }

    /// Returns the topology, after asking the server if it is not known: before the first write,
    /// and again after an election or a lost connection.
    pub(super) async fn topology(&self, operation: Operation, until: Instant) -> Result<Topology> {
        loop {
            match self.topology.load(Ordering::Relaxed) {
                1 => return Ok(Topology::Standalone),
                2 => return Ok(Topology::ReplicaSet),
                3 => return Ok(Topology::Sharded),
                4 => return Ok(Topology::Gateway),
                _ => {}
            }
            match self.database.run_command(doc! { "hello": 1 }).await {
                Ok(hello) => {
                    let topology = Topology::of(&hello);
                    self.topology.store(topology as u8, Ordering::Relaxed);
                    return Ok(topology);
                }
                // A connection that was open before the server restarted fails once.
                Err(error)
                    if error::is_transient(&error) && Instant::now() + RETRY_DELAY < until =>
                {
                    tokio::time::sleep(RETRY_DELAY).await;
                }
                Err(error) => return Err(reading(operation, error)),
            }
        }
    }

    /// Another server may answer from now on.
    pub(super) fn forget_topology(&self) {
        self.topology.store(0, Ordering::Relaxed);
    }

    /// Returns the write concern: a majority, or the journal of a standalone server where `Identity`
    /// asks for it. The collection's own (from the URL) has the last word on `w`.
    pub(super) fn write_concern(
        &self,
        topology: Topology,
        durability: Durability,
    ) -> Option<WriteConcern> {
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

/// The longest `maxTimeMS`: a 32-bit number for the server.
const MAX_TIME: Duration = Duration::from_millis(i32::MAX as u64);

/// Returns the time that is left, at least a millisecond: zero would mean no limit.
pub(super) fn left(until: Instant) -> Duration {
    let left = until.saturating_duration_since(Instant::now());
    left.clamp(Duration::from_millis(1), MAX_TIME)
}

/// The same as a `maxTimeMS`.
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
    Query::from_reader(bytes)
        .map_err(|error| Error::store(operation, Failure::Bson(error.to_string())))
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
