//! What is left behind under another id for a while: that a login replaced a session, or that
//! sessions were revoked. A marker's id starts with `~`, which no session's can.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bson::raw::RawBsonRef;
use bson::{Bson, RawBson, doc};
use sha2::{Digest as _, Sha256};

use crate::clock::Moment;
use crate::document::{Document, Operation, Path, Update, date};
use crate::record::token::Id;
use crate::record::{field, seconds};

/// The time at which a revocation began, in epoch seconds.
const AT: &str = "at";
/// The sessions that carry the replaced one on: of several elevations at once one will be it.
const NEXT: &str = "next";

/// The new session that a login's marker was written with, while it is that one's alone.
pub(crate) const BY: &str = "by";

/// How long the marker of a revocation is kept.
pub(crate) const REVOCATION: Duration = Duration::from_secs(3600);

/// A session that a login replaced a moment ago.
pub(crate) struct Replaced;

/// Finds out whether a login replaced the token's session.
#[allow(clippy::unused_async)]
pub(crate) async fn look_up(
    _: &super::Core,
    _: &crate::record::token::Token,
    _: &crate::clock::Started,
) -> crate::error::Result<Option<Replaced>> {
    Ok(None)
}

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

/// That the sessions which a revocation is about were revoked.
pub(crate) fn revoked(id: &str, at: Moment, expires: Moment) -> Document {
    Document::from_bson(&plain(id, at, expires))
}

/// That the session `by` replaced another. `goes_on`: it is the same login under a new id, so that
/// who ends the one ends the other.
pub(crate) fn replaced(old: &Id, at: Moment, expires: Moment, by: &Id, goes_on: bool) -> Document {
    let mut marker = plain(&of_login(old), at, expires);
    marker.insert(BY, by.as_str());
    if goes_on {
        marker.insert(NEXT, [by.as_str()].to_vec());
    }
    Document::from_bson(&marker)
}

fn plain(id: &str, at: Moment, expires: Moment) -> bson::Document {
    doc! {
        field::ID: id,
        AT: at.seconds(),
        field::EXPIRES: date(expires),
    }
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

/// Says of another login what [`replaced`] says of the first. It is nobody's alone then.
pub(crate) fn once_more(at: Moment, expires: Moment, next: Option<&Id>) -> Update {
    let mut update = again(at, expires);
    update.insert(Path::Meta(BY), Operation::Unset);
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
