//! The promises of [`Store`], each as a function that tries it: on the crate's two stores, on stores that
//! break one, and on a server by the command line's `doctor`.
//!
//! [`run`] tries them all, each on an empty store, and panics with the names of those that are broken;
//! [`check`] returns them. [`survives_a_restart`] tries whether acknowledged writes are there after a
//! crash. [`does_what_the_memory_store_does`] goes further than the single promises: it carries out
//! random programs on the store and on [`MemoryStore`](crate::store::memory::MemoryStore) side by
//! side.
//!
//! Concurrent calls are tried with real tasks, so run the suite on Tokio's multi-thread runtime
//! (`#[rocket::async_test]` does). Such a trial can miss a fault, but never blames a store that keeps
//! its promises.
//!
//! No trial shows what an error means ([`Error::Store`]: nothing has changed; [`Error::Unknown`]: that is
//! not known), because the suite cannot make a database fail; nor durability beyond one crash.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rocket::tokio;
use rocket::tokio::task::{JoinError, JoinSet};

use crate::error::{Error, Result};
use crate::store::{Document, Filter, Order, Store};

/// Returns a failure from a trial when a condition does not hold.
macro_rules! must {
    ($holds:expr, $($how:tt)+) => {
        if !$holds {
            return Err(Failure::new(format!($($how)+)));
        }
    };
}

mod aging;
mod changing;
mod creating;
mod ending;
mod following;
mod programs;
mod races;
mod reading;
mod restart;
mod sample;
mod touching;

pub use aging::*;
pub use changing::*;
pub use creating::*;
pub use ending::*;
pub use following::*;
pub use programs::*;
pub use races::*;
pub use reading::*;
pub use restart::*;
pub use touching::*;

/// How long [`run`] and [`check`] wait for one promise to be tried, and [`survives_a_restart`] for
/// one crash: three minutes. A store that has not answered within that time breaks the promise.
///
/// The longest trial makes some 2300 calls, one after the other. So a store far away, that needs
/// more than 70 milliseconds for a call, needs more patience: [`check_within`] takes it.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The outcome of a trial of a promise.
pub type Kept = Result<(), Failure>;

/// How a promise was broken.
#[derive(Clone)]
pub struct Failure(String);

impl Failure {
    fn new(how: impl Into<String>) -> Self {
        Failure(how.into())
    }

    /// How a task of a trial ended, when it did not end by itself.
    fn panicked(end: JoinError) -> Self {
        let panic = match end.try_into_panic() {
            Ok(panic) => panic,
            Err(end) => return Failure::new(format!("the trial was given up: {end}")),
        };
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Failure::new(match text {
            Some(text) => format!("the store panicked: {text}"),
            None => "the store panicked".to_owned(),
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut text = format!("a call failed that should not: {error}");
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Failure(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Prints the text of `Display`: it is read where a test unwrapped the error.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}

/// A broken promise, and how it was broken.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Broken {
    /// The name of the promise: of a function in this module.
    pub promise: &'static str,
    /// How it was broken.
    pub failure: Failure,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.failure)
    }
}

/// Tries every promise, each on a store that `make` gives, which must be empty.
///
/// # Panics
///
/// With the names of the promises that are broken, and how.
pub async fn run<S: Store>(make: impl AsyncFn() -> S) {
    let broken = check(make).await;
    let list: String = broken.iter().map(|one| format!("\n  {one}")).collect();
    assert!(
        broken.is_empty(),
        "the store breaks {} of {} promises:{list}",
        broken.len(),
        ALL.len()
    );
}

/// Tries every promise, as [`run`] does, and returns those that are broken.
pub async fn check<S: Store>(make: impl AsyncFn() -> S) -> Vec<Broken> {
    check_within(PATIENCE, make).await
}

/// Tries every promise, as [`check`] does, with another limit than [`PATIENCE`] for each.
pub async fn check_within<S: Store>(patience: Duration, make: impl AsyncFn() -> S) -> Vec<Broken> {
    let mut broken = Vec::new();
    for (promise, attempt) in ALL {
        let store: Arc<dyn Store> = Arc::new(make().await);
        let kept = attempt_within(patience, *attempt, store).await;
        broken.extend(kept.err().map(|failure| Broken { promise, failure }));
    }
    broken
}

/// Tries the promise of this name alone, on a store that is empty. `None` when the
/// promise does not exist.
pub async fn check_one(promise: &str, patience: Duration, store: Arc<dyn Store>) -> Option<Kept> {
    let (_, attempt) = ALL.iter().find(|(name, _)| *name == promise)?;
    Some(attempt_within(patience, *attempt, store).await)
}

async fn attempt_within(patience: Duration, attempt: Attempt, store: Arc<dyn Store>) -> Kept {
    // A task of its own: a store that panics breaks this promise, and not the others. The set aborts
    // it when the time is over, and when the caller is gone.
    let mut trial = JoinSet::new();
    trial.spawn(async move {
        begins_empty(&*store).await?;
        attempt(store).await
    });
    match tokio::time::timeout(patience, trial.join_next()).await {
        Ok(Some(kept)) => kept.unwrap_or_else(|end| Err(Failure::panicked(end))),
        // `None` is for a set without a task.
        Ok(None) | Err(_) => {
            let limit = patience.as_secs_f64();
            Err(Failure::new(format!(
                "the store did not answer in {limit} s"
            )))
        }
    }
}

/// The names of the promises that [`run`] and [`check`] try, in their order: of functions in this
/// module.
pub fn promises() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(promise, _)| *promise)
}

/// The trials must see only their own documents. Otherwise a store that keeps every promise would be
/// blamed for documents of another program, or of the trial before.
async fn begins_empty(store: &dyn Store) -> Kept {
    let found = store.find(Filter::all(), Order::OldestFirst, 0, 1).await?;
    must!(found.is_empty(), "the store that `make` gave is not empty");
    Ok(())
}

type Attempt = fn(Arc<dyn Store>) -> Pin<Box<dyn Future<Output = Kept> + Send>>;

macro_rules! all {
    ($($promise:ident),* $(,)?) => {
        &[$((stringify!($promise), |store| Box::pin($promise(store)))),*]
    };
}

/// Every promise, the simple ones first.
const ALL: &[(&str, Attempt)] = all![
    insert_stores_documents_as_they_were_given,
    insert_never_replaces_a_document,
    insert_leaves_a_tombstone_that_exists_as_it_is,
    update_changes_the_named_fields_and_nothing_else,
    update_adds_fields_that_were_missing,
    update_never_creates,
    update_asks_its_whole_filter,
    update_is_all_or_nothing,
    update_that_changes_nothing_is_applied,
    a_value_is_compared_whole,
    delete_deletes_one_document_once,
    delete_asks_its_whole_filter,
    take_gives_the_document_as_it_was_at_its_end,
    delete_all_deletes_what_its_filter_chooses_and_no_more,
    delete_some_deletes_no_more_than_its_limit,
    touch_moves_times_forward,
    touch_never_moves_times_backward,
    touch_changes_nothing_else,
    touch_never_creates,
    touch_revives_no_expired_session,
    reads_see_every_completed_write,
    find_goes_by_created_and_then_by_id,
    find_gives_the_page_that_was_asked_for,
    count_counts_what_find_finds,
    tombstones_are_not_sessions,
    load_many_gives_the_documents_asked_for,
    ages_go_by_the_clock_of_the_store,
    put_revocation_sets_the_present_time,
    update_sets_the_present_time,
    indexes_can_be_ensured_again_and_again,
    times_gives_the_documents_asked_for,
    the_epoch_is_told_with_what_it_ends,
    watch_tells_what_happens_in_its_order,
    of_many_that_create_one_document_one_does,
    of_many_that_compare_and_set_one_wins,
    no_increment_is_lost,
    no_push_is_lost,
    writes_to_different_fields_never_meet,
    of_many_that_take_one_gets_the_document,
    a_take_misses_no_applied_update,
    nothing_brings_a_deleted_document_back,
    does_what_the_memory_store_does,
];

/// Makes a call for each input at the same time, each in a task of its own, and returns the results
/// in the order of the inputs.
async fn at_once<I, C, T>(
    store: &Arc<dyn Store>,
    inputs: impl IntoIterator<Item = I>,
    call: impl Fn(Arc<dyn Store>, I) -> C,
) -> Result<Vec<T>, Failure>
where
    C: Future<Output = Result<T>> + Send + 'static,
    T: Send + 'static,
{
    let spawn = |input| tokio::spawn(call(Arc::clone(store), input));
    let tasks: Vec<_> = inputs.into_iter().map(spawn).collect();
    let mut results = Vec::new();
    for task in tasks {
        let result = task.await;
        results.push(result.map_err(Failure::panicked)??);
    }
    Ok(results)
}

/// A document as text, for a failure: it is the suite's own, and holds no secret.
fn text(document: &Document) -> String {
    match bson::from_slice::<bson::Document>(document.as_bytes()) {
        Ok(document) => document.to_string(),
        Err(_) => format!("{document:?}"),
    }
}
