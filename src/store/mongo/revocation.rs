//! The revocation documents that end logins in progress.

use bson::{RawArrayBuf, rawdoc};

use super::client::Client;
use super::command::{self, Statement, Terms, Verb};
use super::error;
use crate::document::Filter;
use crate::error::{Operation, Result};
use crate::store::{Durability, REVOCATION_LIFETIME};

const OPERATION: Operation = Operation::RevokeSessions;

/// Stores the server's present time, whether the document is there or not.
pub(super) async fn put(client: &Client, id: &str) -> Result<()> {
    let terms = Terms::new(OPERATION, Durability::Identity, client.until());
    let lifetime = i64::try_from(REVOCATION_LIFETIME.as_millis()).unwrap_or(i64::MAX);
    let mut pipeline = RawArrayBuf::new();
    pipeline.push(rawdoc! { "$set": {
        "at": "$$NOW",
        "expires": { "$add": ["$$NOW", lifetime] },
    } });
    let statements = [Statement::upsert(&Filter::id(id), pipeline)];
    loop {
        let sent = command::send(client, Verb::Update, &statements, terms).await?;
        match sent.errors.as_slice() {
            // Another upsert inserted the document in between. Now it is there to be updated.
            [Some(error::DUPLICATE)] => {}
            _ => return sent.of_one(OPERATION).map(drop),
        }
    }
}
