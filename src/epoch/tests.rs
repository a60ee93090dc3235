use std::sync::Arc;

use bson::doc;
use rocket::tokio::task::JoinHandle;
use rstest::rstest;

use super::*;
use crate::document::date;
use crate::record::token::Id;
use crate::stats::Counters;
use crate::store::Store;
use crate::store::faulty::{Fault, FaultyStore, Held};

const SECOND: Duration = Duration::from_secs(1);

/// Two processes on one store that is in neither of them.
struct Bench {
    store: FaultyStore,
    clock: Clock,
    here: Arc<EpochLease>,
    elsewhere: Arc<EpochLease>,
}

impl Bench {
    fn new() -> Self {
        let clock = Clock::new();
        let mut store = FaultyStore::with_clock(&clock);
        store.is_remote = true;
        let (here, elsewhere) = (process(&store, &clock), process(&store, &clock));
        Bench {
            store,
            clock,
            here,
            elsewhere,
        }
    }

    /// Begins to load a session in a task, whose call of this name has come to the store.
    async fn load_until(
        &self,
        call: &'static str,
        id: &str,
    ) -> (Held, JoinHandle<Result<Option<Document>>>) {
        let held = self.store.hold(call);
        let (here, id) = (self.here.clone(), id.to_owned());
        let load = rocket::tokio::spawn(async move { load(&here, &id).await });
        held.has_come().await;
        (held, load)
    }

    /// A stored session of this generation.
    async fn session(&self, generation: Option<i64>) -> String {
        let id = Id::draw().unwrap().to_string();
        self.insert(session(&id, generation)).await;
        id
    }

    async fn insert(&self, document: Document) {
        let inserted = self.store.insert(vec![document], Durability::Data).await;
        assert_eq!(inserted.unwrap(), Inserted::Stored);
    }

    async fn generation(&self) -> Option<i64> {
        Epoch::read(self.store.load(ID).await.unwrap().as_ref()).generation
    }
}

/// A process that uses a store.
fn process(store: &FaultyStore, clock: &Clock) -> Arc<EpochLease> {
    let counters = Arc::new(Counters::of_kind("default", Arc::default()));
    let bounded = Bounded::new(Arc::new(store.clone()), 10 * SECOND, counters);
    Arc::new(EpochLease::new(&bounded, clock))
}

/// Loads a session that has not ended with its generation, as a request does.
async fn load(process: &EpochLease, id: &str) -> Result<Option<Document>> {
    Ok(load_all(process, vec![id.to_owned()]).await?.pop())
}

async fn load_all(process: &EpochLease, ids: Vec<String>) -> Result<Vec<Document>> {
    let is_of = |epoch: Epoch, one: &Document| epoch.includes(one);
    process.load(ids, Some, is_of).await
}

fn session(id: &str, generation: Option<i64>) -> Document {
    let mut document = doc! { "_id": id, "created": 1000.0 };
    if let Some(generation) = generation {
        document.insert("epoch", generation);
    }
    Document::from_bson(&document)
}

fn epoch(generation: Option<i64>) -> Epoch {
    Epoch {
        generation,
        at: Some(Moment::from_millis(1_000_000)),
        ..Epoch::default()
    }
}

#[test]
fn a_lease_lasts_for_a_second_by_whichever_clock_is_faster() {
    let at = |monotonic, wall| Sending {
        monotonic: Duration::from_millis(monotonic),
        wall: Moment::from_millis(wall),
    };
    let lasts = |monotonic, wall| at(5000, 5000).before(at(monotonic, wall)) < LEASE;
    assert!(lasts(5000, 5000) && lasts(5999, 5999));
    assert!(!lasts(6000, 5500), "the wall clock was set back");
    assert!(!lasts(5500, 6000), "the machine slept");
    assert!(lasts(5999, 0), "a wall clock that is set back says nothing");
    assert!(!lasts(6000, 0));
}

#[rocket::async_test]
async fn the_epoch_is_read_once_while_the_lease_lasts() {
    let bench = Bench::new();
    bench.here.current().await.unwrap();
    bench.store.next("load", Fault::Fails);
    assert!(bench.here.current().await.is_ok(), "nothing was sent");
    bench.clock.advance(SECOND);
    assert!(bench.here.current().await.is_err(), "it was read again");
    assert!(bench.here.current().await.is_ok());
}

#[rocket::async_test]
async fn a_load_without_a_lease_brings_the_epoch() {
    let bench = Bench::new();
    let id = bench.session(None).await;
    bench.store.next("load", Fault::Fails); // what the lease alone would be read by
    assert!(load(&bench.here, &id).await.unwrap().is_some());
    assert!(bench.here.held().is_some());
    assert!(load(&bench.here, &id).await.is_err(), "a plain load again");
}

/// The epoch that a load has brought is believed, however long the reply took.
#[rocket::async_test]
async fn a_slow_load_without_a_lease_is_one_round_trip() {
    let bench = Bench::new();
    let id = bench.session(None).await;
    let (held, loading) = bench.load_until("load_many", &id).await;
    bench.clock.advance(SECOND);
    bench.store.next("load", Fault::Fails); // what the lease alone would be read by
    held.release();
    assert!(loading.await.unwrap().unwrap().is_some());
    bench.store.next("load", Fault::Fails);
    bench.here.advance().await.unwrap();
    assert!(load(&bench.elsewhere, &id).await.unwrap().is_none());
}

#[rocket::async_test]
async fn a_process_that_cannot_read_the_epoch_loads_no_session() {
    let bench = Bench::new();
    let id = bench.session(None).await;
    assert!(load(&bench.here, &id).await.is_ok());
    bench.clock.advance(SECOND);
    bench.store.next("load_many", Fault::Fails);
    assert!(load(&bench.here, &id).await.is_err());
}

#[rocket::async_test]
async fn a_lease_that_ran_out_on_the_way_is_renewed_before_a_load_is_believed() {
    let bench = Bench::new();
    let id = bench.session(None).await;
    bench.here.current().await.unwrap();
    let (held, loading) = bench.load_until("load", &id).await;
    bench.elsewhere.advance().await.unwrap();
    bench.clock.advance(LEASE_WAIT);
    held.release();
    assert!(loading.await.unwrap().unwrap().is_none());
}

#[rocket::async_test]
async fn a_new_generation_ends_every_session_in_every_process_when_its_leases_have_run_out() {
    let bench = Bench::new();
    let id = bench.session(None).await;
    assert!(load(&bench.elsewhere, &id).await.unwrap().is_some());
    bench.here.advance().await.unwrap();
    assert!(
        load(&bench.here, &id).await.unwrap().is_none(),
        "at once here"
    );
    bench.clock.advance(LEASE_WAIT);
    assert!(load(&bench.elsewhere, &id).await.unwrap().is_none());
    let generation = bench.generation().await;
    let new = bench.session(generation).await;
    let old = [id, new.clone()].to_vec();
    let found = load_all(&bench.elsewhere, old).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].id(), Some(new.as_str()));
    bench.here.advance().await.unwrap();
    assert_ne!(bench.generation().await, generation);
    assert!(load(&bench.here, &new).await.unwrap().is_none());
}

#[rstest]
#[case(None, None, true)]
#[case(Some(5), Some(5), true)]
#[case(Some(5), Some(4), false)]
#[case(Some(5), Some(6), false)]
#[case(Some(5), None, false)]
#[case(None, Some(5), false)]
#[case(None, Some(0), true)]
#[case(Some(5), Some(0), false)]
fn generations_are_equal_or_not_and_have_no_order(
    #[case] current: Option<i64>,
    #[case] of: Option<i64>,
    #[case] is_alive: bool,
) {
    let id = Id::draw().unwrap();
    let is_included = epoch(current).includes(&session(id.as_str(), of));
    assert_eq!(is_included, is_alive);
}

#[test]
fn a_session_whose_generation_is_not_a_number_is_never_included() {
    let id = Id::draw().unwrap();
    let malformed = Document::from_bson(&doc! { "_id": id.as_str(), "epoch": "5" });
    assert!(!epoch(Some(5)).includes(&malformed) && !epoch(None).includes(&malformed));
}

#[test]
fn a_session_of_the_python_package_is_checked_by_its_creation() {
    let id = "0123456789abcdef0123456789abcdef";
    let created = |at: f64| Document::from_bson(&doc! { "_id": id, "created": at });
    let current = epoch(Some(5));
    assert!(!current.includes(&created(999.0)));
    assert!(!current.includes(&created(1000.0)));
    assert!(current.includes(&created(1000.001)));
    assert!(epoch(None).includes(&created(1.0)));
    let marked = Document::from_bson(&doc! { "_id": id, "created": 2000.0, "epoch": 4_i64 });
    assert!(!current.includes(&marked), "a generation counts more");
    let unknown = Document::from_bson(&doc! { "_id": id });
    assert!(!current.includes(&unknown));
}

#[rocket::async_test]
async fn a_deleted_document_is_stored_again_by_a_process_that_knew_it() {
    let bench = Bench::new();
    bench.here.advance().await.unwrap();
    let first = bench.here.current().await.unwrap().generation;
    let session = bench.session(first).await;
    bench.store.delete_all(Filter::id(ID)).await.unwrap();
    assert_eq!(bench.elsewhere.current().await.unwrap().generation, None);
    assert_eq!(bench.generation().await, None, "it has never known one");
    bench.clock.advance(SECOND);
    let second = bench.here.current().await.unwrap();
    assert!(second.generation.is_some() && second.generation != first);
    assert!(second.is_sweeping);
    assert_eq!(bench.generation().await, second.generation);
    assert!(load(&bench.here, &session).await.unwrap().is_none());
    bench.clock.advance(SECOND);
    let other = bench.elsewhere.current().await.unwrap();
    assert_eq!(other.generation, second.generation);
}

/// The application was stopped, the collection dropped, and the application started again, while a job
/// had its handle open.
#[rocket::async_test]
async fn a_process_that_has_not_read_for_long_ends_no_session_after_a_deletion() {
    let bench = Bench::new();
    bench.here.advance().await.unwrap();
    let old = bench.here.current().await.unwrap();
    bench.clock.advance(SECOND * 60);
    bench.store.delete_all(Filter::id(ID)).await.unwrap();
    let epoch = bench.elsewhere.current().await.unwrap();
    assert_eq!(epoch.generation, None);
    let session = bench.session(None).await;
    let of_before = bench.session(old.generation).await;
    for _ in 0..2 {
        assert_eq!(bench.here.current().await.unwrap(), epoch);
        for process in [&bench.here, &bench.elsewhere] {
            assert!(load(process, &session).await.unwrap().is_some());
            assert!(load(process, &of_before).await.unwrap().is_none());
        }
        bench.clock.advance(SECOND);
    }
}

#[rocket::async_test]
async fn an_older_reply_does_not_replace_a_newer_one() {
    let bench = Bench::new();
    let before = bench.here.sent_now();
    bench.here.advance().await.unwrap();
    let new = bench.here.current().await.unwrap();
    assert_eq!(bench.here.learn(before, None).await.unwrap(), new);
    assert_eq!(bench.here.current().await.unwrap(), new);
    assert_eq!(
        bench.generation().await,
        new.generation,
        "and stores nothing"
    );
}

/// A reply that was on its way while sessions were revoked, and while the lease of a later read ran out.
#[rocket::async_test]
async fn a_reply_that_was_overtaken_does_not_outlive_the_lease() {
    let bench = Bench::new();
    bench.elsewhere.advance().await.unwrap();
    let held = bench.store.hold("load");
    let here = bench.here.clone();
    let slow = rocket::tokio::spawn(async move { here.current().await });
    held.has_come().await;
    bench.clock.advance(SECOND / 2);
    let first = bench.here.current().await.unwrap();
    bench.elsewhere.advance().await.unwrap();
    bench.clock.advance(LEASE_WAIT);
    held.release();
    let epoch = slow.await.unwrap().unwrap();
    assert_ne!(epoch.generation, first.generation);
    assert_eq!(epoch.generation, bench.generation().await);
}

/// A database that takes longer than a lease for each reply leaves no process a lease.
#[rocket::async_test]
async fn a_reply_that_was_overtaken_by_the_same_is_used() {
    let bench = Bench::new();
    bench.elsewhere.advance().await.unwrap();
    let held = bench.store.hold("load");
    let here = bench.here.clone();
    let slow = rocket::tokio::spawn(async move { here.current().await });
    held.has_come().await;
    bench.clock.advance(SECOND / 2);
    let first = bench.here.current().await.unwrap();
    bench.clock.advance(SECOND * 2);
    bench.store.next("load", Fault::Fails);
    held.release();
    let epoch = slow.await.unwrap().expect("no further read");
    assert_eq!(epoch.generation, first.generation);
}

#[rocket::async_test]
async fn an_unknown_outcome_makes_this_process_look_at_once() {
    let bench = Bench::new();
    let id = bench.session(None).await;
    bench.here.advance().await.unwrap();
    assert!(bench.here.current().await.is_ok());
    bench.store.next("update", Fault::LosesReply);
    assert!(bench.here.advance().await.is_err());
    let current = bench.here.current().await.unwrap();
    assert_eq!(current.generation, bench.generation().await);
    assert!(load(&bench.here, &id).await.unwrap().is_none());
}

#[rocket::async_test]
async fn a_sweep_that_ended_takes_back_no_later_one() {
    let bench = Bench::new();
    bench.here.advance().await.unwrap();
    let first = bench.generation().await.unwrap();
    bench.here.beat(first).await.unwrap();
    bench.here.advance().await.unwrap();
    bench.here.swept(first).await.unwrap();
    bench.here.beat(first).await.unwrap();
    let epoch = bench.here.current().await.unwrap();
    assert!(epoch.is_sweeping);
    let second = epoch.generation.unwrap();
    bench.here.swept(second).await.unwrap();
    bench.clock.advance(SECOND);
    assert!(!bench.here.current().await.unwrap().is_sweeping);
}

#[rocket::async_test]
async fn a_store_in_this_process_needs_no_lease() {
    let mut bench = Bench::new();
    bench.store.is_remote = false;
    let process = || process(&bench.store, &bench.clock);
    let (one, other) = (process(), process());
    let id = bench.session(None).await;
    assert!(load(&other, &id).await.unwrap().is_some());
    assert_eq!(one.wait(), Duration::ZERO);
    one.advance().await.unwrap();
    assert!(load(&other, &id).await.unwrap().is_none(), "at once");
    assert_eq!(bench.here.wait(), LEASE_WAIT);
}

#[test]
fn a_new_creation_time_is_stored_with_the_generation_where_it_would_decide() {
    let parse = |document: &bson::Document| Meta::parse(&Document::from_bson(document)).unwrap();
    let now = date(Moment::from_millis(0));
    let mut stored =
        doc! { "_id": "0123456789abcdef0123456789abcdef", "created": 1.0, "accessed": 1.0 };
    stored.insert("expires", now);
    let elevation = || {
        let mut update = Update::default();
        update.set(field::CREATED, 2.0);
        update
    };
    let is_marked = |session: &bson::Document, mut update: Update| {
        epoch(Some(5)).mark(&mut update, &parse(session));
        update.contains(&Path::Meta(field::EPOCH))
    };
    assert!(is_marked(&stored, elevation()));
    assert!(!is_marked(&stored, Update::default()));
    let mut marked = stored.clone();
    marked.insert("epoch", 4_i64);
    assert!(!is_marked(&marked, elevation()));
    stored.insert("_id", Id::draw().unwrap().to_string());
    assert!(!is_marked(&stored, elevation()));
}

#[test]
fn a_poll_brings_what_checks_a_session() {
    for name in [field::EPOCH, field::CREATED, GENERATION, AT, SINCE] {
        assert!(crate::record::Times::FIELDS.contains(&name), "{name}");
    }
}
