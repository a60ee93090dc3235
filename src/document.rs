//! What crosses the [`Store`](crate::store::Store) trait: a stored [`Document`], the [`Filter`]
//! that chooses one, and the [`Update`] that changes single fields of it.
//!
//! All three can be rendered as BSON bytes, for a store that speaks BSON, and carried out in
//! process, for one that does not. There is no way to say "upsert" or "replace" in them.

use std::fmt;

use bson::raw::RawBsonRef;
use bson::{RawDocument, RawDocumentBuf};

use crate::clock::Moment;
use crate::document::key::Field;

mod compare;
pub(crate) mod depth;
mod filter;
pub(crate) mod key;
mod update;
pub(crate) mod value;

pub(crate) use compare::number;
pub use filter::Filter;
pub(crate) use update::Operation;
pub use update::{Inapplicable, Update};

/// One stored document, as BSON bytes: a session, or a marker of the crate's own.
#[derive(Clone, PartialEq)]
pub struct Document(Vec<u8>);

impl Document {
    /// Takes the bytes of a BSON document, as a store kept them.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Document(bytes)
    }

    /// The bytes to keep.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes themselves, to keep or to send.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The document's `_id`, by which a store finds it.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.get("_id")?.as_str()
    }

    pub(crate) fn from_bson(document: &bson::Document) -> Self {
        Document(bson::to_vec(document).unwrap_or_default())
    }

    pub(crate) fn from_raw(document: RawDocumentBuf) -> Self {
        Document(document.into_bytes())
    }

    pub(crate) fn raw(&self) -> Option<&RawDocument> {
        RawDocument::from_bytes(&self.0).ok()
    }

    pub(crate) fn get(&self, name: &str) -> Option<RawBsonRef<'_>> {
        self.raw()?.get(name).ok().flatten()
    }

    fn at(&self, path: &Path) -> Option<RawBsonRef<'_>> {
        match path {
            Path::Meta(name) => self.get(name),
            Path::Value(field) => self
                .get("value")?
                .as_document()?
                .get(field.as_str())
                .ok()
                .flatten(),
        }
    }
}

/// Prints the size only: a document holds secrets' digests and an application's data.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({} bytes)", self.0.len())
    }
}

/// Where in a document something is: a field of the crate's own, or one of the session's values.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Path {
    Meta(&'static str),
    Value(Field),
}

impl Path {
    fn render(&self) -> String {
        match self {
            Path::Meta(name) => (*name).to_owned(),
            Path::Value(field) => format!("value.{}", field.as_str()),
        }
    }
}

pub(crate) fn date(moment: Moment) -> bson::DateTime {
    bson::DateTime::from_millis(moment.millis())
}

#[cfg(test)]
mod tests;
