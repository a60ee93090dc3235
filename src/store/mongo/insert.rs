//! Inserts. New sessions without tombstones share a command.

use std::sync::Arc;

use rocket::tokio::time::Instant;

use super::batch::Batcher;
use super::client::Client;
use super::command::{self, Outcomes, Statement, Terms, Verb};
use super::error;
use crate::document::Document;
use crate::error::{Error, Operation, Result};
use crate::store::{Durability, Inserted};

const OPERATION: Operation = Operation::CreateSession;

pub(super) struct Inserts {
    client: Arc<Client>,
    batcher: Option<Batcher<Statement, Inserted>>,
}

impl Inserts {
    pub(super) fn new(client: &Arc<Client>, share: bool) -> Self {
        let batching = Arc::clone(client);
        let run = move |statements, until| run(Arc::clone(&batching), statements, until);
        let batcher = share.then(|| {
            let (most, tasks, waits) = (client.permit_count, &client.tasks, &client.usage.batch);
            Batcher::new(most, OPERATION, tasks, waits, run)
        });
        Inserts {
            client: Arc::clone(client),
            batcher,
        }
    }

    pub(super) async fn insert(
        &self,
        documents: Vec<Document>,
        durability: Durability,
    ) -> Result<Inserted> {
        let until = self.client.until();
        let statements = documents.into_iter();
        let statements = statements.map(|document| Statement::insert(document, OPERATION));
        let mut statements = statements.collect::<Result<Vec<_>>>()?;
        let terms = Terms::new(OPERATION, durability, until);
        match (&self.batcher, statements.pop()) {
            (_, None) => Ok(Inserted::Stored),
            (Some(batcher), Some(statement))
                if statements.is_empty() && durability == Durability::Data =>
            {
                let bytes = statement.len();
                batcher.submit(statement, bytes, until).await
            }
            (_, Some(last)) => {
                statements.push(last);
                Box::pin(insert_in_order(&self.client, &statements, terms)).await
            }
        }
    }
}

async fn run(
    client: Arc<Client>,
    statements: Vec<Statement>,
    until: Instant,
) -> Result<Vec<Result<Inserted>>> {
    let terms = Terms::new(OPERATION, Durability::Data, until);
    let Outcomes { errors, done } =
        command::send(&client, Verb::Insert, &statements, terms).await?;
    match done + errors.iter().flatten().count() < statements.len() {
        true => Err(Error::unknown(OPERATION, error::MISSING_RESULT)),
        false => Ok(errors.into_iter().map(inserted).collect()),
    }
}

fn inserted(code: Option<i32>) -> Result<Inserted> {
    match code {
        None => Ok(Inserted::Stored),
        Some(error::DUPLICATE) => Ok(Inserted::Exists),
        Some(code) => Err(error::of_statement(OPERATION, code)),
    }
}

/// In order, so that no tombstone is stored beside a session that exists already. A tombstone that
/// exists ends the command, too; those after it go with another.
async fn insert_in_order(
    client: &Client,
    statements: &[Statement],
    terms: Terms,
) -> Result<Inserted> {
    let terms = Terms {
        ordered: true,
        ..terms
    };
    let (mut stored, mut inserted) = (0, Inserted::Stored);
    while let Some(rest) = statements.get(stored..).filter(|rest| !rest.is_empty()) {
        let sent = command::send(client, Verb::Insert, rest, terms).await;
        let sent = sent.map_err(|error| error.partly_done_if(stored > 0))?;
        let mut codes = sent.errors.iter().enumerate();
        match codes.find_map(|(at, code)| Some((stored + at, (*code)?))) {
            Some((0, error::DUPLICATE)) => return Ok(Inserted::Exists),
            Some((at, error::DUPLICATE)) => {
                inserted = Inserted::Beside;
                stored = at + 1;
            }
            Some((at, code)) => {
                return Err(error::of_statement(OPERATION, code).partly_done_if(at > 0));
            }
            None if sent.done < rest.len() => {
                return Err(Error::unknown(OPERATION, error::MISSING_RESULT));
            }
            None => break,
        }
    }
    Ok(inserted)
}
