//! Tombstones: short-lived documents that record a replaced session. Their ids start with `~`, which no
//! session's id can.
//!
//! Times of two machines are never compared: the database says how old a document is, and that age is
//! compared with how long ago the request began.

use std::time::Duration;

use bson::raw::RawBsonRef;
use bson::{RawBson, RawDocumentBuf};

use super::Core;
use crate::clock::{Moment, Started};
use crate::document::key::Field;
use crate::document::{Document, Operator, Path, SERVER_TIME, Update, date};
use crate::error::Result;
use crate::record::sealer::{Contents, Sealer};
use crate::record::token::{Digest, Id, Secret, Token};
use crate::record::{self, field};
use crate::state::{Proof, Replaced};

/// When it happened, by the database's clock.
const AT: &str = "at";
/// The session that was inserted with a login's tombstone, while the tombstone records that login
/// alone.
pub(crate) const BY: &str = "by";
/// The stored values that the login kept.
const KEPT: &str = "kept";

/// How long after a login a request with the old cookie may belong to a browser that has not got
/// the new one yet.
const OVERLAP: Duration = Duration::from_secs(5);
/// How long a tombstone is kept at least, whatever the difference between the clocks of the process
/// and of the database that deletes it.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(3600);

/// The id of the tombstone of a replaced session.
pub(crate) fn id_of(old: &Id) -> String {
    record::tombstone_id(old.as_str())
}

/// Records that a login replaced a session.
pub(crate) struct Tombstone {
    pub(crate) old: Id,
    pub(crate) by: Id,
    /// For a second login of the same browser, and for the form that it sends: the replaced session's
    /// token and CSRF secret, and the values that the login kept. The data key is the tombstone's own,
    /// since the session's contents end with it.
    pub(crate) proof: Option<Contents<'static>>,
    pub(crate) expires: Moment,
}

impl Tombstone {
    pub(crate) fn id(&self) -> String {
        id_of(&self.old)
    }

    pub(crate) fn document(&self) -> Document {
        let mut document = RawDocumentBuf::new();
        document.append(field::ID, self.id());
        document.append(AT, RawBson::Timestamp(SERVER_TIME));
        document.append(field::EXPIRES, date(self.expires));
        document.append(BY, self.by.as_str());
        if let Some(proof) = &self.proof {
            document.append(field::TOKEN, record::binary(proof.token.as_bytes()));
            document.append(field::CSRF, proof.csrf.clone());
            document.append(KEPT, proof.values_document());
            if let Some(wrapped) = &proof.wrapped_key {
                document.append(field::SEAL, wrapped.clone());
            }
        }
        Document::from_raw(document)
    }

    /// Returns the update that adds this login to an older tombstone of the same session.
    pub(crate) fn update(&self) -> Update {
        let mut update = joined();
        update.raise(field::EXPIRES, date(self.expires));
        if let Some(proof) = &self.proof {
            update.set(field::TOKEN, record::binary(proof.token.as_bytes()));
            update.set(field::CSRF, proof.csrf.clone());
            update.set(KEPT, RawBson::Document(proof.values_document()));
            let wrapped = proof.wrapped_key.clone();
            let wrapped = wrapped.map_or(Operator::Unset, Operator::Set);
            update.insert(Path::Meta(field::SEAL), wrapped);
        }
        update
    }
}

/// Returns the update that a further login makes to the tombstone of the session that it replaces.
/// The tombstone then records several logins, and the roll-back of one of them does not delete it.
pub(crate) fn joined() -> Update {
    let mut update = Update::default();
    update.set_now(AT);
    update.insert(Path::Meta(BY), Operator::Unset);
    update
}

/// Looks whether a login or a renewal replaced a session so recently that the request began before
/// it, or within five seconds after it. `presented`: the token with which the request came. One
/// round trip.
pub(crate) async fn look_up(
    core: &Core,
    id: &Id,
    presented: Option<&Token>,
    started: &Started,
) -> Result<Option<Replaced>> {
    look_up_any(core, &[(id, presented)], started).await
}

/// Looks several sessions up, as [`look_up`] does with one, and returns the first that was replaced.
/// One round trip.
pub(crate) async fn look_up_any(
    core: &Core,
    sessions: &[(&Id, Option<&Token>)],
    started: &Started,
) -> Result<Option<Replaced>> {
    let ids = sessions.iter();
    let ids = ids.flat_map(|(id, _)| [id.as_str().to_owned(), id_of(id)]);
    let found = core.store.ages(ids.collect()).await?;
    // After the reply, so that both ages are those of the same moment, or the request's is greater.
    let request_age = started.age(&core.clock, core.store.time_source());
    let is_recent =
        |age: Option<Duration>| age.is_some_and(|age| age <= request_age.saturating_add(OVERLAP));
    let recent: Vec<&Document> = found
        .iter()
        .filter(|aged| is_recent(aged.age))
        .map(|aged| &aged.document)
        .collect();
    let mut sessions = sessions.iter();
    Ok(sessions.find_map(|(id, presented)| replaced_by(core, id, *presented, &recent)))
}

/// Returns how a session was replaced: its own document shows a renewal, its tombstone a login.
fn replaced_by(
    core: &Core,
    id: &Id,
    presented: Option<&Token>,
    recent: &[&Document],
) -> Option<Replaced> {
    let with_id = |wanted: &str| recent.iter().find(|one| one.id() == Some(wanted));
    let renewed = with_id(id.as_str()).filter(|one| !core.epoch.has_ended(one));
    let tombstone = with_id(&id_of(id));
    if renewed.is_none() && tombstone.is_none() {
        return None; // a renewal ends with its session
    }
    let proof = tombstone.zip(presented);
    Some(Replaced {
        id: id.clone(),
        proof: proof.and_then(|(tombstone, presented)| proof_in(core, tombstone, presented)),
    })
}

/// Returns the proof in a tombstone, if the request presents the old session's token.
fn proof_in(core: &Core, tombstone: &Document, presented: &Token) -> Option<Proof> {
    let cookie_name = &core.config.cookie_name;
    let token = Digest::from_bytes(record::bytes(tombstone.get(field::TOKEN)?)?);
    if !token.matches(&presented.digest(cookie_name)) {
        return None;
    }
    let sealer = match tombstone.get(field::SEAL) {
        Some(wrapped) => Some(Sealer::unwrap(wrapped, presented, cookie_name)?),
        None => None,
    };
    let csrf = tombstone.get(field::CSRF)?;
    let csrf = match &sealer {
        Some(sealer) => sealer.open_csrf(csrf)?,
        None => Secret::from_bytes(record::bytes(csrf)?),
    };
    let kept = tombstone.get(KEPT).and_then(RawBsonRef::as_document);
    let kept = kept.into_iter().flatten().flatten();
    let kept = kept.filter(|(name, _)| Field::is_one(name));
    let kept = kept.filter_map(|(name, value)| {
        let field = Field::stored(name);
        let value = Sealer::open(sealer.as_ref(), &field, value).ok()?;
        Some((field, value.into_owned()))
    });
    Some(Proof {
        csrf,
        kept: kept.collect(),
    })
}
