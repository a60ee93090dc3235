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

/// A call that ends many sessions: those that its filter chooses.
struct Bulk {
    number: u64,
    filter: Filter,
    end: End,
    /// When it ended, and the newest subscription then.
    ended: Option<(Instant, u64)>,
}

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
    /// How many calls for many there were.
    calls: u64,
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
            reason.is_certain = true;
        }
    }

    /// The call has not ended the session.
    pub(super) fn take_back(&mut self, id: &str) {
        if self.by_id.get(id).is_some_and(|reason| !reason.is_certain) {
            self.by_id.remove(id);
        }
    }

    /// Returns what [`finish_many`](Reasons::finish_many) takes.
    pub(super) fn intend_many(&mut self, filter: Filter, end: End) -> u64 {
        self.forget_old();
        self.calls += 1;
        self.bulks.push_back(Bulk {
            number: self.calls,
            filter,
            end,
            ended: None,
        });
        self.calls
    }

    /// The call has ended. It explains the ends of sessions up to the subscription `newest`, and not of
    /// those that are subscribed later; `None`: it explains nothing.
    pub(super) fn finish_many(&mut self, call: u64, newest: Option<u64>) {
        let Some(at) = self.bulks.iter().position(|bulk| bulk.number == call) else {
            return; // there were too many
        };
        match newest {
            Some(newest) => self.bulks[at].ended = Some((Instant::now(), newest)),
            None => drop(self.bulks.remove(at)),
        }
    }

    /// How a call for many has ended the session of this document, if one did. `number`: the
    /// session's first subscription.
    pub(super) fn bulk_of(&self, document: &Document, number: u64) -> Option<End> {
        let explains = |bulk: &&Bulk| {
            let ended = bulk.ended;
            ended.is_none_or(|(at, newest)| number <= newest && !is_old(at))
        };
        let mut bulks = self.bulks.iter().rev().filter(explains);
        let found = bulks.find(|bulk| bulk.filter.matches(document))?;
        Some(found.end)
    }

    /// How the session has ended for certain.
    pub(super) fn certain(&self, id: &str) -> Option<End> {
        let reason = self.of(id)?;
        reason.is_certain.then_some(reason.end)
    }

    /// Why a session ended that is known to have ended.
    pub(super) fn of(&self, id: &str) -> Option<&Reason> {
        self.by_id.get(id).filter(|reason| !is_old(reason.at))
    }

    fn forget_old(&mut self) {
        while let Some((at, id)) = self.order.front()
            && (is_old(*at) || self.order.len() >= MAX_REMEMBERED)
        {
            if self.by_id.get(id).is_some_and(|reason| reason.at == *at) {
                self.by_id.remove(id);
            }
            self.order.pop_front();
        }
        while let Some(bulk) = self.bulks.front()
            && (bulk.ended.is_some_and(|(at, _)| is_old(at)) || self.bulks.len() >= MAX_REMEMBERED)
        {
            self.bulks.pop_front();
        }
    }
}

fn is_old(at: Instant) -> bool {
    at.elapsed() > REMEMBERED_FOR
}

#[cfg(test)]
mod tests {
    use bson::RawDocumentBuf;

    use super::*;

    #[test]
    fn calls_for_many_that_explain_nothing_are_forgotten() {
        let mut reasons = Reasons::default();
        let mut call = |newest| {
            let call = reasons.intend_many(Filter::sessions(), End::Revoked);
            reasons.finish_many(call, newest);
            reasons.bulks.len()
        };
        assert_eq!([call(Some(1)), call(None), call(Some(1))], [1, 1, 2]);
    }

    #[test]
    fn reasons_are_forgotten_after_a_minute_though_nothing_else_ends() {
        let before = Instant::now().checked_sub(REMEMBERED_FOR + Duration::from_secs(1));
        let before = before.expect("an hour of uptime");
        let mut reasons = Reasons::default();
        reasons.confirm("a", End::Revoked, None);
        assert_eq!(reasons.certain("a"), Some(End::Revoked));
        reasons.by_id.get_mut("a").unwrap().at = before;
        assert!(reasons.of("a").is_none() && reasons.certain("a").is_none());
        let call = reasons.intend_many(Filter::all(), End::Revoked);
        reasons.finish_many(call, Some(1));
        let document = Document::from_raw(RawDocumentBuf::new());
        assert_eq!(reasons.bulk_of(&document, 1), Some(End::Revoked));
        reasons.bulks[0].ended = Some((before, 1));
        assert_eq!(reasons.bulk_of(&document, 1), None);
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
        let runs = reasons.intend_many(Filter::sessions(), End::Revoked);
        let ended = reasons.intend_many(Filter::sessions(), End::Revoked);
        reasons.finish_many(ended, None);
        let left: Vec<u64> = reasons.bulks.iter().map(|bulk| bulk.number).collect();
        assert_eq!(left, [runs]);
    }
}
