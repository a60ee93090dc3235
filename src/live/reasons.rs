//! Why sessions of this process have ended, and whose they were: remembered for a minute, and before
//! the call that ends them.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bson::RawBson;

use super::End;
use crate::document::{Document, Filter};

/// How long a reason is remembered: longer than a change takes to come back from the store.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// The oldest are forgotten beyond this number.
const MAX_REMEMBERED: usize = 4096;

/// How long after a call that ended many sessions a deletion in the store is taken for its own.
const BULK_OVERLAP: Duration = Duration::from_secs(2);

/// A call that ends many sessions: those that its filter chooses.
struct Bulk {
    began: Instant,
    filter: Filter,
    end: End,
    /// When it ended, and the newest subscription at that time.
    ended: Option<(Instant, u64)>,
}

/// Why a session ended, and whose it was.
#[derive(Clone)]
pub(super) struct Reason {
    pub(super) end: End,
    pub(super) user: Option<RawBson>,
    /// The call that ended it has said so.
    is_certain: bool,
}

#[derive(Default)]
pub(super) struct Reasons {
    by_id: HashMap<String, Reason>,
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
        };
        self.by_id.insert(id.to_owned(), reason);
        self.order.push_back((Instant::now(), id.to_owned()));
    }

    /// The session has ended.
    pub(super) fn confirm(&mut self, id: &str, end: End) {
        self.intend(id, end, None);
        if let Some(reason) = self.by_id.get_mut(id) {
            reason.is_certain = true;
        }
    }

    /// The call has not ended the session.
    pub(super) fn take_back(&mut self, id: &str) {
        if self.by_id.get(id).is_some_and(|reason| !reason.is_certain) {
            self.by_id.remove(id);
        }
    }

    pub(super) fn intend_many(&mut self, filter: Filter, end: End) -> Instant {
        self.forget_old();
        let began = Instant::now();
        self.bulks.push_back(Bulk {
            began,
            filter,
            end,
            ended: None,
        });
        began
    }

    /// The call that began then has ended; what is subscribed later is not its own. Without a
    /// subscription and a reader of events it is forgotten: a job may end a million sessions, and its
    /// filters name each of them.
    pub(super) fn finish_many(&mut self, began: Instant, newest: u64, has_readers: bool) {
        if newest == 0 && !has_readers {
            self.bulks.retain(|bulk| bulk.began != began);
            return;
        }
        let bulk = self.bulks.iter_mut().find(|bulk| bulk.began == began);
        if let Some(bulk) = bulk {
            bulk.ended = Some((Instant::now(), newest));
        }
    }

    /// How a call for many has ended the session of this document, if one did. `number`: the
    /// session's first subscription.
    pub(super) fn bulk_of(&self, document: &Document, number: u64) -> Option<End> {
        let is_older = |bulk: &&Bulk| bulk.ended.is_none_or(|(_, newest)| number <= newest);
        let mut bulks = self.bulks.iter().rev().filter(is_older);
        let found = bulks.find(|bulk| bulk.filter.matches(document))?;
        Some(found.end)
    }

    /// How a deletion that the store tells of now is explained by a call that ends every session, or
    /// every expired one.
    pub(super) fn bulk_now(&self, document: &Document) -> Option<End> {
        let is_now = |bulk: &&Bulk| bulk.ended.is_none_or(|(at, _)| at.elapsed() < BULK_OVERLAP);
        let mut bulks = self.bulks.iter().rev().filter(is_now);
        let explains = |bulk: &&Bulk| bulk.end == End::Expired || bulk.filter.matches(document);
        Some(bulks.find(explains)?.end)
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
            self.by_id.remove(id);
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
    fn call_for_many_is_remembered_only_for_those_that_can_ask() {
        for (newest, has_readers, remembered) in
            [(0, false, 0), (1, false, 1), (0, true, 1), (1, true, 1)]
        {
            let mut reasons = Reasons::default();
            let began = reasons.intend_many(Filter::sessions(), End::Revoked);
            assert_eq!(reasons.bulks.len(), 1);
            reasons.finish_many(began, newest, has_readers);
            assert_eq!(reasons.bulks.len(), remembered, "{newest}, {has_readers}");
        }
    }
}
