//! A session that ended stays ended, and what a login keeps of it.

use rstest::rstest;

use super::*;

/// What a request does late in its life.
#[derive(Clone, Copy, Debug)]
enum Late {
    Read,
    Write,
    Modify,
    SetTimeout,
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(Late::Read)]
#[case(Late::Write)]
#[case(Late::Modify)]
#[case(Late::SetTimeout)]
async fn session_that_another_request_shortened_is_not_revived(#[case] late: Late) {
    let bench = Bench::new();
    let cookie = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    let other = bench.comes(&cookie).await;
    other.set_timeout(Some(Duration::from_secs(2))).unwrap();
    other.finish().await.unwrap();
    bench.advance(60);
    match late {
        Late::Read => {}
        Late::Write => session.set("n", &2).unwrap(),
        Late::Modify => {
            let modified = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 1);
            assert!(matches!(modified.await, Err(Error::Gone)));
        }
        Late::SetTimeout => session.set_timeout(None).unwrap(),
    }
    assert!(given(&session).await.is_none(), "{late:?}");
    bench.settled().await;
    let core = &bench.sessions.core;
    let document = bench.store.load(cookie.id.as_str()).await.unwrap();
    let record = document.and_then(|document| core.read(document));
    let is_over = record.is_none_or(|one| one.meta.is_expired(&core.config, core.now()));
    assert!(is_over, "{late:?}");
}

#[rocket::async_test]
async fn logout_ends_a_session_that_another_request_renewed() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    let other = bench.comes(&old).await;
    other.elevate().unwrap();
    let elevated = given(&other).await.expect("a cookie");
    let modified = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 1);
    assert!(matches!(modified.await, Err(Error::Gone)));
    session.logout().unwrap();
    session.finish().await.unwrap();
    assert!(bench.comes(&elevated).await.is_new());
}

#[rocket::async_test]
async fn login_after_a_logout_records_each_old_session_once() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    bench.sessions.revoke(old.id.as_str()).await.unwrap();
    let modified = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 1);
    assert!(matches!(modified.await, Err(Error::Gone)));
    session.logout().unwrap();
    session.login(2).unwrap();
    let before = bench.store.inserted().len();
    assert!(given(&session).await.is_some());
    let inserted = bench.store.inserted().split_off(before);
    assert_eq!(inserted.len(), 2, "the session and one tombstone");
}

#[rocket::async_test]
async fn second_login_of_a_replaced_request_keeps_what_was_set_since() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[("n", 1)]).await;
    let first = bench.comes(&old).await;
    first.login_keeping(1, &["n"]).unwrap();
    first.finish().await.unwrap();
    let session = bench.comes(&old).await;
    assert_eq!(session.why_new(), Some(NewReason::Replaced));
    session.login_keeping(2, &["n"]).unwrap();
    assert_eq!(number(&session, "n"), Some(1));
    session.set("n", &5).unwrap();
    session.login_keeping(3, &["n"]).unwrap();
    assert_eq!(number(&session, "n"), Some(5));
    let cookie = given(&session).await.expect("a cookie");
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(5));
}

#[rocket::async_test]
async fn saved_login_shows_what_other_requests_did_to_kept_keys() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    session.login_keeping(2, &["n"]).unwrap();
    let other = bench.comes(&old).await;
    other.increment("n", 10).unwrap();
    other.finish().await.unwrap();
    session.save().await.unwrap();
    assert_eq!(number(&session, "n"), Some(11));
    // The value of before is a change now.
    session.set("n", &1).unwrap();
    let cookie = given(&session).await.expect("a cookie");
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(1));
}
