//! The session of one request: what was loaded, and what the request has done to it so far. Pure:
//! no I/O, no Rocket; [`commit`](crate::commit) decides from it what to write.

mod arrival;
mod base;
mod settings;

use std::collections::BTreeSet;
use std::time::Duration;

use bson::RawBson;
use bson::raw::RawBsonRef;

use crate::changes::{Change, Changes};
use crate::clock::Moment;
use crate::config::Encoding;
use crate::error::Error;
use crate::key::Field;
use crate::record::Client;
use crate::token::{Id, Secret};
use crate::value;

pub(crate) use self::arrival::{Arrival, Dead};
pub(crate) use self::base::{Base, Keep, New, Old, Replaces, Stored};
pub(crate) use self::settings::{Sent, Settings};

/// One request's session.
pub(crate) struct State {
    pub(crate) base: Base,
    pub(crate) changes: Changes,
    pub(crate) settings: Settings,
    /// The session that the browser's cookie named, when that one cannot be used.
    pub(crate) dead: Option<Dead>,
    /// Sessions that a logout ended, to be deleted whatever the answer becomes.
    pub(crate) ended: Vec<Id>,
    /// The cookie of the session that was logged out is still in the browser.
    pub(crate) removal: bool,
    pub(crate) client: Client,
    pub(crate) started: Moment,
    /// When this request itself revoked the user's other sessions: its own login stands against
    /// that, and what else began until then is judged already.
    pub(crate) spared: Option<Moment>,
    pub(crate) is_new: bool,
    /// The answer was committed; nothing can be kept any more.
    pub(crate) sealed: bool,
    /// Counts the times that another session took this one's place (login, logout), so that a
    /// save that was under way meanwhile can tell.
    pub(crate) identity: u32,
    /// Fields that a write which is under way carries: what undoes it meanwhile is a change, too.
    in_flight: Vec<Field>,
    size: usize,
    max_bytes: usize,
}

impl State {
    pub(crate) fn new(arrival: Arrival, started: Moment, max_bytes: usize) -> Self {
        let mut state = State {
            base: Base::empty(),
            changes: Changes::default(),
            settings: Settings::default(),
            dead: None,
            ended: Vec::new(),
            removal: false,
            client: Client::default(),
            started,
            spared: None,
            is_new: true,
            sealed: false,
            identity: 0,
            in_flight: Vec::new(),
            size: 0,
            max_bytes,
        };
        match arrival {
            Arrival::Nothing => {}
            Arrival::Dead(id) => state.dead = Some(Dead::new(id)),
            Arrival::Locked(id) => {
                let is_locked = true;
                state.dead = Some(Dead {
                    is_locked,
                    ..Dead::new(id)
                });
            }
            Arrival::Expired(id) => {
                let expired = true;
                state.dead = Some(Dead {
                    expired,
                    ..Dead::new(id)
                });
            }
            Arrival::Live(stored) => {
                state.is_new = false;
                state.base = Base::Stored(stored);
            }
            Arrival::Ancestor(ancestor) => {
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
        let stored = self.base.get(field);
        match self.changes.get(field) {
            // A change that does not fit was refused when it was made.
            Some(change) => change.apply(stored).ok().flatten(),
            None => stored.map(RawBsonRef::to_raw_bson),
        }
    }

    pub(crate) fn contains(&self, field: &Field) -> bool {
        match self.changes.get(field) {
            Some(change) => !matches!(change, Change::Unset),
            None => self.base.get(field).is_some(),
        }
    }

    /// The fields that hold a value: the stored ones in stored order, then the new ones.
    pub(crate) fn fields(&self) -> Vec<Field> {
        let mut fields = self.base.fields();
        if self.changes.is_empty() {
            return fields;
        }
        let stored: BTreeSet<&Field> = fields.iter().collect();
        let removed: BTreeSet<&Field> = self
            .changes
            .iter()
            .filter(|(_, change)| matches!(change, Change::Unset))
            .map(|(field, _)| field)
            .collect();
        let added: Vec<Field> = self
            .changes
            .iter()
            .map(|(field, _)| field)
            .filter(|field| !stored.contains(field))
            .cloned()
            .collect();
        fields.extend(added);
        fields.retain(|field| !removed.contains(field));
        fields
    }

    pub(crate) fn id(&self) -> Option<&Id> {
        match &self.base {
            Base::New(new) => new.id.as_ref(),
            Base::Stored(stored) => Some(&stored.record.id),
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
                Some(self.settings.csrf.as_ref().unwrap_or(&stored.record.csrf))
            }
        }
    }

    /// The timeout in force, when the configured one is `timeout`.
    pub(crate) fn timeout(&self, timeout: Option<Duration>) -> Option<Duration> {
        let stored = match &self.base {
            Base::Stored(stored) => stored.record.timeout,
            Base::New(_) => None,
        };
        self.settings.timeout.or(stored).unwrap_or(timeout)
    }

    /// Whether a session that is not stored yet holds anything worth storing.
    pub(crate) fn is_wanted(&self) -> bool {
        match &self.base {
            Base::Stored(_) => true,
            Base::New(new) => {
                let ancestor = new.ancestor().is_some();
                let settings = &self.settings;
                new.by_login
                    || !self.changes.is_empty()
                    || settings.timeout.is_some()
                    || settings.max_age.is_some()
                    || settings.csrf.is_some()
                    || (ancestor && (settings.touch || settings.renew))
                    || (!ancestor && new.csrf.is_some())
            }
        }
    }

    /// Whether there is anything to go on with: a stored session, or one that will be stored.
    pub(crate) fn holds_something(&self) -> bool {
        self.is_ancestors() || self.is_wanted()
    }

    /// How the elements of a list are encoded, as far as there is one.
    pub(crate) fn list_encoding(&self, field: &Field) -> Option<Encoding> {
        let stored = || self.base.get(field).and_then(value::list_encoding);
        match self.changes.get(field) {
            None | Some(Change::Add(_)) => stored(),
            Some(Change::Unset) => None,
            Some(Change::Set(list)) => value::list_encoding(list.as_raw_bson_ref()),
            Some(Change::Append(more)) => stored().or_else(|| {
                let mut more = more.iter().map(RawBson::as_raw_bson_ref);
                more.find_map(value::element_encoding)
            }),
        }
    }

    /// Whether it is still the ancestor's document that holds it.
    pub(crate) fn is_ancestors(&self) -> bool {
        matches!(&self.base, Base::New(new) if new.ancestor().is_some())
    }

    // ---- changing

    /// Folds a change into what the request has done, unless it changes nothing.
    pub(crate) fn change(&mut self, field: Field, change: Change) -> Result<(), Error> {
        let misfit = |reason| Error::Mismatch {
            key: field.display(),
            reason,
        };
        let folded = match self.changes.get(&field) {
            Some(before) => before.then(change).map_err(misfit)?,
            None => change,
        };
        let stored = self.base.get(&field);
        let after = folded.apply(stored).map_err(misfit)?;
        let size = |value: Option<RawBsonRef<'_>>| {
            value.map_or(0, |value| value::size(field.as_str(), value))
        };
        let now = self.get(&field);
        let (old, new) = (
            size(now.as_ref().map(RawBson::as_raw_bson_ref)),
            size(after.as_ref().map(RawBson::as_raw_bson_ref)),
        );
        let grown = self.size.saturating_sub(old) + new;
        if new > old && grown > self.max_bytes {
            return Err(Error::TooLarge {
                limit: self.max_bytes,
            });
        }
        let unchanged = match (stored, &after) {
            (None, None) => true,
            (Some(stored), Some(after)) => value::same(stored, after.as_raw_bson_ref()),
            _ => false,
        };
        self.size = grown;
        if unchanged && !self.in_flight.contains(&field) {
            self.changes.take(&field);
        } else {
            self.changes.put(field, folded);
        }
        self.name_itself();
        Ok(())
    }

    /// Removes the application's values: as [`change`](State::change) of each would, but in one go,
    /// since there can be as many as somebody likes to name.
    pub(crate) fn clear(&mut self) {
        let stored: BTreeSet<Field> = self.base.fields().into_iter().collect();
        for field in self.fields() {
            if Field::key(field.as_str()).is_none() {
                continue;
            }
            if stored.contains(&field) || self.in_flight.contains(&field) {
                self.changes.put(field, Change::Unset);
            } else {
                self.changes.take(&field);
            }
        }
        self.size = self.measure();
        self.name_itself();
    }

    /// What a write that begins now carries. What the request does until it has ended stays
    /// pending after it.
    pub(crate) fn begin(&mut self) -> Sent {
        let fields = self.changes.iter().map(|(field, _)| field.clone());
        self.in_flight = fields.collect();
        Sent {
            changes: self.changes.clone(),
            settings: self.settings.clone(),
        }
    }

    /// Takes the pending change of one value, for a call that carries it out at once.
    pub(crate) fn begin_one(&mut self, field: &Field) -> Option<Change> {
        self.in_flight = vec![field.clone()];
        let pending = self.changes.take(field);
        self.size = self.measure();
        pending
    }

    /// Puts back what `begin_one` took, before whatever was done since.
    pub(crate) fn put_back(&mut self, field: Field, change: Option<Change>) {
        self.in_flight.clear();
        if let Some(change) = change {
            let whole = match self.changes.get(&field) {
                Some(later) => change.then(later.clone()).unwrap_or(change),
                None => change,
            };
            self.changes.put(field, whole);
            self.size = self.measure();
        }
    }

    /// How many bytes the values take, as this request sees them.
    fn measure(&self) -> usize {
        let size = |field: &Field, value: Option<RawBsonRef<'_>>| {
            value.map_or(0, |value| value::size(field.as_str(), value))
        };
        self.changes
            .iter()
            .fold(self.base.size(), |sum, (field, _)| {
                let now = self.get(field);
                let now = now.as_ref().map(RawBson::as_raw_bson_ref);
                (sum + size(field, now)).saturating_sub(size(field, self.base.get(field)))
            })
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

    /// A new session for a principal, with the kept values of this one. `None` keeps the
    /// principal that there is.
    pub(crate) fn login(&mut self, user: Option<RawBson>, keep: Keep) {
        self.identity += 1;
        self.in_flight.clear();
        // A change of privilege is no new login: what the session set for itself goes on.
        let settings = match user {
            Some(_) => Settings::default(),
            None => self.own_times(),
        };
        if user.is_some() && user.as_ref() != self.user() {
            self.spared = None; // it was another user's
        }
        let user = user.or_else(|| self.user().cloned());
        let mut values = self.changes.after(self.base.values());
        values.retain(|(field, _)| keep.has(field));
        let before = std::mem::take(&mut self.changes);
        let replaces = match std::mem::replace(&mut self.base, Base::empty()) {
            Base::Stored(stored) => Some(Replaces {
                old: Old::Ours(stored),
                keep,
                before,
            }),
            // A second login in one request still replaces the one session that is stored, whose
            // values then have been through both; what is kept is what both keep.
            Base::New(new) => new.replaces.map(|first| Replaces {
                keep: first.keep.and(keep),
                before: first.before.and_then(before),
                old: first.old,
            }),
        };
        self.settings = settings;
        self.base = Base::New(Box::new(New {
            user,
            values,
            replaces,
            by_login: true,
            ..New::default()
        }));
        self.size = self.base.size();
        self.is_new = true;
        self.name_itself();
    }

    fn own_times(&self) -> Settings {
        let (timeout, max_age) = match &self.base {
            Base::Stored(stored) => (stored.record.timeout, stored.record.max_age),
            Base::New(_) => (None, None),
        };
        Settings {
            timeout: self.settings.timeout.or(timeout),
            max_age: self.settings.max_age.or(max_age),
            ..Settings::default()
        }
    }

    /// Forgets everything. The stored session, if there is one, is deleted with the answer.
    pub(crate) fn logout(&mut self) {
        self.identity += 1;
        self.in_flight.clear();
        let ended = match std::mem::replace(&mut self.base, Base::empty()) {
            Base::Stored(stored) => Some(stored.record.id.clone()),
            Base::New(new) => new.replaces.map(|replaces| replaces.old.id().clone()),
        };
        let expired = self.dead.take_if(|dead| dead.expired).map(|dead| dead.id);
        for id in ended.into_iter().chain(expired) {
            self.ended.push(id);
            self.removal = true;
        }
        self.changes = Changes::default();
        self.settings = Settings::default();
        self.size = self.base.size();
        self.is_new = true;
    }

    /// Drops what the request did since the last save; a logout stands.
    pub(crate) fn discard(&mut self) {
        self.in_flight.clear();
        self.changes = Changes::default();
        self.settings = Settings::default();
        let base = std::mem::replace(&mut self.base, Base::empty());
        self.base = match base {
            Base::New(new) => match new.replaces {
                Some(replaces) => {
                    self.is_new = false;
                    match replaces.old {
                        Old::Ours(stored) => Base::Stored(stored),
                        Old::Ancestor(ancestor) => Base::ancestor(ancestor),
                    }
                }
                None => Base::empty(),
            },
            stored @ Base::Stored(_) => stored,
        };
        self.size = self.base.size();
    }

    /// The stored session is gone: the browser's cookie is a dead one from here on.
    pub(crate) fn lost(&mut self) {
        let id = match &self.base {
            Base::Stored(stored) => Some(&stored.record.id),
            Base::New(new) => new.ancestor().map(|ancestor| &ancestor.id),
        };
        if let Some(id) = id.cloned() {
            self.dead = Some(Dead::new(id));
        }
        self.changes = Changes::default();
        self.settings = Settings::default();
        self.rebase(Base::empty(), &Sent::default());
        self.is_new = true;
    }

    /// What the session builds on from now on, after a write of `sent`. What was done while the
    /// write was under way stays pending.
    pub(crate) fn rebase(&mut self, base: Base, sent: &Sent) {
        self.in_flight.clear();
        self.base = base;
        self.size = self.base.size();
        self.settings = self.settings.without(&sent.settings);
        for (field, change) in std::mem::take(&mut self.changes).without(&sent.changes) {
            // It fitted before the write, which may have changed what it meets.
            if let Err(error) = self.change(field, change) {
                error.log();
            }
        }
    }
}

#[cfg(test)]
mod tests;
