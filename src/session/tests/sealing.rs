//! Sealed sessions: what is stored of them, what opens, and processes that seal beside others that
//! do not.

use bson::Bson;
use rocket::serde::json::{self, Value};

use super::*;
use crate::document::Update;

mod concurrent;
mod damaged;

/// What no stored byte may show.
const PLAIN_TEXT: &str = "ThePlainText";

/// All stored documents, tombstones included.
async fn everything(bench: &Bench) -> Vec<Document> {
    bench
        .store
        .find(Filter::all(), Order::OldestFirst, 0, 100)
        .await
        .unwrap()
}

async fn document(bench: &Bench, token: &Token) -> bson::Document {
    let stored = bench.store.load(token.id.as_str()).await.unwrap();
    bson::from_slice(stored.unwrap().as_bytes()).unwrap()
}

fn is_sealed(value: &Bson) -> bool {
    matches!(value, Bson::Binary(binary) if binary.bytes.starts_with(b"s\x01"))
}

fn sealing() -> Bench {
    Bench::with(|config| config.seal = true)
}

impl Bench {
    /// Another process on the same store.
    fn beside(&self, seals: bool) -> Bench {
        let mut config = self.sessions.core.config.clone();
        config.seal = seals;
        let clock = self.sessions.core.clock.clone();
        Bench::on(self.store.clone(), clock, config)
    }

    /// Puts something else in the place of a session's document.
    async fn put(&self, token: &Token, document: &bson::Document) {
        self.store
            .delete(Filter::id(token.id.as_str()))
            .await
            .unwrap();
        let document = Document::from_bson(document);
        let inserted = self
            .store
            .insert(vec![document], crate::store::Durability::Data);
        inserted.await.unwrap();
    }
}

fn opaque(bytes: Vec<u8>) -> Bson {
    Bson::Binary(bson::Binary {
        subtype: bson::spec::BinarySubtype::UserDefined(0x80),
        bytes,
    })
}

/// Every call that stores something, with the marked value in it.
async fn use_everything(bench: &Bench) -> Token {
    let session = bench.session();
    session.set("text", PLAIN_TEXT).unwrap();
    session.set("nested", &vec![(PLAIN_TEXT, 1)]).unwrap();
    session.push("list", PLAIN_TEXT).unwrap();
    session.flash(PLAIN_TEXT).unwrap();
    session.increment("n", 1).unwrap();
    let token = given(&session).await.unwrap();

    let session = bench.comes(&token).await;
    session.push("list", PLAIN_TEXT).unwrap();
    session.increment("n", 5).unwrap();
    session.flash_queue("q").push_unique(PLAIN_TEXT).unwrap();
    session.flash_queue("q").push_unique(PLAIN_TEXT).unwrap();
    let modified = session.modify("text", |text: Option<String>| text.unwrap() + PLAIN_TEXT);
    modified.await.unwrap();
    session.save().await.unwrap();
    session.set("late", PLAIN_TEXT).unwrap();
    session.renew().unwrap();
    let token = given(&session).await.unwrap();

    let session = bench.comes(&token).await;
    assert_eq!(session.take::<String>("late").unwrap().unwrap(), PLAIN_TEXT);
    session.elevate().unwrap();
    session.set("kept", PLAIN_TEXT).unwrap();
    let token = given(&session).await.unwrap();
    let session = bench.comes(&token).await;
    session
        .login_keeping(7, &["text", "list", "n", "kept"])
        .unwrap();
    session.flash(PLAIN_TEXT).unwrap();
    given(&session).await.unwrap()
}

#[rocket::async_test]
async fn nothing_that_is_stored_shows_a_value() {
    for encoding in [Encoding::Document, Encoding::Binary] {
        let bench = Bench::with(|config| (config.seal, config.encoding) = (true, encoding));
        let token = use_everything(&bench).await;
        for stored in everything(&bench).await {
            let bytes = stored.as_bytes();
            let found = bytes
                .windows(PLAIN_TEXT.len())
                .any(|part| part == PLAIN_TEXT.as_bytes());
            assert!(!found, "{:?}", stored.id());
        }
        let stored = document(&bench, &token).await;
        for (key, value) in stored.get_document("value").unwrap() {
            assert!(is_sealed(value), "{key}");
        }
        assert!(is_sealed(stored.get("csrf").unwrap()) && is_sealed(stored.get("seal").unwrap()));
        assert_eq!(stored.get("user"), Some(&Bson::Int32(7)), "lists need it");

        let session = bench.comes(&token).await;
        let twice = PLAIN_TEXT.repeat(2);
        assert_eq!(session.get::<String>("text").unwrap(), Some(twice));
        assert_eq!(
            session.get::<Vec<String>>("list").unwrap().unwrap(),
            [PLAIN_TEXT; 2]
        );
        assert_eq!(number(&session, "n"), Some(6));
        assert_eq!(session.peek_flash::<String>().unwrap(), [PLAIN_TEXT]);
        assert_eq!(session.pop_flash::<String>().await.unwrap(), [PLAIN_TEXT]);
        assert!(session.peek_flash::<String>().unwrap().is_empty());
    }
}

/// A login's tombstone is sealed, too.
#[rocket::async_test]
async fn second_login_gets_the_kept_keys_of_a_sealed_session() {
    for seals in [true, false] {
        let bench = sealing();
        let token = bench.begun(None, &[("basket", 5), ("other", 6)]).await;
        let first = bench.comes(&token).await;
        let form = first.csrf_token();
        first.login_keeping(7, &["basket"]).unwrap();
        first.finish().await.unwrap();
        let tombstone = everything(&bench).await;
        let tombstone = tombstone
            .iter()
            .find(|one| one.id().unwrap().starts_with('~'))
            .unwrap();
        let tombstone: bson::Document = bson::from_slice(tombstone.as_bytes()).unwrap();
        assert!(is_sealed(
            tombstone
                .get_document("kept")
                .unwrap()
                .get("basket")
                .unwrap()
        ));
        assert!(is_sealed(tombstone.get("csrf").unwrap()));

        let process = bench.beside(seals);
        let second = process.comes(&token).await;
        assert!(second.verify_csrf(&form));
        second.login_keeping(7, &["basket"]).unwrap();
        let token = given(&second).await.unwrap();
        let session = bench.comes(&token).await;
        assert_eq!(number(&session, "basket"), Some(5));
        assert_eq!(number(&session, "other"), None);
    }
}

#[rocket::async_test]
async fn csrf_token_is_valid_until_its_secret_is_replaced() {
    let bench = sealing();
    let session = bench.session();
    let form = session.csrf_token();
    let token = given(&session).await.unwrap();
    assert!(is_sealed(
        document(&bench, &token).await.get("csrf").unwrap()
    ));
    let session = bench.comes(&token).await;
    assert!(session.verify_csrf(&form));
    session.renew().unwrap();
    let token = given(&session).await.unwrap();
    assert!(bench.comes(&token).await.verify_csrf(&form));
    let other = bench.comes(&token).await;
    let fresh = other.new_csrf_token();
    other.finish().await.unwrap();
    let session = bench.comes(&token).await;
    assert!(session.verify_csrf(&fresh) && !session.verify_csrf(&form));
}

// ---- what does not open

/// What version 1 has stored stays readable.
#[rocket::async_test]
async fn stored_session_of_version_1_is_read() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/seal/version_1_session.json"
    );
    let fixture: Value = json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let stored = Bson::try_from(fixture["document"].as_object().unwrap().clone()).unwrap();
    for seals in [true, false] {
        let name = fixture["cookie_name"].as_str().unwrap().to_owned();
        let bench = Bench::with(|config| (config.seal, config.cookie_name) = (seals, name));
        let token = Token::parse(fixture["cookie"].as_str().unwrap(), false).unwrap();
        bench.put(&token, stored.as_document().unwrap()).await;
        let session = bench.comes(&token).await;
        assert_eq!(session.user::<String>().unwrap().as_deref(), Some("alice"));
        for (stored, wanted) in fixture["values"].as_object().unwrap() {
            let read: Option<Value> = session.read(&Field::stored(stored)).unwrap();
            assert_eq!(read.as_ref(), Some(wanted), "{stored}");
        }
        let csrf = session.lock().state.csrf().unwrap().clone();
        assert_eq!(csrf.expose(), &[7; 32]);
    }
}

// ---- a session that was stored plain, and processes that seal beside others

#[rocket::async_test]
async fn plain_values_are_read_and_sealed_at_their_next_write() {
    let plain = Bench::with(|config| config.seal = false);
    let sealing = plain.beside(true);
    let session = plain.session();
    session.set("n", &1).unwrap();
    session.set("m", &2).unwrap();
    let form = session.csrf_token();
    let token = given(&session).await.unwrap();

    let session = sealing.comes(&token).await;
    assert_eq!(number(&session, "n"), Some(1));
    assert!(session.verify_csrf(&form));
    session.finish().await.unwrap();
    let before = document(&plain, &token).await;
    assert!(before.get("seal").is_none(), "who reads seals nothing");

    let session = sealing.comes(&token).await;
    session.increment("n", 1).unwrap();
    session.finish().await.unwrap();
    let stored = document(&plain, &token).await;
    let values = stored.get_document("value").unwrap();
    assert!(is_sealed(values.get("n").unwrap()) && !is_sealed(values.get("m").unwrap()));
    assert!(is_sealed(stored.get("seal").unwrap()));

    // Switched off again: sealed values are read, and stored plain when they are written.
    let session = plain.comes(&token).await;
    assert_eq!(
        (number(&session, "n"), number(&session, "m")),
        (Some(2), Some(2))
    );
    session.increment("n", 1).unwrap();
    session.finish().await.unwrap();
    let stored = document(&plain, &token).await;
    assert_eq!(
        stored.get_document("value").unwrap().get("n"),
        Some(&Bson::Int64(3))
    );
    assert_eq!(number(&sealing.comes(&token).await, "n"), Some(3));
}

#[rocket::async_test]
async fn renewal_wraps_the_key_whether_or_not_the_process_seals() {
    let sealing = sealing();
    let plain = sealing.beside(false);
    let mut token = sealing.begun(Some(1), &[("n", 1)]).await;
    for process in [&plain, &sealing, &plain] {
        for elevate in [false, true] {
            let session = process.comes(&token).await;
            match elevate {
                true => session.elevate().unwrap(),
                false => session.renew().unwrap(),
            }
            session.increment("n", 1).unwrap();
            let old = std::mem::replace(&mut token, given(&session).await.unwrap());
            assert!(sealing.comes(&old).await.is_new());
            let session = sealing.comes(&token).await;
            session.increment("n", 1).unwrap();
            session.finish().await.unwrap();
        }
    }
    assert_eq!(number(&plain.comes(&token).await, "n"), Some(13));
}

#[rocket::async_test]
async fn equal_value_changes_nothing() {
    let bench = sealing();
    let token = bench.begun(None, &[("n", 1)]).await;
    let before = document(&bench, &token).await;
    let session = bench.comes(&token).await;
    session.set("n", &1_i64).unwrap();
    session.increment("n", 0).unwrap();
    session.finish().await.unwrap();
    assert_eq!(document(&bench, &token).await, before);
}

#[rocket::async_test]
async fn max_bytes_counts_what_is_plain() {
    let sizes = |seals: bool| async move {
        let bench = Bench::with(|config| (config.seal, config.max_bytes) = (seals, 400));
        let token = bench.begun(None, &[("a", 1), ("b", 2), ("c", 3)]).await;
        let mut longest = 0;
        for length in 0..400 {
            // Each request loads what the one before has stored.
            let session = bench.comes(&token).await;
            if session.set("text", &"x".repeat(length)).is_err() {
                break;
            }
            session.finish().await.unwrap();
            longest = length;
        }
        let session = bench.comes(&token).await;
        let modified = session.modify("text", |text: Option<String>| text.unwrap() + "x");
        assert!(matches!(modified.await, Err(Error::TooLarge { .. })));
        longest
    };
    let (plain, sealed) = (sizes(false).await, sizes(true).await);
    assert!(plain > 300, "{plain}");
    assert_eq!(plain, sealed);
}

/// Nothing is opened that is not asked for: all others would be errors.
#[rocket::async_test]
async fn one_key_of_a_thousand_opens_alone() {
    let bench = sealing();
    let session = bench.session();
    for n in 0..1000 {
        session.set(&n.to_string(), &n).unwrap();
    }
    let token = given(&session).await.unwrap();
    let mut stored = document(&bench, &token).await;
    for (key, value) in stored.get_document_mut("value").unwrap().iter_mut() {
        if key != "500" {
            *value = opaque(b"s\x01".to_vec());
        }
    }
    bench.put(&token, &stored).await;
    let session = bench.comes(&token).await;
    assert_eq!((session.len(), number(&session, "500")), (1000, Some(500)));
    session.set("500", &1).unwrap();
    session.finish().await.unwrap();
    assert_eq!(number(&bench.comes(&token).await, "500"), Some(1));
}

/// By how much the documents grow: SEALED_VALUE_BYTES a value, and once the key and the secret.
#[rocket::async_test]
async fn sealing_adds_42_bytes_a_value_and_103_a_session() {
    let size = |seals: bool, values: usize| async move {
        let bench = Bench::with(|config| config.seal = seals);
        let session = bench.session();
        let _ = session.csrf_token();
        for n in 0..values {
            session.set(&format!("{n:03}"), &"text".repeat(n)).unwrap();
        }
        let token = given(&session).await.unwrap();
        bson::to_vec(&document(&bench, &token).await).unwrap().len()
    };
    for values in [0, 1, 10] {
        let added = size(true, values).await - size(false, values).await;
        assert_eq!(added, 103 + 42 * values);
    }
}

#[rocket::async_test]
async fn job_gets_a_clear_error_for_a_sealed_session_alone() {
    let plain = Bench::with(|config| config.seal = false);
    let sealing = plain.beside(true);
    let session = sealing.session();
    session.login(1).unwrap();
    session.set("n", &1).unwrap();
    let page = rocket::http::uri::Origin::parse("/a").unwrap();
    session.set_return_to(&page).unwrap();
    let token = given(&session).await.unwrap();
    let before = document(&plain, &token).await;
    for process in [&plain, &sealing] {
        let edit = process.sessions.edit(token.id.as_str()).increment("n", 1);
        assert!(
            matches!(edit.apply().await, Err(Error::SealedValues { id }) if id == token.id.as_str())
        );
        let flash = process.sessions.of(1).flash("Hello").await;
        assert!(matches!(flash, Err(Error::SealedValues { .. })));
        let exported = process.sessions.of(1).export().await.unwrap();
        assert_eq!(exported.len(), 1);
        assert_eq!(exported[0]["id"], token.id.as_str());
        for name in ["values", "flash", "return_to"] {
            assert!(exported[0][name].is_null(), "{name}");
        }
    }
    assert_eq!(document(&plain, &token).await, before);
    // Of a session that was stored plain, whichever process asks.
    let token = plain.begun(Some(2), &[("n", 1)]).await;
    for process in [&plain, &sealing] {
        let edit = process.sessions.edit(token.id.as_str()).increment("n", 1);
        assert!(edit.apply().await.unwrap());
    }
    assert_eq!(number(&sealing.comes(&token).await, "n"), Some(3));
    assert!(!document(&plain, &token).await.contains_key("seal"));
}
