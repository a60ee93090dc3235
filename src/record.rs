//! The stored session: the only place that knows the names of its document's fields.

use std::sync::Arc;
use std::time::Duration;

use bson::raw::{RawBinaryRef, RawBsonRef};
use bson::spec::BinarySubtype;
use bson::{RawBson, RawDocument, RawDocumentBuf};

use crate::clock::Moment;
use crate::config::Config;
use crate::document::key::Field;
use crate::document::value::principal;
use crate::document::{Document, Filter, Operator, Path, Update, date, number};

pub(crate) mod expiry;
pub(crate) mod legacy;
pub(crate) mod token;
mod values;

pub(crate) use expiry::{Expiry, Override, OwnTimes, Times, alive, touch, unless_expired};
use legacy::Upgrade;
use token::{Digest, Id, Secret};
use values::Values;

/// The names of the fields; the first four are the Python package's.
pub(crate) mod field {
    pub(crate) const ID: &str = "_id";
    pub(crate) const CREATED: &str = "created";
    pub(crate) const ACCESSED: &str = "accessed";
    pub(crate) const VALUE: &str = "value";
    pub(crate) const TOKEN: &str = "token";
    pub(crate) const CSRF: &str = "csrf";
    pub(crate) const EXPIRES: &str = "expires";
    pub(crate) const USER: &str = "user";
    pub(crate) const TIMEOUT: &str = "timeout";
    pub(crate) const LIFETIME: &str = "lifetime";
    pub(crate) const MAX_AGE: &str = "max_age";
    /// When the secret was last replaced, by the server's clock.
    pub(crate) const RENEWED: &str = "renewed";
    /// When the cookie was last sent, kept only for a cookie with a `Max-Age`.
    pub(crate) const SENT: &str = "sent";
    pub(crate) const CLIENT: &str = "client";
    pub(crate) const IP: &str = "ip";
}

/// The id of the document that records for a while that a login replaced a session.
pub(crate) fn tombstone_id(session: &str) -> String {
    format!("~{session}")
}

/// The session whose tombstone has this id.
pub(crate) fn session_of_tombstone(id: &str) -> Option<&str> {
    id.strip_prefix('~')
}

/// Longer documents are not read. MongoDB stores 16 MiB at most; concurrent requests may bring a
/// session beyond `max_bytes`, and what was acknowledged must stay readable.
const MAX_DOCUMENT_BYTES: usize = (16 << 20) + (16 << 10);

/// What is stored of a session beside its values and secrets: what lists show.
#[derive(Clone)]
pub(crate) struct Meta {
    pub(crate) id: Id,
    pub(crate) created: Moment,
    pub(crate) accessed: Moment,
    pub(crate) expires: Moment,
    pub(crate) user: Option<RawBson>,
    pub(crate) timeout: Override,
    pub(crate) lifetime: Override,
    pub(crate) max_age: Override,
    pub(crate) sent: Option<Moment>,
    pub(crate) client: Client,
}

/// What is kept of a client for device lists (`session.record_client`).
#[derive(Clone, Default)]
pub(crate) struct Client {
    pub(crate) agent: Option<String>,
    pub(crate) ip: Option<String>,
}

/// A stored session, checked. Its bytes stay raw; a value is decoded when it is asked for.
#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) meta: Meta,
    pub(crate) token: Digest,
    pub(crate) csrf: Secret,
    /// Shared, so that a clone of the record copies no bytes.
    values: Arc<Values>,
    /// What the next write adds to a document of the Python package.
    upgrade: Option<Arc<Upgrade>>,
}

impl Record {
    /// Reads a stored session; `None` when it is malformed in any field.
    pub(crate) fn read(document: Document, config: &Config, now: Moment) -> Option<Self> {
        if !document.id().is_some_and(Id::is_legacy_text) {
            return Record::parse(document, None);
        }
        let translated = legacy::read(document, config, now)?;
        Record::parse(translated.document, translated.upgrade)
    }

    /// Reads a document of this crate's form.
    pub(crate) fn parse(document: Document, upgrade: Option<Arc<Upgrade>>) -> Option<Self> {
        if document.as_bytes().len() > MAX_DOCUMENT_BYTES {
            return None;
        }
        let fields = Fields::read(&document)?;
        let value = fields.value?;
        // The bytes of `value` lie inside the document's own.
        let start = (value.as_bytes().as_ptr() as usize)
            .checked_sub(document.as_bytes().as_ptr() as usize)?;
        let range = start..start + value.as_bytes().len();
        document.as_bytes().get(range.clone())?;
        // Every element is checked here: a later read has no way to report a malformed one.
        if value.into_iter().any(|element| element.is_err()) {
            return None;
        }
        Some(Record {
            token: Digest::from_bytes(fields.token?),
            csrf: Secret::from_bytes(fields.csrf?),
            meta: fields.meta()?,
            values: Arc::new(Values::new(document, range)),
            upgrade,
        })
    }

    /// The session's values, as stored, in stored order.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&str, RawBsonRef<'_>)> {
        let all = self.values.raw().into_iter().flatten().flatten();
        all.filter(|(name, _)| Field::is_one(name))
    }

    /// Every value, as it is carried into another session.
    pub(crate) fn fields(&self) -> Vec<(Field, RawBson)> {
        let values = self.values();
        values
            .map(|(name, value)| (Field::stored(name), value.to_raw_bson()))
            .collect()
    }

    pub(crate) fn get(&self, field: &Field) -> Option<RawBsonRef<'_>> {
        self.values.get(field.as_str())
    }

    /// Adds to an update that a value is as in this record.
    pub(crate) fn copy_value(&self, update: &mut Update, field: &Field) {
        let value = self.get(field).map(RawBsonRef::to_raw_bson);
        let operator = value.map_or(Operator::Unset, Operator::Set);
        change(update, field.clone(), operator);
    }

    /// How many bytes the values take.
    pub(crate) fn size(&self) -> usize {
        self.values.len()
    }

    /// The record after a write that is known to have been applied.
    pub(crate) fn after(&self, update: &Update, now: Moment) -> Option<Record> {
        let document = update.apply(self.values.document(), now).ok()?;
        // What is left of the upgrade is a matter of single keys, and the same as before.
        Record::parse(document, self.upgrade.clone())
    }

    /// Adds to a whole write what a document of the Python package lacks, and gives the values that
    /// it changes this crate's names.
    pub(crate) fn complete(&self, update: &mut Update) {
        if let Some(upgrade) = &self.upgrade {
            upgrade.complete(update);
        }
    }

    /// Restricts a filter to this session while a value is the one of this record.
    pub(crate) fn with_same_value(&self, filter: Filter, field: &Field) -> Filter {
        let value = self.get(field).map(RawBsonRef::to_raw_bson);
        match &self.upgrade {
            Some(upgrade) => upgrade.with_same_value(filter, field.clone(), value),
            None => filter.still(field.clone(), value),
        }
    }

    /// Restricts a filter to this session while its token is the one that was loaded.
    pub(crate) fn with_same_token(&self, filter: Filter) -> Filter {
        match &self.upgrade {
            Some(upgrade) => upgrade.with_same_token(filter, &self.token),
            None => filter.equals(field::TOKEN, binary(self.token.as_bytes())),
        }
    }

    /// Whether the server cannot count in a value or append to it as it is stored.
    pub(crate) fn needs_compare_and_set(&self, field: &Field) -> bool {
        let is_renamed = self
            .upgrade
            .as_ref()
            .is_some_and(|upgrade| upgrade.needs_compare_and_set(field));
        is_renamed
            || self
                .get(field)
                .is_some_and(crate::document::value::is_opaque)
    }
}

impl Meta {
    /// The times that the session has of its own.
    pub(crate) fn own_times(&self) -> OwnTimes {
        OwnTimes {
            timeout: self.timeout,
            lifetime: self.lifetime,
            max_age: self.max_age,
        }
    }

    /// Reads what lists show of a stored session; its values and secrets may be missing.
    pub(crate) fn parse(document: &Document) -> Option<Self> {
        Fields::read(document)?.meta()
    }

    /// The document of a session that is stored for the first time.
    pub(crate) fn document(
        &self,
        token: &Digest,
        csrf: &Secret,
        values: &[(Field, RawBson)],
    ) -> Document {
        let mut value = RawDocumentBuf::new();
        for (field, stored) in values {
            value.append_ref(field.as_str(), stored.as_raw_bson_ref());
        }
        let mut document = RawDocumentBuf::new();
        document.append(field::ID, self.id.as_str());
        document.append(field::CREATED, self.created.seconds());
        document.append(field::ACCESSED, self.accessed.seconds());
        document.append(field::VALUE, value);
        for (name, bytes) in [
            (field::TOKEN, token.as_bytes()),
            (field::CSRF, csrf.expose()),
        ] {
            let subtype = BinarySubtype::Generic;
            document.append_ref(name, RawBsonRef::Binary(RawBinaryRef { subtype, bytes }));
        }
        document.append(field::EXPIRES, date(self.expires));
        if let Some(user) = &self.user {
            document.append_ref(field::USER, user.as_raw_bson_ref());
        }
        for (name, time) in [
            (field::TIMEOUT, self.timeout),
            (field::LIFETIME, self.lifetime),
            (field::MAX_AGE, self.max_age),
        ] {
            if let Override::Set(time) = time {
                document.append(name, duration_value(time));
            }
        }
        if let Some(sent) = self.sent {
            document.append(field::SENT, sent.seconds());
        }
        if let Some(agent) = &self.client.agent {
            document.append(field::CLIENT, agent.as_str());
        }
        if let Some(ip) = &self.client.ip {
            document.append(field::IP, ip.as_str());
        }
        Document::from_raw(document)
    }
}

impl Times {
    /// Reads the times of a stored session, whose other fields may be missing; `None` when they are
    /// malformed.
    pub(crate) fn parse(document: &Document, config: &Config, now: Moment) -> Option<Self> {
        let fields = Fields::read(document)?;
        let own = |time: Option<_>| time.map_or(Override::Inherit, Override::Set);
        let expires = match fields.expires {
            None if fields.id.as_ref()?.is_legacy() => legacy::expiry(document, config, now)?,
            expires => expires?,
        };
        Some(Times {
            created: fields.created?,
            accessed: fields.accessed?,
            expires,
            timeout: own(fields.timeout),
            lifetime: own(fields.lifetime),
        })
    }
}

#[derive(Default)]
struct Fields<'a> {
    id: Option<Id>,
    created: Option<Moment>,
    accessed: Option<Moment>,
    expires: Option<Moment>,
    token: Option<[u8; 32]>,
    csrf: Option<[u8; 32]>,
    value: Option<&'a RawDocument>,
    user: Option<RawBsonRef<'a>>,
    timeout: Option<Option<Duration>>,
    lifetime: Option<Option<Duration>>,
    max_age: Option<Option<Duration>>,
    renewed: Option<Moment>,
    sent: Option<Moment>,
    client: Option<&'a str>,
    ip: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn read(document: &'a Document) -> Option<Self> {
        let mut fields = Fields::default();
        for element in document.raw()? {
            let (name, value) = element.ok()?;
            fields.take(name, value)?;
        }
        Some(fields)
    }

    fn meta(self) -> Option<Meta> {
        let own = |time: Option<_>| time.map_or(Override::Inherit, Override::Set);
        Some(Meta {
            id: self.id?,
            created: self.created?,
            accessed: self.accessed?,
            expires: self.expires?,
            user: self.user.map(RawBsonRef::to_raw_bson),
            timeout: own(self.timeout),
            lifetime: own(self.lifetime),
            max_age: own(self.max_age),
            sent: self.sent,
            client: Client {
                agent: self.client.map(str::to_owned),
                ip: self.ip.map(str::to_owned),
            },
        })
    }

    /// Takes one field; `None` rejects the document. Unknown fields are ignored.
    fn take(&mut self, name: &str, value: RawBsonRef<'a>) -> Option<()> {
        match name {
            field::ID => once(&mut self.id, Id::parse(value.as_str()?)?),
            field::CREATED => once(&mut self.created, seconds(value)?),
            field::ACCESSED => once(&mut self.accessed, seconds(value)?),
            field::EXPIRES => {
                let millis = value.as_datetime()?.timestamp_millis();
                once(&mut self.expires, Moment::from_millis(millis))
            }
            field::TOKEN => once(&mut self.token, bytes(value)?),
            field::CSRF => once(&mut self.csrf, bytes(value)?),
            field::VALUE => once(&mut self.value, value.as_document()?),
            field::USER => once(&mut self.user, principal(value)?),
            field::TIMEOUT => once(&mut self.timeout, duration(value)?),
            field::LIFETIME => once(&mut self.lifetime, duration(value)?),
            field::MAX_AGE => once(&mut self.max_age, duration(value)?),
            field::RENEWED => once(&mut self.renewed, date_or_seconds(value)?),
            field::SENT => once(&mut self.sent, seconds(value)?),
            field::CLIENT => once(&mut self.client, value.as_str()?),
            field::IP => once(&mut self.ip, value.as_str()?),
            _ => Some(()),
        }
    }
}

/// Fills a field; `None` when the document has it twice, since it is ambiguous which one counts.
fn once<T>(field: &mut Option<T>, value: T) -> Option<()> {
    field.replace(value).is_none().then_some(())
}

/// Epoch seconds, in any of the number types that the Python package's drivers write.
pub(crate) fn seconds(value: RawBsonRef<'_>) -> Option<Moment> {
    Moment::from_seconds(number(value)?)
}

/// A date that the server set, or epoch seconds.
fn date_or_seconds(value: RawBsonRef<'_>) -> Option<Moment> {
    match value {
        RawBsonRef::DateTime(date) => Some(Moment::from_millis(date.timestamp_millis())),
        number => seconds(number),
    }
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

pub(crate) fn duration_value(duration: Option<Duration>) -> RawBson {
    duration.map_or(RawBson::Boolean(false), |some| {
        RawBson::Double(some.as_millis() as f64 / 1000.0)
    })
}

pub(crate) fn binary(bytes: &[u8; 32]) -> RawBson {
    RawBson::Binary(bson::Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    })
}

/// Adds the change of one value to an update.
pub(crate) fn change(update: &mut Update, field: Field, operator: Operator) {
    update.insert(Path::Value(field), operator);
}

#[cfg(test)]
mod tests;
