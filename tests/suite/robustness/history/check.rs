//! The checks of a whole history.

use std::collections::BTreeMap;

use mongodb::bson::Document;

use super::lineage::Lineage;
use super::{
    Event, Terms, Told, Verdict, documents, messages, recovery, secrets, times, tokens, values,
};

pub(super) fn check(mut events: Vec<Event>, documents: &[Document], terms: Terms) -> Verdict {
    events.sort_by_key(|event| event.invoked);
    let lineage = Lineage::of(&events);
    let mut verdict = Verdict {
        requests: events.len(),
        sessions: lineage.sessions(),
        ..Verdict::default()
    };
    for event in &events {
        match event.told {
            Told::Done | Told::Saved => verdict.done += 1,
            Told::Gone => verdict.gone += 1,
            Told::Open => verdict.open += 1,
        }
        *verdict.by_work.entry(event.work.kind()).or_default() += 1;
        let complaints = event.complaints.iter();
        let complaints = complaints.map(|complaint| format!("{complaint}: {event:?}"));
        verdict.violations.extend(complaints);
    }
    times::durations(&events, terms, &mut verdict);
    recovery::check(&events, terms, &mut verdict);
    let violations = &mut verdict.violations;
    times::of_sessions(&events, &lineage, terms, violations);
    documents::check(&events, &lineage, documents, violations);
    tokens::check(&events, &lineage, violations);
    secrets::check(&events, documents, violations);
    messages::delivered_twice(&events, violations);

    // Sessions that carry the same mark have one history of values.
    let mut lines: BTreeMap<u64, Vec<&Event>> = BTreeMap::new();
    for event in &events {
        if let Some(mark) = lineage.line(event) {
            lines.entry(mark).or_default().push(event);
        }
    }
    for (mark, events) in &lines {
        let line = values::Line {
            events,
            lineage: &lineage,
            sealing_starts: terms.sealing_starts,
        };
        values::check(*mark, &line, terms, violations);
        messages::check(&line, violations);
    }
    if !verdict.violations.is_empty() {
        verdict.events = events;
    }
    verdict
}
