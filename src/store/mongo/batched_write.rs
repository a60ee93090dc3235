//! Writes that travel together: one command for all that wait, and an answer for each.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use rocket::tokio::time::Instant;

use super::Inner;
use super::batch::{self, Kind, Together, Turn, Waiting, Way};
use super::command::{self, Outcomes, Statement, Verb};
use super::error::{self, Failure};
use crate::error::{Error, Result};
use crate::store::Durability;

/// One write that waits, and what is needed to tell what became of it.
pub(super) struct Job<N> {
    pub(super) note: N,
    pub(super) statement: Statement,
}

/// A kind of write that travels together.
pub(super) trait Shared: Sized + Send + 'static {
    type Note: Send + Sync;
    type Done: Send;

    const VERB: Verb;

    /// Those of a store.
    fn of(store: &Inner) -> &Together<Batched<Self>>;

    /// What became of each write of a command that was answered, or that nobody knows.
    fn settle(
        store: &Inner,
        batch: &[Waiting<Batched<Self>>],
        outcomes: Outcomes,
        until: Instant,
    ) -> impl Future<Output = Result<Vec<Result<Self::Done>>>> + Send;
}

/// Writes of one kind, each with its own reply.
pub(super) struct Batched<W>(PhantomData<W>);

impl<W: Shared> Kind for Batched<W> {
    type Job = Job<W::Note>;
    type Reply = Result<W::Done>;

    fn of(store: &Inner) -> &Together<Self> {
        W::of(store)
    }

    async fn run(turn: Turn<Self>, batch: Vec<Waiting<Self>>) {
        let store = Arc::clone(&turn.store);
        let (results, batch) = turn.over(write::<W>(&store, batch)).await;
        match results {
            Ok(replies) => {
                for (waiting, reply) in batch.into_iter().zip(replies) {
                    // Who is not there any more does not mind.
                    let _ = waiting.reply.send(reply);
                }
            }
            Err(error) => {
                W::of(&store).failed();
                for waiting in batch {
                    let _ = waiting.reply.send(Err(error.clone()));
                }
            }
        }
    }
}

/// Lets a write go with others, or alone.
pub(super) async fn join<W: Shared, F: Future<Output = Result<W::Done>>>(
    store: &Arc<Inner>,
    until: Instant,
    job: Job<W::Note>,
    alone: impl FnOnce(Statement) -> F,
) -> Result<W::Done> {
    let size = job.statement.len();
    match batch::join::<Batched<W>>(store, until, size, job) {
        Way::Alone(turn, job) => turn.over(alone(job.statement)).await,
        Way::Apart(job) => alone(job.statement).await,
        Way::With(answer) => match answer.await {
            Ok(result) => result,
            // Its task has gone: nobody knows what it did.
            Err(_) => Err(Error::Unknown {
                doing: W::VERB.doing(),
                source: None,
            }),
        },
    }
}

/// Sends a write in a command of its own.
pub(super) async fn alone(
    store: &Inner,
    verb: Verb,
    statement: Statement,
    durability: Durability,
    until: Instant,
) -> Result<Outcomes> {
    let _place = store.place(verb.doing(), until).await?;
    let concern = store.write_concern(durability);
    let answer = command::send(store, verb, [&statement], concern, until).await;
    let answer = answer.map_err(|error| error::writing(verb.doing(), error))?;
    command::outcomes(verb, &answer, 1)
}

/// Writes a batch. Those that have come too late by the time there is a connection are answered at
/// once, and are not in it any more.
async fn write<W: Shared>(
    store: &Inner,
    batch: Vec<Waiting<Batched<W>>>,
) -> (Result<Vec<Result<W::Done>>>, Vec<Waiting<Batched<W>>>) {
    // The batch may go on as long as the most patient of those who wait.
    let latest = batch.iter().map(|waiting| waiting.until).max();
    let until = latest.unwrap_or_else(Instant::now);
    let _place = match store.place(W::VERB.doing(), until).await {
        Ok(place) => place,
        Err(error) => return (Err(error), batch),
    };
    let now = Instant::now();
    let (batch, late): (Vec<_>, Vec<_>) = batch.into_iter().partition(|one| one.until > now);
    for waiting in late {
        let error = Error::store(W::VERB.doing(), Failure::PoolExhausted);
        let _ = waiting.reply.send(Err(error));
    }
    let results = match batch.is_empty() {
        true => Ok(Vec::new()),
        false => write_now::<W>(store, &batch, until).await,
    };
    (results, batch)
}

async fn write_now<W: Shared>(
    store: &Inner,
    batch: &[Waiting<Batched<W>>],
    until: Instant,
) -> Result<Vec<Result<W::Done>>> {
    let statements = batch.iter().map(|waiting| &waiting.job.statement);
    let concern = store.write_concern(Durability::Data);
    let answer = command::send(store, W::VERB, statements, concern, until).await;
    let answer = answer.map_err(|error| error::of_batch(W::VERB.doing(), error, batch.len()))?;
    let outcomes = command::outcomes(W::VERB, &answer, batch.len())?;
    W::settle(store, batch, outcomes, until).await
}
