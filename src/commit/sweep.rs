//! The end of every session, and the deletion of what it leaves behind.
//!
//! The end is one write ([`EpochLease::advance`](crate::epoch::EpochLease::advance)). The sessions of
//! other generations are deleted afterwards, in steps that each end by the deadline, and once more when
//! no insert of such a session can be on its way. Until then counts and lists ask for the generation. If
//! the process ends on the way, another one continues.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rocket::tokio;
use rocket::tokio::time::{Instant, sleep, sleep_until};

use super::Core;
use crate::document::Filter;
use crate::epoch::Epoch;
use crate::error::{Error, Result};
use crate::live::End;
use crate::store::Order;
use crate::tasks::TaskGuard;

/// How many documents one command reads, and the next one deletes.
const BATCH: u32 = 1000;

/// Up to this number, the sessions that end are counted before the call returns. Above it, their number
/// is the collection's estimate.
const MAX_COUNTED: u64 = 100_000;

/// How often a process records that it deletes.
const BEAT: Duration = Duration::from_secs(1);

/// The pause after a deletion that failed.
const RETRY_DELAY: Duration = Duration::from_secs(5);

impl Core {
    /// Ends every session. Returns their number when no process serves one of them any more; with
    /// `all`, when they are deleted, however many they are.
    pub(crate) async fn revoke_all(
        self: &Arc<Self>,
        progress: &mut (impl FnMut(u64) + Send),
        all: bool,
    ) -> Result<u64> {
        let estimate = self.store.estimated_count().await?;
        let all = all || self.epoch.is_local();
        let ending = async {
            self.epoch.advance().await?;
            let leases_end = Instant::now() + self.epoch.wait();
            self.live.look();
            let ended = match all || estimate <= MAX_COUNTED {
                true => self.sweep(progress, (!all).then_some(leases_end)).await,
                false => Ok(estimate),
            };
            sleep_until(leases_end).await;
            match ended {
                // All have ended nevertheless. Their documents are deleted later.
                Err(error) if !all => {
                    error.log();
                    Ok(estimate)
                }
                ended => ended.map_err(Error::partly_done),
            }
        };
        let sessions = Filter::sessions();
        let ending = self
            .live
            .ending_all(&sessions, End::Revoked, Vec::new(), ending);
        let ended = ending.await;
        if !matches!(ended, Err(Error::Store { .. })) {
            self.sweep_in_background();
        }
        ended
    }

    /// Deletes the sessions of other generations that are stored now, until `limit`. Returns how many
    /// there were, with those that are left then.
    ///
    /// It walks over the ids: a search for the next thousand that begins at the first would pass over
    /// all that were deleted and created meanwhile.
    async fn sweep(
        &self,
        progress: &mut (impl FnMut(u64) + Send),
        limit: Option<Instant>,
    ) -> Result<u64> {
        let (mut rest, mut ended, mut beat) = (Filter::sessions(), 0, Instant::now());
        loop {
            let batch = self.store.find(rest.clone(), Order::Id, 0, BATCH).await?;
            // Read after the find: a session of another generation than this one is not of a newer
            // one.
            let epoch = self.epoch.read().await?;
            let others = batch.iter().filter(|session| !epoch.includes(session));
            let deleted = self.end_found(others).await?;
            if deleted > 0 {
                ended += deleted;
                progress(ended);
            }
            let last = batch.last().and_then(|last| last.id());
            let Some(last) = last.filter(|_| batch.len() == BATCH as usize) else {
                return Ok(ended);
            };
            rest = Filter::sessions().after_id(last);
            if limit.is_some_and(|limit| Instant::now() >= limit) {
                return Ok(ended + self.count_others(epoch, rest).await?);
            }
            // A store of this process alone needs no record.
            if beat.elapsed() >= BEAT
                && !self.epoch.is_local()
                && let Some(generation) = epoch.generation
            {
                beat = Instant::now();
                self.epoch.beat(generation).await?;
            }
        }
    }

    /// How many of these sessions are of other generations.
    async fn count_others(&self, epoch: Epoch, sessions: Filter) -> Result<u64> {
        let all = self.store.count(sessions.clone()).await?;
        let current = self.store.count(epoch.restrict(sessions)).await?;
        Ok(all.saturating_sub(current))
    }

    /// Deletes the remaining sessions of other generations, in a task, unless one does so already.
    pub(crate) fn sweep_in_background(self: &Arc<Self>) {
        if self.has_sweeper.swap(true, Ordering::Relaxed) {
            return;
        }
        let (sweep, stopped) = (sweep_until_done(self.sweeper()), self.live.stopped());
        tokio::spawn(async move {
            tokio::select! {
                () = sweep => {}
                () = stopped => {}
            }
        });
    }

    fn sweeper(self: &Arc<Self>) -> TaskGuard<Core> {
        TaskGuard::new(self, |core| {
            core.has_sweeper.store(false, Ordering::Relaxed)
        })
    }

    async fn sweep_to_the_end(&self) -> Result<()> {
        loop {
            let epoch = self.epoch.current().await?;
            let Some(generation) = swept_for(epoch) else {
                return Ok(());
            };
            self.sweep(&mut |_| {}, None).await?;
            // A session of an earlier generation may be on its way to the store for as long as this:
            // its process may have waited until one deadline for the epoch, and until another for the
            // insert.
            let on_its_way = match self.epoch.is_local() {
                true => Duration::ZERO,
                false => self.epoch.wait() + 2 * self.store.deadline(),
            };
            let settled = Instant::now() + on_its_way;
            while Instant::now() < settled {
                self.epoch.beat(generation).await?;
                sleep(BEAT.min(settled.saturating_duration_since(Instant::now()))).await;
            }
            let is_same = self.epoch.current().await?.generation == Some(generation);
            if is_same && self.sweep(&mut |_| {}, None).await? == 0 {
                self.epoch.swept(generation).await?;
            }
        }
    }

    /// Continues the deletion that another process has begun, when no process does. `seen`: the epoch
    /// at the last call. Returns whether there is something to delete.
    pub(crate) async fn continue_sweep(self: &Arc<Self>, seen: &mut Option<Epoch>) -> Result<bool> {
        let epoch = self.epoch.current().await?;
        if epoch.is_sweeping && *seen == Some(epoch) {
            self.sweep_in_background();
        }
        *seen = Some(epoch);
        Ok(epoch.is_sweeping)
    }
}

/// Deletes until nothing is left, or nothing uses the sessions any more.
async fn sweep_until_done(guard: TaskGuard<Core>) {
    let mut is_reported = false;
    while let Some(core) = guard.owner.upgrade() {
        let Err(error) = core.sweep_to_the_end().await else {
            break;
        };
        if !is_reported {
            is_reported = true;
            rocket::warn!(
                "Sessions: the documents of revoked sessions cannot be deleted now; retrying in \
                 the background"
            );
            error.log();
        }
        drop(core);
        sleep(RETRY_DELAY).await;
    }
    let core = Weak::clone(&guard.owner);
    drop(guard);
    sweep_what_was_left(core).await;
}

/// Continues where a task has ended: between its last look at the epoch and its end, `revoke_all` may
/// have stored another generation, and left it to that task. One round trip.
async fn sweep_what_was_left(core: Weak<Core>) {
    while let Some(core) = core.upgrade() {
        // Not the epoch that is known: the result of that last look may have been recorded after the
        // new generation was stored.
        match core.epoch.read().await {
            Ok(epoch) if swept_for(epoch).is_none() => return,
            Ok(_) => return core.sweep_in_background(),
            Err(_) => {} // it is asked again
        }
        drop(core);
        sleep(RETRY_DELAY).await;
    }
}

/// The generation that stays, while sessions of others may be stored.
fn swept_for(epoch: Epoch) -> Option<i64> {
    epoch.generation.filter(|_| epoch.is_sweeping)
}

#[cfg(test)]
mod tests;
