//! The types that the [`Store`](crate::store::Store) trait takes and returns: a stored [`Document`],
//! the [`Filter`] that selects documents, and the [`Update`] that changes single fields.
//!
//! A filter or an update can be rendered as BSON, for MongoDB, or applied in process, for the memory
//! store. Neither can express an upsert or the replacement of a document.

use std::fmt;

use bson::raw::RawBsonRef;
use bson::{RawDocument, RawDocumentBuf, Timestamp};

use crate::clock::Moment;
use crate::document::key::Field;

mod compare;
pub(crate) mod depth;
mod filter;
pub(crate) mod key;
mod reason;
mod update;
pub(crate) mod value;

pub(crate) use compare::number;
pub use filter::Filter;
pub(crate) use update::Operator;
pub use update::{Inapplicable, Update};

/// The field of a session's document that holds its values.
pub(crate) const VALUE: &str = "value";

/// The server replaces it by its own time, when a document is inserted that has it as a field.
pub(crate) const SERVER_TIME: Timestamp = Timestamp {
    time: 0,
    increment: 0,
};

/// A stored document, as BSON bytes: a session, a tombstone or a revocation.
#[derive(Clone, PartialEq)]
pub struct Document(Vec<u8>);

impl Document {
    /// Creates a document from BSON bytes.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Document(bytes)
    }

    /// Returns the BSON bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the BSON bytes, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Returns the document's `_id`, if it is a string.
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

    /// Adds the time of its insert, by the server's clock.
    pub(crate) fn with_server_time(self, name: &str) -> Self {
        let Some(raw) = self.raw() else {
            return self;
        };
        let mut raw = raw.to_raw_document_buf();
        raw.append(name, SERVER_TIME);
        Document::from_raw(raw)
    }

    pub(crate) fn raw(&self) -> Option<&RawDocument> {
        RawDocument::from_bytes(&self.0).ok()
    }

    pub(crate) fn get(&self, name: &str) -> Option<RawBsonRef<'_>> {
        self.raw()?.get(name).ok().flatten()
    }

    /// Returns the fields with their values, without those that are malformed.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, RawBsonRef<'_>)> {
        self.raw().into_iter().flatten().flatten()
    }

    /// Copies the fields of some names.
    pub(crate) fn only(&self, is_wanted: impl Fn(&str) -> bool) -> Self {
        let fields = self.fields().filter(|(name, _)| is_wanted(name));
        Document::from_raw(
            fields
                .map(|(name, value)| (name, value.to_raw_bson()))
                .collect(),
        )
    }

    fn at(&self, path: &Path) -> Option<RawBsonRef<'_>> {
        match path {
            Path::Meta(name) => self.get(name),
            Path::Value(field) => self
                .get(VALUE)?
                .as_document()?
                .get(field.as_str())
                .ok()
                .flatten(),
        }
    }
}

/// Prints the size only, since a document holds digests of secrets and the application's data.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({} bytes)", self.0.len())
    }
}

/// The path of a field in a document.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Path {
    /// A top-level field, which the crate itself reads and writes.
    Meta(&'static str),
    /// One of the session's values.
    Value(Field),
}

impl Path {
    fn render(&self) -> String {
        match self {
            Path::Meta(name) => (*name).to_owned(),
            Path::Value(field) => format!("{VALUE}.{}", field.as_str()),
        }
    }
}

pub(crate) fn date(moment: Moment) -> bson::DateTime {
    bson::DateTime::from_millis(moment.millis())
}

/// The moment of a stored date.
pub(crate) fn moment(value: RawBsonRef<'_>) -> Option<Moment> {
    let date = value.as_datetime()?;
    Some(Moment::from_millis(date.timestamp_millis()))
}

#[cfg(test)]
mod tests;
