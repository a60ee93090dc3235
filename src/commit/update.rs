//! A change of a stored session.

use super::cas::{Attempt, CompareAndSet};
use super::{Core, Done, Outcome, Written};
use crate::document::value::Value;
use crate::document::{Filter, Path, Update};
use crate::error::{Error, Result};
use crate::record::token::Token;
use crate::record::{Record, field, unless_expired};
use crate::state::plan::{CookieLife, TokenPart, UpdatePlan, ValuesPlan};
use crate::store::Updated;

impl Core {
    /// Carries an update out. Of updates that share a command it is not always known whether a session
    /// ended before or after its own: an update whose caller gets the outcome (`is_last` is false)
    /// has a command of its own, as does a session that may expire, and be prolonged, while it runs.
    pub(super) async fn update(&self, mut plan: Box<UpdatePlan>, is_last: bool) -> Result<Done> {
        // Where it reads the session again, the generation comes with it.
        if self.has_expired(&mut plan.values.record).await? {
            return Ok(Done::without_write(Outcome::Gone));
        }
        let epoch = self.epoch.current().await?;
        if !epoch.has(&plan.values.record.meta) {
            return Ok(Done::without_write(Outcome::Gone));
        }
        if let Some(part) = &mut plan.with_token {
            epoch.mark(&mut part.update, &plan.values.record.meta);
        }
        if plan.must_seal() {
            let keyed = self.with_data_key(plan.values.record, &plan.token);
            match Box::pin(keyed).await? {
                Some(record) => plan.values.record = record,
                None => return Ok(Done::without_write(Outcome::Gone)),
            }
        }
        plan.seal(&self.config.cookie_name)?;
        let mut outcome = Outcome::Applied;
        if let Some(part) = &plan.with_token {
            // Boxed, as are the parts of this future that few commits need: each commit allocates it.
            if let Some(update) = Box::pin(self.update_with_token(&plan, part)).await? {
                let cookie = part.cookie.clone();
                return Ok(plan.applied(update, cookie));
            }
            if plan.wraps_nothing() {
                let keyed = self.with_foreign_data_key(&plan.values.record, &plan.token);
                if let Some(record) = Box::pin(keyed).await? {
                    plan.values.record = record;
                    // Once: a session has its data key until it ends.
                    return Box::pin(self.update(plan, is_last)).await;
                }
            }
            if part.is_required {
                return Ok(Done::without_write(Outcome::Gone));
            }
            // Only the token may be another one by now. The values still belong to this session,
            // but its cookie must not be sent to a browser that has the new one.
            if part.has_settings {
                let id = &plan.values.record.meta.id;
                rocket::warn!(
                    "session {id}: the times or the CSRF secret that a request set were not stored, \
                     because another request replaced its cookie, or ended it, meanwhile",
                );
                if !plan.values.has_changes() {
                    return Ok(Done::without_write(Outcome::Gone));
                }
                outcome = Outcome::AppliedInPart;
            }
        }
        let filter = self.update_filter(&plan, is_last);
        let update = std::mem::take(&mut plan.values.update);
        let updated = self.update_by_filter(&plan.values, Some(&plan.token), filter, update);
        Ok(match updated.await? {
            Some(update) => Done {
                outcome,
                ..plan.applied(update, None)
            },
            None => Done::without_write(Outcome::Gone),
        })
    }

    /// Makes the whole update, if the token is still the one that was loaded.
    async fn update_with_token(
        &self,
        plan: &UpdatePlan,
        part: &TokenPart,
    ) -> Result<Option<Update>> {
        let values = &plan.values;
        let mut update = values.update.clone();
        update.merge(&part.update);
        // This part may move `expires`.
        let filter = values.record.with_same_token(values.alive());
        let filter = match plan.wraps_nothing() {
            // A data key that the session has got meanwhile must not stay under the old secret.
            true => filter.missing(field::SEAL),
            false => filter,
        };
        self.update_by_filter(values, Some(&plan.token), filter, update)
            .await
    }

    /// Changes values of a session, outside of a request; `false` when it has ended.
    pub(crate) async fn change_values(&self, mut plan: ValuesPlan) -> Result<bool> {
        if !self.epoch.current().await?.has(&plan.record.meta) {
            return Ok(false);
        }
        let filter = plan.alive().alone(); // the caller gets the outcome
        // Without a token there is nothing to seal with.
        let filter = filter.missing(field::SEAL);
        plan.record = plan.record.written_plain();
        let update = std::mem::take(&mut plan.update);
        Ok(self
            .update_by_filter(&plan, None, filter, update)
            .await?
            .is_some())
    }

    /// Returns the filter of an update of values. One that cannot move `expires` filters on `_id` alone,
    /// which MongoDB answers without its query planner, in half the time. Applied to a session that
    /// expired after it was loaded, it changes values of a session that stays expired.
    fn update_filter(&self, plan: &UpdatePlan, is_last: bool) -> Filter {
        let values = &plan.values;
        if !is_last || self.ends_soon(&values.record) {
            return values.alive().alone();
        }
        let filter = match values.may_move_expires() {
            true => values.alive(),
            false => Filter::id(values.record.meta.id.as_str()),
        };
        match plan.with_token {
            Some(_) => filter.alone(),
            None => filter,
        }
    }

    /// Whether the session expires before an update that is sent now has ended.
    pub(super) fn ends_soon(&self, record: &Record) -> bool {
        let left = record.meta.times.ends_at(&self.config).since(self.now());
        left < self.store.deadline()
    }

    /// Updates the session that a filter chooses: by compare-and-set, if the server cannot carry out one
    /// of the changes. Returns the update of the record; `None` when the filter chose no session.
    async fn update_by_filter(
        &self,
        plan: &ValuesPlan,
        token: Option<&Token>,
        filter: Filter,
        update: Update,
    ) -> Result<Option<Update>> {
        if plan.needs_compare_and_set {
            let applied = self.update_by_compare_and_set(plan, token, filter, update);
            return Box::pin(applied).await;
        }
        let stored = plan.record.completed(&update);
        let updated = self.store.update(filter.clone(), stored, plan.durability);
        match updated.await {
            Ok(Updated::Applied) => Ok(Some(update)),
            Ok(Updated::Gone) => Ok(None),
            // A count or an append met a value that another request stored meanwhile. By
            // compare-and-set it fits, or its error names the key.
            Err(Error::Mismatch { .. }) => {
                Box::pin(self.update_by_compare_and_set(plan, token, filter, update)).await
            }
            Err(error) => Err(error),
        }
    }

    /// Does the same, with the values that relative changes lead to in place of these: all of them,
    /// since a value that the server could count in when it was loaded may be sealed by now.
    async fn update_by_compare_and_set(
        &self,
        plan: &ValuesPlan,
        token: Option<&Token>,
        filter: Filter,
        update: Update,
    ) -> Result<Option<Update>> {
        let what = CompareAndSet {
            token: token.cloned(),
            // It is asked again for each attempt.
            filter: plan.if_alive(filter),
            update,
            durability: plan.durability,
            permit: None,
        };
        let attempt = |record: &Record| {
            let mut values = Vec::new();
            for (field, change) in &plan.compared {
                let now = record.get(field).map_err(|error| error.of(field))?;
                let value = change.apply(now.as_ref().map(Value::as_ref));
                let value = value.map_err(|mismatch| mismatch.of(field))?;
                values.push((field.clone(), value));
            }
            Ok(Attempt::Write(values, ()))
        };
        let done = self.compare_and_set(&what, plan.record.clone(), attempt);
        Ok(done.await?.map(|(_, update, ())| update))
    }
}

impl ValuesPlan {
    /// Returns the filter of the session, if it has not expired.
    pub(crate) fn alive(&self) -> Filter {
        unless_expired(self.record.meta.id.as_str(), self.now)
    }

    /// Restricts a filter to a session that has not expired.
    fn if_alive(&self, filter: Filter) -> Filter {
        filter.unless_before(field::EXPIRES, self.now)
    }

    /// Whether the update of values may move the time at which the session expires. That of a session
    /// of the Python package may store it.
    pub(crate) fn may_move_expires(&self) -> bool {
        self.update.contains(&Path::Meta(field::EXPIRES)) || self.record.is_upgraded()
    }
}

impl UpdatePlan {
    /// Whether the session gets a new secret, and has no data key that is wrapped for it.
    fn wraps_nothing(&self) -> bool {
        let is_required = |part: &TokenPart| part.is_required;
        self.with_token.as_ref().is_some_and(is_required) && self.values.record.sealer().is_none()
    }

    /// Whether it writes values to seal, and the session has no data key yet.
    fn must_seal(&self) -> bool {
        let is_sealed = |path: &Path| matches!(path, Path::Value(_) | Path::Meta(field::CSRF));
        let part = self.with_token.as_ref();
        self.values.record.lacks_data_key()
            && (self.values.needs_compare_and_set
                || self.values.update.sets(is_sealed)
                || part.is_some_and(|part| part.update.sets(is_sealed)))
    }

    /// Seals the written values, and wraps the data key for the new token, if there is one: whether
    /// or not this process seals.
    fn seal(&mut self, cookie_name: &str) -> Result<()> {
        let record = &self.values.record;
        self.values.update = record.seal_update(std::mem::take(&mut self.values.update))?;
        if let Some(part) = &mut self.with_token {
            part.update = record.seal_update(std::mem::take(&mut part.update))?;
            if let (true, Some((token, _)), Some(sealer)) =
                (part.is_required, &part.cookie, record.sealer())
            {
                part.update
                    .set(field::SEAL, sealer.wrap(token, cookie_name)?);
            }
        }
        Ok(())
    }

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
