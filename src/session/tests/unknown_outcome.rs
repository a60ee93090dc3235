//! What a request does after a write whose outcome is unknown.

use std::pin::pin;

use super::*;

/// A stored number of one, and a request that has saved another one, with an outcome that it does not
/// know.
async fn doubtful(bench: &Bench) -> (Token, Session) {
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.set("n", &2).unwrap();
    session.set("new", &2).unwrap();
    session.remember_for(Duration::from_secs(86_400)).unwrap();
    bench.store.next("update", Fault::LosesReply);
    assert!(matches!(session.save().await, Err(Error::Unknown { .. })));
    (cookie, session)
}

#[rocket::async_test]
async fn change_back_after_an_unknown_outcome_is_stored() {
    let bench = Bench::new();
    let (cookie, session) = doubtful(&bench).await;
    session.set("n", &1).unwrap();
    session.remove("new");
    session.reset_times().unwrap();
    session.finish().await.unwrap();
    let session = bench.comes(&cookie).await;
    assert_eq!(
        (number(&session, "n"), number(&session, "new")),
        (Some(1), None)
    );
    assert!(bench.stored().await[0].get("timeout").is_none());
}

#[rocket::async_test]
async fn clear_after_an_unknown_outcome_removes_what_may_be_stored() {
    let bench = Bench::new();
    let (cookie, session) = doubtful(&bench).await;
    session.clear();
    session.finish().await.unwrap();
    assert!(bench.comes(&cookie).await.is_empty());
}

#[rocket::async_test]
async fn modify_after_an_unknown_outcome_reads_what_is_stored() {
    let bench = Bench::new();
    let (cookie, session) = doubtful(&bench).await;
    let mut seen = Vec::new();
    let modified = session.modify("n", |n: Option<i64>| {
        seen.extend(n);
        1
    });
    assert_eq!(modified.await.unwrap(), 1);
    assert_eq!(seen, [1, 2], "first as loaded");
    session.finish().await.unwrap();
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(1));
}

/// A stored number of one, and a request whose `modify` has raised it, with an outcome that it does not
/// know.
async fn doubtful_modify(bench: &Bench) -> (Token, Session) {
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    bench.store.next("update", Fault::LosesReply);
    let modified = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 1);
    assert!(matches!(modified.await, Err(Error::Unknown { .. })));
    (cookie, session)
}

#[rocket::async_test]
async fn modify_with_an_unknown_outcome_counts_once() {
    let bench = Bench::new();
    let (cookie, session) = doubtful_modify(&bench).await;
    session.finish().await.unwrap();
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(2));
}

#[rocket::async_test]
async fn change_back_after_an_unknown_modify_is_stored() {
    let bench = Bench::new();
    let (cookie, session) = doubtful_modify(&bench).await;
    session.set("n", &1).unwrap();
    session.finish().await.unwrap();
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(1));
}

#[rocket::async_test]
async fn pop_with_an_unknown_outcome_delivers_nothing_twice() {
    let bench = Bench::new();
    let session = bench.session();
    session.flash("hello").unwrap();
    let cookie = given(&session).await.expect("a cookie");
    let session = bench.comes(&cookie).await;
    bench.store.next("update", Fault::LosesReply);
    let popped = session.pop_flash::<String>().await;
    assert!(matches!(popped, Err(Error::Unknown { .. })), "{popped:?}");
    session.finish().await.unwrap();
    let next = bench.comes(&cookie).await;
    assert!(next.pop_flash::<String>().await.unwrap().is_empty());
}

#[rocket::async_test]
async fn increment_after_an_unknown_outcome_leaves_the_sum_open() {
    let bench = Bench::new();
    let (cookie, session) = doubtful(&bench).await;
    session.increment("n", 1).unwrap();
    session.save().await.unwrap();
    session.set("n", &2).unwrap();
    session.finish().await.unwrap();
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(2));
}

#[rocket::async_test]
async fn one_of_two_exchanges_of_a_value_may_stay_open() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    let held = bench.store.hold("update");
    let mut late = pin!(session.modify("n", |_: Option<i64>| 3));
    rocket::tokio::select! {
        biased;
        () = held.has_come() => {}
        ended = late.as_mut() => panic!("{ended:?}"),
    }
    session.modify("n", |_: Option<i64>| 2).await.unwrap();
    bench.store.next("update", Fault::LosesReply);
    held.release();
    assert!(matches!(late.await, Err(Error::Unknown { .. })));
    session.set("n", &2).unwrap();
    session.finish().await.unwrap();
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(2));
}

#[rocket::async_test]
async fn unknown_outcome_of_one_time_makes_the_others_no_change() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    let hour = Duration::from_secs(3600);
    session.set_timeout(Some(hour)).unwrap();
    bench.store.next("update", Fault::LosesReply);
    assert!(matches!(session.save().await, Err(Error::Unknown { .. })));
    let other = bench.comes(&cookie).await;
    other.remember_for(hour * 48).unwrap();
    other.finish().await.unwrap();
    session.set_timeout(Some(hour * 2)).unwrap();
    session.finish().await.unwrap();
    let stored = bench.stored().await;
    for name in ["max_age", "lifetime"] {
        assert!(stored[0].get(name).is_some(), "{name}");
    }
}
