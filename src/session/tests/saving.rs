//! Which parts of a commit stand when one of them fails.

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
