use bson::doc;
use rocket::futures::FutureExt;
use rocket::tokio::task::yield_now;
use rocket::tokio::time::timeout;

use super::*;
use crate::admin::Sessions;
use crate::clock::Clock;
use crate::config::Config;
use crate::document::Document;
use crate::record::token::Id;
use crate::store::faulty::{Fault, FaultyStore};
use crate::store::{Durability, Inserted, Store};

/// Two processes on one store that is in neither of them.
struct Bench {
    store: FaultyStore,
    here: Arc<Core>,
    elsewhere: Arc<Core>,
}

impl Bench {
    fn new() -> Self {
        let clock = Clock::new();
        let mut store = FaultyStore::with_clock(&clock);
        store.is_remote = true;
        let process = || {
            let config = Config::default_for(&rocket::Config::DEBUG_PROFILE);
            let store = Arc::new(store.clone());
            Arc::new(Core::new(config, store, clock.clone(), Arc::default()))
        };
        let (here, elsewhere) = (process(), process());
        Bench {
            store,
            here,
            elsewhere,
        }
    }

    /// Stores a session of alice.
    async fn session(&self, generation: Option<i64>) -> String {
        let id = Id::draw().unwrap().to_string();
        let mut session = doc! { "_id": &id, "created": 1000.0, "user": "alice" };
        if let Some(generation) = generation {
            session.insert("epoch", generation);
        }
        let session = vec![Document::from_bson(&session)];
        let inserted = self.store.insert(session, Durability::Data).await;
        assert_eq!(inserted.unwrap(), Inserted::Stored);
        id
    }

    /// A process that goes by its lease of a generation whose sessions are being deleted, and a session of
    /// the next one.
    async fn with_session_of_next_generation() -> (Bench, String) {
        let bench = Bench::new();
        bench.here.epoch.advance().await.unwrap();
        assert!(bench.here.epoch.current().await.unwrap().is_sweeping);
        let id = bench.session_of_next_generation().await;
        (bench, id)
    }

    async fn session_of_next_generation(&self) -> String {
        self.elsewhere.epoch.advance().await.unwrap();
        let next = self.elsewhere.epoch.current().await.unwrap().generation;
        self.session(next).await
    }

    async fn is_stored(&self, id: &str) -> bool {
        self.store.load(id).await.unwrap().is_some()
    }
}

async fn sweep(core: &Core) -> u64 {
    core.sweep(&mut |_| {}, None).await.unwrap()
}

#[rocket::async_test]
async fn sweep_leaves_sessions_of_a_generation_newer_than_its_lease() {
    let (bench, id) = Bench::with_session_of_next_generation().await;
    assert_eq!(sweep(&bench.here).await, 0);
    assert!(bench.is_stored(&id).await);
}

#[rocket::async_test]
async fn sweep_leaves_sessions_of_a_generation_that_begins_during_its_find() {
    let bench = Bench::new();
    let old = bench.session(None).await;
    bench.here.epoch.advance().await.unwrap();
    let held = bench.store.hold("find");
    let here = Arc::clone(&bench.here);
    let sweeping = tokio::spawn(async move { sweep(&here).await });
    held.has_come().await;
    let new = bench.session_of_next_generation().await;
    held.release();
    assert_eq!(sweeping.await.unwrap(), 1);
    assert!(!bench.is_stored(&old).await && bench.is_stored(&new).await);
}

#[rocket::async_test]
async fn sweep_counts_what_it_leaves_at_its_limit() {
    let bench = Bench::new();
    for _ in 0..2500 {
        bench.session(None).await;
    }
    for _ in 0..3 {
        bench.session_of_next_generation().await;
    }
    let current = bench.elsewhere.epoch.current().await.unwrap().generation;
    bench.session(current).await;
    let limit = Some(Instant::now());
    let ended = bench.here.sweep(&mut |_| {}, limit).await.unwrap();
    assert_eq!(ended, 2502);
    let left = bench.store.count(Filter::sessions()).await.unwrap();
    assert!((1504..=1506).contains(&left), "{left}");
    assert_eq!(sweep(&bench.here).await, left - 2);
    assert_eq!(bench.store.count(Filter::sessions()).await.unwrap(), 2);
}

#[rocket::async_test]
async fn revocations_end_sessions_of_a_generation_newer_than_the_lease() {
    let (bench, id) = Bench::with_session_of_next_generation().await;
    let sessions = |core: &Arc<Core>| Sessions {
        core: Arc::clone(core),
    };
    assert!(sessions(&bench.here).revoke(&id).await.unwrap());
    let (bench, id) = Bench::with_session_of_next_generation().await;
    let theirs = sessions(&bench.here).of("alice");
    assert_eq!(theirs.revoke_all().await.unwrap(), 1);
    assert!(!bench.is_stored(&id).await);
}

const MINUTE: Duration = Duration::from_secs(60);

/// `revoke_all` leaves the deletion to a task that has looked for the last time.
#[rocket::async_test]
async fn sweep_continues_with_a_generation_that_begins_at_its_end() {
    let bench = Bench::new();
    let old = bench.session(None).await;
    let ending = loop {
        bench.here.has_sweeper.store(true, Ordering::Relaxed);
        let mut ending = Box::pin(sweep_until_done(bench.here.sweeper()));
        // If the store replied at once, the task has ended before a generation could begin: again.
        if ending.as_mut().now_or_never().is_none() {
            break ending;
        }
    };
    bench.here.store.flush(MINUTE).await; // which has answered then
    bench.here.epoch.advance().await.unwrap();
    bench.here.sweep_in_background();
    ending.await;
    assert!(bench.here.has_sweeper.load(Ordering::Relaxed));
    let deleted = async {
        while bench.is_stored(&old).await {
            yield_now().await;
        }
    };
    timeout(MINUTE, deleted).await.expect("it is deleted");
}

#[rocket::async_test]
async fn sweep_in_background_ends_at_shutdown() {
    let bench = Bench::new();
    let held = bench.store.hold("load");
    bench.here.sweep_in_background();
    held.has_come().await;
    bench.here.live.stop();
    let ended = async {
        while bench.here.has_sweeper.load(Ordering::Relaxed) {
            yield_now().await;
        }
    };
    timeout(MINUTE, ended).await.expect("the task ends");
}

#[rocket::async_test]
async fn sweep_that_waits_for_its_next_attempt_keeps_nothing() {
    let Bench { store, here, .. } = Bench::new();
    let held = store.hold_to_fail("load");
    here.sweep_in_background();
    held.has_come().await;
    let core = Arc::downgrade(&here);
    drop(here);
    held.release();
    let dropped = async {
        while core.strong_count() > 0 {
            yield_now().await;
        }
    };
    let dropped = timeout(RETRY_DELAY, dropped).await;
    dropped.expect("it is dropped before the next attempt");
}

#[rocket::async_test]
async fn revoke_all_that_fails_deletes_nothing() {
    let bench = Bench::new();
    let id = bench.session(None).await;
    bench.store.next("update", Fault::Fails);
    let revoked = bench.here.revoke_all(&mut |_| {}, true).await;
    assert!(matches!(revoked, Err(Error::Store { .. })), "{revoked:?}");
    assert!(!bench.here.has_sweeper.load(Ordering::Relaxed));
    assert!(bench.is_stored(&id).await);
}
