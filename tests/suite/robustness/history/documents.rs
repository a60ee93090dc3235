//! I7, and of I3 and I4 the half that is stored: what is there at the end.

use std::collections::{BTreeMap, HashSet};

use mongodb::bson::{Bson, Document};

use super::lineage::Lineage;
use super::{Event, Told};

pub(super) fn check(
    events: &[Event],
    lineage: &Lineage,
    documents: &[Document],
    violations: &mut Vec<String>,
) {
    let mut orphans = orphans(events, lineage);
    let (mut tokens, mut sealed) = (HashSet::new(), Vec::new());
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
        if let Some((which, end)) = lineage.end_of(id, |_| true) {
            violations.push(format!("{which}: {id} is stored still after {end:?}"));
        }
        if lineage.is_issued(id) {
            continue;
        }
        let mark = mark(document);
        if mark == Some(Mark::Sealed) {
            sealed.push(id);
            continue;
        }
        let plain = match mark {
            Some(Mark::Plain(mark)) => orphans.get_mut(&mark),
            _ => None,
        };
        match plain {
            Some(left) if *left > 0 => *left -= 1,
            _ => violations.push(format!("I7: no request created {id}, with {mark:?}")),
        }
    }
    // Any that is left may be such a one.
    let left = orphans.values().sum();
    let unexplained = sealed.iter().skip(left);
    violations
        .extend(unexplained.map(|id| format!("I7: no request created {id}, which is sealed")));
}

/// The sessions that requests with an unknown outcome may have created without a browser that has the
/// token: their number, by the mark that each must have.
fn orphans(events: &[Event], lineage: &Lineage) -> BTreeMap<u64, usize> {
    let mut orphans = BTreeMap::new();
    let makes = |event: &&Event| event.told == Told::Open && event.work.creates();
    for event in events.iter().filter(makes) {
        if let Some(mark) = event.work.mark().or_else(|| lineage.line(event)) {
            *orphans.entry(mark).or_default() += 1;
        }
    }
    orphans
}

/// What a stored session says of the request that created it.
#[derive(Debug, PartialEq)]
enum Mark {
    Plain(u64),
    /// Only the browser's cookie opens it.
    Sealed,
}

fn mark(document: &Document) -> Option<Mark> {
    match document.get_document("value").ok()?.get("mark")? {
        Bson::Int64(mark) => u64::try_from(*mark).ok().map(Mark::Plain),
        Bson::Int32(mark) => u64::try_from(*mark).ok().map(Mark::Plain),
        Bson::Binary(_) => Some(Mark::Sealed),
        _ => None,
    }
}
