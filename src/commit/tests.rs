//! What a commit is made of, on a store in memory: the insert that is rolled back, revocations,
//! tombstones, the compare-and-set loop and the limit of sessions.

mod update;

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use bson::RawBson;
use bson::raw::RawBsonRef;
use rocket::futures::FutureExt;
use rocket::tokio;
use rocket::tokio::sync::oneshot;

use super::cas::{Attempt, CompareAndSet};
use super::ending::DELETED_PER_STEP;
use super::revocation::{Revocation, is_revoked, of_user};
use super::tombstone::{Tombstone, look_up};
use super::*;
use crate::document::Filter;
use crate::document::key::Field;
use crate::record::sealer::Contents;
use crate::record::token::{Digest, Secret};
use crate::record::{Client, Meta, OwnTimes, Times, field};
use crate::store::faulty::{Fault, FaultyStore};
use crate::store::{Durability, Inserted, Order, Store};

struct Bench {
    store: FaultyStore,
    clock: Clock,
    core: Arc<Core>,
}

impl Bench {
    fn new() -> Self {
        Bench::with(|_| {})
    }

    fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let clock = Clock::new();
        let store = FaultyStore::with_clock(&clock);
        let mut config = Config::default_for(&rocket::Config::DEBUG_PROFILE);
        configure(&mut config);
        let core = Core::new(
            config,
            Arc::new(store.clone()),
            clock.clone(),
            Arc::default(),
        );
        let core = Arc::new(core);
        Bench { store, clock, core }
    }

    fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Returns a session document of a user, created this number of seconds from now.
    fn document(&self, user: i32, created: u64, values: &[(Field, RawBson)]) -> Document {
        let now = self.core.now();
        let created = now.plus(Duration::from_secs(created));
        let meta = Meta {
            id: Id::draw().unwrap(),
            times: Times {
                created,
                accessed: created,
                expires: created.plus(Duration::from_secs(600)),
                own: OwnTimes::default(),
            },
            user: Some(RawBson::Int32(user)),
            sent: None,
            client: Client::default(),
            epoch: None,
        };
        meta.document(&Contents::plain(digest(), &Secret::draw().unwrap(), values))
    }

    async fn store(&self, document: Document) {
        let inserted = self.store.insert(vec![document], Durability::Data).await;
        assert!(matches!(inserted, Ok(Inserted::Stored)));
    }

    /// A stored session with this value of `n`.
    async fn record(&self, n: RawBson) -> Record {
        let document = self.document(1, 0, &[(field("n"), n)]);
        self.store(document.clone()).await;
        self.core.read(document).unwrap()
    }

    /// Stores two sessions of user 1, the earlier one first.
    async fn two_logins(&self) -> [Id; 2] {
        let documents = [1, 2].map(|created| self.document(1, created, &[]));
        let ids = documents.each_ref().map(|one| Id::parse(one.id().unwrap()));
        for document in documents {
            self.store(document).await;
        }
        ids.map(Option::unwrap)
    }

    /// Waits until this is the only session.
    async fn only_one_is_left(&self, id: &Id) {
        let one_is_left = async {
            while self.store.count(Filter::sessions()).await.unwrap() > 1 {
                tokio::task::yield_now().await;
            }
        };
        let limit = Duration::from_secs(60);
        let ended = tokio::time::timeout(limit, one_is_left).await;
        ended.expect("the other one ends");
        assert!(self.store.load(id.as_str()).await.unwrap().is_some());
    }

    async fn set_n(&self, record: &Record, n: RawBson) {
        let mut update = Update::default();
        update.set("value", RawBson::Document(bson::rawdoc! { "n": n }));
        let filter = Filter::id(record.meta.id.as_str());
        let updated = self.store.update(filter, update, Durability::Data).await;
        assert!(matches!(updated, Ok(crate::store::Updated::Applied)));
    }

    async fn stored_n(&self, record: &Record) -> Option<RawBson> {
        let document = self.store.load(record.meta.id.as_str()).await.unwrap();
        let record = self.core.read(document?)?;
        record.stored(&field("n")).map(RawBsonRef::to_raw_bson)
    }
}

fn field(name: &str) -> Field {
    Field::of_key(name).unwrap()
}

fn digest() -> Digest {
    Secret::draw().unwrap().digest("session")
}

fn token(id: &Id) -> Token {
    Token::new(id.clone(), Secret::draw().unwrap())
}

// ---- an insert and its end

/// A roll-back, and a receiver that gets whether the document was there when it began. The receiver
/// fails when the roll-back will never run.
fn roll_back(
    store: &FaultyStore,
    id: String,
) -> (
    impl Future<Output = ()> + Send + 'static,
    oneshot::Receiver<bool>,
) {
    let (tell, told) = oneshot::channel();
    let store = store.clone();
    let undo = async move {
        let found = store.load(&id).await.unwrap();
        tell.send(found.is_some()).unwrap();
    };
    (undo, told)
}

/// An insert with its roll-back.
fn insert(
    bench: &Bench,
    document: Document,
) -> (
    impl Future<Output = Result<Inserted>> + Send + 'static,
    oneshot::Receiver<bool>,
) {
    let (undo, told) = roll_back(&bench.store, document.id().unwrap().to_owned());
    let store = bench.core.store.clone();
    let insert = async move {
        store
            .insert_or(vec![document], Durability::Identity, || undo)
            .await
    };
    (insert, told)
}

#[rocket::async_test]
async fn late_insert_is_rolled_back_after_its_end() {
    let bench = Bench::with(|config| config.deadline = Duration::from_millis(1));
    let (insert, mut told) = insert(&bench, bench.document(1, 0, &[]));
    let held = bench.store.hold("insert");
    assert!(matches!(insert.await, Err(Error::Unknown { .. })));
    let early = told.try_recv();
    assert_eq!(early, Err(oneshot::error::TryRecvError::Empty));
    held.release();
    assert_eq!(told.await, Ok(true));
}

#[rocket::async_test]
async fn insert_whose_caller_is_gone_is_rolled_back_after_its_end() {
    let bench = Bench::new();
    let (insert, mut told) = insert(&bench, bench.document(1, 0, &[]));
    let held = bench.store.hold("insert");
    tokio::select! {
        biased;
        () = held.has_come() => {} // the caller is dropped
        inserted = insert => panic!("{:?}", inserted.is_ok()),
    }
    let early = told.try_recv();
    assert_eq!(early, Err(oneshot::error::TryRecvError::Empty));
    held.release();
    assert_eq!(told.await, Ok(true));
}

#[rocket::async_test]
async fn insert_of_unknown_outcome_is_rolled_back() {
    let bench = Bench::new();
    let (insert, told) = insert(&bench, bench.document(1, 0, &[]));
    bench.store.next("insert", Fault::LosesReply);
    assert!(matches!(insert.await, Err(Error::Unknown { .. })));
    assert_eq!(told.await, Ok(true));
}

#[rocket::async_test]
async fn insert_that_stored_nothing_or_was_in_time_is_not_rolled_back() {
    let bench = Bench::new();
    let document = bench.document(1, 0, &[]);
    let (failed, told) = insert(&bench, document.clone());
    bench.store.next("insert", Fault::Fails);
    assert!(matches!(failed.await, Err(Error::Store { .. })));
    assert!(told.await.is_err(), "nothing was written");
    for result in [Inserted::Stored, Inserted::Exists] {
        let (insert, told) = insert(&bench, document.clone());
        assert!(insert.await.unwrap() == result);
        assert!(told.await.is_err());
    }
    let id = document.id().unwrap();
    assert!(bench.store.load(id).await.unwrap().is_some());
}

// ---- revocations

#[rocket::async_test]
async fn revocation_counts_for_its_user_and_for_requests_that_began_before_it() {
    let bench = Bench::new();
    let (user, other) = (RawBson::Int32(1), RawBson::Int32(2));
    let before = bench.clock.started();
    assert_eq!(
        is_revoked(&bench.core, &user, &before, None).await.unwrap(),
        Revocation::None
    );
    bench.advance(1);
    let revocation = of_user(&user);
    bench.core.store.put_revocation(&revocation).await.unwrap();
    bench.advance(1);
    let after = bench.clock.started();
    assert_eq!(
        is_revoked(&bench.core, &user, &before, None).await.unwrap(),
        Revocation::Revoked
    );
    assert_eq!(
        is_revoked(&bench.core, &other, &before, None)
            .await
            .unwrap(),
        Revocation::None
    );
    assert_eq!(
        is_revoked(&bench.core, &user, &after, None).await.unwrap(),
        Revocation::None
    );
    bench.advance(1);
    bench.core.epoch.advance().await.unwrap();
    let epoch = bench.core.epoch.current().await.unwrap();
    for user in [&user, &other] {
        let revoked = is_revoked(&bench.core, user, &after, epoch.generation);
        assert_eq!(revoked.await.unwrap(), Revocation::Revoked);
        bench.advance(1);
        let later = bench.clock.started();
        let of_before = is_revoked(&bench.core, user, &later, None).await;
        let of_before = of_before.unwrap();
        assert_eq!(of_before, Revocation::Revoked, "an earlier generation");
    }
}

#[rocket::async_test]
async fn revocation_is_ordered_by_no_wall_clock() {
    let bench = Bench::new();
    let user = RawBson::Int32(1);
    let before = bench.clock.started();
    bench.clock.rewind(Duration::from_secs(600));
    let revocation = of_user(&user);
    bench.core.store.put_revocation(&revocation).await.unwrap();
    // More than a busy machine takes between the two ages that are compared.
    bench.clock.advance(Duration::from_secs(60));
    let after = bench.clock.started();
    assert_eq!(
        is_revoked(&bench.core, &user, &before, None).await.unwrap(),
        Revocation::Revoked
    );
    assert_eq!(
        is_revoked(&bench.core, &user, &after, None).await.unwrap(),
        Revocation::None
    );
}

#[rocket::async_test]
async fn a_deleted_epoch_document_ends_no_login_but_changes_its_generation() {
    let bench = Bench::new();
    let user = RawBson::Int32(1);
    bench.core.epoch.advance().await.unwrap();
    let first = bench.core.epoch.current().await.unwrap().generation;
    bench.advance(1);
    let started = bench.clock.started();
    let epoch = Filter::id(crate::epoch::ID);
    bench.store.delete_all(epoch).await.unwrap();
    let found = is_revoked(&bench.core, &user, &started, first).await;
    let second = bench.core.epoch.current().await.unwrap().generation;
    assert_ne!(second, first);
    assert_eq!(found.unwrap(), Revocation::Restarted(second));
    let found = is_revoked(&bench.core, &user, &started, second).await;
    assert_eq!(found.unwrap(), Revocation::None, "it ends no login");
}

#[rocket::async_test]
async fn request_of_an_hour_is_revoked_whatever_is_remembered() {
    let bench = Bench::new();
    let user = RawBson::Int32(1);
    let started = bench.clock.started();
    bench.advance(3500);
    assert_eq!(
        is_revoked(&bench.core, &user, &started, None)
            .await
            .unwrap(),
        Revocation::None
    );
    bench.advance(100);
    assert_eq!(
        is_revoked(&bench.core, &user, &started, None)
            .await
            .unwrap(),
        Revocation::Revoked
    );
}

// ---- tombstones

#[rocket::async_test]
async fn tombstone_whose_login_is_gone_is_rolled_back_after_its_insert() {
    let bench = Bench::new();
    let tombstone = Tombstone {
        old: Id::draw().unwrap(),
        by: Id::draw().unwrap(),
        proof: None,
        expires: bench.core.now().plus(Duration::from_secs(3600)),
    };
    let undo = RollBack::new(
        &bench.core.store,
        &tombstone.by,
        std::slice::from_ref(&tombstone),
    );
    let held = bench.store.hold("insert");
    tokio::select! {
        biased;
        () = held.has_come() => {} // the caller is dropped
        put = bench.core.put_tombstone(&tombstone, &undo) => panic!("{:?}", put.is_ok()),
    }
    held.release();
    bench.core.store.flush(Duration::from_secs(60)).await;
    assert_eq!(bench.store.inserted(), [tombstone.id()]);
    assert!(bench.store.load(&tombstone.id()).await.unwrap().is_none());
}

/// Stores the tombstone of a replaced session with the proof for the holder of this token.
async fn bury(bench: &Bench, token: &Token, csrf: &Secret) {
    let kept = vec![(field("n"), RawBson::Int64(5))];
    let proof = Contents::new(token, csrf, kept, &bench.core.config);
    let tombstone = Tombstone {
        old: token.id.clone(),
        by: Id::draw().unwrap(),
        proof: Some(proof.unwrap().0),
        expires: bench.core.now().plus(Duration::from_secs(3600)),
    };
    bench.store(tombstone.document()).await;
}

#[rocket::async_test]
async fn tombstone_counts_for_requests_that_began_within_five_seconds() {
    let bench = Bench::new();
    let (old, core) = (Id::draw().unwrap(), &bench.core);
    let before = bench.clock.started();
    assert!(look_up(core, &old, None, &before).await.unwrap().is_none());
    bury(&bench, &token(&old), &Secret::draw().unwrap()).await;
    bench.advance(4);
    let soon = bench.clock.started();
    assert!(look_up(core, &old, None, &soon).await.unwrap().is_some());
    bench.advance(2);
    let late = bench.clock.started();
    assert!(look_up(core, &old, None, &late).await.unwrap().is_none());
    for started in [before, soon] {
        let found = look_up(core, &old, None, &started).await.unwrap();
        assert!(found.is_some_and(|found| found.id == old));
    }
    let other = Id::draw().unwrap();
    assert!(look_up(core, &other, None, &soon).await.unwrap().is_none());
}

#[rocket::async_test]
async fn tombstone_gives_its_proof_for_the_right_token_alone() {
    let bench = Bench::new();
    let old = Id::draw().unwrap();
    let (right, csrf) = (token(&old), Secret::draw().unwrap());
    bury(&bench, &right, &csrf).await;
    let started = bench.clock.started();
    for presented in [None, Some(token(&old))] {
        let found = look_up(&bench.core, &old, presented.as_ref(), &started);
        let found = found.await.unwrap().expect("the session was replaced");
        assert!(found.proof.is_none());
    }
    let found = look_up(&bench.core, &old, Some(&right), &started).await;
    let proof = found.unwrap().and_then(|found| found.proof);
    let proof = proof.expect("the token proves the session");
    assert!(proof.csrf.matches(&csrf));
    assert_eq!(proof.kept, [(field("n"), RawBson::Int64(5))]);
}

// ---- compare-and-set

fn of(record: &Record) -> CompareAndSet {
    CompareAndSet {
        token: Some(token(&record.meta.id)),
        filter: record.with_same_token(Filter::id(record.meta.id.as_str())),
        update: Update::default(),
        durability: Durability::Data,
        permit: None,
    }
}

fn write(n: i64) -> Result<Attempt<()>> {
    Ok(Attempt::Write(
        vec![(field("n"), Some(RawBson::Int64(n)))],
        (),
    ))
}

#[rocket::async_test]
async fn compare_and_set_of_nan_ends() {
    let bench = Bench::new();
    let record = bench.record(RawBson::Double(f64::NAN)).await;
    let (what, attempts) = (of(&record), Cell::new(0));
    let attempt = |_: &Record| {
        attempts.set(attempts.get() + 1);
        write(1)
    };
    let done = bench.core.compare_and_set(&what, record.clone(), attempt);
    assert!(done.await.unwrap().is_some());
    assert_eq!(attempts.get(), 1);
    assert_eq!(bench.stored_n(&record).await, Some(RawBson::Int64(1)));
}

#[rocket::async_test]
async fn compare_and_set_tries_again_on_what_another_request_stored() {
    let bench = Bench::new();
    let record = bench.record(RawBson::Int64(1)).await;
    bench.set_n(&record, RawBson::Int64(10)).await;
    let attempt = |record: &Record| {
        let n = record.stored(&field("n")).and_then(|n| n.as_i64()).unwrap();
        write(n + 1)
    };
    let what = of(&record);
    let done = bench.core.compare_and_set(&what, record.clone(), attempt);
    let (after, _, ()) = done.await.unwrap().expect("the session is alive");
    let n = after.stored(&field("n")).and_then(|n| n.as_i64());
    assert_eq!(n, Some(11));
    assert_eq!(bench.stored_n(&record).await, Some(RawBson::Int64(11)));
}

#[rocket::async_test]
async fn compare_and_set_of_an_ended_session_is_none() {
    let bench = Bench::new();
    let record = bench.record(RawBson::Int64(1)).await;
    let mut renewed = of(&record);
    renewed.filter = renewed.filter.equals("token", RawBson::Int64(0));
    let done = bench
        .core
        .compare_and_set(&renewed, record.clone(), |_| write(2));
    assert!(done.await.unwrap().is_none(), "it has another token");
    assert_eq!(bench.stored_n(&record).await, Some(RawBson::Int64(1)));

    let id = Filter::id(record.meta.id.as_str());
    bench.store.delete(id).await.unwrap();
    let what = of(&record);
    let done = bench
        .core
        .compare_and_set(&what, record.clone(), |_| write(2));
    assert!(done.await.unwrap().is_none(), "it is gone");
    assert_eq!(bench.stored_n(&record).await, None);
}

#[rocket::async_test]
async fn compare_and_set_that_changes_nothing_writes_nothing() {
    let bench = Bench::new();
    let record = bench.record(RawBson::Int64(1)).await;
    bench.store.next("update", Fault::Fails);
    let attempt = |_: &Record| Ok(Attempt::Unchanged(5));
    let what = of(&record);
    let done = bench.core.compare_and_set(&what, record.clone(), attempt);
    assert!(matches!(done.await, Ok(Some((_, _, 5)))));
}

#[rocket::async_test]
async fn compare_and_set_ends_at_the_deadline() {
    let bench = Bench::with(|config| config.deadline = Duration::from_millis(200));
    let record = bench.record(RawBson::Int64(1)).await;
    let attempt = |_: &Record| {
        // Another request is always faster.
        bench.store.next("update", Fault::Misses);
        write(2)
    };
    let what = of(&record);
    let done = bench.core.compare_and_set(&what, record.clone(), attempt);
    let Err(Error::Store { source, .. }) = done.await else {
        panic!("it never won");
    };
    let text = source.to_string();
    assert!(text.contains("repeated write conflicts"), "{text}");
    assert_eq!(bench.stored_n(&record).await, Some(RawBson::Int64(1)));
}

// ---- the limit of sessions

#[rocket::async_test]
async fn max_per_user_leaves_the_latest() {
    let bench = Bench::with(|config| config.max_per_user = Some(2));
    let mut expected = Vec::new();
    let mut latest = None;
    // Not in the order of their creation.
    for (user, created) in [(1, 3), (1, 1), (2, 0), (1, 4), (1, 2)] {
        let document = bench.document(user, created, &[]);
        if created == 4 {
            latest = document.id().and_then(Id::parse);
        }
        if user == 2 || created >= 3 {
            expected.push(document.id().unwrap().to_owned());
        }
        bench.store(document).await;
    }
    let latest = latest.expect("a login");
    bench.core.enforce_max_per_user(RawBson::Int32(1), latest);
    bench.core.tasks.wait(Duration::from_secs(60)).await;
    let left = bench
        .store
        .find(Filter::sessions(), Order::OldestFirst, 0, 10)
        .await
        .unwrap();
    let mut left: Vec<_> = left.iter().filter_map(|one| one.id()).collect();
    left.sort_unstable();
    expected.sort_unstable();
    assert_eq!(left, expected);
}

/// A login that is stored later may not stand yet.
#[rocket::async_test]
async fn max_per_user_does_not_count_later_logins() {
    let bench = Bench::with(|config| config.max_per_user = Some(1));
    let ids = bench.two_logins().await;
    for (login, left) in [(0, 2), (1, 1)] {
        let login = ids[login].clone();
        bench.core.enforce_max_per_user(RawBson::Int32(1), login);
        bench.core.tasks.wait(Duration::from_secs(60)).await;
        assert_eq!(bench.store.count(Filter::sessions()).await.unwrap(), left);
    }
}

/// It may not have seen the earlier one, which was on its way to the store.
#[rocket::async_test]
async fn max_per_user_counts_later_logins_once_they_must_have_ended() {
    let bench = Bench::with(|config| {
        config.max_per_user = Some(1);
        config.deadline = Duration::from_millis(10);
    });
    let [earlier, later] = bench.two_logins().await;
    bench.core.enforce_max_per_user(RawBson::Int32(1), earlier);
    bench.only_one_is_left(&later).await;
}

/// The primary may step down right after the login.
#[rocket::async_test]
async fn max_per_user_is_enforced_after_a_count_that_failed() {
    for login in [0, 1] {
        let bench = Bench::with(|config| {
            config.max_per_user = Some(1);
            config.deadline = Duration::from_millis(100);
        });
        let logins = bench.two_logins().await;
        bench.store.next("find", Fault::Fails);
        let user = RawBson::Int32(1);
        bench.core.enforce_max_per_user(user, logins[login].clone());
        bench.only_one_is_left(&logins[1]).await;
    }
}

/// On a busy site a step never finds nothing.
#[rocket::async_test]
async fn deletion_in_steps_ends_although_sessions_are_created_meanwhile() {
    let bench = Bench::new();
    let stored = u64::from(DELETED_PER_STEP) + 5;
    let documents = (0..stored).map(|_| bench.document(1, 0, &[])).collect();
    let insert = |documents| bench.store.inner.insert(documents, Durability::Data);
    insert(documents).await.unwrap();
    let mut told = Vec::new();
    let mut progress = |so_far| {
        told.push(so_far);
        assert!(told.len() < 10, "it does not stop: {told:?}");
        let another = insert(vec![bench.document(2, 0, &[])]).now_or_never();
        another.expect("memory is ready").unwrap();
    };
    let sessions = Filter::sessions();
    let deletion = bench.core.delete_in_steps(&sessions, &mut progress);
    assert_eq!(deletion.await.unwrap(), stored + 1);
    assert_eq!(told, [u64::from(DELETED_PER_STEP)]);
}
