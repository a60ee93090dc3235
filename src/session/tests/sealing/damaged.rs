//! Sealed values, keys and documents that were changed in the database.

use super::*;

/// Bytes in the place of a sealed value.
fn damages(sealed: &[u8], other: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let flipped = |at: usize| {
        let mut bytes = sealed.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    vec![
        ("truncated", sealed[..sealed.len() - 1].to_vec()),
        ("the header alone", sealed[..2].to_vec()),
        ("empty but the letter", b"s".to_vec()),
        ("extended", [sealed, &[0]].concat()),
        ("another version", flipped(1)),
        ("another nonce", flipped(2)),
        ("flipped text", flipped(15)),
        ("flipped tag", flipped(sealed.len() - 1)),
        ("that of another key", other.to_vec()),
    ]
}

fn sealed_bytes(value: &Bson) -> Vec<u8> {
    let Bson::Binary(binary) = value else {
        panic!("{value}");
    };
    binary.bytes.clone()
}

#[rocket::async_test]
async fn damaged_value_is_an_error_for_its_key_alone() {
    let bench = sealing();
    let stranger = bench.begun(None, &[("n", 9)]).await;
    let stranger = document(&bench, &stranger).await;
    let stranger = sealed_bytes(stranger.get_document("value").unwrap().get("n").unwrap());
    let token = bench.begun(None, &[("n", 1), ("m", 2), ("_", 3)]).await;
    let session = bench.comes(&token).await;
    session.flash("Hello").unwrap();
    session.finish().await.unwrap();
    let good = document(&bench, &token).await;
    let values = good.get_document("value").unwrap();
    let of = |field: &str| sealed_bytes(values.get(field).unwrap());
    let mut damages = damages(&of("n"), &of("m"));
    damages.push(("that of another session", stranger));
    for (what, bytes) in damages {
        let mut damaged = good.clone();
        let values = damaged.get_document_mut("value").unwrap();
        values.insert("n", opaque(bytes.clone()));
        values.insert("_f_", opaque(bytes));
        bench.put(&token, &damaged).await;

        let session = bench.comes(&token).await;
        let is_decode = |error: Error| matches!(error, Error::Decode { .. });
        assert!(is_decode(session.get::<i64>("n").unwrap_err()), "{what}");
        assert!(is_decode(session.increment("n", 1).unwrap_err()), "{what}");
        assert!(is_decode(session.push("n", &1).unwrap_err()), "{what}");
        assert!(is_decode(session.take::<i64>("n").unwrap_err()), "{what}");
        let modified = session.modify("n", |n: Option<i64>| n.unwrap_or(0)).await;
        assert!(is_decode(modified.unwrap_err()), "{what}");
        assert!(
            is_decode(session.peek_flash::<String>().unwrap_err()),
            "{what}"
        );
        assert!(
            session.contains("n") && number(&session, "m") == Some(2),
            "{what}"
        );
        session.increment("m", 1).unwrap();
        // It stands in the way of nothing: it can be replaced, and a queue is emptied.
        assert!(
            is_decode(session.pop_flash::<String>().await.unwrap_err()),
            "{what}"
        );
        assert!(
            session.pop_flash::<String>().await.unwrap().is_empty(),
            "{what}"
        );
        session.set("n", &5).unwrap();
        assert_eq!(number(&session, "n"), Some(5), "{what}");
        session.finish().await.unwrap();
        let session = bench.comes(&token).await;
        assert_eq!(
            (number(&session, "n"), number(&session, "m")),
            (Some(5), Some(3)),
            "{what}"
        );
    }
}

#[rocket::async_test]
async fn damaged_value_is_removed_and_not_kept_by_a_login() {
    let bench = sealing();
    for login in [false, true] {
        let token = bench.begun(None, &[("n", 1), ("m", 2)]).await;
        let mut damaged = document(&bench, &token).await;
        let values = damaged.get_document_mut("value").unwrap();
        values.insert("n", opaque(b"s\x01".to_vec()));
        bench.put(&token, &damaged).await;
        let session = bench.comes(&token).await;
        let token = match login {
            true => {
                session.login_keeping(7, &["n", "m"]).unwrap();
                given(&session).await.unwrap()
            }
            false => {
                assert!(session.remove("n"));
                session.finish().await.unwrap();
                token
            }
        };
        let session = bench.comes(&token).await;
        assert_eq!(
            (number(&session, "n"), number(&session, "m")),
            (None, Some(2))
        );
    }
}

#[rocket::async_test]
async fn damaged_csrf_secret_accepts_nothing_and_is_replaced() {
    let bench = sealing();
    let session = bench.session();
    let form = session.csrf_token();
    let token = given(&session).await.unwrap();
    let mut damaged = document(&bench, &token).await;
    let mut bytes = sealed_bytes(damaged.get("csrf").unwrap());
    bytes[20] ^= 1;
    damaged.insert("csrf", opaque(bytes));
    bench.put(&token, &damaged).await;
    let session = bench.comes(&token).await;
    assert!(!session.verify_csrf(&form) && !session.verify_csrf(""));
    let form = session.csrf_token();
    session.finish().await.unwrap();
    assert!(bench.comes(&token).await.verify_csrf(&form));
}

/// A document whose parts do not belong to each other lets no user in.
#[rocket::async_test]
async fn session_whose_key_does_not_open_is_none() {
    let bench = sealing();
    let (token, other) = (
        bench.begun(Some(1), &[("n", 1)]).await,
        bench.begun(Some(2), &[]).await,
    );
    let (good, other) = (
        document(&bench, &token).await,
        document(&bench, &other).await,
    );
    let key = |of: &bson::Document| sealed_bytes(of.get("seal").unwrap());
    for (what, bytes) in damages(&key(&good), &key(&other)) {
        let mut damaged = good.clone();
        damaged.insert("seal", opaque(bytes));
        bench.put(&token, &damaged).await;
        let session = bench.comes(&token).await;
        assert!(
            session.is_new() && session.user::<i32>().unwrap().is_none(),
            "{what}"
        );
        assert_eq!(document(&bench, &token).await, damaged, "it stays as it is");
    }
    bench.put(&token, &good).await;
    assert_eq!(number(&bench.comes(&token).await, "n"), Some(1));
}

/// An attacker who can write to the database puts the key of a session of their own into another:
/// it does not open, and the values of both stay what they are.
#[rocket::async_test]
async fn documents_do_not_mix() {
    let bench = sealing();
    let mine = bench.begun(Some(1), &[("n", 1)]).await;
    let theirs = bench.begun(Some(2), &[("n", 2)]).await;
    let (own, other) = (
        document(&bench, &mine).await,
        document(&bench, &theirs).await,
    );
    let mut mixed = own.clone();
    for name in ["value", "seal", "token", "csrf"] {
        mixed.insert(name, other.get(name).unwrap().clone());
    }
    // With the other's secret, under this id.
    bench.put(&mine, &mixed).await;
    let forged = Token::new(mine.id.clone(), theirs.secret.clone());
    assert!(bench.comes(&forged).await.is_new());
    let mut update = Update::default();
    update.set(
        "seal",
        RawBson::try_from(other.get("seal").unwrap().clone()).unwrap(),
    );
    bench.put(&mine, &own).await;
    let changed = bench.store.update(
        Filter::id(mine.id.as_str()),
        update,
        crate::store::Durability::Data,
    );
    changed.await.unwrap();
    assert!(bench.comes(&mine).await.is_new());
    assert_eq!(number(&bench.comes(&theirs).await, "n"), Some(2));
}

/// What a writer of the database can do, and until when: an older text of the same key and session is
/// that key's value, and not another one's. A login ends it.
#[rocket::async_test]
async fn older_value_opens_in_its_own_place_until_a_login() {
    let bench = sealing();
    let token = bench.begun(None, &[("n", 1), ("m", 2)]).await;
    let old = document(&bench, &token).await;
    let old = old.get_document("value").unwrap().get("n").unwrap().clone();
    let session = bench.comes(&token).await;
    session.set("n", &5).unwrap();
    session.renew().unwrap();
    let token = given(&session).await.unwrap();
    let mut replayed = document(&bench, &token).await;
    let values = replayed.get_document_mut("value").unwrap();
    values.insert("n", old.clone());
    values.insert("m", old.clone());
    bench.put(&token, &replayed).await;
    let session = bench.comes(&token).await;
    assert_eq!(number(&session, "n"), Some(1));
    assert!(matches!(session.get::<i64>("m"), Err(Error::Decode { .. })));

    session.login_keeping(7, &["n"]).unwrap();
    let token = given(&session).await.unwrap();
    let mut replayed = document(&bench, &token).await;
    replayed.get_document_mut("value").unwrap().insert("n", old);
    bench.put(&token, &replayed).await;
    let session = bench.comes(&token).await;
    assert!(matches!(session.get::<i64>("n"), Err(Error::Decode { .. })));
}

// ---- jobs
