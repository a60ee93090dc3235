use std::sync::{Arc, OnceLock};
use std::task::{Context, Wake};
use std::time::Duration;

use bson::{RawBson, doc};
use rocket::futures::{FutureExt, StreamExt};

use super::*;
use crate::admin::Sessions;
use crate::clock::Clock;
use crate::commit::Core;
use crate::document::{Document, date};
use crate::error::Operation;
use crate::record::token::Id;
use crate::record::{field, tombstone_id};
use crate::store::faulty::{Fault, FaultyStore};
use crate::store::{Durability, Store};

struct Bench {
    store: FaultyStore,
    clock: Clock,
    sessions: Sessions,
    live: Live,
}

impl Bench {
    fn new() -> Self {
        let clock = Clock::new();
        let store = FaultyStore::with_clock(&clock);
        let config = Config::default_for(&rocket::Config::DEBUG_PROFILE);
        let core = Core::new(
            config,
            Arc::new(store.clone()),
            clock.clone(),
            Arc::default(),
        );
        let live = core.live.clone();
        live.0.state.lock().is_polling = true; // by the tests themselves
        let core = Arc::new(core);
        let sessions = Sessions { core };
        Bench {
            store,
            clock,
            sessions,
            live,
        }
    }

    /// A stored session of user 7, and what follows it.
    async fn followed(&self) -> (Id, Ended) {
        let id = Id::draw().unwrap();
        let now = self.clock.now();
        let document = doc! {
            field::ID: id.as_str(),
            field::CREATED: now.seconds(),
            field::ACCESSED: now.seconds(),
            field::EXPIRES: date(now.plus(Duration::from_secs(600))),
            field::USER: 7,
        };
        let document = vec![Document::from_bson(&document)];
        self.store.insert(document, Durability::Data).await.unwrap();
        let ended = self.follow(&id);
        (id, ended)
    }

    fn follow(&self, id: &Id) -> Ended {
        let (ended, subscriber) = self.live.subscribe();
        self.live.follow(subscriber, session(id));
        ended
    }

    /// Sessions that are followed, and are not stored any more.
    fn ended(&self, count: usize) -> Vec<Ended> {
        let ids = (0..count).map(|_| Id::draw().unwrap());
        ids.map(|id| self.follow(&id)).collect()
    }

    /// A task that waits for the end of a session.
    fn probe(&self, ended: &mut Ended) -> Arc<LockProbe> {
        let probe = Arc::new(LockProbe {
            live: self.live.clone(),
            was_locked: OnceLock::new(),
        });
        let waker = Arc::clone(&probe).into();
        let polled = ended.poll_unpin(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        probe
    }

    async fn delete(&self, id: &Id) -> Result<bool> {
        self.store.inner.delete(Filter::id(id.as_str())).await
    }
}

fn session(id: &Id) -> Followed {
    Followed {
        id: id.clone(),
        user: Some(RawBson::Int32(7)),
        times: None,
    }
}

fn end(ended: &Ended) -> Option<End> {
    ended.clone().now_or_never()
}

fn unknown() -> Error {
    let (operation, source) = (Operation::EndSession, None);
    Error::Unknown { operation, source }
}

fn failed() -> Error {
    Error::store(Operation::EndSessions, std::io::Error::other("told to"))
}

async fn next(events: &mut Events) -> (String, EventKind) {
    let event = events.next().await.unwrap().unwrap();
    (event.id, event.kind)
}

#[rocket::async_test]
async fn ended_gives_its_end_again_and_to_later_clones() {
    let bench = Bench::new();
    let (id, followed) = bench.followed().await;
    let (never_stored, subscriber) = bench.live.subscribe();
    bench.live.0.tell([(id.as_str(), End::Revoked)].into_iter());
    drop(subscriber);
    for (mut ended, end) in [(followed, End::Revoked), (never_stored, End::Gone)] {
        let earlier = ended.clone();
        assert_eq!((&mut ended).await, end);
        assert_eq!((&mut ended).await, end, "polled again");
        assert_eq!(ended.clone().await, end, "a clone made after it");
        assert_eq!(earlier.await, end, "a clone made before it");
    }
}

#[rocket::async_test]
async fn a_dropped_future_leaves_nothing_behind() {
    let bench = Bench::new();
    let (id, ended) = bench.followed().await;
    let further: Vec<Ended> = (0..100).map(|_| bench.follow(&id)).collect();
    drop(ended.clone());
    drop(further);
    let is_followed = || {
        let mut state = bench.live.0.state.lock();
        state.registry.prune();
        !state.registry.is_empty()
    };
    assert!(is_followed());
    drop(ended);
    assert!(!is_followed());
    // Nor does one whose session was never stored.
    let (ended, subscriber) = bench.live.subscribe();
    drop(subscriber);
    assert_eq!(end(&ended), Some(End::Gone));
}

#[rocket::async_test]
async fn a_failed_poll_ends_no_session_and_the_next_one_tells() {
    let bench = Bench::new();
    let (id, ended) = bench.followed().await;
    let (_other, lives) = bench.followed().await;
    assert!(bench.delete(&id).await.unwrap());
    for call in ["times", "ages"] {
        bench.store.next(call, Fault::Fails);
        assert!(bench.live.0.poll().await.is_err(), "{call}");
        assert_eq!((end(&ended), end(&lives)), (None, None), "{call}");
    }
    bench.live.0.poll().await.unwrap();
    assert_eq!((end(&ended), end(&lives)), (Some(End::Gone), None));
}

#[rocket::async_test]
async fn an_unknown_outcome_is_told_by_a_poll_with_its_reason() {
    let bench = Bench::new();
    let (id, ended) = bench.followed().await;
    let call = async { Err::<bool, _>(unknown()) };
    let ids = [id.as_str()];
    let result = bench
        .live
        .ending(&ids, End::LoggedOut, None, call, |did| Some(*did));
    assert!(result.await.is_err());
    bench.live.0.poll().await.unwrap();
    assert_eq!(end(&ended), None, "it has not ended");
    assert!(bench.delete(&id).await.unwrap());
    bench.live.0.poll().await.unwrap();
    assert_eq!(end(&ended), Some(End::LoggedOut));
}

#[rocket::async_test]
async fn a_call_that_ended_nothing_gives_no_reason() {
    let bench = Bench::new();
    let (id, ended) = bench.followed().await;
    let call = async { Ok(false) };
    let ids = [id.as_str()];
    let result = bench
        .live
        .ending(&ids, End::Revoked, None, call, |did| Some(*did));
    assert!(!result.await.unwrap());
    assert_eq!(end(&ended), None);
    assert!(bench.delete(&id).await.unwrap());
    bench.live.0.poll().await.unwrap();
    assert_eq!(end(&ended), Some(End::Gone), "another process has ended it");
}

#[rocket::async_test]
async fn a_call_for_many_explains_what_was_followed_before_its_end() {
    let bench = Bench::new();
    let (before, revoked) = bench.followed().await;
    let theirs = Filter::all().equals(field::USER, RawBson::Int64(7));
    let call = bench.store.inner.delete_all(theirs.clone());
    let result = bench
        .live
        .ending_all(&theirs, End::Revoked, Vec::new(), call);
    assert_eq!(result.await.unwrap(), 1);
    let (after, ended) = bench.followed().await;
    assert!(bench.delete(&after).await.unwrap());
    bench.live.0.poll().await.unwrap();
    assert_eq!(end(&revoked), Some(End::Revoked), "{before}");
    assert_eq!(end(&ended), Some(End::Gone));
}

/// With the streams and the events that it was to explain.
#[rocket::async_test]
async fn a_call_for_many_that_failed_or_was_dropped_gives_no_reason() {
    let bench = Bench::new();
    let theirs = Filter::all().equals(field::USER, RawBson::Int64(7));
    let (id, ended) = bench.followed().await;
    let mut events = bench.live.events();
    let named = bench.live.name_for_readers(&theirs, End::Revoked).await;
    assert_eq!(named, [id.to_string()]);
    let call = async { Err::<u64, _>(failed()) };
    let result = bench.live.ending_all(&theirs, End::Revoked, named, call);
    assert!(matches!(result.await, Err(Error::Store { .. })));
    assert!(bench.delete(&id).await.unwrap(), "another process ends it");
    bench.live.0.poll().await.unwrap();
    assert_eq!(end(&ended), Some(End::Gone));
    let deleted = (id.to_string(), EventKind::Deleted);
    assert_eq!(next(&mut events).await, deleted);

    let call = std::future::pending::<Result<u64>>();
    let result = bench
        .live
        .ending_all(&theirs, End::Revoked, Vec::new(), call);
    assert!(result.now_or_never().is_none());
    let (later, ended) = bench.followed().await;
    assert!(bench.delete(&later).await.unwrap());
    bench.live.0.poll().await.unwrap();
    assert_eq!(end(&ended), Some(End::Gone));
}

#[rocket::async_test]
async fn a_call_for_found_sessions_explains_those_that_it_ended() {
    let bench = Bench::new();
    let (id, ended) = bench.followed().await;
    let (used, lives) = bench.followed().await;
    let (live, ids) = (&bench.live, [id.as_str(), used.as_str()]);
    live.intend(ids[0], End::Revoked, Some(&RawBson::Int32(7)));
    let call = async { Err::<bool, _>(failed()) };
    let result = live.ending(&ids, End::Revoked, None, call, |_| None);
    assert!(result.await.is_err());
    assert!(live.0.state.lock().reasons.of(id.as_str()).is_none());
    let delete = bench.delete(&id);
    let result = live.ending(&ids, End::Revoked, None, delete, |_| None);
    assert!(result.await.unwrap());
    bench.live.0.poll().await.unwrap();
    assert_eq!((end(&ended), end(&lives)), (Some(End::Revoked), None));
}

/// The filter of one find is limited to 16 MB.
#[rocket::async_test]
async fn poll_asks_for_many_tombstones_in_parts() {
    let bench = Bench::new();
    let ended = bench.ended(20_001);
    let first = bench.store.hold("ages");
    let live = bench.live.clone();
    let poll = rocket::tokio::spawn(async move { live.0.poll().await });
    first.has_come().await;
    bench.store.next("ages", Fault::Fails);
    first.release();
    assert!(poll.await.unwrap().is_err(), "a second find for the rest");
    bench.live.0.poll().await.unwrap();
    assert!(ended.iter().all(|ended| end(ended) == Some(End::Gone)));
}

/// What a purge deletes has expired. What another process deletes meanwhile need not have.
#[rocket::async_test]
async fn purge_explains_no_deletion_but_its_own() {
    let bench = Bench::new();
    let (expired, _) = bench.followed().await;
    bench.clock.advance(Duration::from_secs(700));
    let (lives, _) = bench.followed().await;
    let mut events = bench.sessions.events();
    let naming = bench.store.hold("find");
    let sessions = bench.sessions.clone();
    let purge = rocket::tokio::spawn(async move { sessions.purge_expired().await });
    naming.has_come().await;
    let deleting = bench.store.hold("find");
    naming.release();
    deleting.has_come().await;
    assert!(bench.delete(&lives).await.unwrap());
    let deleted = (lives.to_string(), EventKind::Deleted);
    assert_eq!(next(&mut events).await, deleted);
    deleting.release();
    assert_eq!(purge.await.unwrap().unwrap(), 1);
    let purged = (expired.to_string(), EventKind::Expired);
    assert_eq!(next(&mut events).await, purged);
}

#[rocket::async_test]
async fn events_are_at_their_end_when_they_are_polled_again() {
    let bench = Bench::new();
    let mut events = bench.live.events();
    bench.live.stop();
    for _ in 0..2 {
        assert!(events.next().await.is_none());
    }
}

#[rocket::async_test]
async fn an_end_is_known_to_later_subscriptions() {
    let bench = Bench::new();
    let (id, ended) = bench.followed().await;
    let (ids, delete) = ([id.as_str()], bench.delete(&id));
    let result = bench
        .live
        .ending(&ids, End::LoggedOut, None, delete, |did| Some(*did));
    assert!(result.await.unwrap());
    assert_eq!(end(&ended), Some(End::LoggedOut));
    assert_eq!(end(&bench.follow(&id)), Some(End::LoggedOut));
    assert!(bench.live.0.state.lock().registry.is_empty());
}

#[rocket::async_test]
async fn touch_is_recorded_once_a_second() {
    let bench = Bench::new();
    let (id, ended) = bench.followed().await;
    bench.live.0.poll().await.unwrap(); // which learns its times
    let touches = |live: &Live| {
        let mut state = live.0.state.lock();
        state.registry.times(id.as_str()).unwrap().accessed
    };
    let before = touches(&bench.live);
    ended.touch();
    assert_eq!(touches(&bench.live), before);
    bench.clock.advance(Duration::from_secs(2));
    ended.touch();
    assert_eq!(touches(&bench.live), bench.clock.now());
    let stored = bench.store.inner.load(id.as_str()).await.unwrap().unwrap();
    let accessed = stored.get(field::ACCESSED).and_then(crate::record::seconds);
    assert_eq!(accessed, Some(bench.clock.now()));
}

/// Records whether the lock is held when its task is woken.
struct LockProbe {
    live: Live,
    was_locked: OnceLock<bool>,
}

impl Wake for LockProbe {
    fn wake(self: Arc<Self>) {
        let _ = self.was_locked.set(self.live.0.state.is_locked());
    }
}

/// A task that is woken may run or be dropped at once, and what it holds may take the lock.
#[rocket::async_test]
async fn a_task_is_woken_without_the_lock() {
    let bench = Bench::new();
    let (id, mut followed) = bench.followed().await;
    let (mut late, subscriber) = bench.live.subscribe();
    let probes = [&mut followed, &mut late].map(|ended| bench.probe(ended));
    let mut state = bench.live.0.state.lock();
    state.reasons.confirm(id.as_str(), End::Revoked, None);
    drop(state);
    bench.live.0.tell([(id.as_str(), End::Revoked)].into_iter());
    bench.live.follow(subscriber, session(&id));
    let was_locked = probes.map(|probe| probe.was_locked.get().copied());
    assert_eq!(was_locked, [Some(false); 2]);
}

/// Another user may name the session in a call that ends nothing, while its own logout runs.
#[test]
fn user_is_the_one_of_the_call_that_ended_the_session() {
    let (owner, other) = (RawBson::Int32(1), RawBson::Int32(2));
    for is_taken_back_first in [true, false] {
        let mut reasons = Reasons::default();
        reasons.intend("a", End::LoggedOut, Some(&owner));
        reasons.intend("a", End::Revoked, Some(&other));
        if is_taken_back_first {
            reasons.take_back("a");
        }
        reasons.confirm("a", End::LoggedOut, Some(&owner));
        reasons.take_back("a");
        let reason = reasons.of("a").unwrap();
        assert_eq!(reason.end, End::LoggedOut);
        assert_eq!(reason.user.as_ref(), Some(&owner), "{is_taken_back_first}");
    }
}

#[rocket::async_test]
async fn polls_pause_however_often_they_are_asked_for() {
    const POLLS: u32 = 10;
    let bench = Bench::new();
    let (_, _followed) = bench.followed().await;
    bench.live.0.start_polling({
        let mut state = bench.live.0.state.lock();
        state.is_polling = false;
        state
    });
    let began = std::time::Instant::now();
    for _ in 0..POLLS {
        let held = bench.store.hold("times");
        bench.live.look();
        held.has_come().await;
        held.release();
    }
    let pauses = poll::MIN_PAUSE * (POLLS - 1);
    assert!(began.elapsed() >= pauses);
}

/// A poll may find an end before its change comes, which says more.
#[rocket::async_test]
async fn event_of_a_replaced_session_has_the_new_user_though_a_poll_came_first() {
    let bench = Bench::new();
    let (old, new) = (Id::draw().unwrap(), Id::draw().unwrap());
    let ended = bench.follow(&old);
    let mut events = bench.live.events();
    let insert = |document: bson::Document| {
        let documents = vec![Document::from_bson(&document)];
        bench.store.insert(documents, Durability::Data)
    };
    let login = doc! { field::ID: new.as_str(), field::USER: 8 };
    insert(login).await.unwrap();
    let tombstone = doc! { field::ID: tombstone_id(old.as_str()), "by": new.as_str() };
    insert(tombstone).await.unwrap();
    bench.live.0.poll().await.unwrap();
    assert_eq!(end(&ended), Some(End::Replaced));
    insert(doc! { field::ID: old.as_str(), field::USER: 7 })
        .await
        .unwrap();
    assert!(bench.delete(&old).await.unwrap());
    for login in [&new, &old] {
        let logged_in = (login.to_string(), EventKind::LoggedIn);
        assert_eq!(next(&mut events).await, logged_in);
    }
    let event = events.next().await.unwrap().unwrap();
    assert_eq!(
        (event.id.as_str(), event.kind),
        (old.as_str(), EventKind::Deleted)
    );
    assert_eq!(event.user::<i32>().unwrap(), Some(8));
}
