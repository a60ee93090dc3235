//! The two indexes: one that lets MongoDB delete expired documents, one that finds a user's sessions.

use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::Result;

use super::error::code;

/// Seconds that a session's document outlives its `expires`, so that clocks that disagree do not
/// delete a session that another server takes to be alive.
const GRACE: i32 = 300;

/// An index of these keys or this name exists with other options.
const CONFLICTS: [i32; 2] = [85, 86];

fn expiry() -> Document {
    doc! { "key": { "expires": 1 }, "name": "session_expires", "expireAfterSeconds": GRACE }
}

fn user() -> Document {
    doc! {
        // In the order of lists, so that a page of one needs no sort.
        "key": { "user": 1, "created": 1, "_id": 1 },
        "name": "session_user",
        "partialFilterExpression": { "user": { "$exists": true } },
    }
}

/// The indexes as `createIndexes` takes them.
#[cfg(feature = "unstable-store")]
pub(super) fn definitions() -> [Document; 2] {
    [expiry(), user()]
}

/// Makes the indexes, in one command; where the server refuses that, each by itself, so that one
/// that it cannot make (a partial index) does not keep the other from being made.
pub(super) async fn ensure(database: &Database, collection: &str) -> Result<()> {
    match create(database, collection, vec![expiry(), user()]).await {
        Err(error) if code(&error).is_some() => {}
        made => return made,
    }
    let expiry = ensure_one(database, collection, expiry()).await;
    let user = ensure_one(database, collection, user()).await;
    expiry.and(user)
}

async fn ensure_one(database: &Database, collection: &str, index: Document) -> Result<()> {
    match create(database, collection, vec![index.clone()]).await {
        Err(error) if code(&error).is_some_and(|code| CONFLICTS.contains(&code)) => {
            match exists(database, collection, &index).await? {
                true => Ok(()),
                false => repair(database, collection, index).await,
            }
        }
        made => made,
    }
}

/// Whether such an index exists, under any name.
async fn exists(database: &Database, collection: &str, wanted: &Document) -> Result<bool> {
    // A collection has at most 64: they are in the first batch.
    let reply = database.run_command(doc! { "listIndexes": collection });
    let reply = reply.await?;
    let stored = reply
        .get_document("cursor")
        .and_then(|cursor| cursor.get_array("firstBatch"));
    let mut stored = stored.into_iter().flatten().filter_map(Bson::as_document);
    // The order of keys counts, and documents are equal in any.
    let keys = |index: &Document| -> Vec<String> {
        let keys = index.get_document("key").into_iter();
        keys.flat_map(Document::keys).cloned().collect()
    };
    let is_wanted =
        |index: &Document| comparable(index) == comparable(wanted) && keys(index) == keys(wanted);
    Ok(stored.any(is_wanted))
}

/// Returns the definition of an index, without its name and version.
fn comparable(index: &Document) -> Document {
    let mut index = with_doubles(index);
    for name in ["name", "v", "ns"] {
        index.remove(name);
    }
    index
}

/// Returns the document with all numbers in one type, because other tools may write other types.
fn with_doubles(document: &Document) -> Document {
    let double = |value: &Bson| match value {
        Bson::Int32(number) => Bson::Double(f64::from(*number)),
        Bson::Int64(number) => Bson::Double(*number as f64),
        Bson::Document(inner) => with_doubles(inner).into(),
        other => other.clone(),
    };
    let fields = document.iter();
    fields
        .map(|(name, value)| (name.clone(), double(value)))
        .collect()
}

async fn create(database: &Database, collection: &str, indexes: Vec<Document>) -> Result<()> {
    let command = doc! { "createIndexes": collection, "indexes": indexes };
    database.run_command(command).await.map(drop)
}

/// Changes the index in place where the server can, and makes it anew where it cannot.
async fn repair(database: &Database, collection: &str, index: Document) -> Result<()> {
    let keys = index.get_document("key").cloned().unwrap_or_default();
    if let Ok(grace) = index.get_i32("expireAfterSeconds") {
        let change = doc! { "keyPattern": keys.clone(), "expireAfterSeconds": grace };
        let modify = doc! { "collMod": collection, "index": change };
        let is_changed = database.run_command(modify).await.is_ok();
        // It changes no other option.
        if is_changed && exists(database, collection, &index).await? {
            return Ok(());
        }
    }
    rocket::warn!(
        "Sessions: the index of `{collection}` on {keys} has other options than the crate's; it is \
         dropped and created again"
    );
    for other in [Bson::from(keys), index.get("name").cloned().into()] {
        let drop = doc! { "dropIndexes": collection, "index": other };
        // Whichever of the two stood in the way is gone; that the other is not there is no error.
        let _ = database.run_command(drop).await;
    }
    create(database, collection, vec![index]).await
}
