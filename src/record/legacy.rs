//! Sessions that the Python package pyramid_mongo_session wrote (`session.legacy_ids`).
//!
//! Its cookie is the document's `_id` in clear, 32 hexadecimal digits, and its document has four
//! fields: `_id`, `created`, `accessed`, `value` (and `pickled`, which must be false: nothing here
//! ever unpickles). Such a session is read as it is and moved to our form at its first write.

use std::time::Duration;

use bson::RawBson;
use bson::raw::RawBsonRef;
use sha2::{Digest as _, Sha256};

use crate::clock::Moment;
use crate::document::Document;
use crate::document::key::{FLASH, Field, LEGACY_CSRF};
use crate::record::token::{Id, Secret};
use crate::record::{field, seconds};

/// An ancestor's session, with its values in our form.
#[derive(Clone)]
pub(crate) struct LegacySession {
    pub(crate) id: Id,
    pub(crate) created: Moment,
    pub(crate) accessed: Moment,
    pub(crate) values: Vec<(Field, RawBson)>,
    pub(crate) csrf: Option<Secret>,
}

impl LegacySession {
    /// Reads an ancestor's document; `None` when it is none, or pickled, or malformed.
    pub(crate) fn parse(document: &Document) -> Option<Self> {
        let id = Id::parse_legacy(document.id()?)?;
        // One of ours is never read by the weaker rules of the ancestor.
        if document.get(field::TOKEN).is_some() {
            return None;
        }
        match document.get("pickled") {
            None | Some(RawBsonRef::Boolean(false)) => {}
            Some(_) => return None,
        }
        let mut values = Vec::new();
        let mut csrf = None;
        for element in document.get(field::VALUE)?.as_document()? {
            let (name, value) = element.ok()?;
            if name == LEGACY_CSRF {
                csrf = value.as_str().filter(|t| !t.is_empty()).map(csrf_secret);
                continue;
            }
            let field = match name.strip_prefix(FLASH) {
                Some(queue) => Field::of_queue(queue),
                None => Field::of_key(name),
            };
            // The empty key cannot be one of ours.
            if let Ok(field) = field {
                values.push((field, value.to_raw_bson()));
            }
        }
        Some(LegacySession {
            id,
            created: seconds(document.get(field::CREATED)?)?,
            accessed: seconds(document.get(field::ACCESSED)?)?,
            values,
            csrf,
        })
    }

    /// Whether the session is alive at a moment. One that was last used further ahead than it lives
    /// was not: nothing but that time would ever end it, so it is not believed.
    pub(crate) fn is_alive(
        &self,
        now: Moment,
        timeout: Option<Duration>,
        lifetime: Option<Duration>,
    ) -> bool {
        now <= self.deadline(timeout, lifetime)
            && timeout.is_none_or(|idle| self.accessed <= now.plus(idle))
    }

    /// The latest moment at which the session is still alive.
    pub(crate) fn deadline(&self, timeout: Option<Duration>, lifetime: Option<Duration>) -> Moment {
        let idle = timeout.map_or(Moment::NEVER, |idle| self.accessed.plus(idle));
        idle.min(lifetime.map_or(Moment::NEVER, |life| self.created.plus(life)))
    }
}

/// Our secret for an ancestor's token. Derived, so that whichever request moves the session, a
/// form that the Python application rendered goes on working, and hashed, so that the stored
/// secret does not tell the token.
pub(crate) fn csrf_secret(token: &str) -> Secret {
    let mut hash = Sha256::new();
    hash.update(b"rocket_mongo_session ancestor's csrf 1\0");
    hash.update(token.as_bytes());
    Secret::from_bytes(hash.finalize().into())
}

#[cfg(test)]
mod tests;
