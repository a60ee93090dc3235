//! Touches: that sessions were in use, written in the background, many in one command.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rocket::tokio;

use super::client::Client;
use super::command::{self, Statement, Terms, Verb};
use super::error;
use crate::clock::Moment;
use crate::document::{Document, Filter, Update};
use crate::error::{Error, Operation, Result};
use crate::lock::Mutex;
use crate::record::{self, field};
use crate::spans::{Origin, SharedCommand, carried};
use crate::stats::StoreCounters;
use crate::store::Touch;
use crate::tasks::TaskGuard;

/// The pause between two batches, in which the next one grows. It doubles with every failure.
const PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// The first of several failures in a row is logged, and then one out of this number.
const LOGGED_FAILURES: u32 = 10;
/// Sessions that may wait for their touch. Beyond it a touch is dropped: the next read of that
/// session asks again.
const MAX_WAITING: usize = 100_000;
/// Sessions in one statement, and statements in one command, which keep it far below the server's
/// limits.
const MAX_SESSIONS: usize = 1000;
const MAX_STATEMENTS: usize = 1000;

const OPERATION: Operation = Operation::RecordUse;

pub(super) struct Touches {
    client: Arc<Client>,
    queue: Mutex<Queue>,
    /// One batch at a time: a flush waits for the one that is being written.
    writing: tokio::sync::Mutex<()>,
    counters: StoreCounters,
}

#[derive(Default)]
struct Queue {
    waiting: HashMap<String, Uses>,
    /// The command that will write the waiting touches.
    command: Option<SharedCommand>,
    /// The touches that are being written.
    in_flight: Arc<HashMap<String, Uses>>,
    /// A task writes touches, and will write those that are added.
    writer_running: bool,
    /// Failures in a row.
    failures: u32,
}

/// The uses of a session that one touch records.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Uses {
    /// The first of these uses: a session that had expired before it stays so.
    first: Moment,
    accessed: Moment,
    expires: Moment,
}

impl Uses {
    fn later(self, other: Uses) -> Uses {
        Uses {
            first: self.first.min(other.first),
            accessed: self.accessed.max(other.accessed),
            expires: self.expires.max(other.expires),
        }
    }

    fn update(self) -> Update {
        let mut update = Update::default();
        record::touch(&mut update, self.accessed, self.expires);
        update
    }

    /// Returns a loaded document as it is after the touch.
    fn apply_to(self, document: Document) -> Document {
        let is_alive = Filter::all().unless_before(field::EXPIRES, self.first);
        if !is_alive.matches(&document) {
            return document;
        }
        // A touch sets no field to the present time.
        let now = self.accessed;
        self.update().apply(&document, now).unwrap_or(document)
    }
}

impl Queue {
    fn add(&mut self, id: String, uses: Uses) {
        if let Some(waiting) = self.waiting.get_mut(&id) {
            *waiting = waiting.later(uses);
        } else if self.waiting.len() < MAX_WAITING {
            self.waiting.insert(id, uses);
        }
    }

    /// Puts back a batch that was not written, below the touches that were added since.
    fn restore(&mut self, batch: HashMap<String, Uses>) {
        let since = std::mem::replace(&mut self.waiting, batch);
        for (id, uses) in since {
            self.add(id, uses);
        }
    }

    fn pending(&self, ids: &[String]) -> HashMap<String, Uses> {
        if self.waiting.is_empty() && self.in_flight.is_empty() {
            return HashMap::new();
        }
        let pending = ids.iter().map(|id| Some((id.clone(), self.uses(id)?)));
        pending.flatten().collect()
    }

    fn uses(&self, id: &str) -> Option<Uses> {
        match (self.waiting.get(id), self.in_flight.get(id)) {
            (Some(a), Some(b)) => Some(a.later(*b)),
            (uses, None) | (None, uses) => uses.copied(),
        }
    }

    /// Whether the writer ends now, because nothing waits.
    fn ends_writer(&mut self) -> bool {
        self.writer_running = !self.waiting.is_empty();
        !self.writer_running
    }

    fn pause(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        PAUSE.saturating_mul(factor).min(MAX_PAUSE)
    }
}

impl Touches {
    pub(super) fn new(client: &Arc<Client>, kind: &str) -> Self {
        Touches {
            client: Arc::clone(client),
            queue: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            counters: StoreCounters::of_kind(kind),
        }
    }

    pub(super) fn batches(&self) -> u64 {
        self.counters.touch_batches.get()
    }

    /// Returns the uses of these sessions that may not be in the database yet.
    pub(super) fn pending(&self, ids: &[String]) -> HashMap<String, Uses> {
        self.queue.lock().pending(ids)
    }

    /// Returns the filter of an update of one session, which counts as alive by the uses that may not be
    /// in the database yet, as it does when it is loaded.
    pub(super) fn counted(&self, filter: Filter) -> Filter {
        let Some(id) = filter.wanted_id() else {
            return filter;
        };
        let pending = self.queue.lock().uses(id);
        match pending {
            Some(uses) => filter.used_at(uses.first),
            None => filter,
        }
    }

    /// Returns documents that were found as they are after their touches. `before`: the uses that were
    /// pending before the find was sent. A touch that is written meanwhile is in the reply, or pending
    /// before it or after it.
    pub(super) fn apply(
        &self,
        ids: &[String],
        before: &HashMap<String, Uses>,
        found: Vec<Document>,
    ) -> Vec<Document> {
        let after = self.pending(ids);
        if before.is_empty() && after.is_empty() {
            return found;
        }
        let touched = found.into_iter().map(|document| {
            let pending = |uses: &HashMap<_, Uses>| uses.get(document.id()?).copied();
            let uses = [pending(before), pending(&after)].into_iter().flatten();
            uses.fold(document, |document, uses| uses.apply_to(document))
        });
        touched.collect()
    }

    /// Queues a touch, and starts a task that writes it if none runs.
    pub(super) fn add(self: &Arc<Self>, touch: Touch) {
        let mut queue = self.queue.lock();
        let uses = Uses {
            first: touch.accessed,
            accessed: touch.accessed,
            expires: touch.expires,
        };
        queue.add(touch.id, uses);
        // Now, because spans that wait for the write would keep those of their requests open.
        let command = queue
            .command
            .get_or_insert_with(|| SharedCommand::new(OPERATION));
        command.follows_from(&Origin::current());
        if !queue.writer_running
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            queue.writer_running = true;
            drop(queue);
            let guard = TaskGuard::new(self, |touches| touches.queue.lock().writer_running = false);
            runtime.spawn(write_batches(guard, Arc::clone(self)));
        }
    }

    /// Writes the touches that wait now, after those that are being written.
    pub(super) async fn flush(&self) {
        let _writing = self.writing.lock().await;
        let (batch, command) = {
            let mut queue = self.queue.lock();
            queue.in_flight = Arc::new(std::mem::take(&mut queue.waiting));
            (Arc::clone(&queue.in_flight), queue.command.take())
        };
        if batch.is_empty() {
            return;
        }
        let command = command.unwrap_or_else(|| SharedCommand::new(OPERATION));
        let (left, failure) = command.run(batch.len(), self.write(&batch)).await;
        let mut queue = self.queue.lock();
        queue.in_flight = Arc::default();
        if !left.is_empty() {
            queue.restore(left);
        }
        match failure {
            None => queue.failures = 0,
            Some(error) => {
                if queue.failures.is_multiple_of(LOGGED_FAILURES) {
                    error.log();
                }
                queue.failures = queue.failures.saturating_add(1);
            }
        }
    }

    /// Writes a batch. Returns the touches to write with the next one, and the last failure.
    async fn write(&self, batch: &HashMap<String, Uses>) -> (HashMap<String, Uses>, Option<Error>) {
        let (mut left, mut failure) = (HashMap::new(), None);
        let of_code = |code| (error::of_statement(OPERATION, code), error::is_final(code));
        let mut sent = Ok(Vec::new());
        for groups in groups(batch).chunks(MAX_STATEMENTS) {
            if sent.is_ok() {
                sent = self.send(groups).await;
            }
            for (at, (uses, ids)) in groups.iter().enumerate() {
                let failed = match &sent {
                    Ok(codes) => codes.get(at).copied().flatten().map(of_code),
                    Err(error) => Some((error.clone(), false)),
                };
                let Some((error, is_final)) = failed else {
                    continue;
                };
                failure = Some(error);
                if !is_final {
                    left.extend(ids.iter().map(|id| (id.clone(), *uses)));
                }
            }
        }
        (left, failure)
    }

    /// Sends one command, in a task of its own: the task keeps its permit until the command has ended,
    /// and a network that swallows everything does not hold up the next batch. Returns the codes of
    /// the statements that failed.
    async fn send(&self, groups: &[Group]) -> Result<Vec<Option<i32>>> {
        let statements: Vec<_> = groups.iter().map(statement).collect();
        let (client, until) = (Arc::clone(&self.client), self.client.until());
        let terms = Terms {
            single: false,
            ..Terms::new(OPERATION, None, until)
        };
        self.counters.touch_batches.count();
        let sent = tokio::spawn(carried(async move {
            command::send(&client, Verb::Update, &statements, terms).await
        }));
        match tokio::time::timeout_at(until, sent).await {
            Ok(Ok(outcomes)) => Ok(outcomes?.errors),
            Ok(Err(_)) => Err(Error::store(OPERATION, error::LOST)),
            Err(_) => Err(Error::store(OPERATION, error::LATE)),
        }
    }
}

/// Writes batch after batch until nothing waits. If its task is dropped before its end, the next touch
/// starts another one.
///
/// It does not keep the touches during its pause, so it ends with the store although the database is
/// away, and what waits then is lost. At a shutdown [`Touches::flush`] writes it before.
async fn write_batches(mut guard: TaskGuard<Touches>, mut touches: Arc<Touches>) {
    loop {
        touches.flush().await;
        let pause = touches.queue.lock().pause();
        drop(touches);
        tokio::time::sleep(pause).await;
        let Some(still_used) = guard.owner.upgrade() else {
            return;
        };
        touches = still_used;
        if touches.queue.lock().ends_writer() {
            guard.disarm();
            return;
        }
    }
}

/// Sessions with the same times of use.
type Group = (Uses, Vec<String>);

/// Sessions with different times share no statement: a session's `first` decides whether it had
/// expired before.
fn groups(batch: &HashMap<String, Uses>) -> Vec<Group> {
    let mut by_uses: HashMap<Uses, Vec<String>> = HashMap::new();
    for (id, uses) in batch {
        by_uses.entry(*uses).or_default().push(id.clone());
    }
    let mut groups = Vec::new();
    for (uses, ids) in by_uses {
        groups.extend(ids.chunks(MAX_SESSIONS).map(|ids| (uses, ids.to_vec())));
    }
    groups
}

fn statement((uses, ids): &Group) -> Statement {
    let filter = Filter::ids(ids.clone()).unless_before(field::EXPIRES, uses.first);
    Statement::update_all(&filter, &uses.update())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(millis: i64) -> Uses {
        let accessed = Moment::from_millis(millis);
        Uses {
            first: accessed,
            accessed,
            expires: accessed.plus(Duration::from_secs(60)),
        }
    }

    #[test]
    fn the_pause_doubles_with_every_failure_up_to_a_minute() {
        let pause = |failures| {
            Queue {
                failures,
                ..Queue::default()
            }
            .pause()
        };
        assert_eq!([0, 1, 2].map(pause), [PAUSE, PAUSE * 2, PAUSE * 4]);
        assert_eq!([10, 31, 32, u32::MAX].map(pause), [MAX_PAUSE; 4]);
    }

    /// Touches of a store that cannot be reached.
    async fn unreachable(deadline: Duration) -> Arc<Touches> {
        let client = mongodb::Client::with_uri_str("mongodb://127.0.0.1:1").await;
        let database = client.unwrap().database("test");
        let sessions = database.collection::<mongodb::bson::Document>("session");
        let client = Arc::new(Client::new(&sessions, deadline, 1, "main"));
        Arc::new(Touches::new(&client, "main"))
    }

    /// With its runtime, for instance, while the store lives on.
    #[rocket::async_test]
    async fn a_touch_starts_a_writer_where_the_last_one_was_dropped() {
        let touches = unreachable(Duration::from_secs(1)).await;
        let touch = Touch {
            id: "id".into(),
            accessed: Moment::from_millis(1000),
            expires: Moment::from_millis(2000),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let inside = runtime.enter();
        touches.add(touch);
        drop(inside);
        assert!(touches.queue.lock().writer_running);
        runtime.shutdown_background();
        assert!(!touches.queue.lock().writer_running);
    }

    #[rocket::async_test]
    async fn the_writer_ends_with_its_store_although_touches_wait() {
        let touches = unreachable(Duration::from_millis(10)).await;
        let store = Arc::downgrade(&touches);
        touches.queue.lock().add("id".into(), uses(1000));
        let guard = TaskGuard::new(&touches, |_| {});
        let writer = tokio::spawn(write_batches(guard, Arc::clone(&touches)));
        while touches.queue.lock().failures == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(touches.pending(&["id".to_owned()]).len(), 1);
        drop(touches);
        let limit = Duration::from_secs(60);
        let ended = tokio::time::timeout(limit, writer).await;
        ended.expect("the writer ends").unwrap();
        assert!(store.upgrade().is_none());
    }

    #[test]
    fn a_batch_that_was_not_written_loses_to_later_touches() {
        let mut queue = Queue::default();
        queue.add("both".into(), uses(2000));
        queue.add("new".into(), uses(2000));
        let failed = ["both", "old"].map(|id| (id.to_owned(), uses(1000)));
        queue.restore(failed.into());
        let waiting = |id: &str| queue.waiting[id].accessed.millis();
        assert_eq!(
            [waiting("both"), waiting("new"), waiting("old")],
            [2000, 2000, 1000]
        );
    }

    #[test]
    fn pending_touches_are_those_that_wait_or_are_in_flight() {
        let mut queue = Queue::default();
        assert!(queue.pending(&["both".to_owned()]).is_empty());
        queue.add("both".into(), uses(2000));
        queue.add("waiting".into(), uses(3000));
        let in_flight = ["both", "in flight"].map(|id| (id.to_owned(), uses(1000)));
        queue.in_flight = Arc::new(in_flight.into());
        let ids = ["both", "waiting", "in flight", "none"].map(str::to_owned);
        let pending = queue.pending(&ids);
        let pending = |id: &str| {
            let uses = pending.get(id)?;
            Some((uses.first.millis(), uses.accessed.millis()))
        };
        assert_eq!(pending("both"), Some((1000, 2000)));
        assert_eq!(pending("waiting"), Some((3000, 3000)));
        assert_eq!(pending("in flight"), Some((1000, 1000)));
        assert_eq!(pending("none"), None);
    }

    #[test]
    fn sessions_of_the_same_times_share_a_statement() {
        let batch = [("a", 1100), ("b", 1100), ("c", 1101)];
        let batch = batch.map(|(id, at)| (id.to_owned(), uses(at))).into();
        let mut sizes: Vec<_> = groups(&batch).iter().map(|(_, ids)| ids.len()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 2]);
    }
}
