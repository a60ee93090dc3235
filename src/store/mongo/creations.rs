//! Sessions that are created together: one `insert` command for all that wait. Only those of
//! visitors share, which nothing else has to be stored with.

use std::sync::Arc;

use rocket::tokio::time::Instant;

use super::Inner;
use super::batches::{self, Job, Shared};
use super::failure;
use super::together::{Kind, Together, Turn, Waiting};
use super::writes::{Outcomes, Statement, Verb};
use crate::document::Document;
use crate::error::Result;
use crate::store::{Created, Durability};

/// Insert commands that may be under way before sessions begin to share: as of updates.
pub(super) const FEW: usize = super::commits::FEW;

pub(super) struct Creation;

impl Kind for Creation {
    type Job = Job;
    type Reply = Result<Created>;

    fn of(store: &Inner) -> &Together<Self> {
        &store.creations
    }

    async fn run(turn: Turn<Self>, batch: Vec<Waiting<Self>>) {
        batches::run(turn, batch).await;
    }
}

impl Shared for Creation {
    type Done = Created;

    const VERB: Verb = Verb::Insert;

    async fn settle(
        _: &Inner,
        _: &[Waiting<Self>],
        outcomes: Outcomes,
    ) -> Result<Vec<Result<Created>>> {
        let created = |code| match code {
            None => Ok(Created::Stored),
            Some(failure::DUPLICATE) => Ok(Created::Exists),
            Some(code) => Err(failure::of_statement(Self::VERB.doing(), code)),
        };
        Ok(outcomes.errors.into_iter().map(created).collect())
    }
}

pub(super) async fn create(
    store: &Arc<Inner>,
    documents: Vec<Document>,
    durability: Durability,
) -> Result<Created> {
    let until = Instant::now() + store.deadline;
    let shares = store.share && durability == Durability::Data;
    let job = match documents.as_slice() {
        [one] if shares => Job {
            id: one.id().unwrap_or_default().to_owned(),
            statement: Statement::insert(one.clone())?,
        },
        _ => return store.create_alone(documents, durability, until).await,
    };
    let alone = store.create_alone(documents, durability, until);
    batches::join::<Creation>(store, until, job, alone).await
}
