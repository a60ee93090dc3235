//! The one decision: from what a request did to its session, what to write and which cookie to
//! send. Pure; [`run`] carries it out.

use std::collections::HashMap;
use std::time::Duration;

use bson::RawBson;

use crate::clock::Moment;
use crate::config::Config;
use crate::document::key::Field;
use crate::document::value;
use crate::document::{Filter, Operation, Update, date};
use crate::error::Error;
use crate::record::token::{Id, Secret, Token};
use crate::record::{self, NewRecord, Record, field};
use crate::state::changes::{Change, Changes};
use crate::state::{Base, Keep, New, Settings, State, Stored};
use crate::store::{Durability, Touch};

/// A read extends a session at most once in this time, whatever `reissue_time` says.
const FINEST_REISSUE: Duration = Duration::from_secs(1);

/// What is to be written before the answer leaves.
pub(crate) struct Decision {
    /// Sessions to delete first, because the application logged them out.
    pub(crate) end: Vec<Id>,
    pub(crate) write: Write,
}

impl Decision {
    pub(crate) fn is_nothing(&self) -> bool {
        self.end.is_empty() && matches!(self.write, Write::Nothing)
    }
}

pub(crate) enum Write {
    Nothing,
    /// Later, together with those of other requests.
    Touch(Touch),
    Create(Box<Create>),
    Update(Box<Alter>),
}

/// A new document.
pub(crate) struct Create {
    pub(crate) record: NewRecord,
    pub(crate) token: Token,
    pub(crate) cookie: CookieLife,
    /// Made by `login`, `login_keeping` or `elevate`.
    pub(crate) by_login: bool,
    /// A dead cookie's session: when a login replaced it a moment ago, that login's cookie is on
    /// its way to the browser, and this session must not overwrite it.
    pub(crate) unless_overtaken: Option<Id>,
    /// The sessions that this one takes the place of in the browser: each gets a marker.
    pub(crate) marker_for: Vec<Id>,
    pub(crate) replaces: Option<Replacement>,
    pub(crate) started: Moment,
    /// When the request itself revoked its user's other sessions.
    pub(crate) spared: Option<Moment>,
}

/// How the old document ends when a new one takes its place.
pub(crate) struct Replacement {
    pub(crate) old: Id,
    pub(crate) keep: Keep,
    pub(crate) before: Changes,
    pub(crate) after: Changes,
    /// The session goes on under a new name: only who deletes the old one has moved it.
    pub(crate) moves_ancestor: bool,
}

impl Replacement {
    /// Whether the new session is the old login under a new id: an elevation, or the move of an
    /// ancestor's.
    pub(crate) fn goes_on(&self) -> bool {
        self.moves_ancestor || matches!(self.keep, Keep::All)
    }
}

/// A change of a stored document.
pub(crate) struct Alter {
    pub(crate) filter: Filter,
    pub(crate) update: Update,
    pub(crate) durability: Durability,
    pub(crate) cookie: Option<(Token, CookieLife)>,
    /// The first filter asks for the token as well; when only that fails, the data goes once more
    /// on the id alone, without a cookie.
    pub(crate) without_token: Option<(Filter, Update)>,
    /// Values that the server cannot count in or append to, by compare-and-set.
    pub(crate) relative: Changes,
    pub(crate) base: Record,
    pub(crate) token: Token,
    pub(crate) changes: Changes,
}

/// How long the browser keeps a cookie: `None` until it closes.
pub(crate) type CookieLife = Option<Duration>;

/// Decides what becomes of a request's session at this moment.
pub(crate) fn decide(state: &State, config: &Config, now: Moment) -> Result<Decision, Error> {
    let write = match &state.base {
        Base::New(new) if state.is_wanted() => {
            create(state, new, &state.changes, &state.settings, config, now)?
        }
        Base::New(new) => touch_ancestor(new, config, now),
        Base::Stored(stored) => update(state, stored, config, now)?,
    };
    Ok(Decision {
        end: state.ended.clone(),
        write,
    })
}

/// Decides to move an ancestor's session as it was loaded; what the request has changed in it is
/// left for later.
pub(crate) fn decide_move(state: &State, config: &Config, now: Moment) -> Result<Decision, Error> {
    let (changes, settings) = (Changes::default(), Settings::default());
    let write = match &state.base {
        Base::New(new) => create(state, new, &changes, &settings, config, now)?,
        Base::Stored(_) => Write::Nothing,
    };
    let end = Vec::new();
    Ok(Decision { end, write })
}

pub(crate) fn expiry(
    created: Moment,
    accessed: Moment,
    timeout: Option<Duration>,
    lifetime: Option<Duration>,
) -> Moment {
    let idle = timeout.map_or(Moment::NEVER, |timeout| accessed.plus(timeout));
    idle.min(lifetime.map_or(Moment::NEVER, |lifetime| created.plus(lifetime)))
}

fn create(
    state: &State,
    new: &New,
    changes: &Changes,
    settings: &Settings,
    config: &Config,
    now: Moment,
) -> Result<Write, Error> {
    let timeout = settings.timeout.unwrap_or(config.timeout);
    let life = settings.max_age.unwrap_or(config.max_age);
    let token = Token::new(new.id.clone().map_or_else(Id::draw, Ok)?, Secret::draw()?);
    // The ancestor's session goes on under a new name: it is as old as it was.
    let created = match new.ancestor() {
        Some(ancestor) => ancestor.created,
        None if new.by_login => now,
        None => state.started, // as the handler was told
    };
    let values = new.after(changes);
    let record = NewRecord {
        id: token.id.clone(),
        token: token.secret.digest(&config.cookie_name),
        csrf: new.csrf.clone().map_or_else(Secret::draw, Ok)?,
        created,
        accessed: now,
        expires: expiry(created, now, timeout, config.lifetime),
        values,
        user: new.user.clone(),
        timeout: settings.timeout,
        max_age: settings.max_age,
        sent: life.map(|_| now),
        client: state.client.clone(),
    };
    let dead = state.dead.as_ref().map(|dead| dead.id.clone());
    let is_locked = state.dead.as_ref().is_some_and(|dead| dead.is_locked);
    let replaces = new.replaces.as_ref().map(|replaces| Replacement {
        old: replaces.old.id().clone(),
        keep: replaces.keep.clone(),
        before: replaces.before.clone(),
        after: changes.clone(),
        moves_ancestor: new.ancestor().is_some(),
    });
    let named = replaces.as_ref().map(|replaces| replaces.old.clone());
    // A login also takes the place of what the same request logged out before.
    let ended = state.ended.iter().filter(|_| new.by_login).cloned();
    let marker_for = named
        .or_else(|| dead.clone().filter(|_| new.by_login && !is_locked))
        .into_iter()
        .chain(ended)
        .collect();
    Ok(Write::Create(Box::new(Create {
        record,
        token,
        cookie: life,
        by_login: new.by_login,
        unless_overtaken: dead.filter(|_| !new.by_login),
        marker_for,
        replaces,
        started: state.started,
        spared: state.spared,
    })))
}

/// A read of an ancestor's session keeps it alive where it is; only a write moves it.
fn touch_ancestor(new: &New, config: &Config, now: Moment) -> Write {
    match new.ancestor() {
        Some(ancestor) if is_due(ancestor.accessed, config.timeout, config, now) => {
            Write::Touch(Touch {
                id: ancestor.id.as_str().to_owned(),
                accessed: now,
                expires: expiry(ancestor.created, now, config.timeout, config.lifetime),
            })
        }
        _ => Write::Nothing,
    }
}

/// Whether a read is to extend a session that was last written at `accessed`.
fn is_due(accessed: Moment, timeout: Option<Duration>, config: &Config, now: Moment) -> bool {
    let Some(reissue) = config.reissue_time else {
        return false;
    };
    let pause = match (reissue.max(FINEST_REISSUE), timeout) {
        // A session with a shorter timeout of its own would idle out between two reads.
        (pause, Some(timeout)) if pause >= timeout => timeout / 2,
        (pause, _) => pause,
    };
    now.since(accessed) >= pause
}

/// How much of the idle time may pass unnoticed between two writes: a hundredth, at most a second.
/// An index entry less for every write in between.
fn precision(timeout: Option<Duration>) -> Duration {
    timeout.map_or(FINEST_REISSUE, |timeout| {
        (timeout / 100).min(FINEST_REISSUE)
    })
}

fn update(state: &State, stored: &Stored, config: &Config, now: Moment) -> Result<Write, Error> {
    let (record, settings) = (&stored.record, &state.settings);
    let timeout = settings
        .timeout
        .or(record.timeout)
        .unwrap_or(config.timeout);
    let life = settings
        .max_age
        .or(record.max_age)
        .unwrap_or(config.max_age);

    let mut data = Update::default();
    let relative = write_changes(&mut data, &state.changes, record);
    if let Some(csrf) = &settings.csrf {
        data.set(field::CSRF, record::binary(csrf.expose()));
    }
    if let Some(timeout) = settings.timeout {
        data.set(field::TIMEOUT, record::duration_value(timeout));
    }
    if let Some(max_age) = settings.max_age {
        data.set(field::MAX_AGE, record::duration_value(max_age));
    }
    let is_read = data.is_empty() && relative.is_empty();
    let reads_extend = config.reissue_time.is_some();
    let cookie_due = life.is_some_and(|life| {
        let pause = config.reissue_time.unwrap_or_default().max(life / 10);
        let aged = record.sent.is_none_or(|sent| now.since(sent) >= pause);
        aged && (reads_extend || !is_read)
    });
    let sends = settings.renew || settings.touch || settings.max_age.is_some() || cookie_due;
    let due = is_due(record.accessed, timeout, config, now);
    if is_read && !sends && !due {
        return Ok(Write::Nothing);
    }
    // Only grows, unless the application itself sets another timeout.
    let expires = expiry(record.created, now, timeout, config.lifetime);
    let has_passed = record.deadline(config.timeout, config.lifetime) < now;
    if is_read && !sends {
        return Ok(if has_passed {
            Write::Nothing // expired while the request ran: a touch must not revive it
        } else {
            Write::Touch(Touch {
                id: record.id.as_str().to_owned(),
                accessed: now,
                expires,
            })
        });
    }
    if sends || now.since(record.accessed) >= precision(timeout) || settings.timeout.is_some() {
        record::touch(&mut data, now, expires);
    }
    if settings.timeout.is_some() {
        data.set(field::EXPIRES, date(expires));
    }

    let mut filter = Filter::id(record.id.as_str());
    if has_passed {
        filter = filter.not_before(field::EXPIRES, now);
    }
    let mut alter = Alter {
        filter: filter.clone(),
        update: data.clone(),
        durability: Durability::Data,
        cookie: None,
        without_token: None,
        relative,
        base: record.clone(),
        token: stored.token.clone(),
        changes: state.changes.clone(),
    };
    if sends {
        let token = if settings.renew {
            let secret = Secret::draw()?;
            let digest = secret.digest(&config.cookie_name);
            alter
                .update
                .set(field::TOKEN, record::binary(digest.as_bytes()));
            alter.update.set(field::RENEWED, now.seconds());
            alter.durability = Durability::Identity;
            let id = record.id.clone();
            Token::new(id, secret)
        } else {
            stored.token.clone()
        };
        if life.is_some() {
            alter.update.set(field::SENT, now.seconds());
        }
        alter.filter = alter
            .filter
            .equals(field::TOKEN, record::binary(record.token.as_bytes()));
        alter.without_token = Some((filter, data));
        alter.cookie = Some((token, life));
    }
    Ok(Write::Update(Box::new(alter)))
}

/// Adds the changes of values to an update, but those that the server cannot carry out: counting
/// or appending in a value that is stored opaque.
fn write_changes(update: &mut Update, changes: &Changes, record: &Record) -> Changes {
    let mut relative = Changes::default();
    for (field, change) in changes.iter() {
        if change.is_relative() && record.get(field).is_some_and(value::is_opaque) {
            relative.put(field.clone(), change.clone());
        } else {
            record::change(update, field.clone(), change.operation());
        }
    }
    relative
}

/// The kept values of a session as they must be in the one that replaces it, where that differs
/// from what was stored in it: what other requests did to the old one until its end.
pub(crate) fn late_changes(
    replacement: &Replacement,
    stored: &[(Field, RawBson)],
    fresh: &[(Field, RawBson)],
) -> Update {
    let (was, is) = (by_field(stored), by_field(fresh));
    let find = |values: &HashMap<&Field, &RawBson>, field| values.get(field).copied().cloned();
    let then = |value: Option<RawBson>, change: Option<&Change>| match change {
        // What does not fit the other request's value leaves that value as it is.
        Some(change) => change
            .apply(value.as_ref().map(RawBson::as_raw_bson_ref))
            .unwrap_or(value),
        None => value,
    };
    let mut update = Update::default();
    let fields = stored.iter().chain(fresh).map(|(field, _)| field);
    for field in fields.filter(|field| replacement.keep.has(field)) {
        let wanted = then(find(&is, field), replacement.before.get(field));
        let wanted = then(wanted, replacement.after.get(field));
        if wanted != find(&was, field) {
            let operation = wanted.map_or(Operation::Unset, Operation::Set);
            record::change(&mut update, field.clone(), operation);
        }
    }
    update
}

fn by_field(values: &[(Field, RawBson)]) -> HashMap<&Field, &RawBson> {
    values.iter().map(|(field, value)| (field, value)).collect()
}

#[cfg(test)]
mod tests;
