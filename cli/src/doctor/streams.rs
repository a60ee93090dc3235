//! Change streams, for `events()`.

use std::time::Duration;

use rocket::futures::StreamExt;
use rocket::tokio::time::timeout;
use rocket_mongo_session::mongodb::bson::doc;

use super::Examination;
use super::connection::{Refused, ask, reply};
use super::report::Outcome;

const NAME: &str = "change-streams";
const PATIENCE: Duration = Duration::from_secs(10);
const WANTED: [&str; 3] = ["insert", "update", "delete"];

pub(super) async fn look(this: &Examination) {
    this.report.begin("reading a change stream");
    if this.is_standalone() {
        let found = "a standalone server has none; events() is an error there";
        return this.report.write(NAME, Outcome::NotTried, found);
    }
    match read(this).await {
        Ok(told) if told == WANTED => this.report.write(NAME, Outcome::Holds, "told, in order"),
        Ok(told) => {
            let told = if told.is_empty() {
                "nothing".to_owned()
            } else {
                told.join(", ")
            };
            let found = format!("told {told} in {} s", PATIENCE.as_secs());
            this.report.write(NAME, Outcome::Broken, found);
        }
        Err(refusal) => this.report.write(NAME, refusal.outcome(), refusal),
    }
}

/// The kinds of events that were told.
async fn read(this: &Examination) -> Result<Vec<String>, Refused> {
    let scratch = this.scratch.collection();
    let name = scratch.name();
    let mut stream = reply(scratch.watch().into_future()).await?;
    let update = doc! { "q": { "_id": "a" }, "u": { "$set": { "n": 1 } } };
    let delete = doc! { "q": { "_id": "a" }, "limit": 1 };
    ask(
        &this.database,
        doc! { "insert": name, "documents": [{ "_id": "a" }] },
    )
    .await?;
    ask(&this.database, doc! { "update": name, "updates": [update] }).await?;
    ask(&this.database, doc! { "delete": name, "deletes": [delete] }).await?;
    let mut told = Vec::new();
    let reading = async {
        while told.len() < WANTED.len() {
            match stream.next().await {
                Some(Ok(event)) => {
                    let kind = format!("{:?}", event.operation_type).to_lowercase();
                    told.push(kind);
                }
                Some(Err(error)) => return Err(error),
                None => break,
            }
        }
        Ok(())
    };
    match timeout(PATIENCE, reading).await {
        Ok(Err(error)) => reply(async { Err(error) }).await,
        Ok(Ok(())) | Err(_) => Ok(told),
    }
}
