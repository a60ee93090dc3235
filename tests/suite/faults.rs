//! Faults on real processes: what a crowd was told while servers died, stalled, stepped down or lost
//! answers, and single requests at the exact point of a fault.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mongodb::bson::Document;
use rand::RngExt;
use rocket::tokio;

use crate::arena::{Arena, Op, Setting, database, set};
use crate::crowd::{Crowd, stored};
use crate::history::{Terms, Verdict};
use crate::support::ReplicaSet;

mod commands;
mod dropped;
mod failover;
mod pool;
mod process;
mod replies;
mod revocations;
mod shutdown;
mod stuck;
mod ttl;

/// Of one database operation, in seconds.
const DEADLINE: u64 = 3;

/// A request does at most a handful of operations, each of which ends by its deadline; the rest is
/// for a machine that does other things as well.
pub const LONGEST: Duration = Duration::from_secs(DEADLINE * 6 + 5);

/// The name by which fail points know the application.
pub const APP: &str = "app";

/// An application under test whose sessions are at this address.
pub fn setting(url: &str, share: bool) -> Setting {
    let separator = if url.contains('?') { '&' } else { '?' };
    Setting::in_memory()
        .url(format!("{url}{separator}appName={APP}"))
        .key("share", share)
        .key("deadline", DEADLINE)
}

/// Lets a crowd loose on a replica set, does something to the set, and holds what the crowd was
/// told against the invariants.
async fn survives(
    set: &ReplicaSet,
    share: bool,
    fault: impl AsyncFnOnce(&ReplicaSet, &Crowd),
) -> Verdict {
    let db = database();
    let arena = Arena::start(&setting(&set.url(&db), share)).await;
    serves(&arena).await;
    let crowd = Crowd::gather(&arena, 5, rand::rng().random());
    crowd.see(100).await;
    fault(set, &crowd).await;
    crowd.see(100).await;
    serves(&arena).await;
    let history = crowd.disperse().await;
    let mut documents = stored(&set.client().await, &db).await;
    documents.retain(|one| !is_probe(one));
    let terms = Terms {
        longest: LONGEST,
        touches_may_be_lost: true,
    };
    let verdict = history.check(&documents, terms);
    println!("{verdict}");
    verdict.assert();
    verdict
}

/// I11: twenty requests in a row succeed, in bounded time after the fault.
pub async fn serves(arena: &Arc<Arena>) {
    let began = Instant::now();
    let mut in_a_row = 0;
    while in_a_row < 20 {
        let browser = arena.browser();
        let answer = arena.run(&browser, &[set("probe", 1)]).await;
        in_a_row = if answer.status() == 200 {
            in_a_row + 1
        } else {
            0
        };
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it does not recover: {:?}",
            answer.0
        );
    }
    let stats = arena.sessions().stats();
    assert!(stats.commits >= 20, "{stats:?}");
}

/// A session of `serves`, which no history knows.
pub fn is_probe(document: &Document) -> bool {
    document
        .get_document("value")
        .is_ok_and(|value| value.contains_key("probe"))
}

/// Runs each of the tests with and without sharing.
macro_rules! both_ways {
    ($($name:ident => $body:ident;)+) => {$(
        mod $name {
            #[rocket::async_test]
            async fn sharing() {
                super::$body(true).await;
            }

            #[rocket::async_test]
            async fn each_alone() {
                super::$body(false).await;
            }
        }
    )+};
}
use both_ways;

async fn view(arena: &Arena, browser: &crate::support::Browser) -> crate::arena::View {
    arena.run(browser, &[Op::View]).await.results().view(0)
}

/// Asks until it is so.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{what}: not within a minute"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
