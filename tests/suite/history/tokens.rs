//! I3 and I4, who is let in, and the half of I1 that says who must be.

use std::collections::HashMap;

use super::{Event, Told, Work, id_of};

pub(super) fn check(events: &[Event], violations: &mut Vec<String>) {
    // What may have ended a session, by the session's id and by its browser.
    let mut of_session: HashMap<&str, Vec<&Event>> = HashMap::new();
    let mut revocations: HashMap<usize, Vec<&Event>> = HashMap::new();
    let mut given: HashMap<&str, &Event> = HashMap::new();
    for event in events {
        if event.work == Work::Revoke {
            revocations.entry(event.browser).or_default().push(event);
        } else if event.work.kills()
            && let Some(cookie) = &event.cookie
        {
            of_session.entry(id_of(cookie)).or_default().push(event);
        }
        if let Some(cookie) = &event.given {
            given.entry(cookie).or_insert(event);
        }
    }
    for event in events {
        let Some(cookie) = event.cookie.as_deref() else {
            continue;
        };
        let Some(view) = &event.view else { continue };
        let killers = of_session.get(id_of(cookie)).map_or(&[][..], Vec::as_slice);
        let revoked = revocations
            .get(&event.browser)
            .map_or(&[][..], Vec::as_slice);
        if event.id() == Some(id_of(cookie)) {
            if let Some(killer) = killers
                .iter()
                .find(|killer| is_fatal(killer, cookie, event))
            {
                let which = if killer.work == Work::Logout {
                    "I3"
                } else {
                    "I4"
                };
                violations.push(format!("{which}: {event:?} was let in after {killer:?}"));
            }
            let issue = given.get(cookie);
            let after = |revocation: &&&Event| {
                revocation.told == Told::Done
                    && revocation.is_over_before(event)
                    && issue.is_some_and(|issue| issue.is_over_before(revocation))
            };
            if let Some(user) = &view.user
                && let Some(revocation) = revoked.iter().find(after)
            {
                violations.push(format!(
                    "I3: {user} was let in by {event:?} after {revocation:?}"
                ));
            }
        } else {
            let may_be =
                |killer: &&&Event| killer.invoked < event.returned && killer.told != Told::Gone;
            let is_explained = killers.iter().chain(revoked).any(|killer| may_be(&killer));
            if given.contains_key(cookie) && !is_explained {
                violations.push(format!("I1: a session was lost: {event:?}"));
            }
        }
    }
}

/// Whether one event says that a token was dead before another event began.
fn is_fatal(killer: &Event, cookie: &str, event: &Event) -> bool {
    let was_let_in = killer.id() == Some(id_of(cookie));
    let is_done = matches!(killer.told, Told::Done | Told::Saved) && was_let_in;
    if !is_done || !killer.is_over_before(event) {
        return false;
    }
    match killer.work {
        Work::Logout => true,
        // A renewal kills the one token; without a new one it was overtaken itself.
        Work::Renew => killer.given.is_some() && killer.cookie.as_deref() == Some(cookie),
        _ => killer.given.is_some(),
    }
}
