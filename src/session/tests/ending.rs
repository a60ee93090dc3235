//! A session that ended stays ended, and what a login keeps of it.

use rocket::http::uri::Origin;
use rstest::rstest;

use super::*;
use crate::store::Durability;

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

/// Another process has the longer timeout that applied before: what is stored lets the session live on.
#[rstest]
#[test_attr(rocket::async_test)]
#[case(Late::Write)]
#[case(Late::Modify)]
async fn session_that_has_expired_by_the_configuration_is_not_revived(#[case] late: Late) {
    let bench = Bench::new();
    let cookie = bench.begun(Some(1), &[("n", 1)]).await;
    let mut config = Config::default_for(&rocket::Config::DEBUG_PROFILE);
    (config.seal, config.timeout) = (
        bench.sessions.core.config.seal,
        Some(Duration::from_secs(60)),
    );
    let short = Bench::on(
        bench.store.clone(),
        bench.sessions.core.clock.clone(),
        config,
    );
    let session = short.comes(&cookie).await;
    short.advance(61);
    match late {
        Late::Modify => {
            let modified = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 1);
            assert!(matches!(modified.await, Err(Error::Gone)));
        }
        _ => session.set("n", &2).unwrap(),
    }
    session.finish().await.unwrap();
    let core = &short.sessions.core;
    let document = bench.store.load(cookie.id.as_str()).await.unwrap();
    let record = document
        .and_then(|document| core.read(document))
        .expect("a record");
    assert!(record.meta.is_expired(&core.config, core.now()), "{late:?}");
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
async fn second_login_of_a_replaced_request_keeps_its_own_changes() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[("n", 1), ("m", 1)]).await;
    let first = bench.comes(&old).await;
    first.login_keeping(1, &["n", "m"]).unwrap();
    first.finish().await.unwrap();
    let session = bench.comes(&old).await;
    session.increment("n", 1).unwrap();
    session.set("m", &9).unwrap();
    session.login_keeping(1, &["n", "m"]).unwrap();
    let cookie = given(&session).await.expect("a cookie");
    let session = bench.comes(&cookie).await;
    assert_eq!(
        (number(&session, "n"), number(&session, "m")),
        (Some(2), Some(9))
    );
}

/// With `max_per_user`, as everything that a login that failed must not have done.
#[rocket::async_test]
async fn login_that_is_rolled_back_ends_no_other_device() {
    let bench = Bench::with(|config| config.max_per_user = Some(1));
    let device = bench.begun(Some(1), &[]).await;
    bench.settled().await;
    let old = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    session.logout().unwrap();
    session.login(1).unwrap();
    bench.store.next("delete", Fault::Fails);
    assert!(session.finish().await.is_err());
    bench.settled().await;
    assert!(!bench.comes(&device).await.is_new());
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

#[rocket::async_test]
async fn what_follows_a_login_that_is_logged_out_ends() {
    let bench = Bench::new();
    let session = bench.session();
    session.login(1).unwrap();
    let ended = session.ended();
    session.logout().unwrap();
    session.flash("bye").unwrap();
    assert!(given(&session).await.is_some());
    assert_eq!(ended.await, crate::End::Gone);
}

/// One request is slow, another one shortens the session's life, and the session ends.
#[rocket::async_test]
async fn slow_requests_do_not_revive_a_session_that_another_one_has_shortened() {
    let change: fn(&Session) = |session| session.set("n", &2).unwrap();
    for (late, reads) in [(change, false), ((|_| {}) as fn(&Session), true)] {
        let bench = Bench::with(|config| config.timeout = Some(Duration::from_secs(3600)));
        let cookie = bench.begun(Some(1), &[("n", 1)]).await;
        let (first, second) = (bench.comes(&cookie).await, bench.comes(&cookie).await);
        let short = bench.comes(&cookie).await;
        short.set_timeout(Some(Duration::from_secs(5))).unwrap();
        short.finish().await.unwrap();
        bench.advance(3);
        first.set("a", &1).unwrap();
        first.finish().await.unwrap();
        bench.advance(60);
        late(&second);
        second.finish().await.unwrap();
        bench.settled().await;
        let core = &bench.sessions.core;
        let record = core.load(&cookie.id).await.unwrap();
        let is_alive =
            |record: crate::record::Record| !record.meta.is_expired(&core.config, core.now());
        assert!(!record.is_some_and(is_alive), "reads: {reads}");
    }
}

/// The response waits for it until the deadline.
#[rocket::async_test]
async fn logout_is_carried_out_while_an_earlier_save_does_not_end() {
    let bench = Bench::with(|config| config.deadline = Duration::from_millis(100));
    let cookie = bench.begun(Some(1), &[]).await;
    let session = bench.comes(&cookie).await;
    let _save = session.shared.acquire_permit(Duration::MAX).await;
    session.logout().unwrap();
    let finished = session.finish().await;
    assert!(matches!(finished, Err(Error::Unknown { .. })));
    assert!(bench.stored().await.is_empty());
}

#[rocket::async_test]
async fn login_that_is_stored_after_a_logout_and_the_response_ends() {
    let bench = Bench::new();
    let session = bench.session();
    session.login(1).unwrap();
    let held = bench.store.hold("insert");
    let response = async {
        held.has_come().await;
        session.logout().unwrap();
        session.lock().state.is_committed = true; // as the response does that has waited too long
        held.release();
    };
    let _ = rocket::tokio::join!(session.save(), response);
    assert!(bench.stored().await.is_empty());
}

#[rocket::async_test]
async fn address_to_return_to_outlives_a_logout_and_a_save() {
    let bench = Bench::new();
    let session = bench.session();
    let page = Origin::parse("/orders").unwrap();
    session.set_return_to(&page).unwrap();
    let cookie = given(&session).await.expect("a cookie");
    let session = bench.comes(&cookie).await;
    session.logout().unwrap();
    session.set("n", &1).unwrap();
    session.save().await.unwrap();
    session.login(1).unwrap();
    let cookie = given(&session).await.expect("a cookie");
    let session = bench.comes(&cookie).await;
    assert_eq!(session.take_return_to(), Some(page));
}

/// It would overwrite the cookie of the login.
#[rocket::async_test]
async fn request_with_several_cookies_stores_nothing_once_a_login_has_replaced_them() {
    let bench = Bench::new();
    let both = [
        bench.begun(Some(1), &[]).await,
        bench.begun(Some(1), &[]).await,
    ];
    let slow = bench.comes_with_all(&both);
    let login = bench.comes_with_all(&both);
    login.login(2).unwrap();
    let cookie = given(&login).await.expect("a cookie");
    slow.set("n", &1).unwrap();
    assert!(given(&slow).await.is_none());
    let left = bench.stored().await;
    assert!(left.len() == 1 && left[0].id() == Some(cookie.id.as_str()));
}

/// A failover may bring it back.
#[rocket::async_test]
async fn logout_deletes_a_session_that_was_not_there_when_it_was_loaded() {
    let bench = Bench::new();
    let cookie = bench.begun(Some(1), &[]).await;
    let document = bench.store.load(cookie.id.as_str()).await.unwrap();
    let other = bench.comes(&cookie).await;
    other.logout().unwrap();
    other.finish().await.unwrap();
    let session = bench.comes(&cookie).await;
    let back = vec![document.unwrap()];
    bench.store.insert(back, Durability::Data).await.unwrap();
    session.logout().unwrap();
    session.finish().await.unwrap();
    assert!(bench.comes(&cookie).await.is_new());
    assert!(bench.stored().await.is_empty());
}

/// A client that has a cookie of before the login gets nothing that was stored since.
#[rstest]
#[test_attr(rocket::async_test)]
#[case(false)]
#[case(true)]
async fn cookie_of_before_a_login_shows_nothing_that_it_has_set(#[case] before: bool) {
    let bench = Bench::new();
    let old = bench.begun(None, &[("basket", 1)]).await;
    let victim = bench.comes(&old).await;
    if before {
        victim.set("basket", &99).unwrap();
    }
    victim.login_keeping(1, &["basket"]).unwrap();
    if !before {
        victim.set("basket", &99).unwrap();
    }
    given(&victim).await.expect("a cookie");
    let thief = bench.comes(&old).await;
    assert_eq!(thief.why_new(), Some(NewReason::Replaced));
    thief.login_keeping(2, &["basket"]).unwrap();
    let cookie = given(&thief).await.expect("a cookie");
    assert_eq!(
        number(&bench.comes(&cookie).await, "basket"),
        Some(1),
        "{before}"
    );
}

#[rocket::async_test]
async fn second_login_keeps_what_the_first_has_taken() {
    let bench = Bench::new();
    let old = bench.begun(None, &[("draft", 1)]).await;
    let first = bench.comes(&old).await;
    first.set_return_to(&Origin::parse("/a").unwrap()).unwrap();
    first.finish().await.unwrap();
    let first = bench.comes(&old).await;
    first.login_keeping(1, &["draft"]).unwrap();
    assert_eq!(first.take::<i64>("draft").unwrap(), Some(1));
    assert!(first.take_return_to().is_some());
    given(&first).await.expect("a cookie");
    let second = bench.comes(&old).await;
    second.login_keeping(1, &["draft"]).unwrap();
    assert!(second.take_return_to().is_some());
    assert_eq!(number(&second, "draft"), Some(1));
}

#[rocket::async_test]
async fn login_over_an_expired_session_ends_it() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[]).await;
    let session = bench.arrived(LoadOutcome::Dead(old.id.clone(), NewReason::Expired));
    session.login(1).unwrap();
    given(&session).await.expect("a cookie");
    let stored = bench.stored().await.len();
    assert_eq!(stored, 1, "by the clock of another process it lives");
}

/// The login has met one tombstone, of an earlier login, and has stored the other itself.
#[rocket::async_test]
async fn login_that_fails_removes_its_tombstone_beside_that_of_another() {
    let bench = Bench::new();
    let both = [
        bench.begun(None, &[("n", 1)]).await,
        bench.begun(None, &[("n", 1)]).await,
    ];
    let failing = bench.comes_with_all(&both);
    let login = bench.comes(&both[0]).await;
    login.login(1).unwrap();
    assert!(given(&login).await.is_some());
    failing.login(2).unwrap();
    bench.sessions.of(2).revoke_all().await.unwrap();
    assert!(given(&failing).await.is_none());
    let of = |token: &Token| tombstone::id_of(&token.id);
    let left = both.each_ref().map(of).to_vec();
    let left = bench.store.load_many(left).await.unwrap();
    let left: Vec<_> = left.iter().filter_map(Document::id).collect();
    assert_eq!(left, [of(&both[0])]);
}

#[rocket::async_test]
async fn logout_after_a_saved_login_over_a_dead_cookie_starts_a_new_session() {
    let bench = Bench::new();
    let dead = LoadOutcome::Dead(
        crate::record::token::Id::draw().unwrap(),
        NewReason::Expired,
    );
    let session = bench.arrived(dead);
    session.login(1).unwrap();
    session.save().await.unwrap();
    session.logout().unwrap();
    session.set("n", &1).unwrap();
    let cookie = given(&session).await.expect("a cookie");
    let session = bench.comes(&cookie).await;
    assert_eq!(number(&session, "n"), Some(1));
    assert_eq!(session.user::<i32>().unwrap(), None);
    assert_eq!(bench.stored().await.len(), 1);
}
