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

/// Commits the response while a write that no caller waits for is held, and then releases the write.
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
    assert!(matches!(saved, Err(Error::Store { .. })), "{saved:?}");
    assert!(session.finish().await.is_err());
    let session = bench.comes(&cookie).await;
    assert_eq!(
        (number(&session, "n"), number(&session, "m")),
        (Some(1), None)
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

#[rocket::async_test]
async fn save_that_an_earlier_loss_makes_fail_stores_nothing() {
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
    assert!(matches!(second, Err(Error::Store { .. })), "{second:?}");
    session.finish().await.unwrap();
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(1));
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

#[rocket::async_test]
async fn changes_after_a_dropped_login_that_was_revoked_are_not_stored() {
    for is_saved in [false, true] {
        let bench = Bench::new();
        let old = bench.begun(Some(1), &[("n", 1)]).await;
        let session = bench.comes(&old).await;
        bench.sessions.of(2).revoke_all().await.unwrap();
        session.login(2).unwrap();
        let held = bench.store.hold("insert");
        drop_save(&session, &held).await;
        held.release();
        bench.settled().await;
        // Of the user who has just logged in, as far as the handler knows.
        session.set("iban", &2).unwrap();
        if is_saved {
            assert!(matches!(session.save().await, Err(Error::Gone)));
        }
        assert!(given(&session).await.is_none());
        assert_eq!(number(&bench.comes(&old).await, "iban"), None);
    }
}

/// Of a session that has ended, nothing that the handler does is stored, in no other session either.
#[rocket::async_test]
async fn changes_after_a_dropped_save_that_found_no_session_create_none() {
    let bench = Bench::new();
    let cookie = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.set("n", &2).unwrap();
    let held = bench.store.hold("update");
    drop_save(&session, &held).await;
    bench.sessions.revoke(cookie.id.as_str()).await.unwrap();
    held.release();
    bench.settled().await;
    session.set("m", &2).unwrap();
    assert!(given(&session).await.is_none());
    assert!(bench.stored().await.is_empty());
}

/// A handler may have a runtime of its own, which ends before the save does.
#[rocket::async_test]
async fn save_whose_runtime_ends_is_an_error_of_later_ones_and_of_the_response() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.increment("n", 1).unwrap();
    let held = bench.store.hold("update");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = rocket::tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(drop_save(&session, &held));
        });
    });
    let saved = session.save().await;
    assert!(matches!(saved, Err(Error::Unknown { .. })), "{saved:?}");
    let finished = session.finish().await.map(drop);
    assert!(
        matches!(finished, Err(Error::Unknown { .. })),
        "{finished:?}"
    );
}

/// The handler fails after its save has succeeded, and a catcher responds.
#[rocket::async_test]
async fn saved_session_stays_after_a_login_that_is_discarded() {
    let bench = Bench::new();
    let session = bench.session();
    session.set("cart", &1).unwrap();
    let held = bench.store.hold("insert");
    let login = async {
        held.has_come().await;
        session.login(2).unwrap();
        held.release();
    };
    let (saved, ()) = rocket::tokio::join!(session.save(), login);
    saved.unwrap();
    session.discard();
    let cookie = given(&session).await.expect("a cookie");
    assert_eq!(number(&bench.comes(&cookie).await, "cart"), Some(1));
}

#[rocket::async_test]
async fn login_during_the_save_of_a_new_session_replaces_it() {
    let bench = Bench::new();
    let session = bench.session();
    session.set("cart", &1).unwrap();
    session.set("seen", &1).unwrap();
    let held = bench.store.hold("insert");
    let login = async {
        held.has_come().await;
        session.increment("cart", 1).unwrap();
        session.login_keeping(2, &["cart"]).unwrap();
        session.increment("cart", 1).unwrap();
        held.release();
    };
    let (saved, ()) = rocket::tokio::join!(session.save(), login);
    saved.unwrap();
    let cookie = given(&session).await.expect("a cookie");
    let session = bench.comes(&cookie).await;
    assert_eq!(session.user::<i32>().unwrap(), Some(2));
    assert_eq!(number(&session, "cart"), Some(3));
    assert_eq!(number(&session, "seen"), None);
    assert_eq!(bench.stored().await.len(), 1);
}

/// The save says that its changes were dropped.
#[rocket::async_test]
async fn login_during_a_save_that_fails_keeps_nothing_of_it() {
    for is_stored in [false, true] {
        let bench = Bench::new();
        let session = match is_stored {
            false => bench.session(),
            true => bench.comes(&bench.begun(None, &[("n", 1)]).await).await,
        };
        session.increment("n", 10).unwrap();
        let call = if is_stored { "update" } else { "insert" };
        let held = bench.store.hold_to_fail(call);
        let login = async {
            held.has_come().await;
            session.increment("n", 100).unwrap();
            session.login_keeping(2, &["n"]).unwrap();
            held.release();
        };
        let (saved, ()) = rocket::tokio::join!(session.save(), login);
        assert!(matches!(saved, Err(Error::Store { .. })), "{saved:?}");
        let expected = if is_stored { 101 } else { 100 };
        assert_eq!(number(&session, "n"), Some(expected));
        let cookie = given(&session).await.expect("a cookie");
        let next = bench.comes(&cookie).await;
        assert_eq!(number(&next, "n"), Some(expected), "{is_stored}");
    }
}

#[rocket::async_test]
async fn login_during_a_save_that_finds_no_session_keeps_nothing_of_it() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    session.increment("n", 10).unwrap();
    let held = bench.store.hold("update");
    let login = async {
        held.has_come().await;
        bench.sessions.revoke(old.id.as_str()).await.unwrap();
        session.login_keeping(2, &["n"]).unwrap();
        held.release();
    };
    let (saved, ()) = rocket::tokio::join!(session.save(), login);
    assert!(matches!(saved, Err(Error::Gone)), "{saved:?}");
    session.increment("n", 10).unwrap(); // again: the save has dropped the first one
    let cookie = given(&session).await.expect("a cookie");
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(11));
}
