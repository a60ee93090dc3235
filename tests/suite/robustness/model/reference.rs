//! The reference: what a session is, said as plainly as possible. Documents are maps, a request is
//! a function that waits wherever the crate would ask the store.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use rocket::serde::json::{Value, json};

use super::stepped::Steps;
use crate::apps::arena::{FLOAT, Op, shown};
use crate::store::hooked::Kind;

mod commit;

type Values = BTreeMap<String, Value>;

/// The flash queue, among the values.
const FLASH: &str = "\0flash";
/// The page to return to after a login, among the values.
const RETURN_TO: &str = "\0return";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    pub session: u32,
    secret: u32,
}

/// What a session holds, and which write has stored each value: a sealed one differs from every
/// other, even where the text is the same.
#[derive(Clone, Default)]
struct Held {
    values: Values,
    writes: BTreeMap<String, u32>,
}

impl Held {
    fn new(values: Values, write: u32) -> Held {
        let writes = values.keys().map(|key| (key.clone(), write)).collect();
        Held { values, writes }
    }

    fn put(&mut self, key: &str, value: Option<Value>, write: u32) {
        match value {
            Some(value) => {
                self.values.insert(key.to_owned(), value);
                self.writes.insert(key.to_owned(), write);
            }
            None => {
                self.values.remove(key);
                self.writes.remove(key);
            }
        }
    }

    fn apply(&mut self, changes: &Changes, write: u32) {
        for (key, changes) in changes {
            let value = replay(self.values.get(key), changes);
            self.put(key, value, write);
        }
    }

    /// Whether a database sees the same value in both.
    fn has_same(&self, key: &str, other: &Held, is_sealed: bool) -> bool {
        match is_sealed {
            true => self.writes.get(key) == other.writes.get(key),
            false => is_equal(self.values.get(key), other.values.get(key)),
        }
    }
}

struct Stored {
    held: Held,
    user: Option<String>,
    secret: u32,
    renewed: bool,
}

/// Everything that is stored, and who waits to get at it.
#[derive(Clone, Default)]
pub struct World {
    data: Rc<RefCell<Data>>,
    steps: Steps,
    is_sealed: bool,
}

#[derive(Default)]
struct Data {
    sessions: BTreeMap<u32, Stored>,
    /// What is remembered of sessions that a login has replaced.
    tombstones: BTreeMap<u32, Tombstone>,
    next: u32,
}

#[derive(Clone)]
struct Tombstone {
    /// The session of the only login that it speaks of, which takes its word back when it fails.
    by: Option<u32>,
    /// The secret of the session that was replaced, and what was kept of it.
    proof: Option<(u32, Values)>,
}

/// What a response must be.
pub struct Expected {
    pub status: u16,
    /// Of what was answered well.
    pub results: Vec<Result<Output, &'static str>>,
    pub token: Option<Token>,
    pub removes: bool,
}

#[derive(Debug)]
pub enum Output {
    View(Seen),
    Value(Value),
}

#[derive(Debug)]
pub struct Seen {
    pub id: Option<u32>,
    pub is_new: bool,
    pub values: Values,
    pub flash: Vec<Value>,
    pub user: Option<String>,
}

impl World {
    pub fn new(is_sealed: bool) -> World {
        World {
            is_sealed,
            ..World::default()
        }
    }

    pub fn is_of(&self, number: Option<usize>) {
        self.steps.are_of(number);
    }

    pub fn waiting(&self, number: usize) -> Vec<Kind> {
        self.steps.waiting(number)
    }

    pub fn grant(&self, number: usize, kind: Kind) {
        self.steps.grant(number, kind);
    }

    pub fn alive(&self) -> u64 {
        self.data.borrow().sessions.len() as u64
    }

    /// What a token leads to.
    pub fn look(&self, token: Token) -> Seen {
        let data = self.data.borrow();
        let found = data.sessions.get(&token.session);
        let found = found.filter(|stored| stored.secret == token.secret);
        match found {
            Some(stored) => Seen {
                id: Some(token.session),
                is_new: false,
                ..seen(&stored.held.values, stored.user.clone())
            },
            None => seen(&Values::new(), None),
        }
    }

    /// Does something to what is stored, when its turn comes.
    async fn at<T>(&self, kind: Kind, act: impl FnOnce(&mut Data) -> T) -> T {
        let _pass = self.steps.pass(kind).await;
        act(&mut self.data.borrow_mut())
    }

    fn number(&self) -> u32 {
        self.data.borrow_mut().number()
    }
}

impl Data {
    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }
}

/// What a new session shows, that holds these values.
fn seen(values: &Values, user: Option<String>) -> Seen {
    let flash = values.get(FLASH).and_then(Value::as_array).cloned();
    let own = values.iter().filter(|(key, _)| !key.starts_with('\0'));
    Seen {
        id: None,
        is_new: true,
        values: own
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        flash: flash.unwrap_or_default(),
        user,
    }
}

/// What a request does to one key.
#[derive(Clone)]
enum Change {
    Set(Value),
    Remove,
    Add(i64),
    Push(Value),
}

/// Whether two values are the same to a database, which has one zero.
fn is_equal(one: Option<&Value>, other: Option<&Value>) -> bool {
    let is_zero = |value: Option<&Value>| {
        let zeros = [0.0, -0.0].map(shown);
        value.is_some_and(|value| zeros.contains(value))
    };
    one == other || is_zero(one) && is_zero(other)
}

fn replay(value: Option<&Value>, changes: &[Change]) -> Option<Value> {
    changes
        .iter()
        .fold(value.cloned(), |value, change| match change {
            Change::Set(value) => Some(value.clone()),
            Change::Remove => None,
            Change::Add(by) => Some(json!(value.and_then(|n| n.as_i64()).unwrap_or(0) + by)),
            Change::Push(item) => {
                let mut list = value
                    .and_then(|list| list.as_array().cloned())
                    .unwrap_or_default();
                list.push(item.clone());
                Some(Value::Array(list))
            }
        })
}

type Changes = BTreeMap<String, Vec<Change>>;

/// Whether the outcome depends on what is stored.
fn is_relative(changes: &[Change]) -> bool {
    let mut changes = changes.iter();
    changes.all(|change| matches!(change, Change::Add(_) | Change::Push(_)))
}

fn apply(values: &mut Values, changes: &Changes) {
    for (key, changes) in changes {
        match replay(values.get(key), changes) {
            Some(value) => values.insert(key.clone(), value),
            None => values.remove(key),
        };
    }
}

/// Which keys a login carries over.
#[derive(Clone)]
struct Keep(Vec<String>);

impl Keep {
    fn has(&self, key: &str) -> bool {
        self.0.iter().any(|other| other == key)
    }

    fn and(mut self, other: &Keep) -> Keep {
        self.0.retain(|key| other.has(key));
        self
    }
}

/// The stored session that a login takes the place of.
struct Replaces {
    old: Token,
    /// What the old session holds, as the request knows it.
    held: Values,
    keep: Keep,
    before: Changes,
}

/// What a request's changes are made to.
struct Base {
    held: Held,
    user: Option<String>,
    /// None: not stored yet.
    token: Option<Token>,
    by_login: bool,
    replaces: Option<Replaces>,
    /// Further sessions that end with this login.
    others: Vec<u32>,
}

impl Base {
    fn nothing() -> Base {
        Base {
            held: Held::default(),
            user: None,
            token: None,
            by_login: false,
            replaces: None,
            others: Vec::new(),
        }
    }
}

struct Request {
    world: World,
    base: Base,
    changes: Changes,
    /// Not the one that the cookie named.
    is_new: bool,
    renews: bool,
    /// It began with a cookie.
    brought: bool,
    dead: Option<u32>,
    /// The session of the cookie was not there. A logout deletes it nevertheless.
    missing: Option<u32>,
    /// The load looked whether a login has replaced it.
    is_looked_up: bool,
    /// The session of the cookie was replaced a moment ago, and this is what was kept of it.
    replaced: Option<(u32, Values)>,
    /// The page to return to, of the session that was logged out.
    return_to: Option<Value>,
    ends: Vec<u32>,
    /// Sessions whose token was replaced, or that ended: a login and a logout end them nevertheless.
    lost: Vec<u32>,
    removes: bool,
    given: Option<Token>,
    /// Other requests know the session that it opens, and may replace its token.
    given_is_known: bool,
    /// The last commit asks whether what was given is still the session's.
    proves: bool,
}

/// The outcome of a commit.
enum Outcome {
    Fine,
    Gone,
}

pub async fn expected(world: World, token: Option<Token>, program: Vec<Op>) -> Expected {
    let mut request = Request {
        world: world.clone(),
        base: Base::nothing(),
        changes: Changes::new(),
        is_new: true,
        renews: false,
        brought: token.is_some(),
        dead: None,
        missing: None,
        is_looked_up: false,
        replaced: None,
        return_to: None,
        ends: Vec::new(),
        lost: Vec::new(),
        removes: false,
        given: None,
        given_is_known: false,
        proves: false,
    };
    if let Some(token) = token {
        let loaded = world
            .at(Kind::Load, |data| {
                let stored = data.sessions.get(&token.session);
                let own = stored.filter(|stored| stored.secret == token.secret);
                let own = own.map(|stored| (stored.held.clone(), stored.user.clone()));
                own.ok_or(stored.is_some())
            })
            .await;
        match loaded {
            Ok((held, user)) => {
                request.is_new = false;
                request.base = Base {
                    held,
                    user,
                    token: Some(token),
                    ..Base::nothing()
                };
            }
            Err(is_there) => {
                request.missing = (!is_there).then_some(token.session);
                request.look_up(token, is_there).await;
            }
        }
    }
    let (mut status, mut results) = (200, Vec::new());
    for op in program {
        status = match op {
            Op::Fail(status) => status,
            Op::Panic => 500,
            op => {
                results.push(request.carry_out(op).await);
                continue;
            }
        };
        break;
    }
    if status >= 500 {
        request.discard(); // Rocket alone responses it
    }
    // What is dropped in the end is not reported.
    let _ = request.commit_last().await;
    Expected {
        status,
        results,
        removes: request.removes && request.given.is_none(),
        token: request.given,
    }
}

impl Request {
    /// Whether a login or a renewal replaced what the cookie named. `is_there`: the load found it, under
    /// another secret. It may be another user's then, also when it has ended since.
    async fn look_up(&mut self, token: Token, is_there: bool) {
        let found = |data: &mut Data| {
            let tombstone = data.tombstones.get(&token.session);
            if let Some(tombstone) = tombstone {
                let proof = tombstone.proof.clone();
                let proof = proof.filter(|(secret, _)| *secret == token.secret);
                return Some(proof.map(|(_, kept)| kept).unwrap_or_default());
            }
            let stored = data.sessions.get(&token.session);
            stored
                .filter(|stored| stored.renewed)
                .map(|_| Values::new())
        };
        match self.world.at(Kind::Find, found).await {
            Some(kept) => self.replaced = Some((token.session, kept)),
            None => {
                self.is_looked_up = true;
                self.dead = (!is_there).then_some(token.session);
            }
        }
    }

    async fn carry_out(&mut self, op: Op) -> Result<Output, &'static str> {
        let mut value = Value::Null;
        match op {
            Op::View => {
                return Ok(Output::View(Seen {
                    id: self.base.token.map(|token| token.session),
                    is_new: self.is_new,
                    ..seen(&self.view(), self.base.user.clone())
                }));
            }
            Op::Set(key, new) => self.change(&key, Change::Set(new)),
            Op::Remove(key) => {
                value = json!(self.view().contains_key(&key));
                self.change(&key, Change::Remove);
            }
            Op::Clear => {
                for key in self.view().into_keys().filter(|key| !key.starts_with('\0')) {
                    self.change(&key, Change::Remove);
                }
            }
            Op::Increment(key, by) => {
                self.change(&key, Change::Add(by));
                value = json!(self.view().get(&key).and_then(Value::as_i64).unwrap_or(by));
            }
            Op::Push(key, item) => self.change(&key, Change::Push(item)),
            Op::Flash(item) => self.change(FLASH, Change::Push(item)),
            Op::Add(key, by) => {
                let add = [Change::Add(by)];
                value = self
                    .exchange(&key, false, |old| replay(old, &add))
                    .await?
                    .unwrap_or(value);
            }
            Op::CountDown(key) => {
                let less = |old: Option<&Value>| {
                    let left = old.and_then(Value::as_i64).filter(|n| *n > 1);
                    left.map(|n| json!(n - 1))
                };
                value = self.exchange(&key, false, less).await?.unwrap_or(value);
            }
            Op::Append(key, item) => {
                let push = [Change::Push(item)];
                value = self
                    .exchange(&key, false, |old| replay(old, &push))
                    .await?
                    .unwrap_or(value);
            }
            Op::SetFloat(float) => self.change(FLOAT, Change::Set(shown(float.value()))),
            Op::Negate => {
                let negate = |old: Option<&Value>| {
                    let float = old
                        .and_then(Value::as_str)
                        .and_then(|text| text.parse().ok());
                    Some(shown(-float.unwrap_or(0.0)))
                };
                value = self.exchange(FLOAT, false, negate).await?.unwrap_or(value);
            }
            Op::Pop if !self.view().contains_key(FLASH) => value = json!([]),
            Op::Pop => {
                value = self
                    .exchange(FLASH, true, |_| None)
                    .await?
                    .unwrap_or(json!([]))
            }
            Op::Edit(key, by) => value = json!(self.edit(&key, by).await?),
            Op::Save => match self.commit().await {
                Outcome::Fine => {}
                Outcome::Gone => return Err("Gone"),
            },
            Op::Login(user) => self.login(user, Keep(Vec::new())),
            Op::LoginKeeping(user, keys) => self.login(user, Keep(keys)),
            Op::ReturnTo(page) => self.change(RETURN_TO, Change::Set(json!(page))),
            Op::TakeReturnTo => {
                value = self.view().remove(RETURN_TO).unwrap_or(value);
                self.change(RETURN_TO, Change::Remove);
            }
            Op::LogoutKeeping(keys) => {
                let mut kept = self.view();
                kept.retain(|key, _| keys.contains(key));
                self.logout();
                for (key, value) in kept {
                    self.change(&key, Change::Set(value));
                }
            }
            Op::Elevate | Op::Renew if self.base.token.is_none() => {}
            Op::Elevate | Op::Renew => self.renews = true,
            Op::Logout => self.logout(),
            _ => {}
        }
        Ok(Output::Value(value))
    }

    fn view(&self) -> Values {
        let mut view = self.base.held.values.clone();
        apply(&mut view, &self.changes);
        view
    }

    fn change(&mut self, key: &str, change: Change) {
        self.changes.entry(key.to_owned()).or_default().push(change);
        self.forget_what_changes_nothing();
    }

    /// A key that is as it was when it was loaded is not written.
    fn forget_what_changes_nothing(&mut self) {
        let base = &self.base.held.values;
        self.changes.retain(|key, changes| {
            let before = base.get(key);
            replay(before, changes).as_ref() != before
        });
    }

    fn is_wanted(&self) -> bool {
        self.base.token.is_some() || self.base.by_login || !self.changes.is_empty()
    }

    fn login(&mut self, user: String, mut keep: Keep) {
        let mut values = self.view();
        // A second login has them already, and what was done to them since.
        if let Some((_, kept)) = &self.replaced
            && self.base.token.is_none()
            && !self.base.by_login
        {
            values = kept.clone();
            apply(&mut values, &self.changes);
        }
        if let Some(page) = self.return_to.take() {
            values.entry(RETURN_TO.to_owned()).or_insert(page);
        }
        if values.contains_key(RETURN_TO) {
            keep.0.push(RETURN_TO.to_owned());
        }
        values.retain(|key, _| keep.has(key));
        let before = std::mem::take(&mut self.changes);
        let replaces = match (self.base.token, self.base.replaces.take()) {
            (Some(old), _) => Some(Replaces {
                old,
                held: std::mem::take(&mut self.base.held.values),
                keep,
                before,
            }),
            // Once more in one request: what both keep, after what was done to it at both times.
            (None, Some(mut first)) => {
                for (key, more) in before {
                    first.before.entry(key).or_default().extend(more);
                }
                first.keep = first.keep.and(&keep);
                Some(first)
            }
            (None, None) => None,
        };
        let mut others = std::mem::take(&mut self.lost);
        others.append(&mut self.base.others);
        self.base = Base {
            held: Held::new(values, 0),
            user: Some(user),
            token: None,
            by_login: true,
            replaces,
            others,
        };
        self.is_new = true;
        self.renews = false;
    }

    fn logout(&mut self) {
        if let Some(page) = self.view().remove(RETURN_TO) {
            self.return_to = Some(page);
        }
        let replaced = self.base.replaces.as_ref().map(|one| one.old.session);
        if let Some(ended) = self.base.token.map(|token| token.session).or(replaced) {
            self.ends.push(ended);
        }
        self.ends.append(&mut self.lost);
        self.ends.append(&mut self.base.others);
        self.ends.extend(self.missing.take());
        if let Some((_, kept)) = &mut self.replaced {
            kept.clear();
        }
        self.removes |= self.brought;
        self.base = Base::nothing();
        self.changes.clear();
        self.is_new = true;
        self.renews = false;
        self.given = None;
    }

    /// What was not saved is dropped; a logout stands, and so does what a save told the browser.
    fn discard(&mut self) {
        self.changes.clear();
        self.renews = false;
        self.lost.append(&mut self.base.others);
        if self.base.token.is_none() {
            self.base = Base::nothing();
        }
    }

    /// The session turned out to be gone.
    fn lose(&mut self) {
        if let Some(token) = self.base.token {
            self.dead = Some(token.session);
            self.is_looked_up = false;
            self.lost.push(token.session);
        }
        self.base = Base::nothing();
        self.changes.clear();
        self.is_new = true;
        self.renews = false;
        self.given = None;
    }
}
