//! What a request does not know of the stored session, because the outcome of a write is unknown.

use std::collections::HashSet;

use super::{InFlight, TimeChanges};
use crate::document::key::Field;

/// The fields and settings whose stored values are unknown. A change of one is written even if it
/// leaves the value as it was loaded.
#[derive(Default)]
pub(crate) struct Doubts {
    /// Fields whose value a write has perhaps changed.
    fields: HashSet<Field>,
    /// The field that is written by itself at the moment.
    running: Option<Field>,
    /// The session's own times that a write has perhaps changed.
    pub(super) times: TimeChanges,
    /// A write has perhaps changed the CSRF secret.
    pub(super) csrf: bool,
}

impl Doubts {
    /// Whether the stored value of a field is unknown.
    pub(super) fn has(&self, field: &Field) -> bool {
        self.is_uncertain(field) || self.running.as_ref() == Some(field)
    }

    /// Whether a write that has ended, or was given up, has perhaps changed a field.
    pub(crate) fn is_uncertain(&self, field: &Field) -> bool {
        self.fields.contains(field)
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().chain(&self.running)
    }

    /// The outcome of a write is unknown.
    pub(super) fn add(&mut self, write: &InFlight) {
        self.fields.extend(write.changes.fields().cloned());
        self.times = self.times.and_then(write.settings.times);
        self.csrf |= write.settings.csrf.is_some();
    }

    /// A write has succeeded. The values that its relative changes were applied to stay unknown.
    pub(super) fn settle(&mut self, write: &InFlight) {
        for (field, change) in write.changes.iter() {
            if !change.is_relative() {
                self.fields.remove(field);
            }
        }
        self.times = self.times.without(write.settings.times);
        self.csrf &= write.settings.csrf.is_none();
    }

    /// A write of this one field begins, by itself. Returns whether its value is uncertain.
    pub(crate) fn begin(&mut self, field: &Field) -> bool {
        self.running = Some(field.clone());
        self.is_uncertain(field)
    }

    /// The write of the field has succeeded.
    pub(super) fn succeed(&mut self) {
        if let Some(field) = self.running.take() {
            self.fields.remove(&field);
        }
    }

    /// The write of the field has failed, and stored nothing.
    pub(crate) fn fail(&mut self) {
        self.running = None;
    }

    /// The write of the field has ended, or its future was dropped. If it has neither succeeded nor
    /// failed, the value is uncertain.
    pub(crate) fn give_up(&mut self) {
        self.fields.extend(self.running.take());
    }
}
