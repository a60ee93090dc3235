//! Updates of one document. Those that ask for a living session and nothing else share a command.

use std::collections::HashMap;
use std::sync::Arc;

use mongodb::bson::doc;
use mongodb::options::FindOptions;
use rocket::tokio::time::Instant;

use super::batch::Batcher;
use super::client::Client;
use super::command::{self, Outcomes, Statement, Terms, Verb};
use super::error;
use crate::document::{Document, Filter, Update};
use crate::error::{Error, Operation, Result};
use crate::spans::carried;
use crate::store::{Durability, Updated};

const OPERATION: Operation = Operation::ChangeSession;

pub(super) struct Updates {
    client: Arc<Client>,
    batcher: Option<Batcher<Job, Updated>>,
}

type Job = (Filter, Statement);

impl Updates {
    pub(super) fn new(client: &Arc<Client>, share: bool) -> Self {
        let batching = Arc::clone(client);
        let run = move |jobs, until| run(Arc::clone(&batching), jobs, until);
        let batcher = share.then(|| {
            let (most, tasks, waits) = (client.permit_count, &client.tasks, &client.usage.batch);
            Batcher::new(most, OPERATION, tasks, waits, run)
        });
        Updates {
            client: Arc::clone(client),
            batcher,
        }
    }

    pub(super) async fn update(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Updated> {
        let until = self.client.until();
        if update.is_empty() {
            // It would replace the document by nothing.
            return Err(Error::store(OPERATION, error::EMPTY));
        }
        let statement = Statement::update(&filter, &update);
        match &self.batcher {
            Some(batcher) if durability == Durability::Data && filter.may_share() => {
                let bytes = statement.len();
                batcher.submit((filter, statement), bytes, until).await
            }
            _ => {
                let client = Arc::clone(&self.client);
                let send = async move {
                    let terms = Terms::new(OPERATION, durability, until);
                    command::send(&client, Verb::Update, &[statement], terms).await
                };
                let sent = self.client.tasks.run(OPERATION, carried(send));
                Ok(Updated::of(sent.await?.of_one(OPERATION)? > 0))
            }
        }
    }
}

async fn run(client: Arc<Client>, jobs: Vec<Job>, until: Instant) -> Result<Vec<Result<Updated>>> {
    let (filters, statements): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
    let terms = Terms::new(OPERATION, Durability::Data, until);
    let Outcomes { errors, done } =
        command::send(&client, Verb::Update, &statements, terms).await?;
    let failed = errors.iter().flatten().count();
    let missed = filters.len().saturating_sub(done + failed);
    let of_code = |code| Err(error::of_statement(OPERATION, code));
    let mut results: Vec<_> = errors.into_iter().map(|code| code.map(of_code)).collect();
    if missed > 0 && filters.len() > 1 {
        // Boxed, because it is rare, and every batch allocates this future.
        Box::pin(settle(&client, &filters, missed, until, &mut results)).await?;
    } else if missed > 0 {
        results = vec![Some(Ok(Updated::Gone))];
    }
    let applied = |result: Option<_>| result.unwrap_or(Ok(Updated::Applied));
    Ok(results.into_iter().map(applied).collect())
}

/// Fewer matched than were sent: some sessions had ended. An id does not return, so a session that is
/// alive now was alive then, and its update was applied. (One that had expired could return if a
/// write on its way, or a process whose clock is behind, prolonged it. An update of a session that
/// expires within the deadline does not share.) Any other has ended: before its update, or since,
/// which the number of those that were missed often shows. Where it does not, the session counts as
/// ended before. To a response's own commit that does not matter, and an update whose caller gets the
/// outcome does not share ([`Filter::alone`]).
async fn settle(
    client: &Client,
    filters: &[Filter],
    missed: usize,
    until: Instant,
    results: &mut [Option<Result<Updated>>],
) -> Result<()> {
    let ids = filters.iter().map(Filter::wanted_id);
    let ids: Vec<&str> = ids.map(Option::unwrap_or_default).collect();
    let query = || {
        let options = FindOptions::builder().projection(doc! { "_id": 1, "expires": 1 });
        (doc! { "_id": { "$in": &ids } }, options.build())
    };
    let there = client.find(OPERATION, until, query).await;
    let there = there.map_err(Error::partly_done)?.into_iter();
    let there: HashMap<String, Document> = there
        .filter_map(|document| Some((document.id()?.to_owned(), document)))
        .collect();
    let is_there = |at: usize| {
        let found = there.get(ids[at]);
        found.is_some_and(|document| filters[at].matches(document))
    };
    let absent: Vec<usize> = (0..filters.len())
        .filter(|&at| results[at].is_none() && !is_there(at))
        .collect();
    let asks = |at: usize| filters[at].to_raw();
    let is_one = absent.windows(2).all(|pair| asks(pair[0]) == asks(pair[1]));
    let outcomes = outcomes_of_absent(absent.len(), is_one, missed)?;
    for (&at, updated) in absent.iter().zip(outcomes) {
        results[at] = Some(Ok(updated));
    }
    Ok(())
}

/// Returns the outcomes of the updates of absent sessions, when `missed` of all updates found nothing.
/// `is_one`: all of them asked for the same.
fn outcomes_of_absent(absent: usize, is_one: bool, missed: usize) -> Result<Vec<Updated>> {
    if missed > absent {
        // The update of a session that is there found nothing. If ids never return, this cannot be.
        return Err(Error::unknown(OPERATION, error::CONTRADICTION));
    }
    // The updates of one session are done in their order, so those after its end are the last.
    let before = if is_one { absent - missed } else { 0 };
    Ok((0..absent).map(|at| Updated::of(at < before)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    use Updated::{Applied, Gone};

    #[test]
    fn absent_sessions_had_ended_when_as_many_updates_missed() {
        assert_eq!(outcomes_of_absent(2, false, 2).unwrap(), [Gone; 2]);
    }

    #[test]
    fn the_last_updates_of_one_absent_session_are_those_that_missed() {
        let outcomes = outcomes_of_absent(3, true, 2);
        assert_eq!(outcomes.unwrap(), [Applied, Gone, Gone]);
    }

    #[test]
    fn several_absent_sessions_all_count_as_ended() {
        assert_eq!(outcomes_of_absent(2, false, 1).unwrap(), [Gone; 2]);
    }

    #[test]
    fn a_contradictory_count_is_an_unknown_outcome() {
        let outcomes = outcomes_of_absent(1, true, 2);
        assert!(
            matches!(outcomes, Err(Error::Unknown { .. })),
            "{outcomes:?}"
        );
        let outcomes = outcomes_of_absent(0, true, 1);
        assert!(
            matches!(outcomes, Err(Error::Unknown { .. })),
            "{outcomes:?}"
        );
    }
}
