//! I3 and I4, who is let in, and the half of I1 that says who must be.

use std::collections::HashMap;

use super::lineage::Lineage;
use super::{Event, Work, id_of};

pub(super) fn check(events: &[Event], lineage: &Lineage, violations: &mut Vec<String>) {
    let mut given: HashMap<&str, &Event> = HashMap::new();
    let mut elevated: HashMap<&str, &Event> = HashMap::new();
    for event in events {
        // Only who ends the old session carries it on.
        if let (Work::Elevate, Some(old), true) =
            (&event.work, event.asked(), event.has_succeeded())
            && let Some(other) = elevated.insert(old, event)
        {
            violations.push(format!("I4: {event:?} and {other:?} carry one session on"));
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
