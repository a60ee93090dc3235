//! Watches sessions by a change stream.
//!
//! The stream is opened again, at its last position, after every failure that passes: an election, a
//! lost connection, a server that was restarted. A position that the server does not have any more is
//! reported as [`ChangeKind::Missed`].

use std::sync::Arc;
use std::time::Duration;

use bson::raw::RawBsonRef;
use mongodb::bson::{Document as Query, RawDocumentBuf, Timestamp, doc};
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::ResumeToken;
use mongodb::error::{Error as Cause, ErrorKind};
use mongodb::options::ReadConcern;
use rocket::tokio::time::{Instant, sleep, timeout};
use rocket::{async_trait, tokio};

use super::client::{Client, Topology, from_driver, primary};
use super::error::{self, code, failed};
use crate::clock::{Clock, Moment};
use crate::document::Document;
use crate::error::{Error, Operation, Result};
use crate::record::field;
use crate::store::{Change, ChangeKind, Watch};

const OPERATION: Operation = Operation::WatchSessions;

/// How long the server waits for a change before it replies with none.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// How long the server waits where the pool has few connections, since the stream holds one
/// meanwhile.
const MAX_WAIT_IN_SMALL_POOL: Duration = Duration::from_millis(50);
const SMALL_POOL: usize = 4;

/// The pause before a stream is opened again.
const PAUSE: Duration = Duration::from_millis(500);

/// The name of the computed field.
const ELEVATED: &str = "elevated";

type Stream = ChangeStream<RawDocumentBuf>;

pub(super) struct ChangeStreamWatch {
    client: Arc<Client>,
    /// When the changes were asked for: earlier ones are left out.
    began: Instant,
    /// `began` by the server's clock, until the stream has come to it.
    not_before: Option<Moment>,
    stream: Option<Stream>,
    /// The position of the stream.
    token: Option<ResumeToken>,
    /// The position was lost: the next stream begins where it is opened, and says so.
    is_lost: bool,
    is_failing: bool,
}

impl ChangeStreamWatch {
    pub(super) fn new(client: &Arc<Client>) -> Self {
        ChangeStreamWatch {
            client: Arc::clone(client),
            began: Instant::now(),
            not_before: None,
            stream: None,
            token: None,
            is_lost: false,
            is_failing: false,
        }
    }

    /// Opens the stream at its position. `true`: changes may have been missed.
    async fn open(&mut self) -> Result<bool, Interrupted> {
        let until = self.client.until();
        let topology = self.client.topology(OPERATION, until).await?;
        if topology == Topology::Standalone {
            let standalone = Error::store(OPERATION, error::STANDALONE);
            return Err(Interrupted::Finally(standalone));
        }
        let start = match (&self.token, self.is_lost) {
            (None, false) => Some(self.start().await?),
            _ => None,
        };
        let wait = match self.client.permit_count < SMALL_POOL {
            true => MAX_WAIT_IN_SMALL_POOL,
            false => MAX_WAIT,
        };
        let _permit = self.client.permit(OPERATION, until).await?;
        let (client, token) = (Arc::clone(&self.client), self.token.clone());
        let opened = detached(self.client.deadline, async move {
            let watch = client.sessions.watch().pipeline(pipeline());
            let watch = watch.max_await_time(wait).selection_criteria(primary());
            let watch = watch.read_concern(ReadConcern::majority()); // a server takes no other
            let watch = match start {
                Some(start) => watch.start_at_operation_time(start),
                None => watch.resume_after(token),
            };
            watch.await
        });
        self.stream = Some(opened.await?.with_type());
        if self.is_failing {
            self.is_failing = false;
            rocket::info!("Sessions: events are read again");
        }
        Ok(std::mem::take(&mut self.is_lost))
    }

    /// Returns when the first stream begins, by the server's clock: at the call that asked for it,
    /// computed from how long ago that was.
    async fn start(&mut self) -> Result<Timestamp, Interrupted> {
        let client = Arc::clone(&self.client);
        let hello = async move { client.database.run_command(doc! { "hello": 1 }).await };
        let hello: Query = detached(self.client.deadline, hello).await?;
        let now = hello.get_datetime("localTime").ok();
        let now = now.map_or(0, |now| now.timestamp_millis());
        let start = Moment::from_millis(now).minus(self.began.elapsed());
        self.not_before = Some(start);
        // Positions have whole seconds. Earlier changes are left out by their times.
        let seconds = start.millis().div_euclid(1000);
        Ok(Timestamp {
            time: u32::try_from(seconds).unwrap_or(0),
            increment: 1,
        })
    }

    /// Reads the stream's next document; `None` when nothing has happened.
    async fn advance(&mut self, mut stream: Stream) -> Result<Option<Document>, Interrupted> {
        let until = self.client.until();
        let _permit = self.client.permit(OPERATION, until).await?;
        let advanced = detached(self.client.deadline, async move {
            let next = stream.next_if_any().await?;
            Ok((next, stream))
        });
        let (next, stream) = advanced.await?;
        self.token = stream.resume_token().or(self.token.take());
        self.stream = stream.is_alive().then_some(stream);
        Ok(next.map(from_driver))
    }

    /// One step; `None` when nothing has happened for now.
    async fn step(&mut self) -> Result<Option<Change>, Interrupted> {
        let Some(stream) = self.stream.take() else {
            let has_missed = self.open().await?;
            return Ok(has_missed.then(missed));
        };
        let Some(document) = self.advance(stream).await? else {
            self.not_before = None;
            return Ok(None);
        };
        let Some(change) = read(&document) else {
            // The collection was dropped or renamed, and the stream with it. The stream does not say
            // what that did to each session.
            self.lose_position();
            return Ok(None);
        };
        // Servers before 6.0 give whole seconds, which are too coarse to compare.
        let has_millis = document.get("wallTime").is_some();
        let is_early = |start| has_millis && change.at < start;
        if self.not_before.is_some_and(is_early) {
            return Ok(None);
        }
        // What follows is later, though the clock of another server, or one that is set back, may not
        // say so.
        self.not_before = None;
        Ok(Some(change))
    }

    fn lose_position(&mut self) {
        self.stream = None;
        self.token = None;
        self.is_lost = true;
    }
}

#[async_trait]
impl Watch for ChangeStreamWatch {
    async fn next(&mut self) -> Result<Option<Change>> {
        let interrupted = match self.step().await {
            Ok(change) => return Ok(change),
            Err(interrupted) => interrupted,
        };
        self.client.forget_topology();
        match interrupted {
            Interrupted::Finally(error) => return Err(error),
            Interrupted::Lost => self.lose_position(),
            Interrupted::ForNow(error) => {
                if !self.is_failing {
                    self.is_failing = true;
                    rocket::warn!("Sessions: events are late until the database replies: {error}");
                }
            }
        }
        sleep(PAUSE).await;
        Ok(None)
    }
}

/// Unauthorized, AuthenticationFailed, and AtlasError.
const NOT_ALLOWED: [i32; 3] = [13, 18, 8000];
/// ChangeStreamFatalError, ChangeStreamHistoryLost, CappedPositionLost, InvalidResumeToken, and a
/// resume token that was not found.
const POSITION_LOST: [i32; 5] = [280, 286, 136, 260, 40585];
/// CommandNotFound, CommandNotSupported, CommandNotSupportedOnView, an unknown pipeline stage, and a
/// `$changeStream` on a server that is not in a replica set.
const NO_CHANGE_STREAMS: [i32; 5] = [59, 115, 166, 40324, 40573];

/// Why the stream does not continue.
enum Interrupted {
    Finally(Error),
    /// The position in the oplog is lost.
    Lost,
    /// It continues where it was.
    ForNow(Error),
}

impl From<Error> for Interrupted {
    fn from(error: Error) -> Self {
        Interrupted::ForNow(error)
    }
}

impl From<Cause> for Interrupted {
    fn from(error: Cause) -> Self {
        let finally =
            |failure: &'static str| Interrupted::Finally(Error::store(OPERATION, failure));
        let is_login = matches!(&*error.kind, ErrorKind::Authentication { .. });
        match code(&error) {
            Some(code) if NOT_ALLOWED.contains(&code) => finally(error::MAY_NOT_WATCH),
            Some(code) if POSITION_LOST.contains(&code) => Interrupted::Lost,
            Some(code) if NO_CHANGE_STREAMS.contains(&code) => finally(error::NO_CHANGE_STREAMS),
            _ if is_login => finally(error::MAY_NOT_WATCH),
            _ => Interrupted::ForNow(failed(OPERATION, error)),
        }
    }
}

fn missed() -> Change {
    Change::at("", ChangeKind::Missed, Clock::default().now())
}

/// Returns the pipeline that keeps the stream small: no values, no secrets, and of the updates only
/// those that replace a token.
fn pipeline() -> [Query; 2] {
    let told = [
        "insert",
        "delete",
        "drop",
        "rename",
        "dropDatabase",
        "invalidate",
    ];
    let renewal = doc! {
        "operationType": "update",
        format!("updateDescription.updatedFields.{}", field::RENEWED): { "$exists": true },
    };
    let chosen = doc! { "$or": [{ "operationType": { "$in": told.to_vec() } }, renewal] };
    // An elevation replaces the creation time and the CSRF secret, which does not leave the server.
    let changes = |name| {
        let field = format!("$updateDescription.updatedFields.{name}");
        doc! { "$ne": [{ "$type": field }, "missing"] }
    };
    let elevated = doc! { "$or": [changes(field::CREATED), changes(field::CSRF)] };
    let projection = doc! {
        "operationType": 1,
        "ns": 1, // which the driver asks for
        "clusterTime": 1,
        "wallTime": 1,
        "documentKey._id": 1,
        format!("fullDocument.{}", field::USER): 1,
        "fullDocument.by": 1,
        ELEVATED: elevated,
    };
    [doc! { "$match": chosen }, doc! { "$project": projection }]
}

/// Reads a document of the stream; `None` when it ends the stream.
fn read(event: &Document) -> Option<Change> {
    let inside = |name: &str, field: &str| {
        let inside = event.get(name).and_then(RawBsonRef::as_document);
        inside.and_then(|inside| inside.get(field).ok().flatten())
    };
    let kind = match event.get("operationType")?.as_str()? {
        "insert" => ChangeKind::Inserted,
        "delete" => ChangeKind::Deleted,
        "update" => match event.get(ELEVATED).and_then(RawBsonRef::as_bool) {
            Some(true) => ChangeKind::Elevated,
            _ => ChangeKind::Renewed,
        },
        _ => return None,
    };
    let wall = event.get("wallTime").and_then(RawBsonRef::as_datetime);
    let cluster = event.get("clusterTime").and_then(RawBsonRef::as_timestamp);
    let millis = wall.map(|wall| wall.timestamp_millis());
    let millis = millis.or_else(|| cluster.map(|at| i64::from(at.time) * 1000));
    // An id of another type is not a session's.
    let id = inside("documentKey", field::ID).and_then(RawBsonRef::as_str);
    let at = Moment::from_millis(millis.unwrap_or(0));
    let mut change = Change::at(id.unwrap_or_default(), kind, at);
    change.user = inside("fullDocument", field::USER).map(RawBsonRef::to_raw_bson);
    let by = inside("fullDocument", "by").and_then(RawBsonRef::as_str);
    change.by = by.map(str::to_owned);
    Some(change)
}

/// Runs a call of the driver's in a task, so that it is not dropped when it takes too long.
async fn detached<T: Send + 'static>(
    deadline: Duration,
    call: impl Future<Output = Result<T, Cause>> + Send + 'static,
) -> Result<T, Interrupted> {
    let late = || Interrupted::ForNow(Error::store(OPERATION, error::LATE));
    let ended = timeout(deadline.saturating_add(MAX_WAIT), tokio::spawn(call)).await;
    let ended = ended.map_err(|_| late())?;
    Ok(ended.map_err(|_| late())??)
}
