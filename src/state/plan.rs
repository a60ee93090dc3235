//! The decision: from what a request did to its session, what to write and which cookie to send.
//! Pure; [`commit`](crate::commit) carries it out.

use std::time::Duration;

use bson::RawBson;
use indexmap::{IndexMap, IndexSet};

use super::changes::{Change, Changes};
use super::{Base, Creation, Deletion, Login, Replaces, Settings, State, Stored, TokenChange};
use crate::clock::{Moment, Started};
use crate::config::{Config, Transport};
use crate::document::key::Field;
use crate::document::value;
use crate::document::{Operator, Update, date};
use crate::error::Error;
use crate::record::token::{Id, Secret, Token};
use crate::record::{self, Client, Expiry, Meta, Override, Record, Times, field};
use crate::store::{Durability, Touch};

/// A read extends a session at most once in this time, whatever `reissue_time` says.
const REISSUE_FLOOR: Duration = Duration::from_secs(1);

/// How long the browser keeps a cookie: `None` until it closes.
pub(crate) type CookieLife = Option<Duration>;

/// Everything that a commit has to write before the response is sent.
pub(crate) struct CommitPlan {
    /// Sessions to delete whatever becomes of the write, because the application logged them out.
    pub(crate) delete: Vec<Deletion>,
    pub(crate) write: Write,
}

pub(crate) enum Write {
    Nothing,
    /// After the response, in one command with those of other requests.
    Touch(Touch),
    /// Nothing, because a login or renewal of the same browser replaced the session: its cookie
    /// may be on its way, and a new session's would overwrite it.
    DropForReplaced,
    Insert(Box<InsertPlan>),
    Update(Box<UpdatePlan>),
    /// Nothing: the request made a change that cannot be stored.
    Refuse(Error),
}

impl CommitPlan {
    pub(crate) fn is_nothing(&self) -> bool {
        self.delete.is_empty() && matches!(self.write, Write::Nothing)
    }

    /// Whether it only records that the session was used, after the response.
    pub(crate) fn only_touches(&self) -> bool {
        self.delete.is_empty() && matches!(self.write, Write::Touch(_))
    }
}

/// How to store a new session. Its id and secret are drawn for each attempt, unless they were handed
/// out: then there is one attempt.
pub(crate) struct InsertPlan {
    pub(crate) issued: Option<Token>,
    pub(crate) csrf: Secret,
    pub(crate) times: Times,
    pub(crate) values: Vec<(Field, RawBson)>,
    pub(crate) client: Client,
    pub(crate) cookie: CookieLife,
    pub(crate) started: Started,
    /// The sessions that the browser's cookie may name, of which the request has none. When a login has
    /// replaced one of them since it was looked up, nothing is inserted.
    pub(crate) dead: Vec<Id>,
    /// The load looked for their tombstones.
    pub(crate) dead_is_looked_up: bool,
    pub(crate) login: Option<LoginPlan>,
}

/// What a login does beside the insert of its session.
pub(crate) struct LoginPlan {
    pub(crate) user: RawBson,
    /// The session that ends with the login. It gets a tombstone with a proof.
    pub(crate) replaces: Option<Replaces>,
    /// What the request did to the new session after the login.
    pub(crate) after: Changes,
    /// Further sessions whose cookie the login replaces in the browser: each gets a tombstone.
    pub(crate) displaced: Vec<Id>,
    /// Further sessions that end when the login stands.
    pub(crate) other_sessions: Vec<Id>,
    /// An earlier login of the same browser replaced this session a moment ago.
    pub(crate) joins: Option<Id>,
}

/// How to update a stored session.
pub(crate) struct UpdatePlan {
    pub(crate) values: ValuesPlan,
    pub(crate) token: Token,
    pub(crate) with_token: Option<TokenPart>,
}

/// How to change the values of a stored session.
pub(crate) struct ValuesPlan {
    pub(crate) record: Record,
    /// The changes that the server carries out.
    pub(crate) update: Update,
    /// The changes that a compare-and-set carries out in place of the server: those whose outcome
    /// depends on the stored value, and those that change the names of stored values.
    pub(crate) compared: Vec<(Field, Change)>,
    /// Whether the server cannot carry out all of them.
    pub(crate) needs_compare_and_set: bool,
    pub(crate) durability: Durability,
    /// When it was planned.
    pub(crate) now: Moment,
}

impl ValuesPlan {
    pub(crate) fn new(record: Record, changes: &Changes, now: Moment) -> Self {
        let (mut update, mut compared) = (Update::default(), Vec::new());
        let mut needs_compare_and_set = false;
        for (field, change) in changes.iter() {
            let (is_relative, renames) = (change.is_relative(), record.renames(field));
            if is_relative || renames {
                compared.push((field.clone(), change.clone()));
            }
            if renames || is_relative && record.is_opaque(field) {
                needs_compare_and_set = true;
                continue;
            }
            record::change(&mut update, field.clone(), change.operation());
        }
        ValuesPlan {
            record,
            update,
            compared,
            needs_compare_and_set,
            durability: Durability::Data,
            now,
        }
    }

    /// Whether it changes a value, and not only records that the session was used.
    pub(crate) fn has_changes(&self) -> bool {
        self.needs_compare_and_set || self.update.fields().next().is_some()
    }
}

/// The part of an update that is written only while the token is still the one that was loaded.
#[derive(Default)]
pub(crate) struct TokenPart {
    pub(crate) update: Update,
    pub(crate) cookie: Option<(Token, CookieLife)>,
    /// Without it nothing is written at all: a renewal or an elevation.
    pub(crate) is_required: bool,
    /// It holds settings of the request, and not only a cookie that is due.
    pub(crate) has_settings: bool,
}

impl InsertPlan {
    /// Returns the stored fields of the session under this id, beside values and secrets.
    pub(crate) fn meta(&self, id: Id, epoch: Option<i64>) -> Meta {
        Meta {
            id,
            times: self.times,
            user: self.login.as_ref().map(|login| login.user.clone()),
            sent: self.cookie.map(|_| self.times.accessed),
            client: self.client.clone(),
            epoch,
        }
    }
}

/// Plans the commit of a request's session at this moment.
pub(crate) fn plan(state: &State, config: &Config, now: Moment) -> Result<CommitPlan, Error> {
    let write = match &state.base {
        Base::Stored(stored) => plan_update(state, stored, config, now)?,
        Base::Login(login) => {
            let mut plan = plan_insert(state, config, now)?;
            plan.values = state.changes.after(login.values.clone());
            plan.dead = Vec::new();
            plan.login = Some(plan_login(state, login));
            Write::Insert(plan)
        }
        Base::Empty if !state.is_wanted() => Write::Nothing,
        Base::Empty if state.replaced.is_some() => Write::DropForReplaced,
        Base::Empty => Write::Insert(plan_insert(state, config, now)?),
    };
    let write = match needs_issue(&write, state, config) {
        true => Write::Refuse(Error::TokenNotIssued),
        false => write,
    };
    Ok(CommitPlan {
        delete: state.ended.clone(),
        write,
    })
}

/// Whether the write gives a bearer session a token that no client would get.
fn needs_issue(write: &Write, state: &State, config: &Config) -> bool {
    let changes_token = match write {
        Write::Insert(_) => true,
        Write::Update(_) => state.settings.token != TokenChange::Keep,
        Write::Nothing | Write::Touch(_) | Write::DropForReplaced | Write::Refuse(_) => false,
    };
    changes_token && config.transport == Transport::Bearer && state.settings.issued.is_none()
}

fn plan_insert(state: &State, config: &Config, now: Moment) -> Result<Box<InsertPlan>, Error> {
    let (settings, created, own) = (&state.settings, state.created(now), state.times());
    Ok(Box::new(InsertPlan {
        csrf: settings.csrf.clone().map_or_else(Secret::draw, Ok)?,
        times: Times {
            created,
            accessed: now,
            expires: own.expiry(config).expires_at(created, now),
            own,
        },
        values: state.changes.after(Vec::new()),
        cookie: own.max_age.resolve(config.max_age),
        issued: settings.issued.clone(),
        client: state.client.clone(),
        started: state.started,
        dead: state.dead.clone(),
        dead_is_looked_up: state.dead_is_looked_up,
        login: None,
    }))
}

fn plan_login(state: &State, login: &Login) -> LoginPlan {
    // A login also takes the place of sessions that the same request logged out before.
    let joins = state.replaced.as_ref().map(|replaced| replaced.id.clone());
    let ended = state.ended.iter().map(|ended| &ended.id);
    let ended = ended.chain(&login.other_sessions).chain(&state.dead);
    // Two cookies may name one session, and the login that it joins has made a tombstone.
    let ended: IndexSet<&Id> = ended.filter(|id| joins.as_ref() != Some(id)).collect();
    LoginPlan {
        user: login.user.clone(),
        replaces: login.replaces.clone(),
        after: state.changes.clone(),
        displaced: ended.into_iter().cloned().collect(),
        other_sessions: login.other_sessions.clone(),
        joins,
    }
}

fn plan_update(
    state: &State,
    stored: &Stored,
    config: &Config,
    now: Moment,
) -> Result<Write, Error> {
    let (record, settings) = (&stored.record, &state.settings);
    let is_read = state.changes.is_empty() && !settings.has_changes();
    let life = settings.times.apply(record.meta.times.own).max_age;
    let life = life.resolve(config.max_age);
    let counts = !state.skips_touch || sends_cookie(settings) || settings.times_are_set();
    // Outside of its path the cookie would overwrite the one inside.
    let may_resend = counts && state.creation != Creation::Never;
    let is_resend_due = may_resend && is_cookie_due(record, life, is_read, config, now);
    let sends = sends_cookie(settings) || is_resend_due;
    let expiry = record.meta.times.own.expiry(config);
    if is_read && !sends {
        return Ok(match counts {
            true => plan_touch(record, expiry, config, now),
            false => Write::Nothing,
        });
    }
    let mut values = ValuesPlan::new(record.clone(), &state.changes, now);
    let is_touch_due = now.since(record.meta.times.accessed) >= precision(expiry.idle);
    if sends || (counts && is_touch_due) {
        let expires = expiry.expires_at(record.meta.times.created, now);
        record::touch(&mut values.update, now, expires);
    }
    if settings.token != TokenChange::Keep {
        values.durability = Durability::Identity;
    }
    Ok(Write::Update(Box::new(UpdatePlan {
        values,
        token: stored.token.clone(),
        with_token: plan_with_token(state, stored, sends.then_some(life), config, now)?,
    })))
}

/// Returns the part of an update that depends on the request's token, if it has one: what the request
/// changed about the session itself, and the cookie that is sent. `cookie`: its life.
fn plan_with_token(
    state: &State,
    stored: &Stored,
    cookie: Option<CookieLife>,
    config: &Config,
    now: Moment,
) -> Result<Option<TokenPart>, Error> {
    let mut part = changed_settings(state, config, now);
    if let Some(life) = cookie {
        let token = new_token(&mut part, stored, &state.settings, config)?;
        part.cookie = Some((token, life));
        if life.is_some() {
            part.update.set(field::SENT, now.seconds());
        }
    }
    let is_empty = part.cookie.is_none() && part.update.is_empty();
    Ok((!is_empty).then_some(part))
}

/// Returns the request's changes to the session itself. They are not written if the cookie was
/// replaced meanwhile, by an elevation for instance.
fn changed_settings(state: &State, config: &Config, now: Moment) -> TokenPart {
    let (settings, mut part) = (&state.settings, TokenPart::default());
    let times = settings.times;
    let update = &mut part.update;
    if let Some(csrf) = &settings.csrf {
        update.set(field::CSRF, record::binary(csrf.expose()));
    }
    for (name, time) in [
        (field::TIMEOUT, times.timeout),
        (field::LIFETIME, times.lifetime),
        (field::MAX_AGE, times.max_age),
    ] {
        match time {
            None => {}
            Some(Override::Set(time)) => update.set(name, record::duration_value(time)),
            Some(Override::Inherit) => update.unset(name),
        }
    }
    let created = state.created(now);
    let expires = state.expiry(config).expires_at(created, now);
    if times.timeout.is_some() || times.lifetime.is_some() {
        // Not only raised: the application's own times may also shorten the session.
        update.set(field::EXPIRES, date(expires));
    } else if settings.token == TokenChange::Elevate {
        update.raise(field::EXPIRES, date(expires));
    }
    if settings.token == TokenChange::Elevate {
        update.set(field::CREATED, created.seconds());
    }
    part.has_settings = !part.update.is_empty();
    part
}

fn sends_cookie(settings: &Settings) -> bool {
    settings.token != TokenChange::Keep || settings.touch || settings.times.max_age.is_some()
}

/// Whether a cookie with a `Max-Age` is to be sent again, so that the browser does not drop it
/// while the session is in use: after a tenth of its life, and not more often than `reissue_time`. With a
/// request that only reads, only if `reissue_time` is set.
fn is_cookie_due(
    record: &Record,
    life: CookieLife,
    is_read: bool,
    config: &Config,
    now: Moment,
) -> bool {
    let reads_extend = config.reissue_time.is_some();
    life.is_some_and(|life| {
        let pause = config.reissue_time.unwrap_or_default().max(life / 10);
        let aged = record.meta.sent.is_none_or(|sent| now.since(sent) >= pause);
        aged && (reads_extend || !is_read)
    })
}

/// A read extends the session if its last recorded use is long enough ago. The use is dated at the
/// load of the session: another request may have shortened the session's life since, and a use before
/// that revives nothing.
fn plan_touch(record: &Record, expiry: Expiry, config: &Config, now: Moment) -> Write {
    let used = record.read_at;
    let is_due = config.reissue_time.is_some_and(|reissue| {
        let pause = match (reissue.max(REISSUE_FLOOR), expiry.idle) {
            // A session with a shorter timeout of its own would idle out between two reads.
            (pause, Some(timeout)) if pause >= timeout => timeout / 2,
            (pause, _) => pause,
        };
        used.since(record.meta.times.accessed) >= pause
    });
    // One that expired while the request ran must not be revived.
    if !is_due || record.meta.is_expired(config, now) {
        return Write::Nothing;
    }
    Write::Touch(Touch {
        id: record.meta.id.as_str().to_owned(),
        accessed: used,
        expires: expiry.expires_at(record.meta.times.created, used),
    })
}

/// How much of the idle time may pass unrecorded between two writes: a hundredth, at most a second.
/// Each write in between saves an index entry.
fn precision(timeout: Option<Duration>) -> Duration {
    timeout.map_or(REISSUE_FLOOR, |timeout| (timeout / 100).min(REISSUE_FLOOR))
}

/// The token of the cookie that is sent: the loaded one, or one with a new secret.
fn new_token(
    part: &mut TokenPart,
    stored: &Stored,
    settings: &Settings,
    config: &Config,
) -> Result<Token, Error> {
    if settings.token == TokenChange::Keep {
        return Ok(stored.token.clone());
    }
    let issued = settings.issued.as_ref().map(|token| token.secret.clone());
    let secret = issued.map_or_else(Secret::draw, Ok)?;
    let digest = secret.digest(&config.cookie_name);
    part.is_required = true;
    part.update
        .set(field::TOKEN, record::binary(digest.as_bytes()));
    part.update.set_now(field::RENEWED);
    Ok(Token::new(stored.record.meta.id.clone(), secret))
}

/// The kept values of a session as they must be in the login that replaces it, where that differs
/// from the stored ones: other requests may have changed the old session until its end. `after`: what
/// the request did to the new session.
pub(crate) fn late_changes(
    replaces: &Replaces,
    after: &Changes,
    stored: &[(Field, RawBson)],
    fresh: &[(Field, RawBson)],
) -> Update {
    let by_field = |values: &[(Field, RawBson)]| values.iter().cloned().collect::<IndexMap<_, _>>();
    let (stored, fresh) = (by_field(stored), by_field(fresh));
    let then = |value: Option<RawBson>, change: Option<&Change>| match change {
        // A change that does not fit the other request's value leaves that value as it is.
        Some(change) => change
            .apply(value.as_ref().map(RawBson::as_raw_bson_ref))
            .unwrap_or(value),
        None => value,
    };
    let mut update = Update::default();
    for field in &replaces.keep {
        let wanted = then(fresh.get(field).cloned(), replaces.before.get(field));
        let wanted = then(wanted, after.get(field));
        let is_same = match (&wanted, stored.get(field)) {
            (Some(a), Some(b)) => value::same(a.as_raw_bson_ref(), b.as_raw_bson_ref()),
            (a, b) => a.is_none() && b.is_none(),
        };
        if !is_same {
            let operator = wanted.map_or(Operator::Unset, Operator::Set);
            record::change(&mut update, field.clone(), operator);
        }
    }
    update
}

#[cfg(test)]
mod tests;
