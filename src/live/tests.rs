use std::sync::Arc;
use std::time::Duration;

use bson::{RawBson, doc};
use rocket::futures::FutureExt;

use super::*;
use crate::clock::Clock;
use crate::document::{Document, date};
use crate::error::Operation;
use crate::record::field;
use crate::stats::Counters;
use crate::store::faulty::{Fault, FaultyStore};
use crate::store::{Durability, Store};

struct Bench {
    store: FaultyStore,
    clock: Clock,
    live: Live,
}

impl Bench {
    fn new() -> Self {
        let clock = Clock::new();
        let store = FaultyStore::with_clock(&clock);
        let config = Config::default_for(&rocket::Config::DEBUG_PROFILE);
        let stats = Arc::new(Counters::of_kind("main", Arc::default()));
        let bounded = Bounded::new(Arc::new(store.clone()), config.deadline, stats);
        let live = Live::new(&bounded, &config, &clock);
        live.0.lock().is_polling = true; // by the tests themselves
        Bench { store, clock, live }
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
        let followed = Followed {
            id: id.clone(),
            user: Some(RawBson::Int32(7)),
            times: None,
        };
        self.live.follow(subscriber, followed);
        ended
    }

    async fn delete(&self, id: &Id) -> Result<bool> {
        self.store.inner.delete(Filter::id(id.as_str())).await
    }
}

fn end(ended: &Ended) -> Option<End> {
    ended.clone().now_or_never()
}

fn unknown() -> Error {
    let (operation, source) = (Operation::EndSession, None);
    Error::Unknown { operation, source }
}

#[rocket::async_test]
async fn a_dropped_future_leaves_nothing_behind() {
    let bench = Bench::new();
    let (id, ended) = bench.followed().await;
    let further: Vec<Ended> = (0..100).map(|_| bench.follow(&id)).collect();
    drop(ended.clone());
    drop(further);
    assert!(!bench.live.0.lock().registry.is_empty());
    drop(ended);
    assert!(bench.live.0.lock().registry.is_empty());
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
        .ending(&ids, End::LoggedOut, None, call, |did| *did);
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
        .ending(&ids, End::Revoked, None, call, |did| *did);
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
    let result = bench.live.ending_all(&theirs, End::Revoked, call);
    assert_eq!(result.await.unwrap(), 1);
    let (after, ended) = bench.followed().await;
    assert!(bench.delete(&after).await.unwrap());
    bench.live.0.poll().await.unwrap();
    assert_eq!(end(&revoked), Some(End::Revoked), "{before}");
    assert_eq!(end(&ended), Some(End::Gone));
}

#[rocket::async_test]
async fn an_end_is_known_to_later_subscriptions() {
    let bench = Bench::new();
    let (id, ended) = bench.followed().await;
    let (ids, delete) = ([id.as_str()], bench.delete(&id));
    let result = bench
        .live
        .ending(&ids, End::LoggedOut, None, delete, |did| *did);
    assert!(result.await.unwrap());
    assert_eq!(end(&ended), Some(End::LoggedOut));
    assert_eq!(end(&bench.follow(&id)), Some(End::LoggedOut));
    assert!(bench.live.0.lock().registry.is_empty());
}

#[rocket::async_test]
async fn touch_is_recorded_once_a_second() {
    let bench = Bench::new();
    let (id, ended) = bench.followed().await;
    bench.live.0.poll().await.unwrap(); // which learns its times
    let touches = |live: &Live| live.0.lock().registry.times(id.as_str()).unwrap().accessed;
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

/// Waking a task may run or drop what it holds, which takes the lock.
#[rocket::async_test]
async fn a_future_may_be_dropped_by_the_task_that_it_wakes() {
    let bench = Bench::new();
    let (id, ended) = bench.followed().await;
    let twin = bench.follow(&id);
    let task = rocket::tokio::spawn(async move {
        let end = ended.await;
        drop(twin);
        end
    });
    rocket::tokio::task::yield_now().await;
    bench.live.0.tell([(id.as_str(), End::Revoked)].into_iter());
    assert_eq!(task.await.unwrap(), End::Revoked);
}
