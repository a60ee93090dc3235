//! Null, what errors say, logouts that keep values, and queues whose response may be unseen.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Serialize)]
struct Wrong {
    a: i32,
    b: &'static str,
}

#[derive(Deserialize, Debug)]
#[allow(dead_code)]
struct Wanted {
    a: i32,
    c: String,
}

#[derive(Deserialize, Debug)]
#[allow(dead_code)]
struct Numbers {
    a: i32,
    b: i32,
}

/// An element with a human-readable form, and with names that a client chooses.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
struct Entry {
    ip: IpAddr,
    args: BTreeMap<String, String>,
}

fn both() -> [Bench; 2] {
    [Encoding::Document, Encoding::Binary].map(|encoding| Bench::with(|c| c.encoding = encoding))
}

#[rocket::async_test]
async fn null_reads_as_none_and_counts_as_no_value() {
    for bench in both() {
        let session = bench.session();
        let nothing = None::<i32>;
        session.set("null", &nothing).unwrap();
        assert!(session.contains("null"));
        assert_eq!(session.get::<String>("null").unwrap(), None);
        assert_eq!(session.get::<Option<i32>>("null").unwrap(), Some(None));
        assert_eq!(session.get::<()>("null").unwrap(), Some(()));
        assert_eq!(session.take::<Wanted>("null").unwrap().map(|w| w.a), None);
        assert!(!session.contains("null"), "taken");
        session.set("null", &nothing).unwrap();
        assert_eq!(session.get_or_insert("null", 7).unwrap(), 7);
        assert_eq!(session.get::<i32>("null").unwrap(), Some(7));
        for is_stored in [false, true] {
            session.set("null", &nothing).unwrap();
            if is_stored {
                session.save().await.unwrap();
            }
            let add = |n: Option<i64>| n.unwrap_or(10) + 1;
            assert_eq!(session.modify("null", add).await.unwrap(), 11);
        }
        // A null inside of a value is that value's own.
        session.set("list", &[nothing]).unwrap();
        assert!(session.get::<Vec<i32>>("list").is_err());
    }
}

#[rocket::async_test]
async fn decode_keeps_serdes_reason_and_no_value() {
    for bench in both() {
        let session = bench.session();
        let wrong = Wrong { a: 1, b: "hunter2" };
        session.set("w", &wrong).unwrap();
        let missing = session.get::<Wanted>("w").unwrap_err();
        assert!(
            matches!(&missing, Error::Decode { reason, .. } if reason == "missing field `c`"),
            "{missing:?}"
        );
        assert!(missing.to_string().ends_with(": missing field `c`"));
        let ill_typed = session.get::<Numbers>("w").unwrap_err();
        assert!(
            matches!(&ill_typed, Error::Decode { reason, .. } if reason.starts_with("invalid type")),
            "{ill_typed:?}"
        );
        for error in [
            ill_typed,
            session.get::<i64>("w").unwrap_err(),
            session.get::<BTreeMap<String, i32>>("w").unwrap_err(),
            session.get::<std::net::IpAddr>("w").unwrap_err(),
        ] {
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}

#[rocket::async_test]
async fn modify_or_remove_removes_and_leaves_absent() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 2)]).await;
    for (stored, expected) in [(Some(2), Some(1)), (Some(1), None), (None, None)] {
        let session = bench.comes(&cookie).await;
        assert_eq!(number(&session, "n"), stored);
        let less = |n: Option<i64>| n.filter(|n| *n > 1).map(|n| n - 1);
        let left = session.modify_or_remove("n", less).await.unwrap();
        assert_eq!((left, number(&session, "n")), (expected, expected));
        session.finish().await.unwrap();
        assert_eq!(number(&bench.comes(&cookie).await, "n"), expected);
    }
    // On a session that is not stored.
    let session = bench.session();
    let none = session.modify_or_remove("n", |_: Option<i64>| None);
    assert_eq!(none.await.unwrap(), None);
    assert!(given(&session).await.is_none(), "nothing was changed");
}

#[rocket::async_test]
async fn modify_or_remove_tries_again_when_another_request_was_faster() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let (slow, fast) = (bench.comes(&cookie).await, bench.comes(&cookie).await);
    fast.increment("n", 1).unwrap();
    fast.finish().await.unwrap();
    let mut seen = Vec::new();
    let removes_one = |n: Option<i64>| {
        seen.push(n);
        n.filter(|n| *n > 1)
    };
    let left = slow.modify_or_remove("n", removes_one).await.unwrap();
    assert_eq!((left, seen), (Some(2), vec![Some(1), Some(2)]));
}

#[rocket::async_test]
async fn logout_keeping_ends_the_session_and_keeps_values_in_a_new_one() {
    let bench = Bench::new();
    let old = bench
        .begun(Some(1), &[("language", 1), ("basket", 2)])
        .await;
    let session = bench.comes(&old).await;
    session.flash("for alice").unwrap();
    session.set_timeout(None).unwrap();
    session.set("theme", &3).unwrap();
    let csrf = session.csrf_token();
    let keys = ["language", "theme", "absent"];
    session.logout_keeping(&keys).unwrap();
    assert!(session.is_new() && session.user::<i32>().unwrap().is_none());
    assert!(!session.verify_csrf(&csrf));
    assert_eq!(session.keys(), ["language", "theme"]);
    let new = given(&session).await.expect("a cookie");
    assert_ne!(new.id, old.id);
    assert!(bench.comes(&old).await.is_new(), "the old one has ended");
    let after = bench.comes(&new).await;
    assert_eq!(after.keys(), ["language", "theme"]);
    assert_eq!(after.peek_flash::<String>().unwrap(), Vec::<String>::new());
    assert_eq!(after.timeout(), Some(Duration::from_secs(1200)));
    assert_eq!(bench.stored().await.len(), 1);
}

#[rocket::async_test]
async fn logout_keeping_of_nothing_is_a_logout() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[("basket", 2)]).await;
    let session = bench.comes(&old).await;
    assert!(matches!(
        session.logout_keeping(&[""]),
        Err(Error::BadKey { .. })
    ));
    assert_eq!(session.user().unwrap(), Some(1), "nothing has changed");
    session.logout_keeping(&["language"]).unwrap();
    let sent = session.finish().await.unwrap();
    assert!(matches!(sent, CookieChange::Remove));
    assert!(bench.stored().await.is_empty());
}

#[rocket::async_test]
async fn logout_keeping_outside_of_the_path_still_signs_out() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[("language", 2)]).await;
    let session = bench.comes(&old).await;
    session.lock().state.creation = Creation::Never;
    let refused = session.logout_keeping(&["language"]);
    assert!(matches!(refused, Err(Error::OutsidePath)));
    session.finish().await.unwrap();
    assert!(bench.stored().await.is_empty());
}

#[rocket::async_test]
async fn pop_leaves_the_queue_when_the_response_may_be_unseen() {
    let bench = Bench::new();
    let session = bench.session();
    session.flash("hello").unwrap();
    let cookie = given(&session).await.expect("a cookie");
    for _ in 0..2 {
        let prefetch = bench.comes(&cookie).await;
        prefetch.lock().state.may_be_unseen = true;
        assert_eq!(prefetch.pop_flash::<String>().await.unwrap(), ["hello"]);
        assert!(prefetch.pop_flash::<i32>().await.is_err());
        prefetch.finish().await.unwrap();
    }
    let page = bench.comes(&cookie).await;
    assert_eq!(page.pop_flash::<String>().await.unwrap(), ["hello"]);
    assert!(page.pop_flash::<String>().await.unwrap().is_empty());
}

#[rocket::async_test]
async fn push_of_an_element_with_an_operator_name_leaves_the_list_readable() {
    let entry = |name: &str| Entry {
        ip: IpAddr::from([1, 2, 3, 4]),
        args: BTreeMap::from([(name.to_owned(), "x".to_owned())]),
    };
    for entries in [[entry("a"), entry("$a")], [entry("$a"), entry("a")]] {
        let bench = Bench::new();
        let cookie = bench.begun(None, &[("n", 1)]).await;
        for one in &entries {
            let session = bench.comes(&cookie).await;
            session.push("pushed", one).unwrap();
            let added = match session.contains("set") {
                true => session.push("set", one),
                false => session.set("set", std::slice::from_ref(one)),
            };
            added.unwrap();
            session.flash(one).unwrap();
            session.finish().await.unwrap();
        }
        let session = bench.comes(&cookie).await;
        for key in ["pushed", "set"] {
            assert_eq!(session.get(key).unwrap(), Some(entries.to_vec()), "{key}");
        }
        assert_eq!(session.pop_flash::<Entry>().await.unwrap(), entries);
    }
}
