//! A session as lists show it.

use std::net::IpAddr;

use bson::RawBson;
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use time::OffsetDateTime;

use super::Sessions;
use crate::clock::Moment;
use crate::document::{Document, value};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::record::Meta;

/// One session as a list shows it, without credentials.
///
/// It is serialized with its times in RFC 3339 and the user as the value that the login was given.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The public session identifier, which [`Sessions::revoke`] and [`Sessions::edit`] take.
    pub id: String,
    /// When the session was created: at its first write, or at the login or elevation that started
    /// it.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// The last recorded use of the session.
    #[serde(with = "time::serde::rfc3339")]
    pub accessed: OffsetDateTime,
    /// When it will expire if it is not used again; `None` is never.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires: Option<OffsetDateTime>,
    /// The first 128 characters of the `User-Agent` (with `record_client`). The text is untrusted:
    /// escape it before you show it.
    pub client: Option<String>,
    /// The address that the session was created from (with `record_client`). Behind a proxy it is
    /// the proxy's, unless `client_ip_header` and `trusted_proxies` are set.
    pub ip: Option<IpAddr>,
    #[serde(serialize_with = "readable")]
    user: Option<RawBson>,
}

impl SessionInfo {
    /// Returns the user (principal) that the session belongs to; `None` when no user is logged in.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`] when the user is not a `T`.
    pub fn user<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        value::decode_principal(self.user.as_ref())
    }

    /// Returns the id and the user.
    pub(super) fn named(&self) -> (&str, Option<&RawBson>) {
        (&self.id, self.user.as_ref())
    }
}

fn readable<S: Serializer>(user: &Option<RawBson>, serializer: S) -> Result<S::Ok, S::Error> {
    let user = user.as_ref().map(RawBson::as_raw_bson_ref);
    user.and_then(|user| value::decode::<serde_json::Value>(user).ok())
        .serialize(serializer)
}

impl Sessions {
    /// Returns what lists show of a session. `None` for a legacy session, whose id may be its
    /// credential, for a malformed document, and for a session that has expired by the present
    /// configuration, which may be earlier than its stored time.
    pub(super) fn live_info(
        &self,
        document: &Document,
        now: OffsetDateTime,
    ) -> Option<SessionInfo> {
        let meta = Meta::parse(document).filter(|meta| !meta.id.is_legacy())?;
        let end = meta.times.ends_at(&self.core.config);
        let expires = (end < Moment::NEVER).then(|| end.date());
        // At the very moment of its end a session is alive.
        if expires.is_some_and(|expires| expires < now) {
            return None;
        }
        Some(SessionInfo {
            id: meta.id.to_string(),
            created: meta.times.created.date(),
            accessed: meta.times.accessed.date(),
            expires,
            client: meta.client.agent,
            ip: meta.client.ip.and_then(|ip| ip.parse().ok()),
            user: meta.user,
        })
    }
}
