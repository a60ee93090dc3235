//! Counts and logs connections that were lost or refused, from the driver's pool events.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mongodb::event::EventHandler;
use mongodb::event::cmap::{CmapEvent, ConnectionClosedReason};

use crate::lock::Mutex;
use crate::stats::ConnectionCounters;

/// The shortest time between two log lines: a server that fails takes all of its connections with it.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// Returns a handler that counts. The driver calls it while it works, so it never waits.
pub(super) fn handler(counters: Arc<ConnectionCounters>) -> EventHandler<CmapEvent> {
    let watcher = Watcher {
        counters,
        state: Mutex::default(),
    };
    EventHandler::callback(move |event| {
        if let Some(line) = watcher.note(&event, Instant::now()) {
            rocket::warn!("Sessions: {line}");
        }
    })
}

struct Watcher {
    counters: Arc<ConnectionCounters>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Connections that were opened, by the server's address and the driver's number. One that is
    /// closed without being here was refused.
    open: HashSet<(String, u32)>,
    last_line: Option<Instant>,
}

impl Watcher {
    /// Records an event, and returns the line to log.
    fn note(&self, event: &CmapEvent, now: Instant) -> Option<String> {
        // Held for the time of a look-up: no code of the driver runs meanwhile.
        let lock = || self.state.lock();
        let closed = match event {
            CmapEvent::ConnectionReady(ready) => {
                let key = (ready.address.to_string(), ready.connection_id);
                lock().open.insert(key);
                return None;
            }
            CmapEvent::ConnectionClosed(closed) => closed,
            // Most events are those of each operation, which cost no lock.
            _ => return None,
        };
        let mut state = lock();
        let key = (closed.address.to_string(), closed.connection_id);
        let was_open = state.open.remove(&key);
        let (address, _) = key;
        let (counter, what) = match closed.reason {
            ConnectionClosedReason::Idle | ConnectionClosedReason::PoolClosed => return None,
            _ if was_open => (&self.counters.lost, "was lost"),
            _ => (&self.counters.refused, "could not be opened"),
        };
        counter.count();
        let is_due = state
            .last_line
            .is_none_or(|last| now.saturating_duration_since(last) >= LOG_INTERVAL);
        if !is_due {
            return None;
        }
        state.last_line = Some(now);
        let (lost, refused) = (self.counters.lost.get(), self.counters.refused.get());
        Some(format!(
            "a connection to the database at {address} {what} (since launch: {lost} lost, {refused} \
             not opened); at most one such line is logged in {} seconds",
            LOG_INTERVAL.as_secs()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rocket::serde::json::{Value, from_value, json};

    fn event(name: &str, fields: Value) -> CmapEvent {
        // The driver's events have no constructor, but they can be deserialized.
        let mut fields = fields;
        fields["connectionId"] = json!(7);
        match name {
            "ready" => CmapEvent::ConnectionReady(from_value(fields).expect("an event")),
            _ => CmapEvent::ConnectionClosed(from_value(fields).expect("an event")),
        }
    }

    fn ready() -> CmapEvent {
        event("ready", json!({ "duration": { "secs": 0, "nanos": 0 } }))
    }

    fn closed(reason: &str) -> CmapEvent {
        event("closed", json!({ "reason": reason }))
    }

    #[test]
    fn connections_are_lost_after_they_were_opened_and_refused_before() {
        let counters = Arc::new(ConnectionCounters::default());
        let watcher = Watcher {
            counters: Arc::clone(&counters),
            state: Mutex::default(),
        };
        let start = Instant::now();
        let counts = || (counters.lost.get(), counters.refused.get());
        assert!(watcher.note(&ready(), start).is_none());
        assert!(watcher.note(&closed("idle"), start).is_none());
        assert!(watcher.note(&closed("poolClosed"), start).is_none());
        assert_eq!(counts(), (0, 0));
        let line = watcher.note(&closed("error"), start).expect("a line");
        assert!(line.contains("could not be opened"), "{line}");
        assert_eq!(counts(), (0, 1));
        for (n, reason) in ["error", "stale", "dropped"].iter().enumerate() {
            watcher.note(&ready(), start);
            assert!(watcher.note(&closed(reason), start).is_none(), "too soon");
            assert_eq!(counts(), (n as u64 + 1, 1), "{reason}");
        }
        watcher.note(&ready(), start);
        let line = watcher.note(&closed("error"), start + LOG_INTERVAL);
        let line = line.expect("a line");
        assert!(line.contains("was lost"), "{line}");
        assert!(line.contains("4 lost, 1 not opened"), "{line}");
    }
}
