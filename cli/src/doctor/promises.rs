//! The promises of the storage of sessions, as the crate's own tests try them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rocket::futures::future::join_all;
use rocket::futures::{StreamExt, stream};
use rocket::tokio::time::{Instant, timeout};
use rocket_mongo_session::mongodb::bson::doc;
use rocket_mongo_session::testing::conformance::{self, Kept};
use rocket_mongo_session::{MongoStore, Store};

use super::connection::ask;
use super::report::{Line, Outcome};
use super::{Examination, NO_TIME};

/// How many promises are tried at a time. Each has a collection of its own.
const CONCURRENT: usize = 6;
/// The store's own limit of one operation: as long as the doctor has, for slowness breaks no promise.
const DEADLINE: Duration = Duration::from_secs(100);
/// How long the races last.
const RACING: Duration = Duration::from_secs(4);

/// The promises about what happens at the same time.
const RACES: [&str; 8] = [
    "of_many_that_create_one_document_one_does",
    "of_many_that_compare_and_set_one_wins",
    "no_increment_is_lost",
    "no_push_is_lost",
    "writes_to_different_fields_never_meet",
    "of_many_that_take_one_gets_the_document",
    "a_take_misses_no_applied_update",
    "nothing_brings_a_deleted_document_back",
];

async fn attempt(this: &Examination, promise: &'static str) -> Option<Kept> {
    let left = this.until.saturating_duration_since(Instant::now());
    if left.is_zero() || this.report.stopped().is_some() {
        return None;
    }
    let collection = this.scratch.collection();
    let pool = this.connection.pool_size();
    let store: Arc<dyn Store> = Arc::new(MongoStore::new(&collection, DEADLINE, pool, true));
    let attempt = conformance::check_one(promise, conformance::PATIENCE, store);
    let kept = timeout(left, attempt).await.ok()?;
    // A server that is gone breaks no promise.
    if matches!(kept, Some(Err(_))) && ask(&this.database, doc! { "ping": 1 }).await.is_err() {
        this.report.stop("the server does not reply any more");
        return None;
    }
    kept
}

pub(super) async fn conformance(this: &Arc<Examination>) {
    // The last ones take longest.
    let mut names: Vec<&'static str> = conformance::promises().collect();
    names.reverse();
    let (all, done) = (names.len(), Arc::new(AtomicUsize::new(0)));
    this.report.begin(format!("trying {all} promises"));
    let mut attempts = Vec::new();
    for promise in names {
        let (this, done) = (Arc::clone(this), Arc::clone(&done));
        attempts.push(async move {
            let kept = attempt(&this, promise).await;
            let count = done.fetch_add(1, Ordering::Relaxed) + 1;
            this.report
                .begin(format!("trying the promises: {count} of {all}"));
            (promise, kept)
        });
    }
    let mut results = stream::iter(attempts).buffer_unordered(CONCURRENT);
    let (mut kept_count, mut broken, mut left_out) = (0, Vec::new(), Vec::new());
    while let Some((promise, kept)) = results.next().await {
        match kept {
            Some(Ok(())) => kept_count += 1,
            Some(Err(failure)) => {
                this.report.add(line(promise, failure.to_string()));
                broken.push(promise);
            }
            None => left_out.push(promise),
        }
    }
    let tried = kept_count + broken.len();
    let found = match left_out.as_slice() {
        [] => format!("{kept_count} of {tried} hold"),
        names => {
            this.report.stop(NO_TIME);
            let names = names.join(", ");
            format!("{kept_count} of {tried} hold; there was no time for {names}")
        }
    };
    let outcome = match (broken.is_empty(), left_out.is_empty()) {
        (false, _) => Outcome::Broken,
        (true, true) => Outcome::Holds,
        (true, false) => Outcome::NotTried,
    };
    this.report.write("conformance", outcome, found);
}

pub(super) async fn races(this: &Examination) {
    this.report.begin("racing");
    let started = Instant::now();
    let (mut rounds, mut failures) = (0_u32, Vec::new());
    while started.elapsed() < RACING && failures.is_empty() {
        let all = RACES
            .iter()
            .map(|promise| async { (*promise, attempt(this, promise).await) });
        let all: Vec<_> = all.collect();
        let before = rounds;
        for (promise, kept) in join_all(all).await {
            match kept {
                Some(Ok(())) => rounds += 1,
                Some(Err(failure)) => failures.push(format!("{promise}: {failure}")),
                None => {}
            }
        }
        if rounds == before {
            break; // the time is up
        }
    }
    match failures.first() {
        Some(failure) => this.report.write("races", Outcome::Broken, failure),
        None if rounds == 0 => {
            let why = this.report.stopped();
            let why = why.unwrap_or_else(|| NO_TIME.to_owned());
            this.report.write("races", Outcome::NotTried, why);
        }
        None => {
            let seconds = started.elapsed().as_secs_f64();
            let found = format!("{rounds} races in {seconds:.1} s, all exact");
            this.report.write("races", Outcome::Holds, found);
        }
    }
}

fn line(promise: &'static str, failure: String) -> Line {
    let (means, advice) = meaning(promise);
    Line {
        check: format!("conformance: {promise}"),
        tried: "This promise of the storage.".to_owned(),
        outcome: Outcome::Broken,
        found: failure,
        means: Some(means.to_owned()),
        advice: Some(advice.to_owned()),
    }
}

/// What a broken promise means for the application.
fn meaning(promise: &str) -> (&'static str, &'static str) {
    const NOT_USABLE: &str = "Do not use this deployment for sessions.";
    let has = |words: &[&str]| words.iter().any(|word| promise.contains(word));
    if has(&[
        "never_creates",
        "brings_a_deleted",
        "revives",
        "never_replaces",
    ]) {
        (
            "A session that was ended can come back, or replace another one.",
            NOT_USABLE,
        )
    } else if has(&["delete", "take"]) {
        (
            "A logout or revocation may leave a session alive, or end another one.",
            NOT_USABLE,
        )
    } else if has(&[
        "increment",
        "push",
        "compare_and_set",
        "create_one",
        "never_meet",
    ]) {
        (
            "Concurrent requests overwrite each other's changes.",
            NOT_USABLE,
        )
    } else if has(&["touch"]) {
        ("Sessions expire too early or too late.", NOT_USABLE)
    } else if has(&["ages", "present_time", "revocation"]) {
        ("A login that a revocation should end may stay.", NOT_USABLE)
    } else if has(&["find", "count", "no_sessions"]) {
        (
            "Lists, counts and ends of a user's sessions are not exact.",
            "Do without lists of devices and without of(user).revoke_all.",
        )
    } else if has(&["watch"]) {
        (
            "events() tells something else than what happened.",
            "Do without events().",
        )
    } else if has(&["index"]) {
        (
            "The indexes cannot be made.",
            "Make them by hand, and set indexes = false.",
        )
    } else {
        (
            "What is stored of a session is not what was written.",
            NOT_USABLE,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn races_are_promises_of_the_suite() {
        let promises: Vec<_> = conformance::promises().collect();
        for race in RACES {
            assert!(promises.contains(&race), "{race}");
        }
    }
}
