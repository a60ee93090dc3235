//! What a request sees after a write is what is stored, so that a change back to an earlier value is
//! written, and not taken for no change.

use rstest::rstest;

use super::losses::{begin, drop_save};
use super::*;

/// A session that one process has stored plain, and another process, which seals.
async fn plain_session_to_seal() -> (Bench, Token) {
    let plain = Bench::with(|config| config.seal = false);
    let cookie = plain.begun(None, &[("n", 1)]).await;
    let mut config = plain.sessions.core.config.clone();
    config.seal = true;
    let clock = plain.sessions.core.clock.clone();
    (Bench::on(plain.store.clone(), clock, config), cookie)
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(false)]
#[case(true)]
async fn session_that_gets_its_data_key_with_a_csrf_secret(#[case] modifies_first: bool) {
    let (bench, cookie) = plain_session_to_seal().await;
    let session = bench.comes(&cookie).await;
    if modifies_first {
        let modified = session.modify("m", |m: Option<i64>| m.unwrap_or(0) + 1);
        modified.await.unwrap();
    }
    session.set("n", &2_i64).unwrap();
    let _ = session.new_csrf_token();
    session.save().await.unwrap();
    assert_eq!(number(&session, "n"), Some(2));
    let page = session.csrf_token();
    session.set("n", &1_i64).unwrap();
    session.finish().await.unwrap();
    let next = bench.comes(&cookie).await;
    assert_eq!(number(&next, "n"), Some(1));
    assert!(next.verify_csrf(&page));
}

/// A request whose next save counts in a number, of which this process does not know that it is one
/// again.
async fn unfit(bench: &Bench) -> (Session, Token) {
    let numbers = [("n", 5), ("m", 1), ("x", 1)];
    let cookie = bench.begun(None, &numbers).await;
    let session = bench.comes(&cookie).await;
    session.increment("n", 1).unwrap();
    let other = bench.comes(&cookie).await;
    other.set("n", "text").unwrap();
    other.set("m", &2).unwrap();
    other.finish().await.unwrap();
    let modified = session.modify("m", |m: Option<i64>| m.unwrap_or(0) + 1);
    modified.await.unwrap();
    let other = bench.comes(&cookie).await;
    other.set("n", &7_i64).unwrap();
    other.finish().await.unwrap();
    session.set("x", &2_i64).unwrap();
    (session, cookie)
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(false)]
#[case(true)]
async fn write_that_does_not_fit_the_record_in_memory(#[case] renews: bool) {
    let bench = Bench::new();
    let (session, cookie) = unfit(&bench).await;
    if renews {
        session.renew().unwrap();
    }
    session.save().await.unwrap();
    session.set("x", &1_i64).unwrap();
    let sent = given(&session).await;
    assert_eq!(sent.is_some(), renews);
    let next = bench.comes(sent.as_ref().unwrap_or(&cookie)).await;
    assert_eq!(number(&next, "x"), Some(1));
    assert_eq!(number(&next, "n"), Some(8));
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(false)]
#[case(true)]
async fn session_that_is_replaced_before_it_is_read_again(#[case] is_logged_out: bool) {
    let bench = Bench::new();
    let (session, cookie) = unfit(&bench).await;
    session.touch();
    let held = bench.store.hold("load");
    let replaced = async {
        held.has_come().await;
        let other = bench.comes(&cookie).await;
        match is_logged_out {
            true => other.logout().unwrap(),
            false => other.elevate().unwrap(),
        }
        other.finish().await.unwrap();
        held.release();
    };
    let (saved, ()) = rocket::tokio::join!(session.save(), replaced);
    saved.unwrap();
    let sent = given(&session).await;
    assert!(sent.is_none(), "it overwrites what the browser has");
}

/// As a catcher does with `set_on_exception = false`, while the save of a handler that was timed out
/// is on its way.
#[rocket::async_test]
async fn discard_during_a_save() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.set("n", &2_i64).unwrap();
    let held = bench.store.hold("update");
    drop_save(&session, &held).await;
    session.set("dropped", &1).unwrap();
    session.discard();
    session.set("n", &1_i64).unwrap();
    held.release();
    session.finish().await.unwrap();
    let next = bench.comes(&cookie).await;
    assert_eq!(number(&next, "n"), Some(1));
    assert_eq!(number(&next, "dropped"), None);
}

#[rocket::async_test]
async fn discard_during_the_save_of_a_login_that_is_revoked() {
    let bench = Bench::new();
    let old = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    session.login(1).unwrap();
    let held = bench.store.hold("insert");
    drop_save(&session, &held).await;
    bench.sessions.of(1).revoke_all().await.unwrap();
    session.discard();
    held.release();
    bench.settled().await;
    session.set("late", &1).unwrap();
    assert!(
        given(&session).await.is_none(),
        "it overwrites the cookie of a live session"
    );
    let next = bench.comes(&old).await;
    let numbers = ["n", "late"].map(|key| number(&next, key));
    assert_eq!(numbers, [Some(1), None], "it was meant for the login");
}

#[rocket::async_test]
async fn discard_of_a_login_during_an_earlier_save() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.set("n", &2_i64).unwrap();
    let held = bench.store.hold("update");
    drop_save(&session, &held).await;
    session.login(1).unwrap();
    session.discard();
    session.set("n", &1_i64).unwrap();
    held.release();
    bench.settled().await;
    assert!(given(&session).await.is_none());
    let next = bench.comes(&cookie).await;
    assert!(!next.is_new(), "the discarded login has ended it");
    assert_eq!(number(&next, "n"), Some(1));
}

#[rocket::async_test]
async fn login_that_fails_after_a_save_of_unknown_outcome() {
    let (bench, cookie) = plain_session_to_seal().await;
    let session = bench.comes(&cookie).await;
    session.set("n", &2_i64).unwrap();
    let held = bench.store.hold("update"); // of the data key
    let mut save = Box::pin(session.save());
    begin(save.as_mut(), &held).await;
    session.login(1).unwrap();
    bench.store.next("update", Fault::LosesReply);
    held.release();
    assert!(matches!(save.await, Err(Error::Unknown { .. })));
    bench.store.next("insert", Fault::Fails);
    assert!(session.save().await.is_err());
    session.set("n", &1_i64).unwrap();
    session.finish().await.unwrap();
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(1));
}

#[rocket::async_test]
async fn login_that_fails_after_a_modify() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    let held = bench.store.hold("update");
    let logs_in = async {
        held.has_come().await;
        session.login(1).unwrap();
        held.release();
    };
    let (modified, ()) = rocket::tokio::join!(session.modify("n", |_: Option<i64>| 3), logs_in);
    assert_eq!(modified.unwrap(), 3);
    bench.store.next("insert", Fault::Fails);
    assert!(session.save().await.is_err());
    assert_eq!(number(&session, "n"), Some(3));
    session.set("n", &1_i64).unwrap();
    session.finish().await.unwrap();
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(1));
}

/// The save has resent the browser's cookie, which another request replaces.
#[rocket::async_test]
async fn cookie_of_a_save_that_was_replaced_during_a_revoked_login() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[]).await;
    let session = bench.comes(&old).await;
    session.touch();
    session.save().await.unwrap();
    session.login(2).unwrap();
    bench.sessions.of(2).revoke_all().await.unwrap();
    let other = bench.comes(&old).await;
    other.elevate().unwrap();
    assert!(given(&other).await.is_some());
    let sent = given(&session).await;
    assert!(sent.is_none(), "it overwrites the elevated one");
}

#[rocket::async_test]
async fn cookie_of_a_renewal_is_sent_after_a_revoked_login() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    session.renew().unwrap();
    session.save().await.unwrap();
    session.login(2).unwrap();
    bench.sessions.of(2).revoke_all().await.unwrap();
    let sent = given(&session).await.expect("a cookie");
    assert_eq!(number(&bench.comes(&sent).await, "n"), Some(1));
}

#[rocket::async_test]
async fn cookie_of_a_renewal_that_is_stored_during_a_revoked_login() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    session.renew().unwrap();
    let held = bench.store.hold("update");
    drop_save(&session, &held).await;
    session.login(2).unwrap();
    bench.sessions.of(2).revoke_all().await.unwrap();
    held.release();
    bench.settled().await;
    let sent = given(&session).await.expect("a cookie");
    assert_eq!(number(&bench.comes(&sent).await, "n"), Some(1));
}

/// The session of the save is not the one that the browser's cookie names.
#[rocket::async_test]
async fn cookie_that_was_dead_is_not_forgotten_when_a_new_session_ends() {
    let bench = Bench::new();
    let dead = bench.begun(None, &[("n", 1)]).await;
    bench.sessions.revoke(dead.id.as_str()).await.unwrap();
    let session = bench.comes(&dead).await;
    session.set("a", &1).unwrap();
    session.save().await.unwrap();
    let stored = session.id().unwrap();
    bench.sessions.revoke(&stored).await.unwrap();
    session.set("a", &2).unwrap();
    assert!(matches!(session.save().await, Err(Error::Gone)));
    let other = bench.comes(&dead).await;
    other.login(1).unwrap();
    assert!(given(&other).await.is_some());
    bench.advance(1);
    session.set("a", &3).unwrap();
    let sent = given(&session).await;
    assert!(sent.is_none(), "it overwrites the login's");
}

#[rocket::async_test]
async fn value_that_is_removed_while_its_session_is_not_stored() {
    let bench = Bench::new();
    let session = bench.session();
    session.set("a", &1).unwrap();
    let held = bench.store.hold_to_fail("insert");
    let mut save = Box::pin(session.save());
    begin(save.as_mut(), &held).await;
    session.remove("a");
    held.release();
    assert!(save.await.is_err());
    assert!(given(&session).await.is_none(), "an empty session");
    assert!(bench.stored().await.is_empty());
}

/// The first login has stored its session, which the second one replaces.
#[rstest]
#[test_attr(rocket::async_test)]
#[case(false)]
#[case(true)]
async fn login_during_the_save_of_another_login(#[case] fails: bool) {
    let bench = Bench::new();
    let old = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    session.login_keeping(1, &["n"]).unwrap();
    let held = bench.store.hold("insert");
    drop_save(&session, &held).await;
    session.login_keeping(2, &["n"]).unwrap();
    let other = bench.comes(&old).await;
    other.increment("n", 1).unwrap();
    other.finish().await.unwrap();
    held.release();
    bench.settled().await;
    assert_eq!(number(&session, "n"), Some(2));
    if fails {
        bench.store.next("insert", Fault::Fails);
        assert!(session.save().await.is_err());
    }
    let sent = given(&session).await.expect("a cookie");
    let next = bench.comes(&sent).await;
    let user = if fails { 1 } else { 2 };
    assert_eq!(next.user::<i32>().unwrap(), Some(user));
    assert_eq!(number(&next, "n"), Some(2));
    assert_eq!(bench.stored().await.len(), 1);
}

/// The save of the first login fails, so that what it carried is not stored.
#[rocket::async_test]
async fn login_during_the_save_of_another_login_that_fails() {
    let bench = Bench::new();
    let old = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    session.login_keeping(1, &["n"]).unwrap();
    session.set("n", &2_i64).unwrap();
    let held = bench.store.hold_to_fail("insert");
    let mut save = Box::pin(session.save());
    begin(save.as_mut(), &held).await;
    session.login_keeping(2, &["n"]).unwrap();
    session.set("n", &2_i64).unwrap();
    held.release();
    assert!(save.await.is_err());
    let sent = given(&session).await.expect("a cookie");
    assert_eq!(number(&bench.comes(&sent).await, "n"), Some(2));
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(false)]
#[case(true)]
async fn cookie_of_a_renewal_is_sent_after_a_login_during_it(#[case] fails: bool) {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    session.renew().unwrap();
    let held = bench.store.hold("update");
    let mut save = Box::pin(session.save());
    begin(save.as_mut(), &held).await;
    session.login(2).unwrap();
    if !fails {
        session.discard();
    }
    held.release();
    save.await.unwrap();
    if fails {
        bench.store.next("insert", Fault::Fails);
        assert!(session.save().await.is_err());
    }
    let sent = given(&session).await.expect("a cookie");
    assert_eq!(number(&bench.comes(&sent).await, "n"), Some(1));
}

#[rocket::async_test]
async fn login_shows_what_a_modify_before_it_stores() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    let held = bench.store.hold("update");
    let logs_in = async {
        held.has_come().await;
        session.login_keeping(1, &["n"]).unwrap();
        held.release();
    };
    let (modified, ()) = rocket::tokio::join!(session.modify("n", |_: Option<i64>| 3), logs_in);
    assert_eq!(modified.unwrap(), 3);
    assert_eq!(number(&session, "n"), Some(3));
    let sent = given(&session).await.expect("a cookie");
    assert_eq!(number(&bench.comes(&sent).await, "n"), Some(3));
}
