//! Negative controls: on a real server and under a crowd, the checker finds what a store does wrong,
//! and nothing where it does nothing wrong.

use std::sync::Arc;
use std::time::Duration;

use mongodb::Client;
use mongodb::bson::Document;
use rocket_mongo_session::{Sessions, Store};

use super::{Terms, Verdict};
use crate::apps::arena::{Arena, Setting};
use crate::apps::database;
use crate::robustness::crowd::{Crowd, stored};
use crate::store::wrong_stores::{
    Forgetful, Replacing, Right, Saving, Upserting, Wrong, in_mongodb,
};
use crate::support::Mongod;

/// How often a crowd comes back before a fault counts as not found. Chance decides what meets.
const VISITS: u64 = 20;

/// What a crowd was told on a store, and whether that can be.
async fn visit(store: impl Store, db: &str, seed: u64) -> Verdict {
    let fairing = Sessions::with_store(store);
    let arena = Arena::start_with(&Setting::in_memory(), fairing).await;
    visit_all(&[arena], db, seed).await
}

async fn visit_all(apps: &[Arc<Arena>], db: &str, seed: u64) -> Verdict {
    let crowd = Crowd::gather(apps, seed).await;
    crowd.see(200).await;
    let history = crowd.disperse().await;
    let client: Client = Mongod::shared().await.client().await;
    let documents: Vec<Document> = stored(&client, db).await;
    let terms = Terms {
        deadline: Duration::from_secs(10),
        failover: false,
        several_apps: apps.len() > 1,
        sealing_starts: apps.iter().any(|app| app.seals()) && apps.iter().any(|app| !app.seals()),
        healed: None,
    };
    let streams = history.streams();
    streams.settle(&documents, Duration::from_secs(5)).await;
    history.check(&documents, terms)
}

/// Whether crowds find, one after the other, that these invariants are broken.
async fn finds<S: Store>(invariants: &[&str], make: impl AsyncFn(&str) -> S) {
    find_in(invariants, async |seed| {
        let db = database();
        visit(make(&db).await, &db, seed).await
    })
    .await;
}

/// Whether these visits find, one after the other, that these invariants are broken.
async fn find_in(invariants: &[&str], visit: impl AsyncFn(u64) -> Verdict) {
    let mut total = Verdict::default();
    for seed in 0..VISITS {
        total.add(visit(seed).await);
        if invariants.iter().all(|invariant| total.breaks(invariant)) {
            return;
        }
    }
    let kinds: Vec<&str> = total.violations.iter().map(|one| &one[..3]).collect();
    panic!("not all of {invariants:?} was found, but {kinds:?}");
}

#[rocket::async_test]
async fn nothing_is_found_where_nothing_is_wrong() {
    let db = database();
    let (inside, _) = in_mongodb(&db).await;
    visit(Wrong(Right { inside }), &db, 0).await.assert();
}

/// Values are read by requests: what the checker knows of them it has from responses.
#[rocket::async_test]
async fn nothing_is_found_where_all_processes_seal_or_one_of_them() {
    for seals in [[true, true], [false, true]] {
        let db = database();
        let url = Mongod::shared().await.url(&db);
        let mut apps = Vec::new();
        for seals in seals {
            let setting = Setting::in_memory().url(url.clone());
            apps.push(Arena::start(&setting.key("seal", seals)).await);
        }
        visit_all(&apps, &db, 2).await.assert();
    }
}

/// Two processes, of which each ends sessions that the other one's streams follow.
async fn of_two<S: Store>(seed: u64, make: impl AsyncFn(&str) -> S) -> Verdict {
    let db = database();
    let mut apps = Vec::new();
    for _ in 0..2 {
        let fairing = Sessions::with_store(make(&db).await);
        apps.push(Arena::start_with(&Setting::in_memory(), fairing).await);
    }
    visit_all(&apps, &db, seed).await
}

#[rocket::async_test]
async fn streams_are_told_by_other_processes() {
    let verdict = of_two(1, async |db| {
        Wrong(Right {
            inside: in_mongodb(db).await.0,
        })
    })
    .await;
    verdict.assert();
    assert!(verdict.streams > 10, "{verdict}");
}

#[rocket::async_test]
async fn a_process_that_forgets_an_end_is_found() {
    let visit = async |seed| {
        of_two(seed, async |db| {
            let inside = in_mongodb(db).await.0;
            let seen = Default::default();
            Wrong(Forgetful { inside, seen })
        })
        .await
    };
    find_in(&["I15"], visit).await;
}

#[rocket::async_test]
async fn sessions_that_come_back_let_their_browsers_in_again() {
    finds(&["I3", "I4"], async |db| {
        let (inside, _) = in_mongodb(db).await;
        let seen = Default::default();
        Wrong(Saving { inside, seen })
    })
    .await;
}

#[rocket::async_test]
async fn an_upsert_stores_again_what_a_logout_ended() {
    finds(&["I3", "I7"], async |db| {
        let (inside, sessions) = in_mongodb(db).await;
        Wrong(Upserting { inside, sessions })
    })
    .await;
}

#[rocket::async_test]
async fn whole_documents_lose_updates() {
    finds(&["I1", "I2"], async |db| {
        let (inside, _) = in_mongodb(db).await;
        Wrong(Replacing { inside })
    })
    .await;
}
