//! Sessions that the Python package pyramid_mongo_session stored (`session.legacy_ids`).
//!
//! Its cookie is the document's `_id` in clear, 32 hexadecimal digits. Its document has the fields
//! `_id`, `created`, `accessed`, `value`, and `pickled`, which must be false: nothing here unpickles.
//!
//! [`read`] gives such a document the form of ours in memory. The first write makes the stored
//! document one of ours, in place ([`Upgrade`]): it keeps its `_id` and its cookie, so that parallel
//! requests succeed and the Python application can still read it. The fields that `read` adds are
//! computed from the document alone, so that all requests add the same; `$max` stores them, so that
//! no request takes back a secret that another one has replaced meanwhile. A write gives the values
//! that it changes our names, on the condition that no other request has changed names since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bson::raw::RawBsonRef;
use bson::{RawBson, RawDocument, RawDocumentBuf};

use crate::clock::Moment;
use crate::config::Config;
use crate::document::key::{FLASH, Field, LEGACY_CSRF};
use crate::document::value;
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
    let id = Id::parse(document.id()?).filter(Id::is_legacy)?;
    if !matches!(
        document.get("pickled"),
        None | Some(RawBsonRef::Boolean(false))
    ) {
        return None;
    }
    let values = document.get(field::VALUE)?.as_document()?;
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
    let missing = missing.collect();
    in_our_form(document, missing)
}

/// Returns a stored document in our form, and its upgrade. `missing`: the fields that it lacks.
fn in_our_form(
    document: Document,
    missing: Vec<(&'static str, RawBson)>,
) -> Option<(Document, Option<Arc<Upgrade>>)> {
    let values = document.get(field::VALUE)?.as_document()?;
    let names = match document.get(RENAMED) {
        Some(ours) => Some(Names::read(values, strings(ours)?)?),
        // A write of the Python package replaces the document, and with it all that is ours.
        None if document.get(field::TOKEN).is_some() => None,
        None => Some(Names::read(values, BTreeSet::new())?).filter(|names| !names.old.is_empty()),
    };
    if missing.is_empty() && names.is_none() {
        return Some((document, None));
    }
    let mut ours = RawDocumentBuf::new();
    for element in document.raw()? {
        let (name, value) = element.ok()?;
        match (name, &names) {
            (field::VALUE, Some(names)) => ours.append(name, names.translate(values)?),
            _ => ours.append_ref(name, value),
        }
    }
    for (name, value) in &missing {
        ours.append_ref(*name, value.as_raw_bson_ref());
    }
    let upgrade = Upgrade {
        document,
        missing,
        names,
    };
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
    /// empty name, which is not a key here.
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

    /// The name that a value is still stored under, where an update can name it. Where it cannot,
    /// the value stays there and is not read any more.
    fn addressable(&self, field: &Field) -> Option<Field> {
        let old = self.old.get(field)?;
        Field::is_one(old).then(|| Field::stored(old))
    }

    /// The values that a write of one displaces: first that one, then the value of another key that is
    /// stored under its name, as `%25` is when the written key is `%`, then the one under that one's.
    fn displaced<'a>(&'a self, field: &'a Field) -> impl Iterator<Item = &'a Field> {
        std::iter::successors(Some(field), |name| {
            let other = self
                .our_name(name.as_str())
                .filter(|other| other != *name)?;
            self.old.get_key_value(&other).map(|(other, _)| other)
        })
    }
}

/// What the next write adds to a document, so that it becomes one of ours.
pub(crate) struct Upgrade {
    /// The document as it is stored.
    document: Document,
    missing: Vec<(&'static str, RawBson)>,
    names: Option<Names>,
}

impl Upgrade {
    /// Adds to an update the fields that the stored document lacks, and our names of the values that
    /// it changes. It takes back nothing that the update itself sets, or that the document has
    /// meanwhile.
    pub(crate) fn complete(&self, update: &mut Update) {
        for (name, value) in &self.missing {
            if !update.contains(&Path::Meta(name)) {
                update.raise(name, value.clone());
            }
        }
        let Some(names) = &self.names else {
            return;
        };
        let changed: Vec<Field> = update.fields().cloned().collect();
        let mut renamed = BTreeSet::new();
        for field in &changed {
            let mut name = field;
            for moved in names.displaced(field) {
                let moved_path = Path::Value(moved.clone());
                if let (false, Some(value)) = (update.contains(&moved_path), self.stored(name)) {
                    update.insert(moved_path, Operator::Set(value));
                }
                renamed.insert(moved);
                name = moved;
            }
        }
        for old in changed.iter().filter_map(|field| names.addressable(field)) {
            let old = Path::Value(old);
            if !update.contains(&old) {
                update.insert(old, Operator::Unset);
            }
        }
        renamed.retain(|field| field.as_str().contains('%') && !names.ours.contains(*field));
        let renamed = renamed.iter().map(|field| field.as_str().to_owned());
        // Without one, the document would from now on be read as having our names alone.
        let renamed = Operator::Push(renamed.map(RawBson::String).collect());
        update.insert(Path::Meta(RENAMED), renamed);
    }

    /// The document in our form after an update that was completed and applied, and what the next write
    /// adds to it.
    pub(crate) fn after(
        &self,
        update: &Update,
        now: Moment,
    ) -> Option<(Document, Option<Arc<Upgrade>>)> {
        let mut update = update.clone();
        self.complete(&mut update);
        in_our_form(update.apply(&self.document, now).ok()?, Vec::new())
    }

    /// Whether a write of a value gives values other names: it is stored under another one, or another
    /// key's value under its own.
    pub(crate) fn renames(&self, field: &Field) -> bool {
        let names = self.names.as_ref();
        names.is_some_and(|names| {
            names.old.contains_key(field) || names.displaced(field).nth(1).is_some()
        })
    }

    /// Restricts a filter to the document while no name has changed since it was loaded, and no value
    /// that a write of this one moves.
    pub(crate) fn with_same_value(&self, filter: Filter, field: &Field) -> Filter {
        let ours = self.document.get(RENAMED).map(RawBsonRef::to_raw_bson);
        let filter = filter.still(Path::Meta(RENAMED), ours);
        let names = self.names.iter().flat_map(|names| {
            let old = names.addressable(field);
            old.into_iter().chain(names.displaced(field).cloned())
        });
        names.fold(filter, |filter, name| {
            let value = self.stored(&name);
            filter.still(Path::Value(name), value)
        })
    }

    /// How many bytes the list of our names takes.
    pub(crate) fn size_of_names(&self) -> usize {
        let names = self.document.get(RENAMED);
        names.map_or(0, |names| value::size(RENAMED, names))
    }

    /// What is stored under a name.
    fn stored(&self, name: &Field) -> Option<RawBson> {
        let values = self.document.get(field::VALUE)?.as_document()?;
        let value = values.get(name.as_str()).ok().flatten()?;
        Some(value.to_raw_bson())
    }
}

#[cfg(test)]
mod tests;
