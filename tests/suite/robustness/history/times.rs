//! I8 and I10: times, of sessions and of requests.

use std::collections::HashMap;
use std::time::Duration;

use super::lineage::Lineage;
use super::{Event, Terms, Told, Verdict, Work};
use crate::apps::arena::View;

/// For a machine that does other things as well.
const SLACK: Duration = Duration::from_secs(5);

impl Work {
    /// How many operations of the store it does at most, one after the other. Each ends by its
    /// deadline.
    fn operations(&self) -> u32 {
        match self {
            // With a dead cookie it asks whether a login replaced that session.
            Work::Read => 2,
            // After a `save` nothing is left to be written.
            Work::Set(_) | Work::Push(_) | Work::Pair(_) | Work::Flash(_) => 2,
            // An edit from outside reads before and after its update.
            Work::Increment(_) => 4,
            // And asks again, when its insert comes late.
            Work::Plant(_) => 4,
            // On the condition of the token, and then without it.
            Work::Renew | Work::Elevate => 3,
            // Attempts until the deadline, of which the last has two operations.
            Work::Append(_) | Work::Pop => 4,
            // Load, insert, look for revocations, and delete the old session, or the new one and its
            // tombstone when a revocation was faster.
            Work::Login(_) => 5,
            // What others changed meanwhile is carried over.
            Work::Keep => 5,
            Work::Logout => 2,
            // Two for the revocation document, and deletes until nothing is left.
            Work::Revoke => 6,
        }
    }

    /// Whether it writes when its session was in use, for the majority to have it, as often as it
    /// is done.
    fn notes_use(event: &Event) -> bool {
        match event.work {
            Work::Append(_) => event.told == Told::Saved,
            Work::Pop => event.told == Told::Saved && !event.popped.is_empty(),
            Work::Renew | Work::Elevate => event.given.is_some(),
            _ => false,
        }
    }
}

/// I10.
pub(super) fn durations(events: &[Event], terms: Terms, verdict: &mut Verdict) {
    for event in events.iter().filter(|event| event.returned != u64::MAX) {
        let took = Duration::from_micros(event.returned - event.invoked);
        verdict.slowest = verdict.slowest.max(took);
        if took > terms.deadline * event.work.operations() + SLACK {
            let what = format!("I10: took {took:?}: {event:?}");
            verdict.violations.push(what);
        }
    }
}

/// I8.
pub(super) fn of_sessions(
    events: &[Event],
    lineage: &Lineage,
    terms: Terms,
    violations: &mut Vec<String>,
) {
    let token = |event: &Event| {
        let cookie = event.cookie.as_deref().unwrap_or_default();
        lineage.elevated_as(cookie).to_owned()
    };
    let mut seen: HashMap<&str, Vec<(&Event, &View)>> = HashMap::new();
    for event in events {
        if let (Some(id), Some(view)) = (event.let_in(), &event.view) {
            seen.entry(id).or_default().push((event, view));
        }
    }
    // A read shows what is noted of a session's use before it is written. That note can be lost
    // with a primary, and another application does not have it.
    let notes_last = !terms.failover && !terms.several_apps;
    for (id, seen) in seen {
        for (event, view) in &seen {
            let before = |(other, _): &&(&Event, &View)| {
                let lasts = notes_last || Work::notes_use(other);
                lasts && other.is_over_before(event)
            };
            let moved = seen.iter().find(|(other, before)| {
                before.created != view.created && token(other) == token(event)
                    || before.created > view.created && other.is_over_before(event)
            });
            let back = seen.iter().filter(before).find(|(_, before)| {
                before.accessed > view.accessed || before.expires > view.expires
            });
            if let Some(back) = moved.or(back) {
                let what = format!("I8: {id} goes back in time: {event:?}, after {back:?}");
                violations.push(what);
            }
        }
    }
}
