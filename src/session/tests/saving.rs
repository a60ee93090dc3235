//! Which parts of a commit stand when one of them fails, and which failed saves make the response an
//! error.

use std::pin::{Pin, pin};

use super::*;
use crate::config::Transport;

/// The ids of all documents, tombstones included.
async fn ids(bench: &Bench) -> Vec<String> {
    let all = bench
        .store
        .find(Filter::all(), Order::OldestFirst, 0, 10)
        .await
        .unwrap();
    let ids = all.iter().filter_map(|one| one.id().map(str::to_owned));
    ids.collect()
}

/// A login of user 2 over this session of user 1.
async fn login_over(bench: &Bench, old: &Token, keeps: bool) -> Session {
    let session = bench.comes(old).await;
    match keeps {
        true => session.login_keeping(2, &["n"]).unwrap(),
        false => session.login(2).unwrap(),
    }
    session
}

#[rocket::async_test]
async fn failed_save_of_a_login_inserts_nothing_more() {
    for fault in [Fault::Fails, Fault::LosesReply] {
        let (bench, session) = failed_login(fault).await;
        let inserted = bench.store.inserted();
        assert_eq!(inserted.len(), 1);
        session.finish().await.unwrap();
        bench.settled().await;
        assert_eq!(bench.store.inserted(), inserted);
    }
}

#[rocket::async_test]
async fn login_that_cannot_look_for_revocations_leaves_the_old_session() {
    for keeps in [false, true] {
        let bench = Bench::new();
        let old = bench.begun(Some(1), &[("n", 1)]).await;
        let session = login_over(&bench, &old, keeps).await;
        bench.store.next("ages", Fault::Fails);
        assert!(session.finish().await.is_err());
        bench.settled().await;
        assert_eq!(ids(&bench).await, [old.id.as_str()], "no tombstone stays");
        let session = bench.comes(&old).await;
        assert_eq!(session.user::<i32>().unwrap(), Some(1));
        assert_eq!(number(&session, "n"), Some(1));
    }
}

#[rocket::async_test]
async fn login_that_cannot_end_the_old_session_is_unknown_and_rolled_back() {
    for (keeps, ends) in [(false, "delete"), (true, "take")] {
        let bench = Bench::new();
        let old = bench.begun(Some(1), &[("n", 1)]).await;
        let session = login_over(&bench, &old, keeps).await;
        bench.store.next(ends, Fault::Fails);
        let sent = session.finish().await;
        assert!(matches!(sent, Err(Error::Unknown { .. })), "{ends}");
        bench.settled().await;
        assert_eq!(ids(&bench).await, [old.id.as_str()], "{ends}");
    }
}

#[rocket::async_test]
async fn login_whose_end_of_the_old_session_got_no_reply_does_not_sign_in() {
    for (keeps, ends) in [(false, "delete"), (true, "take")] {
        let bench = Bench::new();
        let old = bench.begun(Some(1), &[("n", 1)]).await;
        let session = login_over(&bench, &old, keeps).await;
        bench.store.next(ends, Fault::LosesReply);
        let sent = session.finish().await;
        assert!(matches!(sent, Err(Error::Unknown { .. })), "{ends}");
        bench.settled().await;
        assert!(ids(&bench).await.is_empty(), "{ends}");
    }
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
async fn modify_saves_what_is_pending_for_its_key_first() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("m", 1), ("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.set("m", &5_i64).unwrap();
    session.set("n", &6_i64).unwrap();
    let add_one = |n: Option<i64>| n.unwrap_or(0) + 1;
    session.modify("other", add_one).await.unwrap();
    let stored = bench.comes(&cookie).await;
    assert_eq!(number(&stored, "m"), Some(1), "another key saves nothing");
    assert_eq!(session.modify("n", add_one).await.unwrap(), 7);
    let stored = bench.comes(&cookie).await;
    assert_eq!(
        (number(&stored, "m"), number(&stored, "n")),
        (Some(5), Some(7))
    );
}

/// A session whose login could not be saved.
async fn failed_login(fault: Fault) -> (Bench, Session) {
    let bench = Bench::new();
    let session = bench.session();
    session.login(1).unwrap();
    bench.store.next("insert", fault);
    let saved = session.save().await;
    assert!(saved.is_err(), "{saved:?}");
    (bench, session)
}

#[rocket::async_test]
async fn failed_save_of_a_login_does_not_sign_in() {
    for fault in [Fault::Fails, Fault::LosesReply] {
        let (bench, session) = failed_login(fault).await;
        assert_eq!(session.user::<i32>().unwrap(), None);
        let sent = session.finish().await.unwrap();
        assert!(matches!(sent, CookieChange::None));
        // What an insert with a lost reply has stored is rolled back in the background.
        bench.settled().await;
        assert!(bench.stored().await.is_empty());
    }
}

#[rocket::async_test]
async fn change_after_a_failed_save_is_stored_under_another_id() {
    let (bench, session) = failed_login(Fault::LosesReply).await;
    let first: Vec<_> = bench.store.inserted();
    session.set("n", &1).unwrap();
    let cookie = given(&session).await.expect("a cookie");
    assert!(!first.contains(&cookie.id.to_string()));
    assert_eq!(bench.comes(&cookie).await.user::<i32>().unwrap(), None);
}

#[rocket::async_test]
async fn failed_save_drops_no_later_change() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("a", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.set("a", &2).unwrap();
    let held = bench.store.hold_to_fail("update");
    let later = async {
        held.has_come().await;
        session.set("b", &3).unwrap();
        held.release();
    };
    let (saved, ()) = rocket::tokio::join!(session.save(), later);
    assert!(matches!(saved, Err(Error::Store { .. })));
    session.finish().await.unwrap();
    let session = bench.comes(&cookie).await;
    assert_eq!(
        (number(&session, "a"), number(&session, "b")),
        (Some(1), Some(3))
    );
}

/// Polls a save until its write has begun.
async fn begin(save: Pin<&mut impl Future<Output = Result<()>>>, held: &Held) {
    rocket::tokio::select! {
        biased;
        () = held.has_come() => {}
        saved = save => panic!("{saved:?}"),
    }
}

/// Drops a save whose write has begun.
async fn drop_save(session: &Session, held: &Held) {
    begin(pin!(session.save()), held).await;
}

/// Commits the response while the write of a dropped save is held, and then releases the write.
async fn finish_during_a_save(session: &Session, held: &Held) -> Result<CookieChange> {
    let mut finish = pin!(session.finish());
    let early = rocket::futures::future::poll_immediate(finish.as_mut()).await;
    assert!(early.is_none(), "the response did not wait");
    held.release();
    finish.await
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

/// Another tab logs in while the handler continues after its save.
#[rocket::async_test]
async fn cookie_of_a_save_overwrites_no_later_login() {
    let bench = Bench::new();
    let cookie = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.touch();
    session.save().await.unwrap();
    let other = bench.comes(&cookie).await;
    other.login(1).unwrap();
    assert!(given(&other).await.is_some());
    assert!(given(&session).await.is_none());
}

#[rocket::async_test]
async fn clear_during_a_save_removes_what_the_save_was_to_remove() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("k", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.remove("k");
    let held = bench.store.hold_to_fail("update");
    let later = async {
        held.has_come().await;
        session.clear();
        session.set_timeout(Some(Duration::from_secs(60))).unwrap();
        held.release();
    };
    let (saved, ()) = rocket::tokio::join!(session.save(), later);
    assert!(saved.is_err());
    session.finish().await.unwrap();
    assert_eq!(number(&bench.comes(&cookie).await, "k"), None);
}

#[rocket::async_test]
async fn time_set_again_during_a_save_is_stored_when_that_one_fails() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("k", 1)]).await;
    let session = bench.comes(&cookie).await;
    let hour = Some(Duration::from_secs(3600));
    session.set_timeout(hour).unwrap();
    let held = bench.store.hold_to_fail("update");
    let later = async {
        held.has_come().await;
        session.set_timeout(hour).unwrap();
        held.release();
    };
    let (saved, ()) = rocket::tokio::join!(session.save(), later);
    assert!(saved.is_err());
    session.finish().await.unwrap();
    assert_eq!(bench.comes(&cookie).await.timeout(), hour);
}

#[rocket::async_test]
async fn change_equal_to_one_in_flight_is_stored_when_that_one_fails() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 0)]).await;
    let session = bench.comes(&cookie).await;
    session.set("n", &1).unwrap();
    let held = bench.store.hold_to_fail("update");
    let later = async {
        held.has_come().await;
        session.set("n", &1).unwrap();
        held.release();
    };
    let (saved, ()) = rocket::tokio::join!(session.save(), later);
    assert!(saved.is_err());
    session.finish().await.unwrap();
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(1));
}

#[rocket::async_test]
async fn login_that_fails_after_a_logout_has_an_unknown_outcome() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[]).await;
    let session = bench.comes(&old).await;
    session.logout().unwrap();
    session.login(1).unwrap();
    bench.store.next("insert", Fault::Fails);
    let saved = session.save().await;
    assert!(matches!(saved, Err(Error::Unknown { .. })), "{saved:?}");
}

#[rocket::async_test]
async fn login_that_cannot_look_for_revocations_ends_no_other_session() {
    let bench = Bench::with(|config| config.max_per_user = Some(1));
    let phone = bench.begun(Some(1), &[]).await;
    bench.advance(1);
    let session = bench.session();
    session.login(1).unwrap();
    bench.store.next("ages", Fault::Fails);
    assert!(session.finish().await.is_err());
    bench.settled().await;
    assert!(!bench.comes(&phone).await.is_new());
    assert_eq!(bench.stored().await.len(), 1);
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
async fn save_of_nothing_succeeds_where_the_token_was_replaced_and_the_cookie_is_due() {
    let bench = Bench::with(|config| config.max_age = Some(Duration::from_secs(600)));
    let cookie = bench.begun(Some(1), &[]).await;
    let (slow, fast) = (bench.comes(&cookie).await, bench.comes(&cookie).await);
    fast.renew().unwrap();
    assert!(given(&fast).await.is_some());
    bench.advance(300);
    slow.save().await.unwrap();
    assert!(given(&slow).await.is_none(), "the browser has the new one");
}

#[rocket::async_test]
async fn issue_token_during_a_save_leaves_nothing_to_write() {
    let bench = Bench::with(|config| config.transport = Transport::Bearer);
    let session = bench.session();
    let token = session.issue_token().unwrap();
    let held = bench.store.hold("insert");
    let again = async {
        held.has_come().await;
        assert_eq!(session.issue_token().unwrap(), token);
        held.release();
    };
    let (saved, ()) = rocket::tokio::join!(session.save(), again);
    saved.unwrap();
    bench.store.next("update", Fault::Fails);
    session.finish().await.unwrap();
}

/// Everything was stored by the save. Only the check that its cookie is still the session's fails.
#[rocket::async_test]
async fn cookie_of_a_renewal_is_sent_where_it_cannot_be_proven_again() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    session.renew().unwrap();
    session.save().await.unwrap();
    bench.store.next("update", Fault::Fails);
    let cookie = given(&session).await.expect("a cookie");
    assert!(!bench.comes(&cookie).await.is_new());
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

/// The Python package's name of the one key is this crate's name of the other.
#[rocket::async_test]
async fn save_of_one_legacy_key_leaves_the_other_as_the_request_sees_it() {
    let bench = Bench::new();
    let id = "0123456789abcdef0123456789abcdef";
    let now = bench.sessions.core.now().millis() as f64 / 1000.0;
    let document = bson::doc! {
        "_id": id,
        "created": now,
        "accessed": now,
        "value": { "%": 1_i64, "%25": 2_i64 },
    };
    let document = vec![Document::from_bson(&document)];
    let stored = bench.store.insert(document, Durability::Data).await;
    assert!(matches!(stored, Ok(Inserted::Stored)));
    let token = Token::parse(id, true).unwrap();
    for session in [bench.comes(&token).await, bench.comes(&token).await] {
        session.set("%25", &5).unwrap();
        session.save().await.unwrap();
        assert_eq!(session.get::<i64>("%25").unwrap(), Some(5));
        assert_eq!(session.get::<i64>("%").unwrap(), Some(1));
    }
}
