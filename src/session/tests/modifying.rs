//! `modify` and pops: a compare-and-set of one value, beside what else the request does.

use rstest::rstest;

use super::*;

#[rocket::async_test]
async fn modify_and_pop_leave_settings_pending() {
    let bench = Bench::new();
    let session = bench.session();
    session.set("n", &1).unwrap();
    session.flash("hello").unwrap();
    session.save().await.unwrap();

    session.set_timeout(None).unwrap();
    session.set_max_age(Some(Duration::from_secs(60))).unwrap();
    session.renew().unwrap();
    let csrf = session.new_csrf_token();
    session
        .modify("n", |n: Option<i32>| n.unwrap_or(0) + 1)
        .await
        .unwrap();
    assert_eq!(session.pop_flash::<String>().await.unwrap(), ["hello"]);
    assert!(session.verify_csrf(&csrf), "a page was given it");
    let sent = session.finish().await.unwrap();
    assert!(matches!(sent, CookieChange::Send(_, Some(_))));

    let stored = bench.stored().await;
    let field = |name| stored[0].get(name).map(|value| value.to_raw_bson());
    assert_eq!(field("timeout"), Some(RawBson::Boolean(false)));
    assert_eq!(field("max_age"), Some(RawBson::Double(60.0)));
    assert!(field("renewed").is_some());
    assert!(session.verify_csrf(&csrf));
}

#[rocket::async_test]
async fn modify_that_fails_drops_no_earlier_change() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    let large = "x".repeat(600 << 10);
    session.set("a", &large).unwrap();
    let grown = session.modify("b", |_: Option<String>| large.clone()).await;
    assert!(
        matches!(grown, Err(Error::TooLarge { .. })),
        "both are too much"
    );
    session.finish().await.unwrap();
    let session = bench.comes(&cookie).await;
    assert_eq!(session.get("a").unwrap(), Some(large));
    assert!(!session.contains("b"));
}

#[rocket::async_test]
async fn lost_save_before_a_modify_counts_once() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 0)]).await;
    let session = bench.comes(&cookie).await;
    session.increment("n", 1).unwrap();
    bench.store.next("update", Fault::LosesReply);
    let open = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 1);
    assert!(matches!(open.await, Err(Error::Unknown { .. })));
    assert!(matches!(session.finish().await, Err(Error::Unknown { .. })));
    let session = bench.comes(&cookie).await;
    let n = number(&session, "n");
    assert_eq!(
        n,
        Some(1),
        "the earlier change was saved first, and its reply was lost"
    );
}

/// The handler may continue without the value, but the response must not be a success without the rest.
#[rocket::async_test]
async fn modify_that_cannot_save_the_earlier_changes_fails_the_response() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 0)]).await;
    let session = bench.comes(&cookie).await;
    session.increment("n", 1).unwrap();
    session.set("cart", &1).unwrap();
    bench.store.next("update", Fault::Fails);
    let failed = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 1);
    assert!(matches!(failed.await, Err(Error::Store { .. })));
    assert!(matches!(session.finish().await, Err(Error::Store { .. })));
    let session = bench.comes(&cookie).await;
    assert_eq!(
        (number(&session, "n"), number(&session, "cart")),
        (Some(0), None)
    );
}

#[rocket::async_test]
async fn pop_that_cannot_save_the_earlier_changes_fails_the_response() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.set("cart", &1).unwrap();
    session.flash("Saved.").unwrap();
    bench.store.next("update", Fault::Fails);
    assert!(session.pop_flash::<String>().await.is_err());
    assert!(session.finish().await.is_err());
}

#[rocket::async_test]
async fn modify_that_cannot_save_a_login_fails_the_response() {
    let bench = Bench::new();
    let old = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    session.login_keeping(1, &["n"]).unwrap();
    bench.store.next("insert", Fault::Fails);
    let failed = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 1);
    assert!(failed.await.is_err());
    assert!(session.finish().await.is_err(), "the login was not stored");
}

#[rocket::async_test]
async fn modify_of_a_renewed_session_drops_no_other_change() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    session.set("cart", &1).unwrap();
    let other = bench.comes(&old).await;
    other.renew().unwrap();
    let renewed = given(&other).await.expect("a cookie");
    let modified = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 1);
    assert!(matches!(modified.await, Err(Error::Gone)));
    assert!(given(&session).await.is_none());
    let session = bench.comes(&renewed).await;
    assert_eq!(
        (number(&session, "n"), number(&session, "cart")),
        (Some(1), Some(1))
    );
}

#[rocket::async_test]
async fn login_after_a_modify_of_a_renewed_session_ends_that_session() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    let other = bench.comes(&old).await;
    other.renew().unwrap();
    let renewed = given(&other).await.expect("a cookie");
    let modified = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 1);
    assert!(matches!(modified.await, Err(Error::Gone)));
    session.login(2).unwrap();
    assert!(given(&session).await.is_some());
    assert!(bench.comes(&renewed).await.is_new());
    assert_eq!(bench.stored().await.len(), 1);
}

/// On a stored session it works.
#[rocket::async_test]
async fn modify_whose_closure_uses_a_new_session_ends() {
    let bench = Bench::new();
    let session = bench.session();
    let modified = session.modify("n", |n: Option<i64>| {
        let _ = session.increment("calls", 1);
        n.unwrap_or(0) + 1
    });
    assert!(matches!(modified.await, Err(Error::Store { .. })));
}

/// The browser may have the new one by now.
#[rstest]
#[test_attr(rocket::async_test)]
#[case::by_the_commit(false)]
#[case::without_a_commit(true)]
async fn cookie_of_a_save_is_not_sent_once_the_token_was_replaced(#[case] is_discarded: bool) {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    session.touch();
    session.save().await.unwrap();
    let other = bench.comes(&old).await;
    other.renew().unwrap();
    other.finish().await.unwrap();
    session.set("cart", &1).unwrap();
    let modified = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 1);
    assert!(matches!(modified.await, Err(Error::Gone)));
    if is_discarded {
        session.discard();
    }
    assert!(given(&session).await.is_none());
}

#[rocket::async_test]
async fn cookie_of_a_save_is_proven_again_by_the_commit() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[]).await;
    for renews in [false, true] {
        let session = bench.comes(&old).await;
        session.touch();
        session.save().await.unwrap();
        if renews {
            let other = bench.comes(&old).await;
            other.renew().unwrap();
            other.finish().await.unwrap();
        }
        session.set("cart", &renews).unwrap();
        assert_eq!(given(&session).await.is_none(), renews);
        let stored = bench.store.load(old.id.as_str()).await.unwrap().unwrap();
        assert_eq!(stored.id(), Some(old.id.as_str()));
    }
}

/// What a login that fails must not have done.
#[rstest]
#[test_attr(rocket::async_test)]
#[case::its_insert("insert")]
#[case::its_look_for_revocations("ages")]
async fn failed_login_after_a_modify_of_a_renewed_session_ends_nothing(#[case] call: &'static str) {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    let other = bench.comes(&old).await;
    other.renew().unwrap();
    let renewed = given(&other).await.expect("a cookie");
    let modified = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 1);
    assert!(modified.await.is_err());
    session.login(2).unwrap();
    bench.store.next(call, Fault::Fails);
    assert!(session.finish().await.is_err());
    bench.settled().await;
    assert!(!bench.comes(&renewed).await.is_new());
}

/// The response is an error in any case.
#[rocket::async_test]
async fn login_after_a_modify_that_could_not_save_is_dropped() {
    let bench = Bench::with(|config| config.max_per_user = Some(1));
    let device = bench.begun(Some(1), &[]).await;
    bench.settled().await;
    let old = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    session.set("n", &2).unwrap();
    bench.store.next("update", Fault::Fails);
    let failed = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 1);
    assert!(failed.await.is_err());
    session.login(1).unwrap();
    assert!(session.finish().await.is_err());
    bench.settled().await;
    for cookie in [&device, &old] {
        assert!(!bench.comes(cookie).await.is_new());
    }
}

#[rocket::async_test]
async fn compare_and_set_that_loses_to_an_equal_value_continues() {
    // The server cannot append to an opaque list, so it goes by compare-and-set.
    let bench = Bench::with(|config| config.encoding = Encoding::Binary);
    let session = bench.session();
    session.set("list", &[1_i64]).unwrap();
    let cookie = given(&session).await.expect("a cookie");
    let session = bench.comes(&cookie).await;
    session.push("list", &2_i64).unwrap();
    bench.store.next("update", Fault::Misses);
    session.finish().await.unwrap();
    let list: Option<Vec<i64>> = bench.comes(&cookie).await.get("list").unwrap();
    assert_eq!(list, Some(vec![1, 2]));
}

#[rocket::async_test]
async fn nan_is_taken_and_modified() {
    let bench = Bench::new();
    let session = bench.session();
    session.set("a", &f64::NAN).unwrap();
    session.set("b", &f64::NAN).unwrap();
    let cookie = given(&session).await.expect("a cookie");
    let session = bench.comes(&cookie).await;
    assert!(session.take::<f64>("a").unwrap().is_some_and(f64::is_nan));
    let kept = session.modify("b", |b: Option<f64>| b.unwrap_or(0.0));
    assert!(kept.await.unwrap().is_nan());
    let fresh = bench.session();
    fresh.set("c", &f64::NAN).unwrap();
    let kept = fresh.modify("c", |c: Option<f64>| c.unwrap_or(0.0));
    assert!(kept.await.unwrap().is_nan());
}

#[rocket::async_test]
async fn get_or_insert_over_a_mismatch_is_an_error() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1), ("m", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.increment("n", 1).unwrap();
    let other = bench.comes(&cookie).await;
    other.set("n", "text").unwrap();
    other.set("m", &2).unwrap();
    other.finish().await.unwrap();
    // The compare-and-set of `m` loses once, and loads what the other request has stored.
    session
        .modify("m", |m: Option<i64>| m.unwrap_or(0) + 1)
        .await
        .unwrap();
    let got = session.get_or_insert("n", 5_i64);
    assert!(matches!(got, Err(Error::Mismatch { .. })), "{got:?}");
    assert!(session.contains("n"));
    assert!(session.get::<i64>("n").is_err());
}

#[rocket::async_test]
async fn login_during_a_modify_of_an_ended_session_stands() {
    let bench = Bench::new();
    let old = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    bench
        .store
        .delete(Filter::id(old.id.as_str()))
        .await
        .unwrap();
    let held = bench.store.hold("update");
    let login = async {
        held.has_come().await;
        session.login(2).unwrap();
        held.release();
    };
    let modify = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 1);
    let (modified, ()) = rocket::tokio::join!(modify, login);
    assert!(matches!(modified, Err(Error::Gone)));
    let cookie = given(&session).await.expect("a cookie");
    assert_eq!(bench.comes(&cookie).await.user::<i32>().unwrap(), Some(2));
}

#[rocket::async_test]
async fn logout_during_a_modify_drops_what_it_saved() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    session.increment("n", 1).unwrap();
    let held = bench.store.hold("update");
    let logout = async {
        held.has_come().await;
        session.logout().unwrap();
        held.release();
    };
    let modify = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 1);
    let (modified, ()) = rocket::tokio::join!(modify, logout);
    assert!(matches!(modified, Err(Error::Gone)), "{modified:?}");
    assert!(given(&session).await.is_none());
    assert!(session.is_empty() && bench.stored().await.is_empty());
}

#[rocket::async_test]
async fn modify_of_a_kept_key_loses_no_change_of_another_request() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    session.login_keeping(2, &["n"]).unwrap();
    // Another tab, with the cookie of before the login.
    let other = bench.comes(&old).await;
    other.increment("n", 10).unwrap();
    other.finish().await.unwrap();
    let added = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 100);
    assert_eq!(added.await.unwrap(), 111);
    let cookie = given(&session).await.expect("a cookie");
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(111));
}

/// Runs a modification that comes while a save is in flight.
async fn modify_during_a_save(bench: &Bench, session: &Session) {
    let held = bench.store.hold("update");
    let modify = async {
        held.has_come().await;
        let add = |n: Option<i64>| n.unwrap_or(0) + 1;
        let release = async { held.release() };
        let (modified, ()) = rocket::tokio::join!(session.modify("n", add), release);
        assert_eq!(modified.unwrap(), 2);
    };
    let (saved, ()) = rocket::tokio::join!(session.save(), modify);
    saved.unwrap();
}

/// Runs a save that comes while a modification is in flight.
async fn save_during_a_modify(bench: &Bench, session: &Session) {
    let held = bench.store.hold("update");
    let save = async {
        held.has_come().await;
        let release = async { held.release() };
        let (saved, ()) = rocket::tokio::join!(session.save(), release);
        saved.unwrap();
    };
    let modify = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 1);
    let (modified, ()) = rocket::tokio::join!(modify, save);
    assert_eq!(modified.unwrap(), 2);
}

#[rocket::async_test]
async fn modify_beside_a_save_keeps_what_both_stored() {
    for save_is_first in [false, true] {
        let bench = Bench::new();
        let cookie = bench.begun(None, &[("n", 1)]).await;
        let session = bench.comes(&cookie).await;
        session.set("x", &1).unwrap();
        match save_is_first {
            true => modify_during_a_save(&bench, &session).await,
            false => save_during_a_modify(&bench, &session).await,
        }
        let seen = (number(&session, "n"), number(&session, "x"));
        assert_eq!(seen, (Some(2), Some(1)), "{save_is_first}");
        session.remove("x");
        session.finish().await.unwrap();
        let session = bench.comes(&cookie).await;
        let seen = (number(&session, "n"), number(&session, "x"));
        assert_eq!(seen, (Some(2), None), "{save_is_first}");
    }
}

#[rocket::async_test]
async fn opaque_save_beside_a_modify_keeps_what_both_stored() {
    let bench = Bench::with(|config| config.encoding = Encoding::Binary);
    let session = bench.session();
    session.set("list", &[1_i64]).unwrap();
    session.set("n", &1).unwrap();
    let cookie = given(&session).await.expect("a cookie");
    let session = bench.comes(&cookie).await;
    session.push("list", &2_i64).unwrap();
    save_during_a_modify(&bench, &session).await;
    assert_eq!(session.get("list").unwrap(), Some(vec![1_i64, 2]));
    session.set("n", &1).unwrap();
    session.finish().await.unwrap();
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(1));
}

/// A request's own save gives the session a new token, and its `modify` proves the session by that
/// one.
#[rocket::async_test]
async fn modify_beside_a_renewal_of_its_own_request_succeeds() {
    let elevate: fn(&Session) -> Result<()> = Session::elevate;
    for change in [Session::renew, elevate] {
        let bench = Bench::new();
        let old = bench.begun(Some(1), &[("n", 1)]).await;
        let session = bench.comes(&old).await;
        change(&session).unwrap();
        modify_during_a_save(&bench, &session).await;
        let cookie = given(&session).await.expect("a cookie");
        assert!(bench.comes(&old).await.is_new());
        assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(2));
    }
}

/// A future that is dropped while its write is in flight has changed the value, or will.
#[rocket::async_test]
async fn change_back_after_a_dropped_modify_is_stored() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    let held = bench.store.hold("update");
    rocket::tokio::select! {
        biased;
        () = held.has_come() => {}
        ended = session.modify("n", |_: Option<i64>| 3) => panic!("{ended:?}"),
    }
    session.set("n", &1).unwrap();
    losses::finish_during_a_save(&session, &held).await.unwrap();
    bench.settled().await;
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(1));
}

/// Of a future that is dropped, the write that has begun comes before later ones of the request: its
/// condition may hold after them as well.
#[rocket::async_test]
async fn later_change_is_stored_after_the_write_of_a_dropped_modify() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    let held = bench.store.hold("update");
    rocket::tokio::select! {
        biased;
        () = held.has_come() => {}
        ended = session.modify("k", |_: Option<i64>| 3) => panic!("{ended:?}"),
    }
    session.remove("k");
    losses::finish_during_a_save(&session, &held).await.unwrap();
    bench.settled().await;
    assert_eq!(number(&bench.comes(&cookie).await, "k"), None);
}

#[rocket::async_test]
async fn take_of_an_absent_key_during_its_modify_removes_nothing() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    let held = bench.store.hold("update");
    let take = async {
        held.has_come().await;
        assert_eq!(session.take::<i64>("k").unwrap(), None);
        held.release();
    };
    let (modified, ()) = rocket::tokio::join!(session.modify("k", |_: Option<i64>| 5), take);
    assert_eq!(modified.unwrap(), 5);
    session.finish().await.unwrap();
    assert_eq!(number(&bench.comes(&cookie).await, "k"), Some(5));
}
