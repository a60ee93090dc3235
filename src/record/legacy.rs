//! Sessions that the Python package pyramid_mongo_session stored (`session.legacy_ids`).
//!
//! Its cookie is the document's `_id` in clear, 32 hexadecimal digits. Its document has the fields
//! `_id`, `created`, `accessed`, `value`, and `pickled`, which must be false: nothing here unpickles.
//!
//! [`read`] gives such a document the form of ours in memory. The first write makes the stored
//! document one of ours, in place ([`Upgrade`]): it keeps its `_id` and its cookie, so that parallel
//! requests succeed and the Python application can still read it. The fields that `read` adds are
//! computed from the document alone, so that all requests add the same; `$max` stores them, so that
//! no request takes back a secret that another one has replaced meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bson::raw::RawBsonRef;
use bson::{RawBson, RawDocument, RawDocumentBuf};

use crate::clock::Moment;
use crate::config::Config;
use crate::document::key::{FLASH, Field, LEGACY_CSRF};
use crate::document::{Document, Filter, Operator, Path, Update, date};
use crate::record::token::{Digest, Id, Secret, Token};
use crate::record::{OwnTimes, binary, field, seconds};

/// Says that a document has or had names of the Python package that differ from ours, and lists
/// those names of `value` that are ours. `a%2Eb` may be our name of the key `a.b`, or the Python
/// package's of the key `a%2Eb`.
const RENAMED: &str = "renamed";

/// Reads a stored document whose `_id` is 32 hexadecimal digits; `None` when it is malformed,
/// pickled, or named otherwise. Returns it in our form, and the upgrade that the next write must
/// make: `None` if the stored document has that form already.
pub(crate) fn read(
    document: Document,
    config: &Config,
    now: Moment,
) -> Option<(Document, Option<Arc<Upgrade>>)> {
    let raw = document.raw()?;
    let id = Id::parse(document.id()?).filter(Id::is_legacy)?;
    if !matches!(
        document.get("pickled"),
        None | Some(RawBsonRef::Boolean(false))
    ) {
        return None;
    }
    let values = document.get(field::VALUE)?.as_document()?;
    let names = match document.get(RENAMED) {
        Some(ours) => Some(Names::read(values, strings(ours)?)?),
        // A write of the Python package replaces the document, and with it all that is ours.
        None if document.get(field::TOKEN).is_some() => None,
        None => Some(Names::read(values, BTreeSet::new())?).filter(|names| !names.old.is_empty()),
    };
    let added = [
        (
            field::TOKEN,
            binary(
                Token::bare(id.clone())
                    .digest(&config.cookie_name)
                    .as_bytes(),
            ),
        ),
        (field::CSRF, binary(csrf_of(values, &id).expose())),
        (field::EXPIRES, date(expiry(&document, config, now)?).into()),
    ];
    let missing = added
        .into_iter()
        .filter(|(name, _)| document.get(name).is_none());
    let upgrade = Upgrade {
        missing: missing.collect(),
        names,
    };
    if upgrade.missing.is_empty() && upgrade.names.is_none() {
        return Some((document, None));
    }
    let mut ours = RawDocumentBuf::new();
    for element in raw {
        let (name, value) = element.ok()?;
        match (name, &upgrade.names) {
            (field::VALUE, Some(names)) => ours.append(name, names.translate(values)?),
            _ => ours.append_ref(name, value),
        }
    }
    for (name, value) in &upgrade.missing {
        ours.append_ref(*name, value.as_raw_bson_ref());
    }
    Some((Document::from_raw(ours), Some(Arc::new(upgrade))))
}

/// Whether a stored document has an `_id` that the Python package drew.
pub(crate) fn has_its_id(document: &Document) -> bool {
    document.id().is_some_and(Id::is_legacy_text)
}

/// Whether the `_id` of a stored document is a credential: it opens the session by itself.
pub(crate) fn is_opened_by_its_id(document: &Document) -> bool {
    has_its_id(document)
        && document
            .get(field::TOKEN)
            .is_none_or(|token| match crate::record::bytes(token) {
                Some(bytes) => Digest::from_bytes(bytes).is_of_bare_id(),
                None => true,
            })
}

/// Our secret for a CSRF token of the Python package, so that a form that it rendered stays
/// valid. It does not reveal the token.
pub(crate) fn csrf_secret(token: &str) -> Secret {
    Secret::derive(b"rocket_mongo_session legacy csrf 1\0", token.as_bytes())
}

fn csrf_of(values: &RawDocument, id: &Id) -> Secret {
    let token = values.get(LEGACY_CSRF).ok().flatten();
    match token.and_then(RawBsonRef::as_str) {
        Some(token) if !token.is_empty() => csrf_secret(token),
        _ => Secret::derive(
            b"rocket_mongo_session legacy id's csrf 1\0",
            id.as_str().as_bytes(),
        ),
    }
}

/// When a document without `expires` expires. One that was last used further ahead of now than it
/// lives has expired: nothing but that time would ever end it, so it is not believed.
pub(super) fn expiry(document: &Document, config: &Config, now: Moment) -> Option<Moment> {
    let expiry = OwnTimes::default().expiry(config);
    let created = seconds(document.get(field::CREATED)?)?;
    let accessed = seconds(document.get(field::ACCESSED)?)?;
    if expiry.idle.is_some_and(|idle| accessed > now.plus(idle)) {
        return Some(Moment::from_millis(0));
    }
    Some(expiry.expires_at(created, accessed))
}

fn strings(array: RawBsonRef<'_>) -> Option<BTreeSet<Field>> {
    let elements = array.as_array()?.into_iter();
    elements
        .map(|element| Some(Field::stored(element.ok()?.as_str()?)))
        .collect()
}

/// The names of the values of a document in which the Python package's and ours may differ.
#[derive(Default)]
struct Names {
    /// Our name of each value that is stored under another one, and that one.
    old: BTreeMap<Field, String>,
    /// The keys that the document says are ours ([`RENAMED`]).
    ours: BTreeSet<Field>,
}

impl Names {
    fn read(values: &RawDocument, ours: BTreeSet<Field>) -> Option<Self> {
        let mut names = Names {
            old: BTreeMap::new(),
            ours,
        };
        for element in values {
            let (stored, _) = element.ok()?;
            match names.our_name(stored) {
                Some(field) if field.as_str() != stored => {
                    names.old.insert(field, stored.to_owned());
                }
                _ => {}
            }
        }
        Some(names)
    }

    /// Our name of a stored value. `None` for one that was written anew under our name, and for the
    /// empty name, which we have not.
    fn our_name(&self, stored: &str) -> Option<Field> {
        let field = Field::stored(stored);
        if self.ours.contains(&field) {
            return Some(field);
        }
        let field = match stored.strip_prefix(FLASH) {
            Some(queue) => Field::of_queue(queue).ok()?,
            None if stored == LEGACY_CSRF || field == Field::return_to() => field,
            None => Field::of_key(stored).ok()?,
        };
        (!self.ours.contains(&field)).then_some(field)
    }

    fn translate(&self, values: &RawDocument) -> Option<RawDocumentBuf> {
        let mut ours = RawDocumentBuf::new();
        for element in values {
            let (stored, value) = element.ok()?;
            if let Some(field) = self.our_name(stored) {
                ours.append_ref(field.as_str(), value);
            }
        }
        Some(ours)
    }

    /// Adds to an update that the values which it changes bear our names from now on.
    fn complete(&self, update: &mut Update) {
        let changed: Vec<Field> = update.fields().cloned().collect();
        let mut renamed = Vec::new();
        for field in changed {
            if let Some(old) = self.addressable(&field) {
                let old = Path::Value(old);
                if !update.contains(&old) {
                    update.insert(old, Operator::Unset);
                }
            }
            if field.as_str().contains('%') && !self.ours.contains(&field) {
                renamed.push(RawBson::String(field.as_str().to_owned()));
            }
        }
        // Without one, the document would from now on be read as having our names alone.
        update.insert(Path::Meta(RENAMED), Operator::Push(renamed));
    }

    /// Whether the Python package has another key under our name of a key: `%25`, when this one is
    /// `%`. A write of this one replaces both.
    fn is_taken(&self, field: &Field) -> bool {
        let other = self.our_name(field.as_str());
        other.is_some_and(|other| self.old.contains_key(&other) && other != *field)
    }

    /// The name that a value is still stored under, where an update can name it. Where it cannot,
    /// the value stays there and is not read any more.
    fn addressable(&self, field: &Field) -> Option<Field> {
        let old = self.old.get(field)?;
        Field::is_one(old).then(|| Field::stored(old))
    }
}

/// What the next write adds to a document, so that it becomes one of ours.
pub(crate) struct Upgrade {
    missing: Vec<(&'static str, RawBson)>,
    names: Option<Names>,
}

impl Upgrade {
    /// Adds to an update the fields that the stored document lacks. It changes nothing that the
    /// update itself sets, or that the document has by now.
    pub(crate) fn complete(&self, update: &mut Update) {
        for (name, value) in &self.missing {
            if !update.contains(&Path::Meta(name)) {
                update.raise(name, value.clone());
            }
        }
        if let Some(names) = &self.names {
            names.complete(update);
        }
    }

    /// Whether a value is still stored under another name, so that an `$inc` or a `$push` would
    /// begin at nothing, or at another key's value.
    pub(crate) fn needs_compare_and_set(&self, field: &Field) -> bool {
        let names = self.names.as_ref();
        names.is_some_and(|names| names.old.contains_key(field) || names.is_taken(field))
    }

    /// Restricts a filter to the document while a value is stored as it was loaded.
    pub(crate) fn with_same_value(
        &self,
        filter: Filter,
        field: Field,
        value: Option<RawBson>,
    ) -> Filter {
        let Some(names) = self
            .names
            .as_ref()
            .filter(|_| self.needs_compare_and_set(&field))
        else {
            return filter.still(field, value);
        };
        let filter = match names.addressable(&field) {
            Some(old) => filter.still(old, value),
            None => filter,
        };
        match names.is_taken(&field) {
            true => filter,
            false => filter.still(field, None),
        }
    }
}

#[cfg(test)]
mod tests;
