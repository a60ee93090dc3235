//! The two indexes: one that lets MongoDB delete what expired, one that finds a user's sessions.

use mongodb::Database;
use mongodb::bson::{Document, doc};
use mongodb::error::{Error, ErrorKind, Result};

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

/// Makes the indexes, in one command; repairs what stands in their way.
pub(super) async fn ensure(database: &Database, collection: &str) -> Result<()> {
    let both = create(database, collection, vec![expiry(), user()]).await;
    if !is_conflict(&both) {
        return both;
    }
    for index in [expiry(), user()] {
        let made = create(database, collection, vec![index.clone()]).await;
        if is_conflict(&made) {
            repair(database, collection, index).await?;
        } else {
            made?;
        }
    }
    Ok(())
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
        if database.run_command(modify).await.is_ok() {
            return Ok(());
        }
    }
    rocket::warn!("Sessions: an index of `{collection}` on {keys} has other options; made anew.");
    for other in [
        mongodb::bson::Bson::from(keys),
        index.get("name").cloned().into(),
    ] {
        let drop = doc! { "dropIndexes": collection, "index": other };
        // Whichever of the two stood in the way is gone; that the other is not there is no error.
        let _ = database.run_command(drop).await;
    }
    create(database, collection, vec![index]).await
}

fn is_conflict(result: &Result<()>) -> bool {
    code(result).is_some_and(|code| CONFLICTS.contains(&code))
}

fn code(result: &Result<()>) -> Option<i32> {
    result.as_ref().err().and_then(error_code)
}

fn error_code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}
