//! Sessions of the Python package with keys of which one is stored under this crate's name of another:
//! `%25` is this crate's name of `%`.

use super::*;
use crate::document::moment;

const ID: &str = "0123456789abcdef0123456789abcdef";

/// A session of the Python package with these values.
async fn stored(bench: &Bench, values: bson::Document) -> Token {
    let now = bench.sessions.core.now().millis() as f64 / 1000.0;
    let document = bson::doc! { "_id": ID, "created": now, "accessed": now, "value": values };
    let document = vec![Document::from_bson(&document)];
    let stored = bench.store.insert(document, Durability::Data).await;
    assert!(matches!(stored, Ok(Inserted::Stored)));
    Token::parse(ID, true).unwrap()
}

/// The numbers that the next request reads under these keys.
async fn numbers<const N: usize>(
    bench: &Bench,
    token: &Token,
    keys: [&str; N],
) -> [Option<i64>; N] {
    let session = bench.comes(token).await;
    keys.map(|key| session.get(key).unwrap())
}

#[rocket::async_test]
async fn write_of_one_key_keeps_the_other() {
    for first in [true, false] {
        let bench = Bench::new();
        let token = stored(&bench, bson::doc! { "%": 1, "%25": 2, "%2525": 3 }).await;
        let (one, other) = match first {
            true => ("%", "%25"),
            false => ("%25", "%"),
        };
        let session = bench.comes(&token).await;
        session.set(one, &7).unwrap();
        session.save().await.unwrap();
        assert_eq!(session.get::<i64>("%2525").unwrap(), Some(3));
        let expected = [Some(7), Some(if first { 2 } else { 1 })];
        assert_eq!([one, other].map(|key| session.get(key).unwrap()), expected);
        assert_eq!(numbers(&bench, &token, [one, other]).await, expected);
        session.set(other, &6).unwrap();
        session.save().await.unwrap();
        session.set(other, &expected[1].unwrap()).unwrap();
        session.finish().await.unwrap();
        let all = numbers(&bench, &token, [one, other, "%2525"]).await;
        assert_eq!(all, [expected[0], expected[1], Some(3)]);
    }
}

#[rocket::async_test]
async fn removal_of_one_key_keeps_the_other() {
    for one in ["%", "%25"] {
        let bench = Bench::new();
        let token = stored(&bench, bson::doc! { "%": 1, "%25": 2 }).await;
        let session = bench.comes(&token).await;
        session.remove(one);
        session.finish().await.unwrap();
        let expected = match one {
            "%" => [None, Some(2)],
            _ => [Some(1), None],
        };
        assert_eq!(numbers(&bench, &token, ["%", "%25"]).await, expected);
    }
}

#[rocket::async_test]
async fn requests_that_each_change_one_key_lose_nothing() {
    for changes in [["%", "%25"], ["%25", "%"]] {
        let bench = Bench::new();
        let token = stored(&bench, bson::doc! { "%": 1, "%25": 2 }).await;
        let requests = [bench.comes(&token).await, bench.comes(&token).await];
        for (session, key) in requests.iter().zip(changes) {
            session.set(key, &9).unwrap();
        }
        for session in &requests {
            session.save().await.unwrap();
        }
        let all = numbers(&bench, &token, ["%", "%25"]).await;
        assert_eq!(all, [Some(9), Some(9)], "{changes:?}");
    }
}

#[rocket::async_test]
async fn increments_of_a_key_lose_nothing_where_another_has_its_name() {
    let bench = Bench::new();
    let token = stored(&bench, bson::doc! { "%25": 2 }).await;
    let requests = [bench.comes(&token).await, bench.comes(&token).await];
    for session in &requests {
        let changed = session.modify("%", |n: Option<i64>| n.unwrap_or(0) + 1);
        changed.await.unwrap();
        session.increment("%25", 1).unwrap();
    }
    for session in &requests {
        session.finish().await.unwrap();
    }
    assert_eq!(
        numbers(&bench, &token, ["%", "%25"]).await,
        [Some(2), Some(4)]
    );
}

#[rocket::async_test]
async fn a_later_write_of_a_request_stores_no_earlier_time() {
    let bench = Bench::new();
    let token = stored(&bench, bson::doc! { "%": 1 }).await;
    let session = bench.comes(&token).await;
    session.set_timeout(Some(Duration::from_secs(60))).unwrap();
    session.save().await.unwrap();
    session.set("n", &1).unwrap();
    session.finish().await.unwrap();
    let document = bench.store.load(ID).await.unwrap().unwrap();
    let expires = document.get("expires").and_then(moment).unwrap();
    let minute = bench.sessions.core.now().plus(Duration::from_secs(60));
    assert!(expires <= minute);
}

/// A client may choose the keys.
#[rocket::async_test]
async fn names_of_keys_that_were_removed_again_count_as_well() {
    let bench = Bench::with(|config| config.max_bytes = 1000);
    let token = stored(&bench, bson::doc! { "%": 1 }).await;
    let mut refused = None;
    for number in 0..100 {
        let session = bench.comes(&token).await;
        let key = format!("{number}.pdf");
        if let Err(error) = session.set(&key, &1) {
            refused = Some(error);
            break;
        }
        session.save().await.unwrap();
        session.remove(&key);
        session.finish().await.unwrap();
    }
    assert!(
        matches!(refused, Some(Error::TooLarge { .. })),
        "{refused:?}"
    );
    assert_eq!(numbers(&bench, &token, ["%"]).await, [Some(1)]);
}
