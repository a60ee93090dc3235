//! Polls the sessions that are followed, to find those that ended in other processes or have expired.

use std::collections::HashSet;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use rocket::tokio;
use rocket::tokio::time::{Instant, sleep_until};

use super::{End, Inner, State};
use crate::clock::Moment;
use crate::document::Document;
use crate::epoch::{self, Epoch};
use crate::error::Result;
use crate::record::{Times, session_of_tombstone, tombstone_id};
use crate::tasks::TaskGuard;

/// The time from one poll to the next.
const PAUSE: Duration = Duration::from_millis(500);
/// The pause after a poll that took longer.
pub(super) const MIN_PAUSE: Duration = Duration::from_millis(50);
/// How many tombstones one find asks for: with their ids, 700 KB. MongoDB takes 16 MB.
const MAX_TOMBSTONES: usize = 20_000;

impl Inner {
    /// Starts the task that polls, unless it runs. It ends when no session is followed any more, and not
    /// with a shutdown: Rocket lets streams stay open for `shutdown.grace`.
    pub(super) fn start_polling(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        // Without a runtime no task waits either: the next subscription starts it.
        if !state.is_polling
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            state.is_polling = true;
            // Not under the lock: a runtime that has ended drops the task right here.
            drop(state);
            let guard = TaskGuard::new(self, |live| live.state.lock().is_polling = false);
            runtime.spawn(poll_while_followed(guard));
        }
    }

    /// Looks once at every session that is followed. A database that does not answer ends no session:
    /// the next look finds what has ended meanwhile.
    pub(super) async fn poll(&self) -> Result<()> {
        let ids = self.state.lock().registry.ids();
        if ids.is_empty() {
            return Ok(());
        }
        // Before it is sent: a use that is recorded later counts only if the session was alive then.
        let sent = self.clock.now();
        let (epoch, found) = self.times(ids.clone(), false).await?;
        let mut ended = Vec::new();
        let mut missing: HashSet<String> = ids.into_iter().collect();
        {
            let mut state = self.state.lock();
            for document in found {
                let Some(id) = document.id() else { continue };
                if epoch.is_some_and(|epoch| !epoch.includes(&document)) {
                    continue; // it has ended with its generation
                }
                missing.remove(id);
                match Times::parse(&document, &self.config, sent) {
                    Some(times) if times.ends_at(&self.config) >= sent => {
                        state.registry.set_times(id, times);
                    }
                    Some(_) => ended.push((id.to_owned(), End::Expired)),
                    // A request does not take a malformed document for a session either.
                    None => ended.push((id.to_owned(), End::Gone)),
                }
            }
        }
        if !missing.is_empty() {
            let missing: Vec<String> = missing.into_iter().collect();
            ended.extend(self.explain(missing, sent).await?);
        }
        // Not remembered as the reason: the event may know more, and so may the next poll.
        self.tell(ended.iter().map(|(id, end)| (id.as_str(), *end)));
        Ok(())
    }

    /// The epoch, if there is one, and the sessions with these ids.
    async fn times(
        &self,
        mut ids: Vec<String>,
        is_final: bool,
    ) -> Result<(Option<Epoch>, Vec<Document>)> {
        ids.push(epoch::ID.to_owned());
        let mut found = self.store.times(ids, is_final).await?;
        let at = found.iter().position(|one| one.id() == Some(epoch::ID));
        let document = at.map(|at| found.swap_remove(at));
        let epoch = document.map(|document| Epoch::read(Some(&document)));
        Ok((epoch, found))
    }

    /// Why sessions ended that are not stored any more, or are of another generation.
    async fn explain(&self, missing: Vec<String>, now: Moment) -> Result<Vec<(String, End)>> {
        // A failover may roll back a deletion that only the primary has.
        let (epoch, still) = self.times(missing.clone(), true).await?;
        let still = still.iter();
        let still = still.filter(|one| epoch.is_none_or(|epoch| epoch.includes(one)));
        let still: HashSet<&str> = still.filter_map(|document| document.id()).collect();
        let ended = missing
            .into_iter()
            .filter(|id| !still.contains(id.as_str()));
        let missing: Vec<String> = ended.collect();
        let replaced = self.replaced(&missing).await?;
        let mut state = self.state.lock();
        let explained = missing.into_iter().map(|id| {
            let is_replaced = replaced.contains(&id);
            let end = state.explain(&id, is_replaced, |times| times.ends_at(&self.config) < now);
            (id, end)
        });
        Ok(explained.collect())
    }

    /// Those of some sessions whose place a login took.
    async fn replaced(&self, sessions: &[String]) -> Result<HashSet<String>> {
        let mut replaced = HashSet::new();
        for some in sessions.chunks(MAX_TOMBSTONES) {
            let tombstones = some.iter().map(|id| tombstone_id(id)).collect();
            let found = self.store.ages(tombstones).await?;
            let ids = found.iter().filter_map(|aged| aged.document.id());
            replaced.extend(ids.filter_map(session_of_tombstone).map(str::to_owned));
        }
        Ok(replaced)
    }
}

impl State {
    fn explain(
        &mut self,
        id: &str,
        is_replaced: bool,
        has_expired: impl FnOnce(&Times) -> bool,
    ) -> End {
        if let Some(reason) = self.reasons.of(id) {
            return reason.end;
        }
        if is_replaced {
            return End::Replaced;
        }
        let document = self.registry.document(id);
        let bulk = document.and_then(|(document, first)| self.reasons.bulk_of(&document, first));
        if let Some(end) = bulk {
            return end;
        }
        match self.registry.times(id) {
            Some(times) if has_expired(times) => End::Expired,
            _ => End::Gone,
        }
    }
}

async fn poll_while_followed(mut guard: TaskGuard<Inner>) {
    let Some(inner) = guard.owner.upgrade() else {
        return;
    };
    let (wake, mut moves) = (Arc::clone(&inner.wake), inner.clock.moves());
    drop(inner);
    let mut is_failing = false;
    let mut next = Instant::now() + PAUSE;
    let mut not_before = Instant::now();
    loop {
        sleep_until(not_before).await;
        tokio::select! {
            () = sleep_until(next) => {}
            () = wake.notified() => {}
            () = moves.next() => {}
        }
        let Some(inner) = guard.owner.upgrade() else {
            return;
        };
        {
            let mut state = inner.state.lock();
            state.registry.prune();
            if state.registry.is_empty() {
                state.is_polling = false;
                guard.disarm();
                return;
            }
        }
        // From start to start, with a pause after a poll that takes long, or is followed by calls that
        // end sessions: anybody may make many of them.
        next = Instant::now() + PAUSE;
        let polled = inner.poll().await;
        not_before = Instant::now() + MIN_PAUSE;
        match (polled, is_failing) {
            (Ok(()), true) => {
                is_failing = false;
                rocket::info!("Sessions: open streams are told again when their sessions end");
            }
            (Err(error), false) => {
                is_failing = true;
                rocket::warn!(
                    "Sessions: open streams are told late when their sessions end, until the \
                     database replies: {error}"
                );
            }
            (Ok(()), false) | (Err(_), true) => {}
        }
    }
}
