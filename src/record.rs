//! The stored session: the only place that knows the names of its document's fields.

use std::sync::Arc;
use std::time::Duration;

use bson::raw::{RawBinaryRef, RawBsonRef};
use bson::spec::BinarySubtype;
use bson::{RawBson, RawDocument, RawDocumentBuf};

use crate::clock::Moment;
use crate::document::key::Field;
use crate::document::{Document, Filter, Operation, Path, Update, date, number};
use crate::record::token::{Digest, Id, Secret};

pub(crate) mod legacy;
mod summary;
pub(crate) mod token;
mod values;

pub(crate) use summary::Summary;
use values::Values;

/// The names of the fields; the first four are the ancestor's.
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
    pub(crate) const MAX_AGE: &str = "max_age";
    /// When the secret was last replaced by `renew`.
    pub(crate) const RENEWED: &str = "renewed";
    /// When the cookie was last sent, kept only for a cookie with a life.
    pub(crate) const SENT: &str = "sent";
    pub(crate) const CLIENT: &str = "client";
    pub(crate) const IP: &str = "ip";
}

/// No document that is longer is read: what MongoDB stores at most. Requests that run at once may
/// bring a session beyond `max_bytes`, and what was acknowledged must stay readable.
const LARGEST: usize = (16 << 20) + (16 << 10);

/// A duration that a session sets for itself; the outer `None` is "as configured".
pub(crate) type Own = Option<Option<Duration>>;

/// A stored session, checked. Its bytes stay raw; a value is decoded when it is asked for.
#[derive(Clone)]
pub(crate) struct Record {
    /// Shared, so that a clone of the record copies no bytes.
    values: Arc<Values>,
    pub(crate) id: Id,
    pub(crate) created: Moment,
    pub(crate) accessed: Moment,
    pub(crate) expires: Moment,
    pub(crate) token: Digest,
    pub(crate) csrf: Secret,
    pub(crate) user: Option<RawBson>,
    pub(crate) timeout: Own,
    pub(crate) max_age: Own,
    pub(crate) sent: Option<Moment>,
}

impl Record {
    /// Reads a stored session; `None` when it is not one of ours or malformed in any field.
    pub(crate) fn parse(document: Document) -> Option<Self> {
        if document.as_bytes().len() > LARGEST {
            return None;
        }
        let raw = document.raw()?;
        let mut fields = Fields::default();
        for element in raw {
            let (name, value) = element.ok()?;
            fields.take(name, value)?;
        }
        let value = fields.value?;
        // The bytes of `value` lie inside the document's own.
        let start = (value.as_bytes().as_ptr() as usize)
            .checked_sub(document.as_bytes().as_ptr() as usize)?;
        let range = start..start + value.as_bytes().len();
        document.as_bytes().get(range.clone())?;
        // All are looked at: what could not be read later would be no error then.
        if value.into_iter().any(|element| element.is_err()) {
            return None;
        }
        Some(Record {
            id: fields.id?,
            created: fields.created?,
            accessed: fields.accessed?,
            expires: fields.expires?,
            token: Digest::from_bytes(fields.token?),
            csrf: Secret::from_bytes(fields.csrf?),
            user: fields.user.map(RawBsonRef::to_raw_bson),
            timeout: fields.timeout,
            max_age: fields.max_age,
            sent: fields.sent,
            values: Arc::new(Values::new(document, range)),
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

    /// How many bytes the values take.
    pub(crate) fn size(&self) -> usize {
        self.values.len()
    }

    /// The latest moment at which the session is still alive: the earliest of what is stored and
    /// what the times and the configuration of today say.
    pub(crate) fn deadline(&self, timeout: Option<Duration>, lifetime: Option<Duration>) -> Moment {
        let (created, accessed) = (self.created, self.accessed);
        deadline(
            self.expires,
            created,
            accessed,
            self.timeout,
            timeout,
            lifetime,
        )
    }

    /// The record as it is after a write that is known to have been applied.
    pub(crate) fn after(&self, update: &Update) -> Option<Record> {
        Record::parse(update.apply(self.values.document(), self.accessed).ok()?)
    }
}

fn deadline(
    expires: Moment,
    created: Moment,
    accessed: Moment,
    own: Own,
    timeout: Option<Duration>,
    lifetime: Option<Duration>,
) -> Moment {
    let idle = own.unwrap_or(timeout);
    expires
        .min(idle.map_or(Moment::NEVER, |idle| accessed.plus(idle)))
        .min(lifetime.map_or(Moment::NEVER, |life| created.plus(life)))
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
    timeout: Own,
    max_age: Own,
    renewed: Option<Moment>,
    sent: Option<Moment>,
    client: Option<&'a str>,
    ip: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn client(&self) -> Client {
        Client {
            agent: self.client.map(str::to_owned),
            ip: self.ip.map(str::to_owned),
        }
    }

    /// Takes one field, or gives up on the whole document. Unknown fields are not ours to judge.
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
            field::MAX_AGE => once(&mut self.max_age, duration(value)?),
            field::RENEWED => once(&mut self.renewed, seconds(value)?),
            field::SENT => once(&mut self.sent, seconds(value)?),
            field::CLIENT => once(&mut self.client, value.as_str()?),
            field::IP => once(&mut self.ip, value.as_str()?),
            _ => Some(()),
        }
    }
}

/// Fills a field; `None` when the document has it twice, and nobody knows which one counts.
fn once<T>(field: &mut Option<T>, value: T) -> Option<()> {
    field.replace(value).is_none().then_some(())
}

/// Epoch seconds, in any of the number types that the ancestor's drivers write.
pub(crate) fn seconds(value: RawBsonRef<'_>) -> Option<Moment> {
    Moment::from_seconds(number(value)?)
}

fn bytes(value: RawBsonRef<'_>) -> Option<[u8; 32]> {
    match value {
        RawBsonRef::Binary(binary) if binary.subtype == BinarySubtype::Generic => {
            binary.bytes.try_into().ok()
        }
        _ => None,
    }
}

/// A principal is a value that equality can be asked of: not null (which matches "missing"), not
/// an array (whose elements would match), nothing that is code or a pattern.
pub(crate) fn principal(value: RawBsonRef<'_>) -> Option<RawBsonRef<'_>> {
    match value {
        RawBsonRef::String(_)
        | RawBsonRef::Int32(_)
        | RawBsonRef::Int64(_)
        | RawBsonRef::Double(_)
        | RawBsonRef::Boolean(_)
        | RawBsonRef::ObjectId(_)
        | RawBsonRef::Binary(_)
        | RawBsonRef::Decimal128(_)
        | RawBsonRef::DateTime(_)
        | RawBsonRef::Document(_) => Some(value),
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

/// What is kept of a client for device lists (`session.record_client`).
#[derive(Clone, Default)]
pub(crate) struct Client {
    pub(crate) agent: Option<String>,
    pub(crate) ip: Option<String>,
}

/// A session that is about to be stored for the first time.
pub(crate) struct NewRecord {
    pub(crate) id: Id,
    pub(crate) token: Digest,
    pub(crate) csrf: Secret,
    pub(crate) created: Moment,
    pub(crate) accessed: Moment,
    pub(crate) expires: Moment,
    pub(crate) values: Vec<(Field, RawBson)>,
    pub(crate) user: Option<RawBson>,
    pub(crate) timeout: Own,
    pub(crate) max_age: Own,
    pub(crate) sent: Option<Moment>,
    pub(crate) client: Client,
}

impl NewRecord {
    pub(crate) fn document(&self) -> Document {
        let mut values = RawDocumentBuf::new();
        for (field, value) in &self.values {
            values.append_ref(field.as_str(), value.as_raw_bson_ref());
        }
        let mut document = RawDocumentBuf::new();
        document.append(field::ID, self.id.as_str());
        document.append(field::CREATED, self.created.seconds());
        document.append(field::ACCESSED, self.accessed.seconds());
        document.append(field::VALUE, values);
        for (name, bytes) in [
            (field::TOKEN, self.token.as_bytes()),
            (field::CSRF, self.csrf.expose()),
        ] {
            let subtype = BinarySubtype::Generic;
            document.append_ref(name, RawBsonRef::Binary(RawBinaryRef { subtype, bytes }));
        }
        document.append(field::EXPIRES, date(self.expires));
        if let Some(user) = &self.user {
            document.append_ref(field::USER, user.as_raw_bson_ref());
        }
        if let Some(timeout) = self.timeout {
            document.append(field::TIMEOUT, duration_value(timeout));
        }
        if let Some(max_age) = self.max_age {
            document.append(field::MAX_AGE, duration_value(max_age));
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

/// Adds to an update that the session was in use: both times only ever grow by it.
pub(crate) fn touch(update: &mut Update, accessed: Moment, expires: Moment) {
    update.raise(field::ACCESSED, accessed.seconds());
    update.raise(field::EXPIRES, date(expires));
}

/// Adds the change of one value to an update.
pub(crate) fn change(update: &mut Update, field: Field, operation: Operation) {
    update.insert(Path::Value(field), operation);
}

/// A session that is alive at a moment, by what its document says.
pub(crate) fn alive(filter: Filter, now: Moment) -> Filter {
    filter.not_before(field::EXPIRES, now)
}

#[cfg(test)]
mod tests;
