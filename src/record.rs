//! The stored session: the only place that knows the names of its document's fields.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bson::raw::RawBsonRef;
use bson::spec::BinarySubtype;
use bson::{Bson, RawBson, RawDocument, RawDocumentBuf, doc};

use sha2::{Digest as _, Sha256};

use crate::clock::Moment;
use crate::document::{Document, Filter, Operation, Path, Update, date, number};
use crate::key::Field;
use crate::token::{Digest, Id, Secret};

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

/// How often values are looked for one by one, at most, before they get an index...
const LOOKUPS: u32 = 16;
/// ...and from which length of the values on that pays.
const LONG: usize = 2048;

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
            values: Arc::new(Values {
                document,
                range,
                lookups: AtomicU32::new(0),
                index: OnceLock::new(),
            }),
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
        self.values.range.len()
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
        Record::parse(update.apply(&self.values.document).ok()?)
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

/// The values of a stored session, as bytes.
struct Values {
    document: Document,
    /// Where in it they are.
    range: Range<usize>,
    lookups: AtomicU32,
    /// Made for a request that looks for many of many, which would take the square of their number
    /// otherwise.
    index: OnceLock<HashMap<Box<str>, RawBson>>,
}

impl Values {
    fn raw(&self) -> Option<&RawDocument> {
        RawDocument::from_bytes(self.document.as_bytes().get(self.range.clone())?).ok()
    }

    fn get(&self, name: &str) -> Option<RawBsonRef<'_>> {
        let is_long = self.range.len() >= LONG;
        if is_long && self.lookups.fetch_add(1, Ordering::Relaxed) >= LOOKUPS {
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

/// A stored session as lists show it: without its values and secrets.
pub(crate) struct Summary {
    pub(crate) id: Id,
    pub(crate) created: Moment,
    pub(crate) accessed: Moment,
    pub(crate) renewed: Option<Moment>,
    pub(crate) client: Client,
    expires: Moment,
    timeout: Own,
}

impl Summary {
    pub(crate) fn parse(document: &Document) -> Option<Self> {
        let mut fields = Fields::default();
        for element in document.raw()? {
            let (name, value) = element.ok()?;
            fields.take(name, value)?;
        }
        let client = fields.client();
        Some(Summary {
            id: fields.id?,
            created: fields.created?,
            accessed: fields.accessed?,
            renewed: fields.renewed,
            client,
            expires: fields.expires?,
            timeout: fields.timeout,
        })
    }

    /// As [`Record::deadline`].
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
        document.append(field::TOKEN, binary(self.token.as_bytes()));
        document.append(field::CSRF, binary(self.csrf.expose()));
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

/// What is left behind under another id for a while: that a login replaced a session, or that
/// sessions were revoked. A marker's id starts with `~`, which no session's can.
pub(crate) mod marker {
    use super::*;

    /// The time at which a revocation began, in epoch seconds.
    const AT: &str = "at";
    /// The sessions that carry the replaced one on: of several elevations at once one will be it.
    const NEXT: &str = "next";

    /// Left by a revocation of all sessions.
    pub(crate) const ALL: &str = "~all";

    /// Left by a revocation of one user's sessions. Hashed: a principal can be long, or private.
    pub(crate) fn of_user(user: &RawBson) -> String {
        let user = Bson::try_from(user.clone()).unwrap_or(Bson::Null);
        let holder = doc! { "user": one_form(user) };
        let hash = Sha256::digest(bson::to_vec(&holder).unwrap_or_default());
        format!("~user:{}", URL_SAFE_NO_PAD.encode(hash))
    }

    /// Equality sees one number in all types that hold it, so the name must, too.
    fn one_form(value: Bson) -> Bson {
        match value {
            Bson::Int32(number) => Bson::Int64(number.into()),
            Bson::Double(number) if number as i64 as f64 == number => Bson::Int64(number as i64),
            Bson::Document(inside) => {
                let inside = inside.into_iter();
                Bson::Document(inside.map(|(name, v)| (name, one_form(v))).collect())
            }
            Bson::Array(inside) => Bson::Array(inside.into_iter().map(one_form).collect()),
            other => other,
        }
    }

    /// Left by the login that replaced this session.
    pub(crate) fn of_login(old: &Id) -> String {
        format!("~{old}")
    }

    /// `next`: the session is the same login under a new id, so that who ends it ends that one.
    pub(crate) fn document(id: &str, at: Moment, expires: Moment, next: Option<&Id>) -> Document {
        let mut marker = doc! {
            field::ID: id,
            AT: at.seconds(),
            field::EXPIRES: date(expires),
        };
        if let Some(next) = next {
            marker.insert(NEXT, [next.as_str()].to_vec());
        }
        Document::from_bson(&marker)
    }

    pub(crate) fn next(document: &Document) -> Vec<Id> {
        let next = document.get(NEXT).and_then(RawBsonRef::as_array);
        let next = next.into_iter().flatten().flatten();
        next.filter_map(|id| Id::parse(id.as_str()?)).collect()
    }

    pub(crate) fn at(document: &Document) -> Option<Moment> {
        seconds(document.get(AT)?)
    }

    pub(crate) fn expires(document: &Document) -> Option<Moment> {
        let date = document.get(field::EXPIRES)?.as_datetime()?;
        Some(Moment::from_millis(date.timestamp_millis()))
    }

    /// Says of another login what [`document`] says of the first.
    pub(crate) fn once_more(at: Moment, expires: Moment, next: Option<&Id>) -> Update {
        let mut update = again(at, expires);
        if let Some(next) = next {
            let next = vec![RawBson::String(next.to_string())];
            update.insert(Path::Meta(NEXT), Operation::Push(next));
        }
        update
    }

    /// Moves a marker forward.
    pub(crate) fn again(at: Moment, expires: Moment) -> Update {
        let mut update = Update::default();
        update.raise(AT, at.seconds());
        update.raise(field::EXPIRES, date(expires));
        update
    }
}

#[cfg(test)]
mod tests;
