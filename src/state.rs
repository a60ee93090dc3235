//! The session of one request: what was loaded, and what the request has done to it so far. Pure:
//! no I/O, no Rocket. [`plan`] decides from it what to write.

mod base;
pub(crate) mod changes;
mod doubts;
mod in_flight;
mod load_outcome;
pub(crate) mod plan;
mod size;
mod transitions;

use std::collections::HashSet;
use std::sync::LazyLock;

use bson::RawBson;

use crate::clock::{Moment, Started};
use crate::config::{Config, Encoding};
use crate::document::key::Field;
use crate::document::value::{self, Value};
use crate::error::Error;
use crate::record::token::{Id, Secret, Token};
use crate::record::{Client, Expiry, OwnTimes};
use changes::{Change, Changes, Mismatch};
use doubts::Doubts;

pub(crate) use self::base::{Base, Login, Replaces, Stored};
pub(crate) use self::in_flight::{InFlight, Settings, TimeChanges, TokenChange};
pub use self::load_outcome::NewReason;
pub(crate) use self::load_outcome::{Creation, Deletion, LoadOutcome, Loaded, Proof, Replaced};

/// One request's session: the stored session, over it the changes of a write in flight, over these
/// the request's changes since then.
pub(crate) struct State {
    pub(crate) base: Base,
    in_flight: Option<Box<InFlight>>,
    pub(crate) changes: Changes,
    pub(crate) settings: Settings,
    /// The sessions that the browser's cookie may name, when the request has none of them.
    pub(crate) dead: Vec<Id>,
    /// The load looked for their tombstones.
    pub(crate) dead_is_looked_up: bool,
    pub(crate) replaced: Option<Box<Replaced>>,
    /// Further sessions that the request's cookies prove: a login and a logout end them.
    other_sessions: Vec<Id>,
    /// Sessions that had ended when they were looked for: a logout deletes them nevertheless.
    not_alive: Vec<Deletion>,
    pub(crate) doubts: Doubts,
    /// Sessions that a logout ended, to be deleted whatever the response becomes.
    pub(crate) ended: Vec<Deletion>,
    brought_cookie: bool,
    /// A logout removes the browser's cookie.
    pub(crate) removes_cookie: bool,
    pub(crate) creation: Creation,
    /// The address to return to after a login, of the session that the request logged out.
    return_to: Option<RawBson>,
    /// The response may be unseen, so messages stay in their queues.
    pub(crate) may_be_unseen: bool,
    /// The request does not count as use of the session.
    pub(crate) skips_touch: bool,
    pub(crate) client: Client,
    pub(crate) started: Started,
    pub(crate) is_new: bool,
    pub(crate) why_new: Option<NewReason>,
    /// The response was committed; later changes cannot be stored.
    pub(crate) is_committed: bool,
    /// Counts logins and logouts, so that a write that was in flight meanwhile can notice them.
    pub(crate) identity_changes: u32,
    /// Counts changes: code that decoded a value without the lock compares it, since values have no
    /// reliable equality (NaN).
    pub(crate) version: u64,
    /// How many bytes the values take, or a few more: an append does not count the elements that are
    /// there.
    size: usize,
    max_bytes: usize,
}

impl State {
    pub(crate) fn new(loaded: Loaded, client: Client, started: Started, max_bytes: usize) -> Self {
        let mut state = State {
            base: Base::Empty,
            in_flight: None,
            changes: Changes::default(),
            settings: Settings::default(),
            dead: Vec::new(),
            dead_is_looked_up: false,
            replaced: None,
            other_sessions: loaded.other_sessions,
            not_alive: loaded.not_alive,
            doubts: Doubts::default(),
            ended: Vec::new(),
            brought_cookie: loaded.brought_cookie,
            removes_cookie: false,
            creation: loaded.creation,
            return_to: None,
            may_be_unseen: loaded.may_be_unseen,
            skips_touch: false,
            client,
            started,
            is_new: true,
            why_new: None,
            is_committed: false,
            identity_changes: 0,
            version: 0,
            size: 0,
            max_bytes,
        };
        match loaded.outcome {
            LoadOutcome::New(reason) => {
                state.why_new = Some(reason);
                if reason == NewReason::Ambiguous {
                    let named = state.not_alive.iter().map(|one| &one.id);
                    let named = state.other_sessions.iter().chain(named);
                    state.dead = named.cloned().collect();
                }
            }
            LoadOutcome::Dead(id, reason) => {
                state.dead_is_looked_up = reason != NewReason::Expired;
                state.why_new = Some(reason);
                // With another secret it may be another user's: no login takes its place.
                state
                    .dead
                    .extend((reason != NewReason::WrongSecret).then_some(id));
            }
            LoadOutcome::Replaced(replaced) => {
                state.why_new = Some(NewReason::Replaced);
                state.replaced = Some(replaced);
            }
            LoadOutcome::Live(stored) => {
                state.is_new = false;
                state.base = Base::Stored(stored);
            }
        }
        state.size = state.base.size();
        state
    }

    // ---- reading

    /// A value as this request sees it.
    pub(crate) fn get(&self, field: &Field) -> Result<Option<RawBson>, Error> {
        let seen = self.seen(field).map_err(|mismatch| mismatch.of(field))?;
        Ok(seen.map(Value::into_owned))
    }

    /// A mismatch: another request stored a value that this one's pending change does not fit.
    fn seen(&self, field: &Field) -> Result<Option<Value<'_>>, Mismatch> {
        changed(self.changes.get(field), || self.under(field))
    }

    /// The value that the request's changes apply to: what is stored, or will be when the write
    /// that is in flight has ended.
    fn under(&self, field: &Field) -> Result<Option<Value<'_>>, Mismatch> {
        let stored = || Ok(self.base.get(field)?);
        changed(self.in_flight().changes.get(field), stored)
    }

    /// Whether there is a value. It is not opened for that.
    pub(crate) fn contains(&self, field: &Field) -> bool {
        match self.last_change(field) {
            Some(change) => *change != Change::Unset,
            None => self.base.contains(field),
        }
    }

    /// The last thing that the request did to a field, stored or not.
    fn last_change(&self, field: &Field) -> Option<&Change> {
        let in_flight = || self.in_flight().changes.get(field);
        self.changes.get(field).or_else(in_flight)
    }

    /// The fields that hold a value: the stored ones in stored order, then the new ones.
    pub(crate) fn fields(&self) -> Vec<Field> {
        let fields = self.in_flight().changes.fields_after(self.base.fields());
        self.changes.fields_after(fields)
    }

    /// The id of the stored session, unless it is the credential of a legacy session.
    pub(crate) fn public_id(&self) -> Option<&Id> {
        let stored = self.stored().filter(|stored| !stored.token.is_bare());
        stored.map(|stored| &stored.record.meta.id)
    }

    /// How log lines name the session.
    pub(crate) fn describe(&self) -> &str {
        self.public_id().map_or("(without a public id)", Id::as_str)
    }

    pub(crate) fn stored(&self) -> Option<&Stored> {
        match &self.base {
            Base::Stored(stored) => Some(stored),
            Base::Empty | Base::Login(_) => None,
        }
    }

    pub(crate) fn user(&self) -> Option<&RawBson> {
        match &self.base {
            Base::Empty => None,
            Base::Login(login) => Some(&login.user),
            Base::Stored(stored) => stored.record.meta.user.as_ref(),
        }
    }

    pub(crate) fn csrf(&self) -> Option<&Secret> {
        let settings = self.all_settings().into_iter();
        let mut set = settings.filter_map(|settings| settings.csrf.as_ref());
        set.next().or_else(|| match &self.base {
            Base::Empty => self.proof().map(|proof| &proof.csrf),
            Base::Stored(_) if self.doubts.csrf => None,
            Base::Login(_) => None,
            Base::Stored(stored) => stored.record.csrf.as_ref(),
        })
    }

    fn proof(&self) -> Option<&Proof> {
        self.replaced.as_ref()?.proof.as_ref()
    }

    /// What the write in flight carries; empty without one.
    fn in_flight(&self) -> &InFlight {
        static NOTHING: LazyLock<InFlight> = LazyLock::new(InFlight::default);
        self.in_flight.as_deref().unwrap_or(&NOTHING)
    }

    /// The pending settings, and those of a write in flight, which the pending ones override.
    fn all_settings(&self) -> [&Settings; 2] {
        [&self.settings, &self.in_flight().settings]
    }

    /// Whether the request elevates the session.
    fn elevates(&self) -> bool {
        let mut settings = self.all_settings().into_iter();
        settings.any(|settings| settings.token == TokenChange::Elevate)
    }

    /// The token that was handed out and is not stored yet.
    pub(crate) fn issued(&self) -> Option<Token> {
        let mut settings = self.all_settings().into_iter();
        settings.find_map(|settings| settings.issued.clone())
    }

    /// The idle and the absolute timeout in force.
    pub(crate) fn expiry(&self, config: &Config) -> Expiry {
        self.times().expiry(config)
    }

    /// The session's own times, as this request sees them.
    pub(crate) fn times(&self) -> OwnTimes {
        self.settings.times.apply(self.times_under())
    }

    /// The times that the request's changes apply to.
    fn times_under(&self) -> OwnTimes {
        let stored = self.stored().map(|stored| stored.record.meta.times.own);
        let in_flight = self.in_flight().settings.times;
        in_flight.apply(stored.unwrap_or_default())
    }

    /// Sets some of the session's own times. Those that stay as they are are no change.
    pub(crate) fn set_times(&mut self, changes: TimeChanges) {
        let under = self.times_under();
        // What a write in flight sets, or one with an unknown outcome, may be stored or not.
        let open = self.doubts.times.and_then(self.in_flight().settings.times);
        let all = self.settings.times.zip(changes).zip(under.zip(open));
        self.settings.times = all.map(|((pending, change), (under, open))| match change {
            Some(wanted) => (wanted != under || open.is_some()).then_some(wanted),
            None => pending,
        });
    }

    /// Whether the request has set times of its own, or starts the absolute timeout anew.
    pub(crate) fn sets_times(&self) -> bool {
        let mut settings = self.all_settings().into_iter();
        settings.any(Settings::times_are_set) || self.elevates()
    }

    /// When the session was created, or will be if it is stored at `now`.
    pub(crate) fn created(&self, now: Moment) -> Moment {
        match &self.base {
            Base::Empty => self.started.moment,
            Base::Login(_) => now,
            // Not back in time, where the clock of another process is ahead.
            Base::Stored(stored) if self.elevates() => stored.record.meta.times.created.max(now),
            Base::Stored(stored) => stored.record.meta.times.created,
        }
    }

    /// Whether the session is stored, or will be.
    pub(crate) fn is_wanted(&self) -> bool {
        match &self.base {
            Base::Stored(_) | Base::Login(_) => true,
            Base::Empty => !self.changes.is_empty() || self.settings.create_session(),
        }
    }

    /// Whether a change of this key has to be stored before the value can be exchanged: the
    /// request's own, or that of a login which other requests can still add to.
    pub(crate) fn must_save_before_exchange(&self, field: &Field) -> bool {
        match &self.base {
            Base::Empty => false,
            Base::Login(login) => login
                .replaces
                .as_ref()
                .is_some_and(|replaces| replaces.keep.contains(field)),
            Base::Stored(_) => self.last_change(field).is_some(),
        }
    }

    /// Whether anything was done that waits to be written.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self.base, Base::Login(_)) || !self.changes.is_empty() || !self.settings.is_empty()
    }

    /// The keys with a pending change, as the application names them.
    pub(crate) fn pending_keys(&self) -> Vec<String> {
        let in_flight = self.in_flight().changes.fields();
        let fields = in_flight.chain(self.changes.fields());
        let mut keys: Vec<String> = fields.map(Field::display).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// How the elements of a list are encoded, as far as there is one.
    pub(crate) fn list_encoding(&self, field: &Field) -> Option<Encoding> {
        let under = || value::list_encoding(self.under(field).ok()??.as_ref());
        match self.changes.get(field) {
            None | Some(Change::Add(_)) => under(),
            Some(Change::Unset) => None,
            Some(Change::Set(list)) => value::list_encoding(list.as_raw_bson_ref()),
            // All elements have one encoding, and the last is found sooner.
            Some(Change::Append(more)) => {
                let mut more = more.iter().rev().map(RawBson::as_raw_bson_ref);
                more.find_map(value::element_encoding).or_else(under)
            }
        }
    }

    /// Whether a list holds this element, as this request sees it. Of what may not be stored only the
    /// pending changes count.
    pub(crate) fn has_element(&self, field: &Field, element: &RawBson) -> bool {
        let under = || {
            let list = self.under(field).ok().flatten();
            !self.is_open(field)
                && list.is_some_and(|list| value::has_element(list.as_ref(), element))
        };
        match self.changes.get(field) {
            None => under(),
            Some(Change::Append(more)) => value::is_in(more, element) || under(),
            Some(Change::Set(list)) => value::has_element(list.as_raw_bson_ref(), element),
            Some(Change::Unset | Change::Add(_)) => false,
        }
    }

    // ---- changing

    /// Whether the request may change the session, as opposed to signing a user in.
    pub(crate) fn check_may_write(&self) -> Result<(), Error> {
        match (self.creation, &self.base) {
            (Creation::Never, _) => Err(Error::OutsidePath),
            (Creation::OnlyByLogin, Base::Empty) => Err(Error::CrossSiteWrite),
            _ => Ok(()),
        }
    }

    /// Folds a change into the request's changes, unless it changes nothing.
    pub(crate) fn change(&mut self, field: Field, change: Change) -> Result<(), Error> {
        let size = self.size_after(&field, &change)?;
        match self.changes.get_mut(&field) {
            Some(before) => before
                .fold(change)
                .map_err(|mismatch| mismatch.of(&field))?,
            None => self.changes.put(field.clone(), change),
        }
        self.size = size;
        self.version += 1;
        if self.is_unchanged(&field) {
            self.changes.remove(&field);
        }
        Ok(())
    }

    /// Removes the application's values: as [`change`](State::change) of each would, but in one
    /// pass, since a client may have named any number of them.
    pub(crate) fn clear(&mut self) {
        let is_ours = |field: &Field| Field::key(field.as_str()).is_none();
        self.changes.retain(is_ours);
        // A value that a write in flight removes is still there if the write fails.
        let in_flight = self.in_flight().changes.fields();
        let uncertain: Vec<Field> = in_flight.chain(self.doubts.fields()).cloned().collect();
        for field in self.fields().into_iter().chain(uncertain) {
            if !is_ours(&field) {
                self.changes.put(field, Change::Unset);
            }
        }
        self.changed();
    }

    /// The CSRF secret, drawn now if it is missing.
    pub(crate) fn csrf_or_draw(&mut self) -> Result<Secret, Error> {
        if let Some(secret) = self.csrf() {
            return Ok(secret.clone());
        }
        self.check_may_write()?;
        let secret = Secret::draw()?;
        self.settings.csrf = Some(secret.clone());
        Ok(secret)
    }

    // ---- writing

    /// Lets the update that is due, if one is, send the cookie: the token is a condition of the
    /// update then. Returns whether there is an update.
    pub(crate) fn resend_with_commit(&mut self) -> bool {
        let is_due = !self.changes.is_empty() || self.settings.has_changes();
        let is_due = is_due && self.stored().is_some();
        self.settings.touch |= is_due;
        is_due
    }

    /// A write of all pending changes starts. Changes that the request makes until it has ended stay
    /// pending.
    pub(crate) fn start_flush(&mut self) {
        self.in_flight = Some(Box::new(InFlight {
            changes: std::mem::take(&mut self.changes),
            settings: std::mem::take(&mut self.settings),
        }));
    }

    /// The write has changed values alone.
    pub(crate) fn settings_were_not_stored(&mut self) {
        if let Some(write) = &mut self.in_flight {
            write.settings = Settings::default();
        }
    }

    /// The write has succeeded, and `stored` is stored. Changes made meanwhile stay pending.
    pub(crate) fn flush_succeeded(&mut self, stored: Stored) {
        if matches!(self.base, Base::Login(_)) {
            self.doubts = Doubts::default(); // they were about another document
            self.dead.clear(); // they have its tombstones
        }
        self.base = Base::Stored(Box::new(stored));
        if let Some(write) = self.in_flight.take() {
            self.doubts.settle(&write);
        }
        self.drop_no_changes();
    }

    /// The write has failed: its changes are dropped, and may be stored if its outcome is unknown. If it
    /// was a login, the changes since are dropped as well.
    pub(crate) fn flush_failed(&mut self, error: &Error) {
        if matches!(self.base, Base::Login(_)) {
            return self.discard_all();
        }
        if let Some(write) = self.in_flight.take()
            && self.stored().is_some()
            && matches!(error, Error::Unknown { .. })
        {
            self.doubts.add(&write);
        }
        self.drop_no_changes();
    }

    /// The write of one field, by itself, has succeeded, and `stored` is stored.
    pub(crate) fn exchange_succeeded(&mut self, stored: Stored) {
        self.doubts.succeed();
        self.base = Base::Stored(Box::new(stored));
        self.drop_no_changes();
    }

    /// Drops changes that leave the stored value as it is: others may have done the same.
    fn drop_no_changes(&mut self) {
        let done = self
            .changes
            .fields()
            .filter(|field| self.is_unchanged(field));
        let done: HashSet<Field> = done.cloned().collect();
        self.changes.retain(|field| !done.contains(field));
        self.changed();
    }

    /// Drops the changes of a write that has ended without storing them.
    pub(crate) fn discard_in_flight(&mut self) {
        self.in_flight = None;
        self.drop_no_changes();
    }
}

/// A value after a change, if there is one. A value that a change replaces whole is not read.
fn changed<'a>(
    change: Option<&Change>,
    value: impl FnOnce() -> Result<Option<Value<'a>>, Mismatch>,
) -> Result<Option<Value<'a>>, Mismatch> {
    let Some(change) = change else {
        return value();
    };
    let value = if change.is_relative() { value()? } else { None };
    let value = change.apply(value.as_ref().map(Value::as_ref))?;
    Ok(value.map(Value::Made))
}

#[cfg(test)]
mod tests;
