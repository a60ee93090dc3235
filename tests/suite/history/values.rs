//! I1, I2, I5, I6 and I12: what one line of sessions holds.

use std::collections::{HashMap, HashSet};

use rocket::serde::json::Value;

use super::{Event, Told, Work, id_of};

/// One line of sessions: those with the same mark, each of which began as what another one held.
struct Line<'a> {
    events: &'a [&'a Event],
    ends: Vec<&'a Event>,
    /// Which session each began as.
    parents: HashMap<&'a str, &'a str>,
    /// Of its browser's principal, whichever session that had.
    revocations: Vec<&'a Event>,
}

impl Line<'_> {
    /// Whether a read must show what an event changed.
    fn is_sure(&self, event: &Event, read: &Event) -> bool {
        if !event.is_over_before(read) {
            return false;
        }
        if event.id() != read.id() && !self.descends(read, event) {
            return false;
        }
        match event.told {
            Told::Saved => event.id() == read.id() || !self.is_forked(event),
            Told::Done => {
                let mut ends = self.ends.iter().chain(&self.revocations);
                !ends.any(|end| end.overlaps(event))
            }
            Told::Gone | Told::Open => false,
        }
    }

    /// Whether one event's session goes back to that of another.
    fn descends(&self, later: &Event, earlier: &Event) -> bool {
        let parent = |id: &&str| self.parents.get(id).copied();
        let mut line = std::iter::successors(later.id(), parent);
        line.any(|id| Some(id) == earlier.id())
    }

    /// Whether a login from the event's session had company in ending it. Each login made a
    /// session, and only who ended the old one carries over what was changed after its load.
    fn is_forked(&self, event: &Event) -> bool {
        let from_there = |end: &&&Event| end.cookie.as_deref().map(id_of) == event.id();
        let ends: Vec<_> = self.ends.iter().filter(from_there).collect();
        let is_revoked = |end: &&Event| self.revocations.iter().any(|other| other.overlaps(end));
        ends.len() > 1 || ends.into_iter().any(is_revoked)
    }

    fn of<'l, T>(
        &'l self,
        pick: impl Fn(&Work) -> Option<T> + 'l,
    ) -> impl Iterator<Item = (T, &'l Event)> + 'l {
        let events = self.events.iter().copied();
        events.filter_map(move |event| Some((pick(&event.work)?, event)))
    }
}

pub(super) fn check(
    planted: Option<&Event>,
    events: &[&Event],
    revocations: &[&Event],
    violations: &mut Vec<String>,
) {
    let ends = events.iter().copied().filter(|event| event.work.ends());
    let theirs = |one: &&Event| planted.is_some_and(|origin| origin.browser == one.browser);
    let line = Line {
        events,
        ends: ends.collect(),
        parents: events.iter().filter_map(|event| began(event)).collect(),
        revocations: revocations.iter().copied().filter(theirs).collect(),
    };
    for event in events {
        // Whether there should have been a session is asked where its tokens are.
        let Some(view) = event.view.as_ref().filter(|view| !view.is_new) else {
            continue;
        };
        let mut complain = |what: String| violations.push(format!("{what}: {event:?}"));
        match planted {
            Some(origin) if origin.browser == event.browser => {}
            _ => complain("I6: another browser's session".into()),
        }
        let user = format!("user{}", event.browser);
        if view.user.as_ref().is_some_and(|other| *other != user) {
            complain("I6: another principal".into());
        }
        if view.values.get("a") != view.values.get("b") {
            complain("I5: half of a pair".into());
        }
        counter(&line, event, view.int("n"), &mut complain);
        register(&line, event, view.values.get("r"), &mut complain);
        let push = |work: &Work| match work {
            Work::Push(number) => Some(*number),
            _ => None,
        };
        list(&line, event, &view.list("log"), push, &mut complain);
        let append = |work: &Work| match work {
            Work::Append(number) => Some(*number),
            _ => None,
        };
        list(&line, event, &view.list("mod"), append, &mut complain);
    }
}

/// The session that a login made, and the one that it started from.
fn began(event: &Event) -> Option<(&str, &str)> {
    let (old, new) = (event.cookie.as_deref()?, event.given.as_deref()?);
    (id_of(old) != id_of(new)).then(|| (id_of(new), id_of(old)))
}

/// I2.
fn counter(line: &Line, read: &Event, seen: i64, complain: &mut impl FnMut(String)) {
    let (mut least, mut most) = (0, 0);
    let add = |work: &Work| match work {
        Work::Increment(by) => Some(*by),
        _ => None,
    };
    for (by, event) in line.of(add) {
        if event.told != Told::Gone && event.invoked < read.returned {
            most += by;
        }
        if line.is_sure(event, read) {
            least += by;
        }
    }
    if !(least..=most).contains(&seen) {
        complain(format!("I2: {seen} is not within {least} and {most}"));
    }
}

/// I1, for a value that is overwritten.
fn register(line: &Line, read: &Event, seen: Option<&Value>, complain: &mut impl FnMut(String)) {
    let set = |work: &Work| match work {
        Work::Set(number) => Some(*number),
        _ => None,
    };
    let seen = seen.and_then(Value::as_u64);
    let source = seen.map(|seen| line.of(set).find(|(number, _)| *number == seen));
    let source = match source {
        None => None,
        Some(Some((_, source))) if source.invoked < read.returned && source.told != Told::Gone => {
            Some(source)
        }
        Some(_) => return complain("I1: a value that nobody set".into()),
    };
    let newer = line.of(set).find(|(_, event)| {
        let after = source.is_none_or(|source| source.is_over_before(event));
        line.is_sure(event, read) && after
    });
    if let Some((_, event)) = newer {
        complain(format!("I1: what {event:?} set is lost"));
    }
}

/// I1, for lists: nothing is lost, nothing is there twice, and the order is one that can be.
fn list(
    line: &Line,
    read: &Event,
    seen: &[Value],
    pick: impl Fn(&Work) -> Option<u64> + Copy,
    complain: &mut impl FnMut(String),
) {
    let pushes: HashMap<u64, &Event> = line.of(pick).collect();
    let mut there = HashSet::new();
    let mut latest = 0;
    for item in seen.iter().filter_map(Value::as_u64) {
        let Some(push) = pushes.get(&item) else {
            complain(format!("I1: {item} is in a list, and nobody added it"));
            continue;
        };
        if !there.insert(item) {
            complain(format!("I1: {item} is in a list twice"));
        }
        if push.told == Told::Gone {
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
        if line.is_sure(push, read) && !there.contains(item) {
            complain(format!("I1: {item} was added, and is lost"));
        }
    }
}

/// I12.
pub(super) fn messages(events: &[Event], violations: &mut Vec<String>) {
    let mut delivered = HashSet::new();
    for event in events {
        for message in &event.popped {
            if !delivered.insert(*message) {
                violations.push(format!("I12: {message} was delivered twice: {event:?}"));
            }
        }
    }
    // What is not delivered waits still, wherever nothing could have taken it.
    let mut last: HashMap<u64, &Event> = HashMap::new();
    let mut unsure = HashSet::new();
    for event in events {
        let Some(mark) = event.line else { continue };
        let takes = event.work.ends() || (event.work == Work::Pop && event.told == Told::Open);
        if takes {
            unsure.insert(mark);
        }
        if event.id().is_some() {
            last.insert(mark, event);
        }
    }
    for event in events {
        let (Work::Flash(message), Some(mark)) = (&event.work, event.line) else {
            continue;
        };
        let Some(view) = last.get(&mark).filter(|last| event.is_over_before(last)) else {
            continue;
        };
        let waiting = view.view.as_ref().is_some_and(|view| {
            view.flash
                .iter()
                .any(|other| other.as_u64() == Some(*message))
        });
        let is_sure = matches!(event.told, Told::Done | Told::Saved) && !unsure.contains(&mark);
        if is_sure && !waiting && !delivered.contains(message) {
            violations.push(format!("I12: {message} is lost: {event:?}"));
        }
    }
}
