//! Why sessions of this process have ended, and whose they were: remembered for a minute, and before
//! the call that ends them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bson::RawBson;

use super::End;
use crate::document::{Document, Filter};

/// How long a reason is remembered: longer than a change takes to come back from the store.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// The oldest are forgotten beyond this number.
const MAX_REMEMBERED: usize = 4096;

/// A call that ends many sessions: those that its filter chooses.
struct Bulk {
    began: Instant,
    filter: Filter,
    end: End,
    ended: BulkEnd,
}

/// The newest subscription when a call for many ended; empty while the call runs.
pub(super) type BulkEnd = Arc<OnceLock<u64>>;

/// Why a session ended, and whose it was.
#[derive(Clone)]
pub(super) struct Reason {
    pub(super) end: End,
    pub(super) user: Option<RawBson>,
    /// The call that ended it has said so.
    is_certain: bool,
    /// When it was first given.
    at: Instant,
}

#[derive(Default)]
pub(super) struct Reasons {
    by_id: HashMap<String, Reason>,
    /// When each was given, oldest first, also of those that were taken back.
    order: VecDeque<(Instant, String)>,
    bulks: VecDeque<Bulk>,
}

impl Reasons {
    pub(super) fn intend(&mut self, id: &str, end: End, user: Option<&RawBson>) {
        self.forget_old();
        if let Some(before) = self.by_id.get_mut(id) {
            if !before.is_certain {
                before.end = end;
                before.user = user.cloned().or(before.user.take());
            }
            return;
        }
        let reason = Reason {
            end,
            user: user.cloned(),
            is_certain: false,
            at: Instant::now(),
        };
        self.order.push_back((reason.at, id.to_owned()));
        self.by_id.insert(id.to_owned(), reason);
    }

    /// The session has ended.
    pub(super) fn confirm(&mut self, id: &str, end: End, user: Option<&RawBson>) {
        self.intend(id, end, user);
        if let Some(reason) = self.by_id.get_mut(id) {
            // One that has expired by the clock of this process may have been used since, or be alive by
            // another clock.
            reason.is_certain |= end != End::Expired;
        }
    }

    /// The call has not ended the session.
    pub(super) fn take_back(&mut self, id: &str) {
        if self.by_id.get(id).is_some_and(|reason| !reason.is_certain) {
            self.by_id.remove(id);
        }
    }

    /// Returns what [`finish_many`](Reasons::finish_many) takes.
    pub(super) fn intend_many(&mut self, filter: Filter, end: End) -> BulkEnd {
        self.forget_old();
        let ended = BulkEnd::default();
        self.bulks.push_back(Bulk {
            began: Instant::now(),
            filter,
            end,
            ended: Arc::clone(&ended),
        });
        ended
    }

    /// The call has ended: it does not explain the end of sessions that are subscribed later. While no
    /// session is followed, calls that have ended are forgotten: a job may make thousands of them.
    pub(super) fn finish_many(&mut self, ended: &BulkEnd, newest: u64, is_followed: bool) {
        let _ = ended.set(newest);
        if !is_followed {
            self.bulks.retain(|bulk| bulk.ended.get().is_none());
        }
    }

    /// How a call for many has ended the session of this document, if one did. `number`: the
    /// session's first subscription.
    pub(super) fn bulk_of(&self, document: &Document, number: u64) -> Option<End> {
        let is_older = |bulk: &&Bulk| bulk.ended.get().is_none_or(|newest| number <= *newest);
        let mut bulks = self.bulks.iter().rev().filter(is_older);
        let found = bulks.find(|bulk| bulk.filter.matches(document))?;
        Some(found.end)
    }

    /// How the session has ended for certain.
    pub(super) fn certain(&self, id: &str) -> Option<End> {
        let reason = self.by_id.get(id)?;
        reason.is_certain.then_some(reason.end)
    }

    /// Why a session ended that is known to have ended.
    pub(super) fn of(&self, id: &str) -> Option<&Reason> {
        self.by_id.get(id)
    }

    fn forget_old(&mut self) {
        let is_old = |at: &Instant| at.elapsed() > REMEMBERED_FOR;
        while let Some((at, id)) = self.order.front()
            && (is_old(at) || self.order.len() >= MAX_REMEMBERED)
        {
            if self.by_id.get(id).is_some_and(|reason| reason.at == *at) {
                self.by_id.remove(id);
            }
            self.order.pop_front();
        }
        while let Some(bulk) = self.bulks.front()
            && (is_old(&bulk.began) || self.bulks.len() >= MAX_REMEMBERED)
        {
            self.bulks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_for_many_are_remembered_only_while_a_session_is_followed() {
        let mut reasons = Reasons::default();
        let mut call = |is_followed| {
            let ended = reasons.intend_many(Filter::sessions(), End::Revoked);
            reasons.finish_many(&ended, 1, is_followed);
            reasons.bulks.len()
        };
        assert_eq!([call(true), call(true)], [1, 2]);
        // The last stream was closed.
        assert_eq!([call(false), call(false)], [0, 0]);
        assert_eq!(call(true), 1);
    }

    #[test]
    fn session_that_was_said_to_have_expired_is_asked_for_again() {
        let mut reasons = Reasons::default();
        reasons.confirm("a", End::Expired, None);
        reasons.confirm("b", End::Revoked, None);
        assert_eq!(
            (reasons.certain("a"), reasons.certain("b")),
            (None, Some(End::Revoked))
        );
        reasons.intend("a", End::LoggedOut, None);
        let end = reasons.of("a").map(|reason| reason.end);
        assert_eq!(end, Some(End::LoggedOut), "it was used since");
    }

    #[test]
    fn reason_that_follows_one_that_was_taken_back_is_not_forgotten_with_it() {
        let mut reasons = Reasons::default();
        reasons.intend("a", End::Revoked, None);
        reasons.take_back("a");
        reasons.intend("a", End::Revoked, None);
        for other in 1..MAX_REMEMBERED {
            reasons.intend(&other.to_string(), End::Revoked, None);
        }
        assert!(reasons.of("a").is_some());
    }

    #[test]
    fn call_for_many_that_runs_is_not_forgotten_with_another() {
        let mut reasons = Reasons::default();
        let _runs = reasons.intend_many(Filter::sessions(), End::Revoked);
        let ended = reasons.intend_many(Filter::sessions(), End::Revoked);
        reasons.finish_many(&ended, 0, false);
        assert_eq!(reasons.bulks.len(), 1);
    }
}
