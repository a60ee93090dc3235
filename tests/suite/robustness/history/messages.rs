//! I12: a message is delivered once, and not lost.

use std::collections::{HashMap, HashSet};

use super::values::{Line, Read};
use super::{Event, Told, Work};

pub(super) fn delivered_twice(events: &[Event], violations: &mut Vec<String>) {
    let mut delivered = HashSet::new();
    for event in events {
        for message in &event.popped {
            if !delivered.insert(*message) {
                violations.push(format!("I12: {message} was delivered twice: {event:?}"));
            }
        }
    }
}

/// What was not delivered waits, in every session that anybody looked into; what was does not.
pub(super) fn check(line: &Line, violations: &mut Vec<String>) {
    let popped = line.events.iter().flat_map(|event| {
        let messages = event.popped.iter();
        messages.map(|message| (*message, *event))
    });
    let delivered: HashMap<u64, &Event> = popped.collect();
    // A login keeps keys, and no messages.
    for read in line.reads().map(Read::without_forks) {
        let waiting = read
            .view
            .flash
            .iter()
            .filter_map(|message| message.as_u64());
        let waiting: HashSet<u64> = waiting.collect();
        let said: HashMap<u64, &Event> = read.of(message).collect();
        let mut complain = |what: String| violations.push(format!("{what}: {:?}", read.event));
        for message in &waiting {
            let is_said = said.get(message).is_some_and(|event| read.may_show(event));
            if !is_said {
                complain(format!(
                    "I12: {message} is queued, and no request stored it"
                ));
            }
            let delivery = delivered.get(message);
            if delivery.is_some_and(|delivery| delivery.is_over_before(read.event)) {
                complain(format!("I12: {message} waits still after {delivery:?}"));
            }
        }
        let pops = |work: &Work| (*work == Work::Pop).then_some(());
        // The response with it may have been lost.
        let may_be_taken = read
            .of(pops)
            .any(|(_, pop)| pop.told == Told::Open && read.may_show(pop));
        for (message, event) in &said {
            let delivery = delivered.get(message);
            let is_delivered = delivery.is_some_and(|delivery| read.may_show(delivery));
            let is_there = waiting.contains(message) || is_delivered || may_be_taken;
            if read.must_show(event) && !is_there {
                complain(format!("I12: {message} is lost, which {event:?} said"));
            }
        }
    }
}

fn message(work: &Work) -> Option<u64> {
    match work {
        Work::Flash(message) => Some(*message),
        _ => None,
    }
}
