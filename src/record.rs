//! The stored session: the only place that knows the names of its document's fields.

use std::sync::Arc;
use std::time::Duration;

use bson::raw::RawBsonRef;
use bson::spec::BinarySubtype;
use bson::{RawBson, RawDocumentBuf};

use crate::clock::Moment;
use crate::config::Config;
use crate::document::key::Field;
use crate::document::value::{self, Value};
use crate::document::{Document, Filter, Operator, Path, Update, date};
use crate::error::Error;

pub(crate) mod expiry;
mod fields;
pub(crate) mod legacy;
pub(crate) mod sealer;
pub(crate) mod token;
mod values;

pub(crate) use expiry::{
    EachTime, Expiry, Override, OwnTimes, Times, alive, touch, unless_expired,
};
use fields::{Fields, Parts};
pub(crate) use fields::{bytes, seconds};
use legacy::Upgrade;
use sealer::{Contents, SEALED_VALUE_BYTES, Sealer, Unreadable};
use token::{Digest, Id, Secret, Token};
use values::Values;

/// The names of the fields; the first four are the Python package's.
pub(crate) mod field {
    pub(crate) const ID: &str = "_id";
    pub(crate) const CREATED: &str = "created";
    pub(crate) const ACCESSED: &str = "accessed";
    pub(crate) const VALUE: &str = crate::document::VALUE;
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
    /// The data key of a sealed session, wrapped: the cookie's secret opens it.
    pub(crate) const SEAL: &str = "seal";
    /// The generation of its creation, where sessions were revoked before it.
    pub(crate) const EPOCH: &str = "epoch";
    /// When the login was stored, by the server's clock: kept where `max_per_user` ends the oldest.
    pub(crate) const LOGGED_IN: &str = "logged_in";
}

/// The id of the document that records for a while that a login replaced a session.
pub(crate) fn tombstone_id(session: &str) -> String {
    format!("~{session}")
}

/// The session whose tombstone has this id.
pub(crate) fn session_of_tombstone(id: &str) -> Option<&str> {
    id.strip_prefix('~')
}

/// The stored fields of a session beside its values and secrets: those that lists show.
#[derive(Clone)]
pub(crate) struct Meta {
    pub(crate) id: Id,
    pub(crate) times: Times,
    pub(crate) user: Option<RawBson>,
    pub(crate) sent: Option<Moment>,
    pub(crate) client: Client,
    pub(crate) epoch: Option<i64>,
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
    /// When the times in `meta` were read from the store.
    pub(crate) read_at: Moment,
    /// `None` when it is sealed and does not open.
    pub(crate) csrf: Option<Secret>,
    /// Shared, so that a clone of the record copies no bytes.
    values: Arc<Values>,
    /// What the next write adds to a document of the Python package.
    upgrade: Option<Arc<Upgrade>>,
    /// Written values are sealed. What that means depends on `sealer`:
    ///
    /// | `seals_writes` | `sealer` | sealed values | written values |
    /// |---|---|---|---|
    /// | false | `None` | do not open | stay plain |
    /// | false | `Some` | open | stay plain |
    /// | true | `None` | do not open | need a data key first ([`lacks_data_key`](Record::lacks_data_key)) |
    /// | true | `Some` | open | are sealed |
    seals_writes: bool,
    /// Whether the stored session has a data key, opened or not.
    has_data_key: bool,
    /// The session's data key, opened.
    sealer: Option<Arc<Sealer>>,
}

/// A stored session is malformed in some field. `id`: its own, unless that may be a credential.
#[derive(Debug)]
pub(crate) struct Malformed {
    pub(crate) id: Option<Id>,
}

impl Malformed {
    fn new(document: &Document) -> Self {
        let id = document.id().and_then(Id::parse);
        Malformed {
            id: id.filter(|_| !legacy::is_opened_by_its_id(document)),
        }
    }
}

impl Record {
    /// Reads a stored session.
    pub(crate) fn read(
        document: Document,
        config: &Config,
        now: Moment,
    ) -> Result<Self, Malformed> {
        let is_legacy = legacy::has_its_id(&document);
        let (document, upgrade) = match is_legacy {
            true => {
                let malformed = Malformed::new(&document);
                legacy::read(document, config, now).ok_or(malformed)?
            }
            false => (document, None),
        };
        let mut record = Record::from_own_form(document, upgrade)?;
        // A bare id has no secret to seal with, and the Python application may still read the session.
        record.seals_writes = config.seal && !is_legacy;
        record.read_at = now;
        Ok(record)
    }

    /// Reads a document of this crate's form. A written value is not sealed, until [`read`](Record::read)
    /// or [`sealed_by`](Record::sealed_by) says so.
    pub(crate) fn from_own_form(
        document: Document,
        upgrade: Option<Arc<Upgrade>>,
    ) -> Result<Self, Malformed> {
        let parts = Parts::read(&document).ok_or_else(|| Malformed::new(&document))?;
        Ok(Record {
            // Of a session that this request stores: it was not read from the store.
            read_at: parts.meta.times.accessed,
            meta: parts.meta,
            token: parts.token,
            csrf: parts.csrf,
            values: Arc::new(Values::new(document, parts.values, parts.added)),
            upgrade,
            seals_writes: false,
            has_data_key: parts.has_data_key,
            sealer: None,
        })
    }

    /// The names of the session's values, in stored order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let all = self.values.raw().into_iter().flatten().flatten();
        all.map(|(name, _)| name).filter(|name| Field::is_one(name))
    }

    /// The chosen values, in stored order, as they are carried into another session. Those that do
    /// not open are left out.
    pub(crate) fn fields(
        &self,
        mut is_chosen: impl FnMut(&Field) -> bool,
    ) -> Vec<(Field, RawBson)> {
        let fields = self.names().map(Field::stored);
        let chosen = fields.filter(|field| is_chosen(field));
        chosen
            .filter_map(|field| {
                let value = self.get(&field).ok().flatten()?.into_owned();
                Some((field, value))
            })
            .collect()
    }

    /// A value, opened if it is sealed.
    pub(crate) fn get(&self, field: &Field) -> Result<Option<Value<'_>>, Unreadable> {
        let stored = self.stored(field);
        let open = |stored| Sealer::open(self.sealer.as_deref(), field, stored);
        stored.map(open).transpose()
    }

    /// A value as it is stored.
    pub(crate) fn stored(&self, field: &Field) -> Option<RawBsonRef<'_>> {
        self.values.get(field.as_str())
    }

    /// How many bytes the values take, not counting what sealing adds. The list of names in a session of
    /// the Python package counts as well, because it grows with each key that is written.
    pub(crate) fn size(&self) -> usize {
        let upgrade = self.upgrade.as_ref();
        self.values.plain_len() + upgrade.map_or(0, |upgrade| upgrade.size_of_names())
    }

    /// How many bytes one value takes, not counting what sealing adds.
    pub(crate) fn size_of(&self, field: &Field) -> usize {
        self.stored(field).map_or(0, |stored| {
            let size = value::size(field.as_str(), stored);
            match value::sealed_bytes(stored) {
                Some(_) => size.saturating_sub(SEALED_VALUE_BYTES),
                None => size,
            }
        })
    }

    /// The record after a write that is known to have been applied.
    pub(crate) fn after(&self, update: &Update, now: Moment) -> Option<Record> {
        let (document, upgrade) = match &self.upgrade {
            Some(upgrade) => upgrade.after(update, now)?,
            None => (update.apply(self.values.document(), now).ok()?, None),
        };
        let mut after = Record::from_own_form(document, upgrade).ok()?;
        after.read_at = self.read_at;
        Some(after.opened_like(self))
    }

    // ---- sealing

    /// Opens the session's data key, if it has one; `None` when the token does not open it.
    pub(crate) fn opened_by(self, token: &Token, cookie_name: &str) -> Option<Self> {
        if !self.has_data_key {
            return Some(self);
        }
        let wrapped = self.values.document().get(field::SEAL)?;
        let sealer = Sealer::unwrap(wrapped, token, cookie_name)?;
        Some(self.with_sealer(Some(Arc::new(sealer))))
    }

    /// Returns the record with the data key of another record of the same session, if that has one: a
    /// session keeps its data key as long as its id.
    pub(crate) fn opened_like(mut self, other: &Record) -> Self {
        self.seals_writes |= other.seals_writes;
        match &other.sealer {
            Some(sealer) => self.with_sealer(Some(Arc::clone(sealer))),
            None => self,
        }
    }

    /// The record of a session that this process has stored with this data key, or has given it.
    pub(crate) fn sealed_by(mut self, sealer: Option<Arc<Sealer>>) -> Self {
        self.seals_writes = sealer.is_some();
        self.with_sealer(sealer)
    }

    /// The record for a writer that has no token: the values that it writes are not sealed.
    pub(crate) fn written_plain(mut self) -> Self {
        self.seals_writes = false;
        self
    }

    /// Whether the stored session has a data key, opened or not.
    pub(crate) fn has_data_key(&self) -> bool {
        self.has_data_key
    }

    fn with_sealer(mut self, sealer: Option<Arc<Sealer>>) -> Self {
        if let (None, Some(sealer)) = (&self.csrf, &sealer) {
            let stored = self.values.document().get(field::CSRF);
            self.csrf = stored.and_then(|stored| sealer.open_csrf(stored));
        }
        self.sealer = sealer;
        self
    }

    /// The session's data key, if it has one.
    pub(crate) fn sealer(&self) -> Option<&Arc<Sealer>> {
        self.sealer.as_ref()
    }

    /// Whether written values must be sealed, and the session has no data key yet.
    pub(crate) fn lacks_data_key(&self) -> bool {
        self.seals_writes && self.sealer.is_none()
    }

    /// Makes a value ready to be stored.
    pub(crate) fn seal(&self, field: &Field, value: RawBson) -> Result<RawBson, Error> {
        match &self.sealer {
            Some(sealer) if self.seals_writes => sealer.seal(field, value.as_raw_bson_ref()),
            _ => Ok(value),
        }
    }

    /// Makes an update of values and the CSRF secret ready to be stored.
    pub(crate) fn seal_update(&self, update: Update) -> Result<Update, Error> {
        match &self.sealer {
            Some(sealer) if self.seals_writes => sealer.seal_update(update),
            _ => Ok(update),
        }
    }

    /// Returns an update of this record as one of the stored document: it adds the fields that a
    /// document of the Python package lacks, and gives the values that it changes this crate's names.
    /// The record itself has all these already.
    pub(crate) fn completed(&self, update: &Update) -> Update {
        let mut update = update.clone();
        if let Some(upgrade) = &self.upgrade {
            upgrade.complete(&mut update);
        }
        update
    }

    /// Whether the next write makes a document of the Python package one of ours.
    pub(crate) fn is_upgraded(&self) -> bool {
        self.upgrade.is_some()
    }

    /// Restricts a filter to this session while a value is the one of this record.
    pub(crate) fn with_same_value(&self, filter: Filter, field: &Field) -> Filter {
        if let Some(upgrade) = self.upgrade.as_ref().filter(|one| one.renames(field)) {
            return upgrade.with_same_value(filter, field);
        }
        let value = self.stored(field).map(RawBsonRef::to_raw_bson);
        filter.still(Path::Value(field.clone()), value)
    }

    /// Restricts a filter to this session while its token is the one that was loaded.
    pub(crate) fn with_same_token(&self, filter: Filter) -> Filter {
        let token = binary(self.token.as_bytes());
        match self.is_upgraded() {
            true => filter.equals_or_missing(field::TOKEN, token),
            false => filter.equals(field::TOKEN, token),
        }
    }

    /// Whether a write of a value also changes the names that values are stored under.
    pub(crate) fn renames(&self, field: &Field) -> bool {
        let upgrade = self.upgrade.as_ref();
        upgrade.is_some_and(|upgrade| upgrade.renames(field))
    }

    /// Whether the server cannot count in a value or append to it as it is stored.
    pub(crate) fn is_opaque(&self, field: &Field) -> bool {
        self.seals_writes || self.stored(field).is_some_and(value::is_opaque)
    }
}

impl Meta {
    /// Reads the fields of a stored session that lists show; its values and secrets may be missing.
    pub(crate) fn parse(document: &Document) -> Option<Self> {
        Fields::read(document)?.meta()
    }

    /// The document of a session that is stored for the first time.
    pub(crate) fn document(&self, contents: &Contents<'_>) -> Document {
        let mut document = RawDocumentBuf::new();
        document.append(field::ID, self.id.as_str());
        document.append(field::CREATED, self.times.created.seconds());
        document.append(field::ACCESSED, self.times.accessed.seconds());
        document.append(field::VALUE, contents.values_document());
        document.append(field::TOKEN, binary(contents.token.as_bytes()));
        document.append_ref(field::CSRF, contents.csrf.as_raw_bson_ref());
        document.append(field::EXPIRES, date(self.times.expires));
        if let Some(user) = &self.user {
            document.append_ref(field::USER, user.as_raw_bson_ref());
        }
        for (name, time) in [
            (field::TIMEOUT, self.times.own.timeout),
            (field::LIFETIME, self.times.own.lifetime),
            (field::MAX_AGE, self.times.own.max_age),
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
        if let Some(wrapped) = &contents.wrapped_key {
            document.append_ref(field::SEAL, wrapped.as_raw_bson_ref());
        }
        if let Some(generation) = self.epoch {
            document.append(field::EPOCH, generation);
        }
        Document::from_raw(document)
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
