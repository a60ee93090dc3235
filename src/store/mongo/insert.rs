//! Sessions that are created together: one `insert` command for all that wait. Only those of
//! visitors share, which nothing else has to be stored with.

use std::sync::Arc;

use mongodb::bson::RawDocumentBuf;
use rocket::tokio::time::Instant;

use super::batch::{Together, Waiting};
use super::batched_write::{self, Batched, Job, Shared};
use super::command::{Outcomes, Statement, Verb};
use super::error::{self, Failure, writing};
use super::{Inner, Optional, Topology, bytes_in};
use crate::document::Document;
use crate::error::{Error, Result};
use crate::store::{Durability, Inserted};

/// Insert commands that may be under way before sessions begin to share: as of updates.
pub(super) const FEW: usize = super::update::FEW;

const OPERATION: &str = "creating a session";

pub(super) struct Creation;

impl Shared for Creation {
    type Note = ();
    type Done = Inserted;

    const VERB: Verb = Verb::Insert;

    fn of(store: &Inner) -> &Together<Batched<Self>> {
        &store.creations
    }

    async fn settle(
        _: &Inner,
        _: &[Waiting<Batched<Self>>],
        outcomes: Outcomes,
        _: Instant,
    ) -> Result<Vec<Result<Inserted>>> {
        created(outcomes)
    }
}

/// What became of each insert, by the code of its error.
fn created(outcomes: Outcomes) -> Result<Vec<Result<Inserted>>> {
    let Outcomes { errors, done } = outcomes;
    let failed = errors.iter().flatten().count();
    if done + failed < errors.len() {
        return Err(Error::unknown(OPERATION, Failure::Unsaid));
    }
    let created = |code| match code {
        None => Ok(Inserted::Stored),
        Some(error::DUPLICATE) => Ok(Inserted::Exists),
        Some(code) => Err(error::of_statement(OPERATION, code)),
    };
    Ok(errors.into_iter().map(created).collect())
}

pub(super) async fn insert(
    store: &Arc<Inner>,
    mut documents: Vec<Document>,
    durability: Durability,
) -> Result<Inserted> {
    let until = store.until();
    let is_known = store.topology() != Topology::Unknown;
    let one = match documents.pop() {
        Some(one) if documents.is_empty() && is_known => one,
        Some(last) => {
            documents.push(last);
            return by_driver(store, documents, durability, until).await;
        }
        None => return Ok(Inserted::Stored),
    };
    let statement = Statement::insert(one)?;
    let alone = |statement| alone(store, statement, durability, until);
    match store.share && durability == Durability::Data {
        true => {
            let job = Job {
                note: (),
                statement,
            };
            batched_write::join::<Creation, _>(store, until, job, alone).await
        }
        false => alone(statement).await,
    }
}

async fn alone(
    store: &Inner,
    statement: Statement,
    durability: Durability,
    until: Instant,
) -> Result<Inserted> {
    let outcomes = batched_write::alone(store, Verb::Insert, statement, durability, until).await?;
    let one = created(outcomes)?.pop();
    one.unwrap_or_else(|| Err(Error::unknown(OPERATION, Failure::Unsaid)))
}

/// Several documents, or one while the server is not known. In order, so that nothing is stored
/// beside a session that exists already. A marker that exists stops the command, too; what comes
/// after it goes with another.
async fn by_driver(
    store: &Inner,
    documents: Vec<Document>,
    durability: Durability,
    until: Instant,
) -> Result<Inserted> {
    let _place = store.place(OPERATION, until).await?;
    let documents = documents
        .into_iter()
        .map(|document| bytes_in(document, OPERATION));
    let documents: Vec<RawDocumentBuf> = documents.collect::<Result<_>>()?;
    let concern = store.write_concern(durability);
    let (mut rest, mut created) = (documents.as_slice(), Inserted::Stored);
    while !rest.is_empty() {
        let insert = store.sessions.insert_many(rest).ordered(true);
        let insert = insert.optional(concern.clone(), |i, c| i.write_concern(c));
        let Err(error) = insert.await else { break };
        let is_first = rest.len() == documents.len();
        match error::duplicate_of_many(&error) {
            Some(0) if is_first => return Ok(Inserted::Exists),
            Some(at) => {
                created = Inserted::Beside;
                rest = rest.get(at + 1..).unwrap_or_default();
            }
            None if is_first => return Err(writing(OPERATION, error)),
            None => return Err(error::half_way(writing(OPERATION, error))),
        }
    }
    Ok(created)
}
