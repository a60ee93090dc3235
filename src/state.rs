//! The session of one request: what was loaded, and what the request has done to it so far. Pure:
//! no I/O, no Rocket; [`commit`](crate::state::plan) decides from it what to write.

mod base;
pub(crate) mod changes;
mod in_flight;
mod load_outcome;
pub(crate) mod plan;
mod size;
mod transitions;

use std::collections::HashSet;
use std::time::Duration;

use bson::RawBson;

use crate::clock::Moment;
use crate::config::Encoding;
use crate::document::key::Field;
use crate::document::value::{self, Value};
use crate::error::Error;
use crate::record::Client;
use crate::record::token::{Id, Secret};
use crate::state::changes::{Change, Changes};

pub(crate) use self::base::{Base, Keep, New, Old, Replaces, Stored};
pub(crate) use self::in_flight::{Sent, Settings};
pub(crate) use self::load_outcome::{Creation, Dead, LoadOutcome, Loaded, NewReason};

/// One request's session: what is stored, over it what a write under way carries, over that what
/// the request has done since.
pub(crate) struct State {
    pub(crate) base: Base,
    sent: Option<Sent>,
    pub(crate) changes: Changes,
    pub(crate) settings: Settings,
    /// The session that the browser's cookie named, when that one cannot be used.
    pub(crate) dead: Option<Dead>,
    /// Sessions that a logout ended, to be deleted whatever the answer becomes.
    pub(crate) ended: Vec<Id>,
    pub(crate) other_sessions: Vec<Id>,
    brought_cookie: bool,
    /// The cookie of the session that was logged out is still in the browser.
    pub(crate) removal: bool,
    pub(crate) client: Client,
    /// When the request came in: what revokes later revokes what it brings about.
    pub(crate) started: Moment,
    /// When this request itself revoked the user's other sessions: its own login stands against
    /// that, and what else began until then is judged already.
    pub(crate) spared: Option<Moment>,
    pub(crate) is_new: bool,
    /// The answer was committed; nothing can be kept any more.
    pub(crate) sealed: bool,
    /// Counts the times that another session took this one's place (login, logout), so that a
    /// write that was under way meanwhile can tell.
    pub(crate) identity: u32,
    /// How many bytes the values take, or a few more: appending does not count what is there.
    size: usize,
    max_bytes: usize,
}

impl State {
    pub(crate) fn new(loaded: impl Into<Loaded>, started: Moment, max_bytes: usize) -> Self {
        let loaded = loaded.into();
        let mut state = State {
            base: Base::empty(),
            sent: None,
            changes: Changes::default(),
            settings: Settings::default(),
            dead: None,
            ended: Vec::new(),
            other_sessions: loaded.other_sessions,
            brought_cookie: loaded.brought_cookie,
            removal: false,
            client: Client::default(),
            started,
            spared: None,
            is_new: true,
            sealed: false,
            identity: 0,
            size: 0,
            max_bytes,
        };
        match loaded.outcome {
            LoadOutcome::New(_) | LoadOutcome::Replaced(_) => {}
            LoadOutcome::Dead(id, NewReason::WrongSecret) => {
                let is_locked = true;
                state.dead = Some(Dead {
                    is_locked,
                    ..Dead::new(id)
                });
            }
            LoadOutcome::Dead(id, NewReason::Expired) => {
                let expired = true;
                state.dead = Some(Dead {
                    expired,
                    ..Dead::new(id)
                });
            }
            LoadOutcome::Dead(id, _) => state.dead = Some(Dead::new(id)),
            LoadOutcome::Live(stored) => {
                state.is_new = false;
                state.base = Base::Stored(stored);
            }
            LoadOutcome::Legacy(ancestor) => {
                state.is_new = false;
                state.base = Base::ancestor(ancestor);
            }
        }
        state.size = state.base.size();
        state
    }

    // ---- reading

    /// A value as this request sees it.
    pub(crate) fn get(&self, field: &Field) -> Option<RawBson> {
        self.seen(field).map(Value::into_owned)
    }

    fn seen(&self, field: &Field) -> Option<Value<'_>> {
        changed(self.changes.get(field), self.under(field))
    }

    /// What the request's changes are made to: what is stored, or will be when the write that is
    /// under way has ended.
    fn under(&self, field: &Field) -> Option<Value<'_>> {
        let stored = self.base.get(field).map(Value::Stored);
        let sent = self.sent.as_ref();
        changed(sent.and_then(|sent| sent.changes.get(field)), stored)
    }

    pub(crate) fn contains(&self, field: &Field) -> bool {
        let sent = self.sent.as_ref();
        let sent = sent.and_then(|sent| sent.changes.get(field));
        match self.changes.get(field).or(sent) {
            Some(change) => !matches!(change, Change::Unset),
            None => self.base.get(field).is_some(),
        }
    }

    /// The fields that hold a value: the stored ones in stored order, then the new ones.
    pub(crate) fn fields(&self) -> Vec<Field> {
        let mut fields = self.base.fields();
        if let Some(sent) = &self.sent {
            fields = sent.changes.fields_after(fields);
        }
        self.changes.fields_after(fields)
    }

    pub(crate) fn id(&self) -> Option<&Id> {
        match &self.base {
            Base::New(new) => new.id.as_ref(),
            Base::Stored(stored) => Some(&stored.record.id),
        }
    }

    /// The stored session by which the user is known; none when a login of this request says it.
    pub(crate) fn stands_on(&self) -> Option<&Id> {
        match &self.base {
            Base::Stored(stored) => Some(&stored.record.id),
            Base::New(new) => {
                let replaces = new.replaces.as_ref()?;
                matches!(replaces.keep, Keep::All).then(|| replaces.old.id())
            }
        }
    }

    /// The stored session that this one replaces with the answer.
    pub(crate) fn replaced(&self) -> Option<&Id> {
        match &self.base {
            Base::New(new) => new.replaces.as_ref().map(|replaces| replaces.old.id()),
            Base::Stored(_) => None,
        }
    }

    pub(crate) fn user(&self) -> Option<&RawBson> {
        match &self.base {
            Base::New(new) => new.user.as_ref(),
            Base::Stored(stored) => stored.record.user.as_ref(),
        }
    }

    pub(crate) fn csrf(&self) -> Option<&Secret> {
        match &self.base {
            Base::New(new) => new.csrf.as_ref(),
            Base::Stored(stored) => {
                let sent = self.sent.as_ref();
                let sent = || sent.and_then(|sent| sent.settings.csrf.as_ref());
                let set = self.settings.csrf.as_ref().or_else(sent);
                Some(set.unwrap_or(&stored.record.csrf))
            }
        }
    }

    /// The timeout that this request has set, in whichever state that is.
    pub(crate) fn own_timeout(&self) -> Option<Option<Duration>> {
        let sent = self.sent.as_ref();
        let sent = sent.and_then(|sent| sent.settings.timeout);
        self.settings.timeout.or(sent)
    }

    /// The timeout in force, when the configured one is `timeout`.
    pub(crate) fn timeout(&self, timeout: Option<Duration>) -> Option<Duration> {
        let stored = match &self.base {
            Base::Stored(stored) => stored.record.timeout,
            Base::New(_) => None,
        };
        self.own_timeout().or(stored).unwrap_or(timeout)
    }

    /// Whether a session that is not stored yet holds anything worth storing.
    pub(crate) fn is_wanted(&self) -> bool {
        match &self.base {
            Base::Stored(_) => true,
            Base::New(new) => {
                let is_ancestors = new.ancestor().is_some();
                let wants = |changes: &Changes, settings: &Settings| {
                    !changes.is_empty()
                        || settings.timeout.is_some()
                        || settings.max_age.is_some()
                        || settings.csrf.is_some()
                        || (is_ancestors && (settings.touch || settings.renew))
                };
                new.by_login
                    || (!is_ancestors && new.csrf.is_some())
                    || wants(&self.changes, &self.settings)
                    || self
                        .sent
                        .as_ref()
                        .is_some_and(|sent| wants(&sent.changes, &sent.settings))
            }
        }
    }

    /// Whether there is anything to go on with: a stored session, or one that will be stored.
    pub(crate) fn holds_something(&self) -> bool {
        self.is_ancestors() || self.is_wanted()
    }

    /// Whether anything was done that waits to be written.
    pub(crate) fn is_pending(&self) -> bool {
        let is_login = matches!(&self.base, Base::New(new) if new.by_login);
        is_login || !self.changes.is_empty() || self.settings.are_some()
    }

    /// How the elements of a list are encoded, as far as there is one.
    pub(crate) fn list_encoding(&self, field: &Field) -> Option<Encoding> {
        let under = || value::list_encoding(self.under(field)?.as_ref());
        match self.changes.get(field) {
            None | Some(Change::Add(_)) => under(),
            Some(Change::Unset) => None,
            Some(Change::Set(list)) => value::list_encoding(list.as_raw_bson_ref()),
            // The last says it as well as the first, and is found sooner.
            Some(Change::Append(more)) => {
                let mut more = more.iter().rev().map(RawBson::as_raw_bson_ref);
                more.find_map(value::element_encoding).or_else(under)
            }
        }
    }

    /// Whether a list holds this element, as this request sees it.
    pub(crate) fn has_element(&self, field: &Field, element: &RawBson) -> bool {
        let under = || {
            let list = self.under(field);
            list.is_some_and(|list| value::has_element(list.as_ref(), element))
        };
        match self.changes.get(field) {
            None => under(),
            Some(Change::Append(more)) => more.contains(element) || under(),
            Some(Change::Set(list)) => value::has_element(list.as_raw_bson_ref(), element),
            Some(Change::Unset | Change::Add(_)) => false,
        }
    }

    /// Whether it is still the ancestor's document that holds it.
    pub(crate) fn is_ancestors(&self) -> bool {
        matches!(&self.base, Base::New(new) if new.ancestor().is_some())
    }

    // ---- changing

    /// Folds a change into what the request has done, unless it changes nothing.
    pub(crate) fn change(&mut self, field: Field, change: Change) -> Result<(), Error> {
        let size = self.size_after(&field, &change).map_err(|misfit| {
            let key = field.display();
            match misfit {
                Some(reason) => Error::Mismatch { key, reason },
                None => Error::TooLarge {
                    limit: self.max_bytes,
                },
            }
        })?;
        let changes = &mut self.changes;
        match changes.get_mut(&field) {
            Some(before) => before.fold(change).map_err(|reason| Error::Mismatch {
                key: field.display(),
                reason,
            })?,
            None => changes.put(field.clone(), change),
        }
        self.size = size;
        if self.is_no_change(&field) {
            self.changes.take(&field);
        }
        self.name_itself();
        Ok(())
    }

    /// Removes the application's values: as [`change`](State::change) of each would, but in one go,
    /// since there can be as many as somebody likes to name.
    pub(crate) fn clear(&mut self) {
        let is_ours = |field: &Field| Field::key(field.as_str()).is_none();
        self.changes.retain(is_ours);
        for field in self.fields() {
            if !is_ours(&field) {
                self.changes.put(field, Change::Unset);
            }
        }
        self.size = self.measure();
        self.name_itself();
    }

    /// Gives a session that is to be stored its id, so that the handler can show it. Without
    /// random bytes it stays nameless, and the commit fails and says why.
    pub(crate) fn name_itself(&mut self) {
        let wanted = self.is_wanted();
        if let Base::New(new) = &mut self.base {
            if !wanted {
                new.id = None;
            } else if new.id.is_none() {
                new.id = Id::draw().ok();
            }
        }
    }

    /// The CSRF secret, drawn now if there is none yet.
    pub(crate) fn csrf_or_draw(&mut self) -> Result<Secret, Error> {
        if let Some(secret) = self.csrf() {
            return Ok(secret.clone());
        }
        let secret = Secret::draw()?;
        self.set_csrf(secret.clone());
        Ok(secret)
    }

    pub(crate) fn set_csrf(&mut self, secret: Secret) {
        if let Base::New(new) = &mut self.base {
            new.csrf = Some(secret.clone());
        }
        self.settings.csrf = Some(secret);
        self.name_itself();
    }

    // ---- writing

    /// A write of all that is pending begins. What the request does until it has ended stays
    /// pending after it.
    pub(crate) fn begin(&mut self) {
        self.sent = Some(Sent {
            changes: std::mem::take(&mut self.changes),
            settings: std::mem::take(&mut self.settings),
        });
    }

    /// A write of one value begins; the pending change that it carries.
    pub(crate) fn begin_one(&mut self, field: &Field) -> Option<Change> {
        let pending = self.changes.take(field);
        let mut sent = Sent::default();
        if let Some(change) = &pending {
            sent.changes.put(field.clone(), change.clone());
        }
        self.sent = Some(sent);
        pending
    }

    /// The write has ended, and this is what is stored. What was done meanwhile stays pending.
    pub(crate) fn written(&mut self, base: Base) {
        self.base = base;
        self.sent = None;
        // Others may have done the same.
        let done = self
            .changes
            .fields()
            .filter(|field| self.is_no_change(field));
        let done: HashSet<Field> = done.cloned().collect();
        self.changes.retain(|field| !done.contains(field));
        self.size = self.measure();
    }

    /// The write has failed, and its caller was told: what it carried is dropped.
    pub(crate) fn fell(&mut self) {
        self.sent = None;
        self.size = self.measure();
    }

    /// The write has changed nothing: what it carried is pending again, before what was done since.
    pub(crate) fn put_back(&mut self) {
        if let Some(sent) = self.sent.take() {
            let later = std::mem::take(&mut self.changes);
            self.changes = sent.changes.and_then(later);
            let later = std::mem::take(&mut self.settings);
            self.settings = sent.settings.and_then(later);
        }
        self.size = self.measure();
    }
}

/// A value after a change, if there is one.
fn changed<'a>(change: Option<&Change>, value: Option<Value<'a>>) -> Option<Value<'a>> {
    match change {
        // One that does not fit is refused at the commit.
        Some(change) => {
            let value = change.apply(value.as_ref().map(Value::as_ref));
            value.ok().flatten().map(Value::Made)
        }
        None => value,
    }
}

#[cfg(test)]
mod tests;
