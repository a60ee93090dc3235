//! I3 and I4, who is let in, and the half of I1 that says who must be.

use std::collections::HashMap;

use super::lineage::Lineage;
use super::{Event, id_of};

pub(super) fn check(events: &[Event], lineage: &Lineage, violations: &mut Vec<String>) {
    let mut given: HashMap<&str, &Event> = HashMap::new();
    let mut replaced: HashMap<&str, &Event> = HashMap::new();
    for event in events {
        // A token is replaced once.
        if let (true, Some(old)) = (event.work.replaces_token(), event.cookie.as_deref())
            && event.has_succeeded()
            && let Some(other) = replaced.insert(old, event)
        {
            violations.push(format!("I4: {event:?} and {other:?} replaced one token"));
        }
        if let Some(cookie) = &event.given
            && let Some(other) = given.insert(cookie, event)
        {
            violations.push(format!(
                "I6: {event:?} was given the token that {other:?} has"
            ));
        }
        let (Some(cookie), Some(view)) = (event.cookie.as_deref(), &event.view) else {
            continue;
        };
        if view.is_new {
            if !lineage.may_be_dead(cookie, event) {
                violations.push(format!("I1: a session was lost: {event:?}"));
            }
        } else {
            let_in(event, cookie, lineage, violations);
            let is_dropped = event.is_done() && !event.has_succeeded();
            let is_explained = match event.work.replaces_token() {
                true => lineage.may_be_dead(cookie, event),
                false => lineage.may_be_revoked(event),
            };
            if is_dropped && !is_explained {
                violations.push(format!(
                    "I1: it was dropped, and nothing explains it: {event:?}"
                ));
            }
        }
    }
}

fn let_in(event: &Event, cookie: &str, lineage: &Lineage, violations: &mut Vec<String>) {
    let id = id_of(cookie);
    if event.let_in() != Some(id) {
        violations.push(format!("I6: another session than was asked for: {event:?}"));
    }
    let before = |end: &Event| end.is_over_before(event);
    let replaced = lineage.replaced_by(cookie, before);
    let end = replaced.map(|renewal| ("I4", renewal));
    if let Some((which, end)) = end.or_else(|| lineage.end_of(id, before)) {
        violations.push(format!("{which}: {event:?} was let in after {end:?}"));
    }
}
