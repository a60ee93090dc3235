//! What a request does not know of the stored session, because the outcome of a write is unknown.

use std::collections::{HashMap, HashSet};

use super::{InFlight, TimeChanges};
use crate::document::key::Field;
use crate::error::Error;

/// A change to what is named here is written even if it leaves the value as it was loaded.
#[derive(Default)]
pub(super) struct Doubts {
    /// Fields whose value a write has perhaps changed.
    fields: HashSet<Field>,
    /// How many exchanges of a field have no known outcome yet.
    exchanges: HashMap<Field, u32>,
    /// The session's own times that a write has perhaps changed.
    pub(super) times: TimeChanges,
}

impl Doubts {
    /// Whether it is not known what is stored under a field.
    pub(super) fn has(&self, field: &Field) -> bool {
        self.fields.contains(field) || self.exchanges.contains_key(field)
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().chain(self.exchanges.keys())
    }

    /// The outcome of a write is unknown.
    pub(super) fn add(&mut self, write: &InFlight) {
        self.fields.extend(write.changes.fields().cloned());
        self.times = self.times.and_then(write.settings.times);
    }

    /// A write has succeeded. What its relative changes were applied to stays unknown.
    pub(super) fn settle(&mut self, write: &InFlight) {
        for (field, change) in write.changes.iter() {
            if !change.is_relative() {
                self.fields.remove(field);
            }
        }
        self.times = self.times.without(write.settings.times);
    }

    /// A write of one field begins, beside what is in flight.
    pub(super) fn begin(&mut self, field: &Field) {
        *self.exchanges.entry(field.clone()).or_default() += 1;
    }

    /// It has ended. (One whose future was dropped stays unknown.)
    pub(super) fn end<T>(&mut self, field: &Field, done: &Result<Option<T>, Error>) {
        let Some(running) = self.exchanges.get_mut(field) else {
            return;
        };
        *running = running.saturating_sub(1);
        let is_last = *running == 0;
        if is_last {
            self.exchanges.remove(field);
        }
        match done {
            Err(Error::Unknown { .. }) => {
                self.fields.insert(field.clone());
            }
            Ok(Some(_)) if is_last => {
                self.fields.remove(field);
            }
            _ => {}
        }
    }
}
