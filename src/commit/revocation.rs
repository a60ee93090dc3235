//! Revocations of a user's sessions, and the logins that are on their way meanwhile.
//!
//! A revocation first stores a document, and then deletes the sessions that it finds. A login first stores
//! its session, and then looks for that document. So whichever is first, the session is found by the
//! deletion, or the document by the login, which ends its session.
//!
//! Times of two machines are never compared: the database says how old the document is, and that age is
//! compared with how long ago the request began.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bson::{Bson, RawBson, doc};
use sha2::{Digest, Sha256};

use super::Core;
use crate::clock::{Started, TimeSource};
use crate::document::Filter;
use crate::epoch::{self, Epoch};
use crate::error::{Error, Result};
use crate::live::End;
use crate::store::REVOCATION_LIFETIME;

/// By how much a server's clock may be off within the moments that are compared.
const SERVER_CLOCK_SLACK: Duration = Duration::from_secs(1);

/// What a login finds when it looks for revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revocation {
    None,
    Revoked,
    /// None; but the generation is another one, because the epoch document was deleted.
    Restarted(Option<i64>),
}

impl Core {
    /// Revokes sessions of a user, and the user's logins that are on their way. A failure after the first
    /// step is an unknown outcome.
    pub(crate) async fn revoke_of_user(&self, user: &RawBson, sessions: Filter) -> Result<u64> {
        self.store.put_revocation(&of_user(user)).await?;
        let ended = self.end_matching(sessions, End::Revoked).await;
        ended.map_err(Error::partly_done)
    }
}

/// Whether the user's sessions, or all, were revoked after the request had begun. All have been, too, if
/// they have another generation now than the login was stored with; but if the epoch document was
/// deleted meanwhile, the login may continue with this generation. One round trip.
pub(crate) async fn is_revoked(
    core: &Core,
    user: &RawBson,
    started: &Started,
    generation: Option<i64>,
) -> Result<Revocation> {
    let source = core.store.time_source();
    let ids = vec![epoch::ID.to_owned(), of_user(user)];
    let found = core.store.ages(ids).await?;
    let mut documents = found.iter().map(|aged| &aged.document);
    let epoch = Epoch::read(documents.find(|one| one.id() == Some(epoch::ID)));
    let mut revocation = Revocation::None;
    if epoch.generation.is_none() && generation.is_some() {
        revocation = Revocation::Restarted(core.epoch.read().await?.generation);
    } else if epoch.generation != generation {
        return Ok(Revocation::Revoked);
    }
    let request_age = started.age(&core.clock, source);
    // A request can be held open for as long as its client likes, and revocations since it began are
    // not remembered for longer than this.
    let own_age = started.age(&core.clock, TimeSource::Process);
    if request_age.max(own_age) >= REVOCATION_LIFETIME {
        return Ok(Revocation::Revoked);
    }
    let slack = match source {
        TimeSource::Process => Duration::ZERO,
        TimeSource::Server => SERVER_CLOCK_SLACK,
    };
    let mut ages = found.iter().filter_map(|aged| aged.age);
    Ok(match ages.any(|age| age <= request_age + slack) {
        true => Revocation::Revoked,
        false => revocation,
    })
}

/// The id of the revocation document of one user's sessions. Hashed: a principal can be long, or
/// private.
pub(crate) fn of_user(user: &RawBson) -> String {
    let user = Bson::try_from(user.clone()).unwrap_or(Bson::Null);
    let holder = doc! { "user": one_form(user) };
    let hash = Sha256::digest(bson::to_vec(&holder).unwrap_or_default());
    format!("~user:{}", URL_SAFE_NO_PAD.encode(hash))
}

/// MongoDB's equality sees one number in all types that hold it, so the id must, too.
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

/// A principal as a log line names it, cut short.
pub(crate) fn describe_user(user: &RawBson) -> String {
    const MAX_CHARS: usize = 64;
    let text = match user {
        RawBson::String(name) => format!("{name:?}"),
        RawBson::Int32(number) => number.to_string(),
        RawBson::Int64(number) => number.to_string(),
        RawBson::ObjectId(id) => id.to_string(),
        other => crate::document::value::kind(other.as_raw_bson_ref()).to_owned(),
    };
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
