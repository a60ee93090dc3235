//! A change of a stored session.

use super::cas::{Attempt, CompareAndSet};
use super::{Core, Done, Outcome, Written};
use crate::document::{Filter, Update};
use crate::error::{Error, Result};
use crate::record::Record;
use crate::record::token::Token;
use crate::state::changes::Changes;
use crate::state::plan::{CookieLife, UpdatePlan, ValuesPlan};
use crate::store::Updated;

impl Core {
    /// Carries an update out. Of updates that share a command it is not always known whether a session
    /// ended before or after its own: whoever is told the outcome (`is_last` is false) gets a command
    /// of its own, as does a session that may expire, and be prolonged, while the command runs.
    pub(super) async fn update(&self, plan: UpdatePlan, is_last: bool) -> Result<Done> {
        let filter = match is_last && !self.ends_soon(&plan.values.record) {
            true => plan.values.filter.clone(),
            false => plan.values.filter.clone().alone(),
        };
        if let Some(part) = &plan.with_token {
            let mut update = plan.values.update.clone();
            update.merge(&part.update);
            let guarded = plan.values.record.with_same_token(filter.clone());
            if let Some(update) = self.attempt(&plan.values, guarded, update).await? {
                let cookie = part.cookie.clone();
                return Ok(plan.applied(update, cookie));
            }
            let has_data = !plan.values.update.is_empty() || !plan.values.relative.is_empty();
            if part.is_required || !has_data {
                return Ok(Done::without_write(Outcome::Gone));
            }
            // Only the token may be another one by now. The values still belong to this session,
            // but its cookie must not be sent to a browser that has the new one.
        }
        let filter = match plan.with_token {
            Some(_) => filter.alone(),
            None => filter,
        };
        let update = plan.values.update.clone();
        Ok(match self.attempt(&plan.values, filter, update).await? {
            Some(update) => plan.applied(update, None),
            None => Done::without_write(Outcome::Gone),
        })
    }

    /// Changes values of a session, outside of a request; `false` when it has ended.
    pub(crate) async fn change_values(&self, mut plan: ValuesPlan) -> Result<bool> {
        plan.filter = plan.filter.alone(); // whoever asks is told the outcome
        let (filter, update) = (plan.filter.clone(), plan.update.clone());
        Ok(self.attempt(&plan, filter, update).await?.is_some())
    }

    /// Whether the session expires before an update that is sent now has ended.
    pub(super) fn ends_soon(&self, record: &Record) -> bool {
        let left = record.meta.ends_at(&self.config).since(self.now());
        left < self.store.deadline()
    }

    /// The update as it was applied; `None` when the filter chose no session.
    async fn attempt(
        &self,
        plan: &ValuesPlan,
        filter: Filter,
        mut update: Update,
    ) -> Result<Option<Update>> {
        if !plan.relative.is_empty() {
            return self.apply_here(plan, filter, update, &plan.relative).await;
        }
        let bare = update.clone();
        plan.record.complete(&mut update);
        let updated = self
            .store
            .update(filter.clone(), update.clone(), plan.durability);
        match updated.await {
            Ok(Updated::Applied) => Ok(Some(update)),
            Ok(Updated::Gone) => Ok(None),
            // A count or an append met a value that another request stored meanwhile. By
            // compare-and-set it fits, or its error names the key.
            Err(Error::Mismatch { .. }) => {
                let relative = plan.changes.relative();
                self.apply_here(plan, filter, bare, &relative).await
            }
            Err(error) => Err(error),
        }
    }

    /// The update, in which relative changes are replaced by the values that they lead to.
    async fn apply_here(
        &self,
        plan: &ValuesPlan,
        filter: Filter,
        update: Update,
        relative: &Changes,
    ) -> Result<Option<Update>> {
        let what = CompareAndSet {
            filter,
            update,
            durability: plan.durability,
            takes: false,
        };
        let attempt = |record: &Record| {
            let mut values = Vec::new();
            for (field, change) in relative.iter() {
                let value = change.apply(record.get(field));
                let value = value.map_err(|mismatch| mismatch.of(field))?;
                values.push((field.clone(), value));
            }
            Ok(Attempt::Write(values, ()))
        };
        let done = self.compare_and_set(&what, plan.record.clone(), attempt);
        let Some((after, ())) = done.await? else {
            return Ok(None);
        };
        let mut update = what.update;
        for field in relative.fields() {
            after.copy_value(&mut update, field);
        }
        Ok(Some(update))
    }
}

impl UpdatePlan {
    fn applied(self, update: Update, cookie: Option<(Token, CookieLife)>) -> Done {
        let token = cookie.as_ref().map(|(token, _)| token.clone());
        let token = token.unwrap_or(self.token);
        Done {
            outcome: Outcome::Applied,
            written: Some(Written::Updated(Box::new((
                self.values.record,
                update,
                token,
            )))),
            cookie,
            undo: None,
        }
    }
}
