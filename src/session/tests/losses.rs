//! Which failed saves make later ones and the response fail.

use std::pin::{Pin, pin};

use super::*;

/// Polls a save until its write has begun.
pub(super) async fn begin(save: Pin<&mut impl Future<Output = Result<()>>>, held: &Held) {
    rocket::tokio::select! {
        biased;
        () = held.has_come() => {}
        saved = save => panic!("{saved:?}"),
    }
}

/// Drops a save whose write has begun.
pub(super) async fn drop_save(session: &Session, held: &Held) {
    begin(pin!(session.save()), held).await;
}

/// Commits the response while a write that nobody waits for is held, and then releases the write.
pub(super) async fn finish_during_a_save(session: &Session, held: &Held) -> Result<CookieChange> {
    let mut finish = pin!(session.finish());
    let early = rocket::futures::future::poll_immediate(finish.as_mut()).await;
    assert!(early.is_none(), "the response did not wait");
    held.release();
    finish.await
}

#[rocket::async_test]
async fn save_that_is_put_aside_continues_and_the_response_waits_for_it() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.increment("n", 1).unwrap();
    let held = bench.store.hold("update");
    let mut save = pin!(session.save());
    begin(save.as_mut(), &held).await;
    finish_during_a_save(&session, &held).await.unwrap();
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(2));
    save.await.unwrap();
}

#[rocket::async_test]
async fn dropped_save_continues_and_the_response_waits_for_it() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.increment("n", 1).unwrap();
    let held = bench.store.hold("update");
    drop_save(&session, &held).await;
    finish_during_a_save(&session, &held).await.unwrap();
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(2));
}

#[rocket::async_test]
async fn dropped_save_that_fails_is_an_error_of_the_response() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.increment("n", 1).unwrap();
    let held = bench.store.hold_to_fail("update");
    drop_save(&session, &held).await;
    let finished = finish_during_a_save(&session, &held).await;
    assert!(finished.is_err());
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(1));
}

#[rocket::async_test]
async fn save_does_not_hide_that_a_dropped_one_failed() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.increment("n", 1).unwrap();
    let held = bench.store.hold_to_fail("update");
    drop_save(&session, &held).await;
    held.release();
    session.set("m", &2).unwrap();
    let saved = session.save().await;
    assert!(matches!(saved, Err(Error::Unknown { .. })), "{saved:?}");
    assert!(session.finish().await.is_err());
    let session = bench.comes(&cookie).await;
    assert_eq!(
        (number(&session, "n"), number(&session, "m")),
        (Some(1), Some(2))
    );
}

/// The handler gives up waiting for a save, and saves again before it does the work that the save
/// must precede.
#[rocket::async_test]
async fn second_save_fails_where_the_session_ended_during_a_dropped_one() {
    for is_early in [true, false] {
        let bench = Bench::new();
        let cookie = bench.begun(Some(1), &[("n", 1)]).await;
        let session = bench.comes(&cookie).await;
        session.set("paying", &1).unwrap();
        let held = bench.store.hold("update");
        drop_save(&session, &held).await;
        bench.sessions.revoke(cookie.id.as_str()).await.unwrap();
        let again = if is_early {
            let mut again = pin!(session.save());
            let early = rocket::futures::future::poll_immediate(again.as_mut()).await;
            assert!(early.is_none(), "it waits for the other one");
            held.release();
            again.await
        } else {
            held.release();
            bench.settled().await;
            session.save().await
        };
        assert!(matches!(again, Err(Error::Gone)), "{is_early}: {again:?}");
        assert!(given(&session).await.is_none());
    }
}

/// A save carries the changes of all parts of the request.
#[rocket::async_test]
async fn save_fails_whose_changes_an_earlier_one_carried_and_lost() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.set("a", &1).unwrap();
    session.set("b", &1).unwrap();
    let held = bench.store.hold_to_fail("update");
    let (first, second, ()) = rocket::tokio::join!(session.save(), session.save(), async {
        held.has_come().await;
        held.release();
    });
    assert!(first.is_err() && second.is_err(), "{first:?} {second:?}");
    session.set("c", &1).unwrap();
    session.save().await.unwrap();
    session.finish().await.unwrap();
    let session = bench.comes(&cookie).await;
    assert_eq!(
        (number(&session, "b"), number(&session, "c")),
        (None, Some(1))
    );
}

#[rocket::async_test]
async fn save_that_a_logout_overtakes_leaves_the_response_a_success() {
    let bench = Bench::new();
    let cookie = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.set("n", &2).unwrap();
    let held = bench.store.hold("update");
    drop_save(&session, &held).await;
    bench.sessions.revoke(cookie.id.as_str()).await.unwrap();
    session.logout().unwrap();
    held.release();
    session.finish().await.unwrap();
}

#[rocket::async_test]
async fn save_of_settings_alone_is_gone_once_the_token_was_replaced() {
    // Whether or not a touch is due with it.
    for later in [0, 30] {
        let bench = Bench::new();
        let cookie = bench.begun(Some(1), &[]).await;
        let (slow, fast) = (bench.comes(&cookie).await, bench.comes(&cookie).await);
        fast.renew().unwrap();
        assert!(given(&fast).await.is_some());
        bench.advance(later);
        slow.set_timeout(None).unwrap();
        let saved = slow.save().await;
        assert!(matches!(saved, Err(Error::Gone)), "{later}: {saved:?}");
    }
}

/// The value is stored.
#[rocket::async_test]
async fn save_of_a_value_is_unknown_if_its_settings_were_lost() {
    let bench = Bench::new();
    let cookie = bench.begun(Some(1), &[]).await;
    let (slow, fast) = (bench.comes(&cookie).await, bench.comes(&cookie).await);
    fast.renew().unwrap();
    let renewed = given(&fast).await.expect("a cookie");
    slow.set("n", &1).unwrap();
    slow.set_timeout(Some(Duration::from_secs(60))).unwrap();
    let saved = slow.save().await;
    assert!(matches!(saved, Err(Error::Unknown { .. })), "{saved:?}");
    slow.finish().await.unwrap();
    assert_eq!(number(&bench.comes(&renewed).await, "n"), Some(1));
}

/// Those of the response itself are none either.
#[rocket::async_test]
async fn lost_settings_of_a_save_that_no_handler_waits_for_are_no_error_of_the_response() {
    for is_dropped in [false, true] {
        let bench = Bench::new();
        let cookie = bench.begun(Some(1), &[]).await;
        let (slow, fast) = (bench.comes(&cookie).await, bench.comes(&cookie).await);
        fast.renew().unwrap();
        assert!(given(&fast).await.is_some());
        slow.set("n", &1).unwrap();
        slow.set_timeout(Some(Duration::from_secs(60))).unwrap();
        if is_dropped {
            let held = bench.store.hold("update");
            let mut save = Box::pin(slow.save());
            let come = held.has_come();
            rocket::tokio::select! {
                _ = &mut save => panic!("it is held"),
                () = come => {}
            }
            drop(save);
            held.release();
            let again = slow.save().await;
            assert!(matches!(again, Err(Error::Unknown { .. })), "{again:?}");
            slow.logout().unwrap();
        } else {
            let modified = slow.modify("n", |n: Option<i64>| n.unwrap_or(0) + 1);
            assert!(matches!(modified.await, Err(Error::Gone)));
        }
        slow.finish().await.unwrap();
    }
}

/// Part of the request was stored, so that the error must not say that nothing was.
#[rocket::async_test]
async fn save_that_stored_something_beside_a_loss_is_unknown() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.set("a", &1).unwrap();
    let held = bench.store.hold_to_fail("update");
    let second = async {
        held.has_come().await;
        session.increment("n", 1).unwrap();
        let release = async { held.release() };
        rocket::tokio::join!(session.save(), release).0
    };
    let (first, second) = rocket::tokio::join!(session.save(), second);
    assert!(first.is_err(), "{first:?}");
    assert!(matches!(second, Err(Error::Unknown { .. })), "{second:?}");
}

#[rocket::async_test]
async fn login_after_a_save_that_found_no_session_is_stored() {
    let bench = Bench::new();
    let cookie = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.set("n", &2).unwrap();
    let held = bench.store.hold("update");
    drop_save(&session, &held).await;
    bench.sessions.revoke(cookie.id.as_str()).await.unwrap();
    held.release();
    bench.settled().await;
    session.login(1).unwrap();
    session.save().await.unwrap();
    assert!(given(&session).await.is_some());
}
