//! A session as JSON, for the person whose data it is.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Sessions;
use crate::clock::Moment;
use crate::config::Config;
use crate::document::key::Field;
use crate::document::value;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::record::Record;
use crate::record::token::Id;

impl Sessions {
    /// Returns everything that is stored of one live session, without secrets, as
    /// [`of(user).export`](super::UserSessions::export) does; `None` when the session does not exist.
    ///
    /// It is the administrator's call: the values are the user's. One round trip.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the database fails.
    pub async fn export(&self, id: &str) -> Result<Option<Value>> {
        let Some(id) = Id::parse(id) else {
            return Ok(None); // the id of a tombstone, for instance
        };
        let (core, now) = (&self.core, self.now());
        let stored = core.load(&id).await?;
        let alive = stored.filter(|stored| !stored.meta.is_expired(&core.config, now));
        Ok(alive.map(|alive| record(&alive, &core.config)))
    }
}

/// Returns everything that is stored of a session but its secrets. The values, the messages and the
/// address to return to of a sealed one are null.
pub(super) fn record(record: &Record, config: &Config) -> Value {
    let meta = &record.meta;
    let (mut values, mut flash, mut return_to) = (Map::new(), Map::new(), Value::Null);
    for field in record.names().map(Field::stored) {
        let (name, stored) = (field.as_str(), record.stored(&field));
        let Some(stored) = stored.filter(|_| !record.has_data_key()) else {
            continue;
        };
        let readable = value::decode::<Value>(stored).unwrap_or(Value::Null);
        if let Some(key) = Field::key(name) {
            values.insert(key, readable);
        } else if let Some(queue) = Field::queue(name) {
            flash.insert(queue, readable);
        } else if field == Field::return_to() {
            return_to = readable;
        }
    }
    let user = meta.user.as_ref().map(|user| user.as_raw_bson_ref());
    let expires = Some(meta.times.ends_at(config)).filter(|expires| *expires < Moment::NEVER);
    json!({
        "id": (!meta.id.is_legacy()).then(|| meta.id.as_str()),
        "user": user.and_then(|user| value::decode::<Value>(user).ok()),
        "created": text(meta.times.created.date()),
        "accessed": text(meta.times.accessed.date()),
        "expires": expires.map(|expires| text(expires.date())),
        "client": meta.client.agent,
        "ip": meta.client.ip,
        "values": (!record.has_data_key()).then_some(values),
        "flash": (!record.has_data_key()).then_some(flash),
        "return_to": return_to,
    })
}

fn text(at: OffsetDateTime) -> Option<String> {
    at.format(&Rfc3339).ok()
}
