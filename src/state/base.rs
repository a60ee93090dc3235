//! What a request's changes build on.

use bson::RawBson;
use indexmap::{IndexMap, IndexSet};

use super::changes::Changes;
use crate::document::key::Field;
use crate::document::value::{self, Value};
use crate::record::Record;
use crate::record::sealer::Unreadable;
use crate::record::token::{Id, Token};

/// The session that a request's changes apply to.
pub(crate) enum Base {
    /// Nothing is stored.
    Empty,
    /// A login that is not stored yet.
    Login(Box<Login>),
    Stored(Box<Stored>),
}

/// A session in the store, and the token that the browser has for it.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) record: Record,
    pub(crate) token: Token,
}

/// A session of a user that is not stored yet.
pub(crate) struct Login {
    pub(crate) user: RawBson,
    /// The kept values of the session that it replaces.
    pub(crate) values: IndexMap<Field, RawBson>,
    pub(crate) replaces: Option<Replaces>,
    /// Further sessions that end with it: the request's cookies prove them.
    pub(crate) other_sessions: Vec<Id>,
    /// A write that began before the login is on its way. If it stores a session, the login replaces that.
    pub(crate) follows: Option<Follows>,
}

/// What a login does with the session that is being stored.
pub(crate) struct Follows {
    /// Which of its values the login carries over.
    pub(crate) keep: IndexSet<Field>,
    /// What the request has done since the write began, until the login.
    pub(crate) before: Changes,
    /// The kept values without what the write changes.
    pub(crate) without: IndexMap<Field, RawBson>,
}

/// The stored session that a login replaces.
#[derive(Clone)]
pub(crate) struct Replaces {
    pub(crate) old: Box<Stored>,
    /// Which of its values the login carries over.
    pub(crate) keep: IndexSet<Field>,
    /// What the request had done to the old session until the login.
    pub(crate) before: Changes,
}

impl Replaces {
    pub(crate) fn id(&self) -> &Id {
        &self.old.record.meta.id
    }
}

impl Login {
    /// A write that the request began before the login has stored this. Returns whether it is the
    /// session that the login replaces from here on. Its values are kept as they are stored now.
    pub(super) fn former_is_stored(&mut self, stored: Stored) -> bool {
        let stored = Box::new(stored);
        match (&mut self.replaces, self.follows.take()) {
            (Some(replaces), _) if *replaces.id() == stored.record.meta.id => replaces.old = stored,
            (replaces, Some(Follows { keep, before, .. })) => {
                let old = stored;
                *replaces = Some(Replaces { old, keep, before });
            }
            _ => return false,
        }
        if let Some(Replaces { old, keep, before }) = &self.replaces {
            let kept = before.after(old.record.fields(|field| keep.contains(field)));
            let mut kept: IndexMap<Field, RawBson> = kept.into_iter().collect();
            for field in keep {
                match kept.swap_remove(field) {
                    Some(value) => drop(self.values.insert(field.clone(), value)),
                    None => drop(self.values.shift_remove(field)),
                }
            }
        }
        true
    }
}

impl Base {
    pub(crate) fn get(&self, field: &Field) -> Result<Option<Value<'_>>, Unreadable> {
        match self {
            Base::Empty => Ok(None),
            Base::Login(login) => {
                let value = login.values.get(field);
                Ok(value.map(|value| Value::Stored(value.as_raw_bson_ref())))
            }
            Base::Stored(stored) => stored.record.get(field),
        }
    }

    pub(super) fn contains(&self, field: &Field) -> bool {
        match self {
            Base::Empty => false,
            Base::Login(login) => login.values.contains_key(field),
            Base::Stored(stored) => stored.record.stored(field).is_some(),
        }
    }

    /// The values that a login may keep.
    pub(super) fn values(&self, keep: &IndexSet<Field>) -> Vec<(Field, RawBson)> {
        match self {
            Base::Empty => Vec::new(),
            Base::Login(login) => login.values.clone().into_iter().collect(),
            Base::Stored(stored) => stored.record.fields(|field| keep.contains(field)),
        }
    }

    pub(super) fn fields(&self) -> Vec<Field> {
        match self {
            Base::Empty => Vec::new(),
            Base::Login(login) => login.values.keys().cloned().collect(),
            Base::Stored(stored) => stored.record.names().map(Field::stored).collect(),
        }
    }

    /// How many bytes the values take, as a BSON document.
    pub(super) fn size(&self) -> usize {
        const EMPTY_DOCUMENT_BYTES: usize = 5;
        match self {
            Base::Empty => EMPTY_DOCUMENT_BYTES,
            Base::Login(login) => {
                let sizes = login
                    .values
                    .iter()
                    .map(|(field, value)| value::size(field.as_str(), value.as_raw_bson_ref()));
                sizes.sum::<usize>() + EMPTY_DOCUMENT_BYTES
            }
            Base::Stored(stored) => stored.record.size(),
        }
    }

    /// How many bytes one value takes in it.
    pub(super) fn size_of(&self, field: &Field) -> usize {
        match self {
            Base::Empty => 0,
            Base::Login(login) => {
                let value = login.values.get(field).map(RawBson::as_raw_bson_ref);
                value.map_or(0, |value| value::size(field.as_str(), value))
            }
            Base::Stored(stored) => stored.record.size_of(field),
        }
    }
}
