//! `indexes`: compares, creates and repairs the indexes.

use rocket_mongo_session::MongoStore;
use rocket_mongo_session::mongodb::bson::{Document, doc};
use serde_json::json;

use super::watch::is_same;
use super::{Context, watched};
use crate::doctor::connection;
use crate::failure::{Failure, NO, with_causes};
use crate::output;

/// Returns 1 when `--dry-run` finds something to do.
pub async fn run(context: Context, dry_run: bool) -> Result<u8, Failure> {
    if !dry_run {
        let sessions = context.app.sessions().await?;
        let make = sessions.ensure_indexes();
        let rest = "the server may still make them";
        watched(&context, "making the indexes", rest, make).await?;
        match context.json {
            true => output::json(&json!({ "indexes": "ok" }))?,
            false => output::line("the indexes are there")?,
        }
        return Ok(0);
    }
    let (database, collection) = context.app.collection();
    let connection = connection::open(&context.app.url()?).await?;
    let database = match database {
        Some(name) => connection.client.database(&name),
        None => connection.database()?,
    };
    // A collection that is not there yet has none.
    let command = doc! { "listIndexes": &collection };
    let stored = match database.run_command(command).await {
        Ok(reply) => first_batch(&reply),
        Err(error) if connection::code(&error) == Some(26) => Vec::new(),
        Err(error) => return Err(Failure::Database(with_causes(&error))),
    };
    let mut is_complete = true;
    for needed in MongoStore::index_definitions() {
        let name = needed.get_str("name").unwrap_or_default().to_owned();
        let has = |index: &Document, field: &str| match (index.get(field), needed.get(field)) {
            (Some(stored), Some(needed)) => is_same(stored, needed),
            (stored, needed) => stored.is_none() && needed.is_none(),
        };
        let has_options = |index: &Document| {
            let mut options = ["expireAfterSeconds", "partialFilterExpression"].into_iter();
            options.all(|option| has(index, option))
        };
        let state = match stored.iter().find(|index| has(index, "key")) {
            None => "missing",
            Some(index) if has_options(index) => "ok",
            Some(_) => "differs",
        };
        is_complete &= state == "ok";
        match context.json {
            true => output::json(&json!({ "index": name, "state": state }))?,
            false => output::line(&format!("{name:<16}  {state}"))?,
        }
    }
    Ok(if is_complete { 0 } else { NO })
}

fn first_batch(reply: &Document) -> Vec<Document> {
    let cursor = reply.get_document("cursor").ok();
    let batch = cursor.and_then(|cursor| cursor.get_array("firstBatch").ok());
    batch
        .into_iter()
        .flatten()
        .filter_map(|index| index.as_document().cloned())
        .collect()
}
