//! The one place where a stored value becomes plain, and where a plain one is made to be stored
//! (`session.seal`). [`seal`](crate::seal) has the cryptography.

use std::borrow::Cow;

use bson::raw::RawBsonRef;
use bson::{RawBson, RawDocumentBuf};

use super::token::{Digest, Id, Secret, Token, draw};
use super::{binary, field};
use crate::config::Config;
use crate::document::key::Field;
use crate::document::value::{self, Value};
use crate::document::{Path, Update};
use crate::error::Error;
use crate::seal::{Key, OVERHEAD_BYTES, Place};

/// By how many bytes a value is longer as a sealed one: the header, nonce and tag; its type and
/// length inside of them as a document; its length and subtype as a binary.
pub(super) const SEALED_VALUE_BYTES: usize = OVERHEAD_BYTES + EMPTY_HOLDER_BYTES + BINARY_BYTES;
const EMPTY_HOLDER_BYTES: usize = 7;
const BINARY_BYTES: usize = 5;

/// A sealed value that does not open: it was changed, or sealed for another place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unreadable;

impl Unreadable {
    pub(crate) fn of(self, field: &Field) -> Error {
        Error::Decode {
            key: field.display(),
            wanted: "a value that was sealed for this key of this session",
            found: "sealed bytes that do not open",
            reason: "they were changed, or sealed for another key or session".to_owned(),
        }
    }
}

/// The secrets and values of a new document, as they are stored.
pub(crate) struct Contents<'v> {
    pub(crate) token: Digest,
    pub(crate) csrf: RawBson,
    pub(crate) values: Cow<'v, [(Field, RawBson)]>,
    /// The document's data key, which the token opens; `None` when nothing is sealed.
    pub(crate) wrapped_key: Option<RawBson>,
}

impl<'v> Contents<'v> {
    /// Seals the contents of the document that a token names with a data key of their own, and returns
    /// its sealer. They stay plain without `session.seal`, and under a bare id: it is stored in the
    /// clear, so it must not wrap a key.
    pub(crate) fn new(
        token: &Token,
        csrf: &Secret,
        values: impl Into<Cow<'v, [(Field, RawBson)]>>,
        config: &Config,
    ) -> Result<(Self, Option<Sealer>), Error> {
        let (values, digest) = (values.into(), token.digest(&config.cookie_name));
        if !config.seal || token.is_bare() {
            return Ok((Contents::plain(digest, csrf, values), None));
        }
        let sealer = Sealer::draw(&token.id)?;
        let contents = Contents {
            token: digest,
            csrf: sealer.seal_csrf(csrf.expose())?,
            values: sealer.seal_all(&values)?.into(),
            wrapped_key: Some(sealer.wrap(token, &config.cookie_name)?),
        };
        Ok((contents, Some(sealer)))
    }

    pub(crate) fn plain(
        token: Digest,
        csrf: &Secret,
        values: impl Into<Cow<'v, [(Field, RawBson)]>>,
    ) -> Self {
        Contents {
            token,
            csrf: binary(csrf.expose()),
            values: values.into(),
            wrapped_key: None,
        }
    }

    /// The values as one document.
    pub(crate) fn values_document(&self) -> RawDocumentBuf {
        let mut document = RawDocumentBuf::new();
        for (field, value) in self.values.iter() {
            document.append_ref(field.as_str(), value.as_raw_bson_ref());
        }
        document
    }
}

/// Seals and opens what one document holds, with the document's data key.
pub(crate) struct Sealer {
    id: Id,
    data_key: Key,
}

impl Sealer {
    /// Draws a data key for a document.
    pub(crate) fn draw(id: &Id) -> Result<Self, Error> {
        Ok(Sealer {
            id: id.clone(),
            data_key: Key::new(draw()?),
        })
    }

    /// Opens the wrapped data key of the document that a token names; `None` when it does not open.
    pub(crate) fn unwrap(
        wrapped: RawBsonRef<'_>,
        token: &Token,
        cookie_name: &str,
    ) -> Option<Self> {
        let data_key = wrapping_key(token, cookie_name)?.unwrap(value::sealed_bytes(wrapped)?)?;
        Some(Sealer {
            id: token.id.clone(),
            data_key,
        })
    }

    /// Wraps the data key, so that this token opens it.
    pub(crate) fn wrap(&self, token: &Token, cookie_name: &str) -> Result<RawBson, Error> {
        let nonce = draw()?;
        let wrapping = wrapping_key(token, cookie_name);
        let wrapped = wrapping.and_then(|key| key.wrap(&nonce, &self.data_key));
        stored(wrapped, || "the key".to_owned())
    }

    pub(crate) fn seal(&self, field: &Field, value: RawBsonRef<'_>) -> Result<RawBson, Error> {
        let mut holder = RawDocumentBuf::new();
        holder.append_ref("", value);
        let place = self.place(field);
        let sealed = self.data_key.seal(&*draw()?, place, holder.as_bytes());
        stored(sealed, || field.display())
    }

    /// Opens a sealed value; one that was stored plain is given as it is.
    pub(crate) fn open<'a>(
        sealer: Option<&Sealer>,
        field: &Field,
        stored: RawBsonRef<'a>,
    ) -> Result<Value<'a>, Unreadable> {
        let Some(sealed) = value::sealed_bytes(stored) else {
            return Ok(Value::Stored(stored));
        };
        let sealer = sealer.ok_or(Unreadable)?;
        let text = sealer.data_key.open(sealer.place(field), sealed);
        let mut text = text.ok_or(Unreadable)?;
        let holder = RawDocumentBuf::from_bytes(std::mem::take(&mut *text));
        let holder = holder.map_err(|_| Unreadable)?;
        let value = holder.get("").ok().flatten().ok_or(Unreadable)?;
        Ok(Value::Made(value.to_raw_bson()))
    }

    fn seal_csrf(&self, secret: &[u8]) -> Result<RawBson, Error> {
        let place = self.csrf_place();
        let sealed = self.data_key.seal(&*draw()?, place, secret);
        stored(sealed, || "the CSRF secret".to_owned())
    }

    pub(crate) fn open_csrf(&self, stored: RawBsonRef<'_>) -> Option<Secret> {
        let sealed = value::sealed_bytes(stored)?;
        let secret = self.data_key.open(self.csrf_place(), sealed)?;
        Some(Secret::from_bytes(secret.as_slice().try_into().ok()?))
    }

    /// Seals all that an update sets of values, and the CSRF secret.
    pub(crate) fn seal_update(&self, update: Update) -> Result<Update, Error> {
        update.map_set(|path, value| match (path, &value) {
            (Path::Value(field), value) => self.seal(field, value.as_raw_bson_ref()),
            (Path::Meta(field::CSRF), RawBson::Binary(secret)) => self.seal_csrf(&secret.bytes),
            _ => Ok(value),
        })
    }

    /// Seals the values of a new document.
    fn seal_all(&self, values: &[(Field, RawBson)]) -> Result<Vec<(Field, RawBson)>, Error> {
        let seal = |(field, value): &(Field, RawBson)| {
            Ok((field.clone(), self.seal(field, value.as_raw_bson_ref())?))
        };
        values.iter().map(seal).collect()
    }

    fn place<'a>(&'a self, field: &'a Field) -> Place<'a> {
        Place::Value {
            id: self.id.as_str(),
            field: field.as_str(),
        }
    }

    fn csrf_place(&self) -> Place<'_> {
        Place::Csrf {
            id: self.id.as_str(),
        }
    }
}

fn wrapping_key(token: &Token, cookie_name: &str) -> Option<Key> {
    Key::wrapping(token.secret.expose(), cookie_name, token.id.as_str())
}

/// What the cipher made, as it is stored. The error is never seen: `max_bytes` is far below what the
/// cipher takes.
fn stored(sealed: Option<Vec<u8>>, key: impl FnOnce() -> String) -> Result<RawBson, Error> {
    sealed.map(value::sealed).ok_or_else(|| Error::Encode {
        key: key(),
        reason: "it is too long to be sealed",
        source: None,
    })
}
