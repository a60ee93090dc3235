//! Requests that seal beside requests, and processes, that do not or did not yet.

use rstest::rstest;

use super::*;

/// The renewal would leave the key wrapped under the old secret, which is lost.
#[rocket::async_test]
async fn renewal_wraps_a_key_that_the_session_got_meanwhile() {
    for elevate in [false, true] {
        for seals in [false, true] {
            let plain = Bench::with(|config| config.seal = false);
            let (sealing, renewing) = (plain.beside(true), plain.beside(seals));
            let token = plain.begun(Some(1), &[("n", 1)]).await;
            let session = renewing.comes(&token).await;
            let other = sealing.comes(&token).await;
            other.increment("n", 1).unwrap();
            other.finish().await.unwrap();
            match elevate {
                true => session.elevate().unwrap(),
                false => session.renew().unwrap(),
            }
            let token = given(&session).await.expect("a cookie");
            for process in [&plain, &sealing] {
                assert_eq!(number(&process.comes(&token).await, "n"), Some(2));
            }
        }
    }
}

#[rocket::async_test]
async fn one_of_two_requests_gives_the_session_its_key() {
    let plain = Bench::with(|config| config.seal = false);
    let sealing = plain.beside(true);
    let token = plain.begun(Some(1), &[("n", 1)]).await;
    let (first, second) = (sealing.comes(&token).await, sealing.comes(&token).await);
    first.increment("n", 10).unwrap();
    second.increment("n", 100).unwrap();
    second.set("m", &2).unwrap();
    let held = plain.store.hold("update");
    let other = async {
        held.has_come().await;
        second.finish().await.unwrap();
        held.release();
    };
    let (finished, ()) = rocket::tokio::join!(first.finish(), other);
    finished.unwrap();
    let session = plain.comes(&token).await;
    assert_eq!(
        (number(&session, "n"), number(&session, "m")),
        (Some(111), Some(2))
    );
}

#[rocket::async_test]
async fn request_whose_token_was_replaced_does_not_write_what_it_cannot_seal() {
    for modifies in [false, true] {
        let plain = Bench::with(|config| config.seal = false);
        let sealing = plain.beside(true);
        let token = plain.begun(Some(1), &[("n", 1)]).await;
        let late = sealing.comes(&token).await;
        let other = sealing.comes(&token).await;
        other.elevate().unwrap();
        let elevated = given(&other).await.unwrap();
        let gone = match modifies {
            true => late.modify("n", |_: Option<i64>| 5).await.map(|_| ()),
            false => {
                late.set("n", &5).unwrap();
                late.save().await
            }
        };
        assert!(matches!(gone, Err(Error::Gone)));
        let session = sealing.comes(&elevated).await;
        assert_eq!(number(&session, "n"), Some(1));
        session.set("n", &7).unwrap();
        session.finish().await.unwrap();
        assert!(is_sealed(
            document(&plain, &elevated)
                .await
                .get_document("value")
                .unwrap()
                .get("n")
                .unwrap()
        ));
    }
}

/// A request with the key continues to write after its token was replaced, as it does unsealed.
#[rocket::async_test]
async fn request_whose_token_was_replaced_still_stores_values_with_the_key() {
    let bench = sealing();
    let token = bench.begun(Some(1), &[("n", 1)]).await;
    let late = bench.comes(&token).await;
    let other = bench.comes(&token).await;
    other.elevate().unwrap();
    let elevated = given(&other).await.unwrap();
    late.increment("n", 5).unwrap();
    assert!(given(&late).await.is_none(), "but gets no cookie");
    assert_eq!(number(&bench.comes(&elevated).await, "n"), Some(6));
}

#[rocket::async_test]
async fn value_that_another_process_stored_in_the_other_form_is_counted_in() {
    for seals in [false, true] {
        let plain = Bench::with(|config| config.seal = false);
        let (one, other) = (plain.beside(seals), plain.beside(!seals));
        let token = plain.begun(Some(1), &[("n", 1)]).await;
        let late = one.comes(&token).await;
        let session = other.comes(&token).await;
        session.set("n", &10).unwrap();
        session.push("list", "a").unwrap();
        session.finish().await.unwrap();
        late.increment("n", 1).unwrap();
        late.push("list", "b").unwrap();
        late.flash("c").unwrap();
        late.finish().await.unwrap();
        let session = other.comes(&token).await;
        assert_eq!(number(&session, "n"), Some(11));
        assert_eq!(
            session.get::<Vec<String>>("list").unwrap().unwrap(),
            ["a", "b"]
        );
        assert_eq!(session.pop_flash::<String>().await.unwrap(), ["c"]);
    }
}

/// One value that the server cannot count in is known, and another has become one meanwhile.
#[rocket::async_test]
async fn values_that_were_sealed_before_and_after_the_load_are_counted_in() {
    let plain = Bench::with(|config| config.seal = false);
    let sealing = plain.beside(true);
    let token = sealing.begun(Some(1), &[("n", 1)]).await;
    let late = plain.comes(&token).await;
    let other = sealing.comes(&token).await;
    other.push("list", "a").unwrap();
    other.increment("m", 1).unwrap();
    other.finish().await.unwrap();
    late.increment("n", 1).unwrap();
    late.increment("m", 1).unwrap();
    late.push("list", "b").unwrap();
    late.finish().await.unwrap();
    let session = sealing.comes(&token).await;
    assert_eq!(
        (number(&session, "n"), number(&session, "m")),
        (Some(2), Some(2))
    );
    let list = session.get::<Vec<String>>("list").unwrap();
    assert_eq!(list.unwrap(), ["a", "b"]);
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(false, true, true)]
#[case(false, true, false)]
#[case(true, false, true)]
#[case(true, true, true)]
#[case(true, true, false)]
async fn login_carries_over_what_others_sealed_or_stored_plain_meanwhile(
    #[case] old_seals: bool,
    #[case] late_seals: bool,
    #[case] login_seals: bool,
) {
    let bench = Bench::with(|config| config.seal = old_seals);
    let (late, login) = (bench.beside(late_seals), bench.beside(login_seals));
    let token = bench.begun(None, &[("n", 1), ("m", 2)]).await;
    let session = login.comes(&token).await;
    session.increment("n", 1).unwrap();
    session.login_keeping(7, &["n", "m"]).unwrap();
    session.increment("n", 100).unwrap();
    let other = late.comes(&token).await;
    other.increment("n", 10).unwrap();
    other.set("m", &20).unwrap();
    other.finish().await.unwrap();
    let token = given(&session).await.unwrap();
    let stored = document(&bench, &token).await;
    for (key, value) in stored.get_document("value").unwrap() {
        assert_eq!(is_sealed(value), login_seals, "{key}");
    }
    assert_eq!(stored.contains_key("seal"), login_seals);
    let session = bench.comes(&token).await;
    let read = (number(&session, "n"), number(&session, "m"));
    assert_eq!(read, (Some(112), Some(20)));
}

/// The save gives the session its key, and a modification in the same request runs at the same time.
#[rocket::async_test]
async fn save_and_modify_of_one_request_share_the_key() {
    let plain = Bench::with(|config| config.seal = false);
    let sealing = plain.beside(true);
    let token = plain.begun(Some(1), &[("n", 1)]).await;
    let session = sealing.comes(&token).await;
    session.set("a", &1).unwrap();
    let held = plain.store.hold("update");
    let modifies = async {
        held.has_come().await;
        let modify = session.modify("n", |n: Option<i64>| n.unwrap() + 1);
        let (modified, ()) = rocket::tokio::join!(modify, async { held.release() });
        assert_eq!(modified.unwrap(), 2);
    };
    let (saved, ()) = rocket::tokio::join!(session.save(), modifies);
    saved.unwrap();
    assert_eq!(
        (number(&session, "a"), number(&session, "n")),
        (Some(1), Some(2))
    );
    session.increment("n", 1).unwrap();
    session.renew().unwrap();
    let token = given(&session).await.unwrap();
    let session = sealing.comes(&token).await;
    assert_eq!(
        (number(&session, "a"), number(&session, "n")),
        (Some(1), Some(3))
    );
}

#[rocket::async_test]
async fn key_whose_update_loses_its_reply_is_used_by_the_next_request() {
    let plain = Bench::with(|config| config.seal = false);
    let sealing = plain.beside(true);
    for fault in [Fault::LosesReply, Fault::Fails] {
        let token = plain.begun(Some(1), &[("n", 1)]).await;
        let session = sealing.comes(&token).await;
        session.increment("n", 1).unwrap();
        plain.store.next("update", fault);
        assert!(session.finish().await.is_err());
        let session = sealing.comes(&token).await;
        assert_eq!(number(&session, "n"), Some(1), "nothing else was written");
        session.increment("n", 1).unwrap();
        session.finish().await.unwrap();
        assert_eq!(number(&plain.comes(&token).await, "n"), Some(2));
    }
}

// ---- sizes, equality and cost
