//! I11: after the fault everything that can be asked for succeeds again.

use super::{Event, Terms, Verdict, Work};

/// The kinds of work of which none that began after a moment has succeeded.
pub(super) fn missing(events: &[Event], moment: u64) -> Vec<String> {
    let after = |event: &&Event| event.invoked >= moment && event.has_succeeded();
    let succeeded: Vec<String> = events
        .iter()
        .filter(after)
        .map(|event| event.work.kind())
        .collect();
    let mut kinds: Vec<String> = Work::KINDS.iter().map(Work::kind).collect();
    kinds.retain(|kind| !succeeded.contains(kind));
    kinds
}

pub(super) fn check(events: &[Event], terms: Terms, verdict: &mut Verdict) {
    let Some(healed) = terms.healed else { return };
    for kind in missing(events, healed) {
        let what = format!("I11: no {kind} succeeded after the fault");
        verdict.violations.push(what);
    }
    if verdict.open >= verdict.done {
        let (open, done) = (verdict.open, verdict.done);
        let what = format!("I11: {open} requests were left open, and {done} done");
        verdict.violations.push(what);
    }
}
