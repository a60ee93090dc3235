//! The values of a stored session, as bytes.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use bson::raw::RawBsonRef;
use bson::{RawBson, RawDocument};

use crate::document::Document;

/// How many lookups search through long values before the values get an index.
const MAX_UNINDEXED_LOOKUPS: u32 = 16;
/// The length of values from which on an index pays.
const MIN_INDEXED_BYTES: usize = 2048;

/// The values of a stored session, as bytes.
pub(super) struct Values {
    document: Document,
    /// Where in it they are.
    range: Range<usize>,
    /// How many bytes of them sealing has added.
    added: usize,
    lookups: AtomicU32,
    /// Made for a request that looks for many of many, which would take the square of their number
    /// otherwise.
    index: OnceLock<HashMap<Box<str>, RawBson>>,
}

impl Values {
    pub(super) fn new(document: Document, range: Range<usize>, added: usize) -> Self {
        Values {
            document,
            range,
            added,
            lookups: AtomicU32::new(0),
            index: OnceLock::new(),
        }
    }

    /// The document that holds the values.
    pub(super) fn document(&self) -> &Document {
        &self.document
    }

    #[cfg(test)]
    pub(super) fn has_index(&self) -> bool {
        self.index.get().is_some()
    }

    /// How many bytes they take, not counting what sealing has added.
    pub(super) fn plain_len(&self) -> usize {
        self.range.len().saturating_sub(self.added)
    }

    pub(super) fn raw(&self) -> Option<&RawDocument> {
        RawDocument::from_bytes(self.document.as_bytes().get(self.range.clone())?).ok()
    }

    pub(super) fn get(&self, name: &str) -> Option<RawBsonRef<'_>> {
        let is_long = self.range.len() >= MIN_INDEXED_BYTES;
        if is_long && self.lookups.fetch_add(1, Ordering::Relaxed) >= MAX_UNINDEXED_LOOKUPS {
            let index = self.index.get_or_init(|| self.index());
            return index.get(name).map(RawBson::as_raw_bson_ref);
        }
        self.raw()?.get(name).ok().flatten()
    }

    fn index(&self) -> HashMap<Box<str>, RawBson> {
        let mut index = HashMap::new();
        for (name, value) in self.raw().into_iter().flatten().flatten() {
            // Of a name that is there twice the first counts, as it does without an index.
            index
                .entry(name.into())
                .or_insert_with(|| value.to_raw_bson());
        }
        index
    }
}
