//! The checks of a whole history, and those that need no other event.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use mongodb::bson::{Bson, Document};

use super::{Event, Terms, Told, Verdict, Work, id_of, tokens, values};

pub(super) fn check(mut events: Vec<Event>, documents: &[Document], terms: Terms) -> Verdict {
    events.sort_by_key(|event| event.invoked);
    draw_lines(&mut events);
    let mut verdict = Verdict {
        requests: events.len(),
        sessions: issued(&events).len(),
        ..Verdict::default()
    };
    for event in &events {
        match event.told {
            Told::Done | Told::Saved => verdict.done += 1,
            Told::Gone => verdict.gone += 1,
            Told::Open => verdict.open += 1,
        }
        let name = format!("{:?}", event.work);
        let name = name.split('(').next().unwrap_or_default().to_owned();
        *verdict.by_work.entry(name).or_default() += 1;
        if let Some(complaint) = &event.complaint {
            verdict.violations.push(format!("{complaint}: {event:?}"));
        }
    }
    times(&events, terms, &mut verdict);
    self::documents(&events, documents, &mut verdict.violations);
    tokens::check(&events, &mut verdict.violations);

    // A line of sessions that carry the same mark is one history of values.
    let mut lines: BTreeMap<u64, Vec<&Event>> = BTreeMap::new();
    for event in &events {
        if let Some(mark) = event.line {
            lines.entry(mark).or_default().push(event);
        }
    }
    let planted: HashMap<u64, &Event> = events
        .iter()
        .filter_map(|event| match event.work {
            Work::Plant(mark) | Work::Login(mark) => Some((mark, event)),
            _ => None,
        })
        .collect();
    let revocations = events.iter().filter(|event| event.work == Work::Revoke);
    let revocations: Vec<&Event> = revocations.collect();
    for (mark, line) in &lines {
        let planted = planted.get(mark).copied();
        values::check(planted, line, &revocations, &mut verdict.violations);
    }
    values::messages(&events, &mut verdict.violations);
    verdict
}

/// Finds the line of each event: by the mark that it saw, or by the session that it asked for.
fn draw_lines(events: &mut [Event]) {
    let mut marks: HashMap<String, u64> = HashMap::new();
    // A session can be given by an event that began after one that asks for it, so twice.
    for _ in 0..2 {
        for event in events.iter() {
            let asked = event.cookie.as_deref().map(id_of);
            if let (Some(mark), Some(id)) = (event.mark(), event.id()) {
                marks.insert(id.to_owned(), mark);
            }
            let mark = match event.work {
                Work::Plant(mark) | Work::Login(mark) => Some(mark),
                _ => asked.and_then(|id| marks.get(id)).copied(),
            };
            if let (Some(given), Some(mark)) = (&event.given, mark) {
                marks.insert(id_of(given).to_owned(), mark);
            }
        }
    }
    for event in events {
        let asked = event.cookie.as_deref().map(id_of);
        event.line = event
            .mark()
            .or_else(|| asked.and_then(|id| marks.get(id)).copied());
    }
}

/// The ids of all sessions that somebody was given a token for.
fn issued(events: &[Event]) -> HashSet<&str> {
    let given = events.iter().filter_map(|event| event.given.as_deref());
    given.map(id_of).collect()
}

/// I10, I8.
fn times(events: &[Event], terms: Terms, verdict: &mut Verdict) {
    let mut seen: HashMap<&str, Vec<&Event>> = HashMap::new();
    for event in events {
        if event.returned != u64::MAX {
            let took = Duration::from_micros(event.returned - event.invoked);
            verdict.slowest = verdict.slowest.max(took);
            if took > terms.longest {
                verdict
                    .violations
                    .push(format!("I10: took {took:?}: {event:?}"));
            }
        }
        if let Some(id) = event.id() {
            seen.entry(id).or_default().push(event);
        }
    }
    for (id, events) in seen {
        for (at, event) in events.iter().enumerate() {
            let Some(view) = &event.view else { continue };
            // The last one that was over before this began.
            let before = events[..at]
                .iter()
                .rev()
                .find(|other| other.is_over_before(event));
            let Some(before) = before.and_then(|before| before.view.as_ref()) else {
                continue;
            };
            let stands = before.created == view.created;
            let grows = before.accessed <= view.accessed && before.expires <= view.expires;
            if !(stands && (grows || terms.touches_may_be_lost)) {
                let what = format!("I8: {id} goes back in time: {before:?}, then {view:?}");
                verdict.violations.push(what);
            }
        }
    }
}

/// I7.
fn documents(events: &[Event], documents: &[Document], violations: &mut Vec<String>) {
    let issued = issued(events);
    // Each that was not answered may have left one behind whose token nobody has.
    let mut orphans = events
        .iter()
        .filter(|event| event.told == Told::Open && event.work.creates())
        .count();
    let mut tokens = HashSet::new();
    for document in documents {
        let id = document.get_str("_id").unwrap_or_default();
        if !matches!(document.get("expires"), Some(Bson::DateTime(_))) {
            violations.push(format!("I7: {id} has no end"));
        }
        if id.starts_with('~') {
            continue;
        }
        match document.get("token") {
            Some(Bson::Binary(token)) if tokens.insert(token.bytes.clone()) => {}
            _ => violations.push(format!("I7: {id} has another's token, or none")),
        }
        if !issued.contains(id) {
            match orphans.checked_sub(1) {
                Some(left) => orphans = left,
                None => violations.push(format!("I7: nobody made {id}")),
            }
        }
    }
}
