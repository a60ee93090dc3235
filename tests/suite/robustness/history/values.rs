//! I1, I2, I5 and I6: what the sessions hold that have the same mark.

use std::collections::{HashMap, HashSet};

use rocket::serde::json::Value;

use super::lineage::Lineage;
use super::{Event, Terms, Told, Work};
use crate::apps::arena::View;

/// The sessions with the same mark, each of which began as what another one held.
pub(super) struct Line<'a> {
    pub(super) events: &'a [&'a Event],
    pub(super) lineage: &'a Lineage<'a>,
    pub(super) sealing_starts: bool,
}

/// What one request saw of a session.
pub(super) struct Read<'a> {
    pub(super) event: &'a Event,
    pub(super) view: &'a View,
    /// The logins through which that session has what others held, the latest first.
    forks: Vec<&'a Event>,
    line: &'a Line<'a>,
}

impl<'a> Line<'a> {
    /// Whether an event may have found no key to seal with, and was not told.
    fn may_drop(&self, event: &Event) -> bool {
        self.sealing_starts && event.told != Told::Saved && self.lineage.is_renewed_beside(event)
    }

    /// Everything that was seen. Whether there should have been a session is asked where its tokens
    /// are.
    pub(super) fn reads(&'a self) -> impl Iterator<Item = Read<'a>> {
        self.events.iter().copied().filter_map(|event| {
            Some(Read {
                event,
                view: event.view.as_ref()?,
                forks: self.lineage.forks(event.let_in()?),
                line: self,
            })
        })
    }
}

impl<'a> Read<'a> {
    /// The same, of what no login carries over.
    pub(super) fn without_forks(mut self) -> Self {
        self.forks.clear();
        self
    }

    /// The events of some kind whose sessions this one is, or has the values of.
    pub(super) fn of<T>(
        &self,
        pick: impl Fn(&Work) -> Option<T>,
    ) -> impl Iterator<Item = (T, &'a Event)> {
        let events = self.line.events.iter().copied();
        let theirs = events.filter(|event| self.is_same(event) || self.fork(event).is_some());
        theirs.filter_map(move |event| Some((pick(&event.work)?, event)))
    }

    fn is_same(&self, event: &Event) -> bool {
        event.asked() == self.event.asked()
    }

    /// Where this session's line left that of the event's session.
    fn fork(&self, event: &Event) -> Option<&'a Event> {
        let mut forks = self.forks.iter();
        forks.find(|fork| fork.asked() == event.asked()).copied()
    }

    /// Whether what an event changed may be seen.
    pub(super) fn may_show(&self, event: &Event) -> bool {
        event.told != Told::Gone && event.invoked < self.event.returned
    }

    /// Whether what an event changed must be seen.
    pub(super) fn must_show(&self, event: &Event) -> bool {
        if !event.is_done() || !event.is_over_before(self.event) || self.line.may_drop(event) {
            return false;
        }
        if self.is_same(event) {
            return true; // ids never return: the session was there all the time
        }
        // Who moves on loads what was done before; what is done meanwhile may find nothing.
        let moves_on = |fork: &Event| {
            let carried = event.told == Told::Saved && !self.line.lineage.has_company(fork);
            event.is_over_before(fork) || carried
        };
        self.fork(event).is_some_and(moves_on)
    }
}

pub(super) fn check(mark: u64, line: &Line, terms: Terms, violations: &mut Vec<String>) {
    let origin = line.lineage.origin(mark);
    for read in line.reads() {
        let event = read.event;
        let mut complain = |what: String| violations.push(format!("{what}: {event:?}"));
        match origin {
            Some(origin) if origin.browser == event.browser => {}
            _ => complain("I6: another browser's session".into()),
        }
        if event.mark() != Some(mark) {
            complain(format!("I6: a session without its mark {mark}"));
        }
        let login = event.let_in().and_then(|id| line.lineage.login(id));
        let user = login.map(|_| format!("user{}", event.browser));
        if read.view.user != user {
            complain(format!("I6: not the principal {user:?}"));
        }
        if read.view.values.get("a") != read.view.values.get("b") {
            complain("I5: half of a pair".into());
        }
        counter(&read, terms, &mut complain);
        register(
            &read,
            "r",
            |work| matches!(work, Work::Set(_)),
            &mut complain,
        );
        register(
            &read,
            "a",
            |work| matches!(work, Work::Pair(_)),
            &mut complain,
        );
        list(
            &read,
            "log",
            |work| matches!(work, Work::Push(_)),
            &mut complain,
        );
        list(
            &read,
            "mod",
            |work| matches!(work, Work::Append(_)),
            &mut complain,
        );
    }
}

/// The number that an event of this kind adds or sets.
fn number(is_one: impl Fn(&Work) -> bool) -> impl Fn(&Work) -> Option<u64> {
    move |work| match work {
        Work::Set(n) | Work::Pair(n) | Work::Push(n) | Work::Append(n) if is_one(work) => Some(*n),
        _ => None,
    }
}

/// I2.
fn counter(read: &Read, terms: Terms, complain: &mut impl FnMut(String)) {
    let add = |work: &Work| match work {
        Work::Increment(by) => Some(*by),
        _ => None,
    };
    let (mut least, mut most) = (0, 0);
    for (by, event) in read.of(add) {
        most += if read.may_show(event) { by } else { 0 };
        least += if read.must_show(event) { by } else { 0 };
    }
    let seen = read.view.int("n");
    if !(least..=most).contains(&seen) {
        complain(format!("I2: {seen} is not within {least} and {most}"));
    }
    // With a primary a count may be lost that it alone had, and that was not acknowledged.
    let earlier = read
        .line
        .reads()
        .filter(|earlier| read.is_same(earlier.event) && earlier.event.is_over_before(read.event));
    let most_seen = earlier.map(|earlier| earlier.view.int("n")).max();
    if !terms.failover && most_seen > Some(seen) {
        complain(format!("I2: {seen} after {most_seen:?} was seen"));
    }
}

/// I1, for a value that is overwritten.
fn register(
    read: &Read,
    key: &str,
    is_one: impl Fn(&Work) -> bool + Copy,
    complain: &mut impl FnMut(String),
) {
    let seen = read.view.values.get(key).and_then(Value::as_u64);
    let source = seen.map(|seen| read.of(number(is_one)).find(|(number, _)| *number == seen));
    let source = match source {
        None => None,
        Some(Some((_, source))) if read.may_show(source) => Some(source),
        Some(_) => return complain(format!("I1: a value of {key} that no request set")),
    };
    let newer = read.of(number(is_one)).find(|(_, event)| {
        let after = source.is_none_or(|source| source.is_over_before(event));
        read.must_show(event) && after
    });
    if let Some((_, event)) = newer {
        complain(format!("I1: what {event:?} set is lost"));
    }
}

/// I1, for lists: nothing is lost, nothing is there twice, and the order is one that can be.
fn list(
    read: &Read,
    key: &str,
    is_one: impl Fn(&Work) -> bool + Copy,
    complain: &mut impl FnMut(String),
) {
    let pushes: HashMap<u64, &Event> = read.of(number(is_one)).collect();
    let mut there = HashSet::new();
    let mut latest = 0;
    for item in read.view.list(key).iter().filter_map(Value::as_u64) {
        let Some(push) = pushes.get(&item) else {
            complain(format!("I1: {item} is in a list, and no request added it"));
            continue;
        };
        if !there.insert(item) {
            complain(format!("I1: {item} is in a list twice"));
        }
        if !read.may_show(push) {
            complain(format!(
                "I1: {item} is in a list, and was said to be dropped"
            ));
        }
        if push.told != Told::Open && push.returned < latest {
            complain(format!("I1: {item} is behind what came after it"));
        }
        latest = latest.max(push.invoked);
    }
    for (item, push) in &pushes {
        if read.must_show(push) && !there.contains(item) {
            complain(format!("I1: {item} was added, and is lost"));
        }
    }
}
