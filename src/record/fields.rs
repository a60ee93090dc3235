//! Reads the fields of a stored session's document.

use std::ops::Range;
use std::time::Duration;

use bson::RawDocument;
use bson::raw::RawBsonRef;
use bson::spec::BinarySubtype;

use super::sealer::SEALED_VALUE_BYTES;
use super::token::{Digest, Id, Secret};
use super::{Client, Meta, Override, OwnTimes, Times, field};
use crate::clock::Moment;
use crate::document::value::{self, principal};
use crate::document::{Document, moment, number};

/// Longer documents are not read. MongoDB stores 16 MiB at most; concurrent requests may bring a
/// session beyond `max_bytes`, and acknowledged writes must stay readable.
const MAX_DOCUMENT_BYTES: usize = (16 << 20) + (16 << 10);

/// The parts of a document that a record needs.
pub(super) struct Parts {
    pub(super) meta: Meta,
    pub(super) token: Digest,
    /// `None` when it is sealed.
    pub(super) csrf: Option<Secret>,
    pub(super) has_data_key: bool,
    /// Where the values are, and how many bytes of them sealing has added.
    pub(super) values: Range<usize>,
    pub(super) added: usize,
}

impl Parts {
    /// `None` when the document is malformed in any field.
    pub(super) fn read(document: &Document) -> Option<Self> {
        if document.as_bytes().len() > MAX_DOCUMENT_BYTES {
            return None;
        }
        let fields = Fields::read(document)?;
        let value = fields.value?;
        // The bytes of `value` lie inside the document's own.
        let start = (value.as_bytes().as_ptr() as usize)
            .checked_sub(document.as_bytes().as_ptr() as usize)?;
        let values = start..start + value.as_bytes().len();
        document.as_bytes().get(values.clone())?;
        // Every element is checked here: a later read has no way to report a malformed one.
        let mut sealed = 0;
        for element in value {
            sealed += usize::from(value::sealed_bytes(element.ok()?.1).is_some());
        }
        Some(Parts {
            token: Digest::from_bytes(fields.token?),
            csrf: match *fields.csrf.as_ref()? {
                StoredSecret::Plain(bytes) => Some(Secret::from_bytes(bytes)),
                StoredSecret::Sealed => fields.seal.map(|_| None)?,
            },
            has_data_key: fields.seal.is_some(),
            meta: fields.meta()?,
            values,
            added: sealed * SEALED_VALUE_BYTES,
        })
    }
}

/// The fields of a document, each checked; those that it lacks are `None`.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) id: Option<Id>,
    created: Option<Moment>,
    accessed: Option<Moment>,
    pub(super) expires: Option<Moment>,
    token: Option<[u8; 32]>,
    csrf: Option<StoredSecret>,
    value: Option<&'a RawDocument>,
    user: Option<RawBsonRef<'a>>,
    own: OwnTimes,
    renewed: Option<Moment>,
    sent: Option<Moment>,
    client: Option<&'a str>,
    ip: Option<&'a str>,
    seal: Option<&'a [u8]>,
    epoch: Option<i64>,
}

enum StoredSecret {
    Plain([u8; 32]),
    Sealed,
}

impl StoredSecret {
    fn parse(value: RawBsonRef<'_>) -> Option<Self> {
        match value::sealed_bytes(value) {
            Some(_) => Some(StoredSecret::Sealed),
            None => bytes(value).map(StoredSecret::Plain),
        }
    }
}

impl<'a> Fields<'a> {
    /// `None` when a field is malformed, or there twice.
    pub(super) fn read(document: &'a Document) -> Option<Self> {
        let mut fields = Fields::default();
        for element in document.raw()? {
            let (name, value) = element.ok()?;
            fields.take(name, value)?;
        }
        Some(fields)
    }

    /// `None` when one of them is missing.
    pub(super) fn times(&self) -> Option<Times> {
        Some(Times {
            created: self.created?,
            accessed: self.accessed?,
            expires: self.expires?,
            own: self.own,
        })
    }

    /// `None` when a field of it is missing.
    pub(super) fn meta(self) -> Option<Meta> {
        Some(Meta {
            times: self.times()?,
            id: self.id?,
            user: self.user.map(RawBsonRef::to_raw_bson),
            sent: self.sent,
            client: Client {
                agent: self.client.map(str::to_owned),
                ip: self.ip.map(str::to_owned),
            },
            epoch: self.epoch,
        })
    }

    /// Takes one field; `None` rejects the document. Unknown fields are ignored.
    fn take(&mut self, name: &str, value: RawBsonRef<'a>) -> Option<()> {
        match name {
            field::ID => once(&mut self.id, Id::parse(value.as_str()?)?),
            field::CREATED => once(&mut self.created, seconds(value)?),
            field::ACCESSED => once(&mut self.accessed, seconds(value)?),
            field::EXPIRES => once(&mut self.expires, moment(value)?),
            field::TOKEN => once(&mut self.token, bytes(value)?),
            field::CSRF => once(&mut self.csrf, StoredSecret::parse(value)?),
            field::VALUE => once(&mut self.value, value.as_document()?),
            field::USER => once(&mut self.user, principal(value)?),
            field::TIMEOUT => own_time(&mut self.own.timeout, value),
            field::LIFETIME => own_time(&mut self.own.lifetime, value),
            field::MAX_AGE => own_time(&mut self.own.max_age, value),
            // A date that the server set, or seconds.
            field::RENEWED => once(&mut self.renewed, moment(value).or_else(|| seconds(value))?),
            field::SENT => once(&mut self.sent, seconds(value)?),
            field::CLIENT => once(&mut self.client, value.as_str()?),
            field::IP => once(&mut self.ip, value.as_str()?),
            field::SEAL => once(&mut self.seal, value::sealed_bytes(value)?),
            field::EPOCH => once(&mut self.epoch, value.as_i64()?),
            _ => Some(()),
        }
    }
}

/// Fills a field; `None` when the document has it twice, since it is ambiguous which one counts.
fn once<T>(field: &mut Option<T>, value: T) -> Option<()> {
    field.replace(value).is_none().then_some(())
}

/// Fills one of the session's own times, as [`once`] does.
fn own_time(time: &mut Override, value: RawBsonRef<'_>) -> Option<()> {
    let before = std::mem::replace(time, Override::Set(duration(value)?));
    (before == Override::Inherit).then_some(())
}

/// Epoch seconds, in any of the number types that the Python package's drivers write.
pub(crate) fn seconds(value: RawBsonRef<'_>) -> Option<Moment> {
    Moment::from_seconds(number(value)?)
}

pub(crate) fn bytes(value: RawBsonRef<'_>) -> Option<[u8; 32]> {
    match value {
        RawBsonRef::Binary(binary) if binary.subtype == BinarySubtype::Generic => {
            binary.bytes.try_into().ok()
        }
        _ => None,
    }
}

/// A duration in seconds, or `false` for "none".
fn duration(value: RawBsonRef<'_>) -> Option<Option<Duration>> {
    match value {
        RawBsonRef::Boolean(false) => Some(None),
        RawBsonRef::Boolean(true) => None,
        number => {
            let millis = seconds(number)?.millis();
            (millis > 0).then(|| Some(Duration::from_millis(millis.unsigned_abs())))
        }
    }
}
