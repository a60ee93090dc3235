//! What a request's changes build on: a stored session, or one that is not stored yet, perhaps in
//! the place of another.

use bson::RawBson;
use bson::raw::RawBsonRef;
use indexmap::IndexMap;

use crate::document::key::Field;
use crate::document::value;
use crate::record::Record;
use crate::record::legacy::LegacySession;
use crate::record::token::{Id, Secret, Token};
use crate::state::changes::Changes;

/// What `changes` are made to.
pub(crate) enum Base {
    New(Box<New>),
    Stored(Box<Stored>),
}

/// A session in the store, and the token that the browser has for it.
pub(crate) struct Stored {
    pub(crate) record: Record,
    pub(crate) token: Token,
}

/// A session that is not stored yet.
#[derive(Default)]
pub(crate) struct New {
    pub(crate) id: Option<Id>,
    pub(crate) csrf: Option<Secret>,
    pub(crate) user: Option<RawBson>,
    /// What it starts with: the kept values of the session that it replaces.
    pub(crate) values: IndexMap<Field, RawBson>,
    pub(crate) replaces: Option<Replaces>,
    /// Made by `login`, `login_keeping` or `elevate`.
    pub(crate) by_login: bool,
}

impl New {
    /// The ancestor's session that this one goes on with.
    pub(crate) fn ancestor(&self) -> Option<&LegacySession> {
        match &self.replaces.as_ref()?.old {
            Old::LegacySession(ancestor) if !self.by_login => Some(ancestor),
            _ => None,
        }
    }

    /// What it holds after these changes.
    pub(crate) fn after(&self, changes: &Changes) -> Vec<(Field, RawBson)> {
        changes.after(self.values.clone())
    }
}

/// The session that a new one replaces.
pub(crate) struct Replaces {
    pub(crate) old: Old,
    pub(crate) keep: Keep,
    /// What the request had done to the old one until then.
    pub(crate) before: Changes,
}

pub(crate) enum Old {
    Ours(Box<Stored>),
    LegacySession(Box<LegacySession>),
}

impl Old {
    pub(crate) fn id(&self) -> &Id {
        match self {
            Old::Ours(stored) => &stored.record.id,
            Old::LegacySession(ancestor) => &ancestor.id,
        }
    }
}

/// Which of the old session's values the new one carries.
#[derive(Clone)]
pub(crate) enum Keep {
    Nothing,
    Fields(Vec<Field>),
    All,
}

impl Keep {
    pub(crate) fn has(&self, field: &Field) -> bool {
        match self {
            Keep::Nothing => false,
            Keep::Fields(fields) => fields.contains(field),
            Keep::All => true,
        }
    }
}

impl Base {
    /// A session that is not there.
    pub(crate) fn empty() -> Self {
        Base::New(Box::default())
    }

    pub(super) fn ancestor(ancestor: Box<LegacySession>) -> Self {
        Base::New(Box::new(New {
            csrf: ancestor.csrf.clone(),
            values: ancestor.values.iter().cloned().collect(),
            replaces: Some(Replaces {
                old: Old::LegacySession(ancestor),
                keep: Keep::All,
                before: Changes::default(),
            }),
            ..New::default()
        }))
    }

    pub(crate) fn get(&self, field: &Field) -> Option<RawBsonRef<'_>> {
        match self {
            Base::New(new) => new.values.get(field).map(RawBson::as_raw_bson_ref),
            Base::Stored(stored) => stored.record.get(field),
        }
    }

    pub(super) fn values(&self) -> Vec<(Field, RawBson)> {
        match self {
            Base::New(new) => new.values.clone().into_iter().collect(),
            Base::Stored(stored) => stored.record.fields(),
        }
    }

    pub(super) fn fields(&self) -> Vec<Field> {
        match self {
            Base::New(new) => new.values.keys().cloned().collect(),
            Base::Stored(stored) => {
                let names = stored.record.values().map(|(name, _)| name);
                names.map(Field::stored).collect()
            }
        }
    }

    pub(super) fn size(&self) -> usize {
        match self {
            Base::New(new) => {
                let sizes = new
                    .values
                    .iter()
                    .map(|(field, value)| value::size(field.as_str(), value.as_raw_bson_ref()));
                sizes.sum::<usize>() + 5
            }
            Base::Stored(stored) => stored.record.size(),
        }
    }
}

impl Keep {
    pub(super) fn and(self, other: Keep) -> Keep {
        match (self, other) {
            (Keep::All, keep) | (keep, Keep::All) => keep,
            (Keep::Fields(a), Keep::Fields(b)) => {
                Keep::Fields(a.into_iter().filter(|field| b.contains(field)).collect())
            }
            _ => Keep::Nothing,
        }
    }
}
