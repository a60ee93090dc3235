//! What a request does after a write whose outcome is unknown.

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
async fn take_after_an_unknown_outcome_removes_what_may_be_stored() {
    let bench = Bench::new();
    let (cookie, session) = doubtful(&bench).await;
    assert_eq!(session.take::<i64>("new").unwrap(), None);
    session.finish().await.unwrap();
    assert_eq!(number(&bench.comes(&cookie).await, "new"), None);
}

#[rocket::async_test]
async fn csrf_token_after_an_unknown_outcome_is_valid() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    let _ = session.new_csrf_token();
    bench.store.next("update", Fault::LosesReply);
    assert!(matches!(session.save().await, Err(Error::Unknown { .. })));
    let shown = session.csrf_token();
    session.finish().await.unwrap();
    assert!(bench.comes(&cookie).await.verify_csrf(&shown));
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

/// The reply of the first one is late, and the second one is sent only after it.
#[rocket::async_test]
async fn second_of_two_exchanges_of_a_value_waits_for_the_first() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    let held = bench.store.hold("update");
    let second = async {
        held.has_come().await;
        let release = async { held.release() };
        let modify = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 10);
        let (modified, ()) = rocket::tokio::join!(modify, release);
        assert_eq!(modified.unwrap(), 13);
    };
    let (first, ()) = rocket::tokio::join!(session.modify("n", |_: Option<i64>| 3), second);
    assert_eq!(first.unwrap(), 3);
    session.set("n", &3).unwrap();
    session.finish().await.unwrap();
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(3));
}

#[rocket::async_test]
async fn call_that_names_one_time_leaves_another_whose_outcome_is_unknown() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    let hour = Duration::from_secs(3600);
    session.set_lifetime(Some(hour)).unwrap();
    bench.store.next("update", Fault::LosesReply);
    assert!(matches!(session.save().await, Err(Error::Unknown { .. })));
    let other = bench.comes(&cookie).await;
    other.set_lifetime(Some(hour * 2)).unwrap();
    other.finish().await.unwrap();
    session.set_timeout(Some(hour)).unwrap();
    session.finish().await.unwrap();
    let lifetime = bench.stored().await[0]
        .get("lifetime")
        .map(|own| own.to_raw_bson());
    assert_eq!(lifetime, Some(bson::RawBson::Double(7200.0)));
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

/// The message was taken out of the queue, as far as the request can know.
#[rocket::async_test]
async fn push_unique_after_an_unknown_pop_pushes() {
    let bench = Bench::new();
    let session = bench.session();
    session.flash("hello").unwrap();
    let cookie = given(&session).await.expect("a cookie");
    let session = bench.comes(&cookie).await;
    bench.store.next("update", Fault::LosesReply);
    let popped = session.pop_flash::<String>().await;
    assert!(matches!(popped, Err(Error::Unknown { .. })), "{popped:?}");
    for _ in 0..2 {
        session.flash_queue("").push_unique("hello").unwrap();
    }
    session.finish().await.unwrap();
    let next = bench.comes(&cookie).await;
    assert_eq!(next.pop_flash::<String>().await.unwrap(), ["hello"]);
}

#[rocket::async_test]
async fn push_unique_beside_a_save_that_fails_pushes() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.flash("hello").unwrap();
    let held = bench.store.hold_to_fail("update");
    let later = async {
        held.has_come().await;
        session.flash_queue("").push_unique("hello").unwrap();
        held.release();
    };
    let (saved, ()) = rocket::tokio::join!(session.save(), later);
    assert!(saved.is_err());
    session.finish().await.unwrap();
    let next = bench.comes(&cookie).await;
    assert_eq!(next.pop_flash::<String>().await.unwrap(), ["hello"]);
}

/// Another request has renewed the session, so that this one can store values alone.
#[rocket::async_test]
async fn time_of_unknown_outcome_stays_so_after_a_write_in_part() {
    let bench = Bench::new();
    let cookie = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    let hour = Duration::from_secs(3600);
    session.set_timeout(Some(hour)).unwrap();
    bench.store.next("update", Fault::LosesReply);
    assert!(matches!(session.save().await, Err(Error::Unknown { .. })));
    let other = bench.comes(&cookie).await;
    other.renew().unwrap();
    assert!(given(&other).await.is_some());
    session.set("n", &2).unwrap();
    for _ in 0..2 {
        session.reset_times().unwrap();
        assert!(session.save().await.is_err(), "it is not stored");
    }
}
