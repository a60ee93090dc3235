//! What a request does not know of the stored session, because the outcome of a write is unknown.

use std::collections::HashSet;

use super::{InFlight, TimeChanges};
use crate::document::key::Field;

/// A change to what is named here is written even if it leaves the value as it was loaded.
#[derive(Default)]
pub(super) struct Doubts {
    /// Fields whose value a write has perhaps changed.
    fields: HashSet<Field>,
    /// The session's own times that a write has perhaps changed.
    pub(super) times: TimeChanges,
    /// A write has perhaps changed the CSRF secret.
    pub(super) csrf: bool,
}

impl Doubts {
    /// Whether it is not known what is stored under a field.
    pub(super) fn has(&self, field: &Field) -> bool {
        self.fields.contains(field)
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter()
    }

    /// The outcome of a write is unknown.
    pub(super) fn add(&mut self, write: &InFlight) {
        self.fields.extend(write.changes.fields().cloned());
        self.times = self.times.and_then(write.settings.times);
        self.csrf |= write.settings.csrf.is_some();
    }

    /// A write has succeeded. What its relative changes were applied to stays unknown.
    pub(super) fn settle(&mut self, write: &InFlight) {
        for (field, change) in write.changes.iter() {
            if !change.is_relative() {
                self.fields.remove(field);
            }
        }
        self.times = self.times.without(write.settings.times);
        self.csrf &= write.settings.csrf.is_none();
    }

    /// A write of one field begins. Returns whether it was named here before.
    pub(super) fn begin(&mut self, field: &Field) -> bool {
        !self.fields.insert(field.clone())
    }

    /// It has ended, and what is stored is known.
    pub(super) fn end(&mut self, field: &Field) {
        self.fields.remove(field);
    }
}
