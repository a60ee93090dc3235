//! Inserts. New sessions without tombstones share a command.

use std::sync::Arc;

use rocket::tokio;
use rocket::tokio::time::Instant;

use super::batch::Batcher;
use super::client::{Client, RETRY_DELAY};
use super::command::{self, Statement, Terms, Verb};
use super::error::{self, Failure};
use crate::document::Document;
use crate::error::{Error, Operation, Result};
use crate::store::{Durability, Inserted};

/// Insert commands in flight while further inserts queue up: as of updates.
const MAX_IN_FLIGHT: usize = super::update::MAX_IN_FLIGHT;

const OPERATION: Operation = Operation::CreateSession;

pub(super) struct Inserts {
    client: Arc<Client>,
    batcher: Option<Batcher<Statement, Result<Inserted>>>,
}

impl Inserts {
    pub(super) fn new(client: &Arc<Client>, share: bool) -> Self {
        let batching = Arc::clone(client);
        let run = move |statements, until| run(Arc::clone(&batching), statements, until);
        let batcher = share.then(|| Batcher::new(MAX_IN_FLIGHT, client.permit_count, run));
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
                let result = batcher.submit(statement, bytes, until).await;
                result.unwrap_or_else(|_| Err(Error::unknown(OPERATION, Failure::Lost)))
            }
            (_, Some(last)) => {
                statements.push(last);
                insert_in_order(&self.client, &statements, terms).await
            }
        }
    }
}

async fn run(
    client: Arc<Client>,
    statements: Vec<Statement>,
    until: Instant,
) -> Vec<Result<Inserted>> {
    let terms = Terms::new(OPERATION, Durability::Data, until);
    let all: Vec<&Statement> = statements.iter().collect();
    let unknown = || Error::unknown(OPERATION, Failure::Unsaid);
    let sent = command::send(&client, Verb::Insert, &all, terms).await;
    let sent = sent.and_then(|outcomes| {
        let failed = outcomes.errors.iter().flatten().count();
        let is_complete = outcomes.done + failed >= all.len();
        is_complete.then_some(outcomes.errors).ok_or_else(unknown)
    });
    match sent {
        Ok(codes) => codes.into_iter().map(inserted).collect(),
        Err(error) => all.iter().map(|_| Err(error.clone())).collect(),
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
    while stored < statements.len() {
        let partly_done = |error| {
            if stored == 0 {
                error
            } else {
                error::partly_done(error)
            }
        };
        let rest: Vec<&Statement> = statements.iter().skip(stored).collect();
        let sent = command::send(client, Verb::Insert, &rest, terms)
            .await
            .map_err(partly_done)?;
        let failed = sent.errors.iter().position(Option::is_some);
        let code = failed.and_then(|at| sent.errors[at]);
        match (failed, code) {
            (Some(0), Some(error::DUPLICATE)) if stored == 0 => return Ok(Inserted::Exists),
            (Some(at), Some(error::DUPLICATE)) => {
                inserted = Inserted::Beside;
                stored += at + 1;
            }
            (Some(at), Some(error::THROTTLED)) if Instant::now() + RETRY_DELAY < terms.until => {
                stored += at;
                tokio::time::sleep(RETRY_DELAY).await;
            }
            (Some(at), Some(code)) => {
                stored += at;
                let error = error::of_statement(OPERATION, code);
                return Err(if stored == 0 {
                    error
                } else {
                    error::partly_done(error)
                });
            }
            _ if sent.done < rest.len() => {
                return Err(Error::unknown(OPERATION, Failure::Unsaid));
            }
            _ => return Ok(inserted),
        }
    }
    Ok(inserted)
}
