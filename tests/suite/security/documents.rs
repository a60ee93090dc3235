//! Documents that another program wrote: no session, no failure, no overwriting.

use std::time::Duration;

use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{
    Binary, Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, RawDocumentBuf, Regex,
    Timestamp, doc,
};
use rocket::serde::json::json;

use super::{ask, call, member, null, whoami};
use crate::apps::probe::{Probe, Script, id_of, run_with, value_of};

fn every_type() -> Vec<Bson> {
    let pattern = "x".to_owned();
    vec![
        Bson::Null,
        Bson::Undefined,
        Bson::MinKey,
        Bson::MaxKey,
        Bson::Boolean(true),
        Bson::Int32(-1),
        Bson::Int64(i64::MAX),
        Bson::Int64(i64::MIN),
        Bson::Double(f64::NAN),
        Bson::Double(f64::INFINITY),
        Bson::Double(-1e300),
        Bson::Decimal128(Decimal128::from_bytes([7; 16])),
        Bson::String(String::new()),
        Bson::String("text".into()),
        Bson::Symbol("text".into()),
        Bson::JavaScriptCode("1".into()),
        Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope {
            code: "1".into(),
            scope: doc! {},
        }),
        Bson::RegularExpression(Regex {
            pattern,
            options: String::new(),
        }),
        Bson::Timestamp(Timestamp {
            time: u32::MAX,
            increment: 1,
        }),
        Bson::DateTime(DateTime::from_millis(0)),
        Bson::DateTime(DateTime::from_millis(i64::MIN)),
        Bson::ObjectId(ObjectId::from_bytes([1; 12])),
        Bson::Array(vec![]),
        Bson::Array(vec![Bson::DateTime(DateTime::MAX)]),
        Bson::Document(doc! {}),
        Bson::Document(doc! { "$ne": 1 }),
        binary(BinarySubtype::Generic, 31),
        binary(BinarySubtype::Generic, 33),
        binary(BinarySubtype::Generic, 0),
        binary(BinarySubtype::UserDefined(0x80), 32),
        binary(BinarySubtype::Uuid, 16),
    ]
}

fn binary(subtype: BinarySubtype, length: usize) -> Bson {
    Bson::Binary(Binary {
        subtype,
        bytes: vec![0; length],
    })
}

/// What is a legal, if strange, content of a field, and leaves the session alive.
fn is_legal(field: &str, value: &Bson) -> bool {
    match field {
        "value" => matches!(value, Bson::Document(_)),
        // Times by a clock gone wrong: others end the session, and these two never do.
        "renewed" => matches!(value, Bson::Int32(_) | Bson::Int64(_) | Bson::DateTime(_)),
        "sent" => matches!(value, Bson::Int32(_) | Bson::Int64(_)),
        "client" | "ip" => matches!(value, Bson::String(_)),
        _ => false,
    }
}

/// NJ-09: each field of the crate's own, with each type that BSON has.
#[rocket::async_test]
async fn a_field_of_a_wrong_type_neither_opens_a_session_nor_fails() {
    let keys = [("lifetime", 3600.into()), ("indexes", false.into())];
    let probe = Probe::start("sec_documents_types", &keys).await;
    let fine = member(&probe, "bob").await;
    let victim = member(&probe, "alice").await;
    let good = probe.document(&victim).await.expect("a document");
    let id = doc! { "_id": id_of(&victim) };
    for field in [
        "created", "accessed", "expires", "token", "csrf", "value", "timeout", "max_age",
        "renewed", "sent", "client", "ip", "user",
    ] {
        for value in every_type() {
            if field == "user" && !matches!(value, Bson::Null | Bson::Array(_)) {
                continue; // a principal may be of most types
            }
            let mut tampered = good.clone();
            tampered.insert(field, value.clone());
            let store = probe.sessions();
            if store.replace_one(id.clone(), &tampered).await.is_err() {
                continue; // the server itself refuses it
            }
            let before = raw(&probe, &victim).await;
            let ran = run_with(&probe.app, &victim, Script::new().then("user").then("keys")).await;
            assert_eq!((ran.status, ran.sent()), (200, None), "{field}: {value:?}");
            if !is_legal(field, &value) {
                assert_eq!(ran.results, [null(), json!([])], "{field}: {value:?}");
                let new = run_with(&probe.app, &victim, Script::new().set("n", 1)).await;
                match new.sent().map(value_of) {
                    Some(new) => assert_ne!(id_of(new), id_of(&victim), "{field}: {value:?}"),
                    // It reads as a renewal of this moment: the new cookie may be on its way.
                    None => assert_eq!(field, "renewed", "{value:?}"),
                }
                assert_eq!(raw(&probe, &victim).await, before, "{field}: {value:?}");
            }
        }
    }
    assert_eq!(whoami(&probe.app, &fine).await, json!("bob"));
    probe
        .sessions()
        .replace_one(id, &good)
        .await
        .expect("as before");
    assert_eq!(whoami(&probe.app, &victim).await, json!("alice"));
}

async fn raw(probe: &Probe, cookie: &str) -> Vec<u8> {
    let store = probe.sessions().clone_with_type::<RawDocumentBuf>();
    let found = store.find_one(doc! { "_id": id_of(cookie) }).await;
    found.expect("a find").expect("a document").into_bytes()
}

/// SZ-06: too large, too deep, twice the same name.
#[rocket::async_test]
async fn a_monstrous_document_is_read_at_bounded_cost() {
    let probe = Probe::start("sec_documents_monsters", &[("indexes", false.into())]).await;
    let fine = member(&probe, "bob").await;
    let victim = member(&probe, "alice").await;
    let good = probe.document(&victim).await.expect("a document");
    let id = doc! { "_id": id_of(&victim) };
    let put = |value: Document| {
        let mut tampered = good.clone();
        tampered.insert("value", value);
        let (store, id) = (probe.sessions(), id.clone());
        async move { store.replace_one(id, tampered).await.expect("a monster") }
    };
    put(doc! { "long": "x".repeat(15 << 20) }).await;
    assert_eq!(
        whoami(&probe.app, &victim).await,
        json!("alice"),
        "what MongoDB stores is read: requests at once may have made it"
    );
    let more = run_with(&probe.app, &victim, Script::new().set("more", 1)).await;
    assert_eq!(more.results, [json!({ "error": "TooLarge" })]);

    let mut deep = doc! { "n": 1 };
    for _ in 0..150 {
        deep = doc! { "n": deep };
    }
    put(deep).await;
    for order in [json!(["get", "n"]), json!(["keys"]), json!(["take", "n"])] {
        let ran = run_with(&probe.app, &victim, Script::new().call(order.clone())).await;
        assert_eq!(ran.status, 200, "{order}");
    }
    put(doc! { "a.b": 1, "$x": 2, "": 3, "%": 4, "%zz": 5, "_f_": "no list", "ok": 6 }).await;
    for key in ["a.b", "$x", "%", "%zz", "a", "", "ok"] {
        let ran = run_with(&probe.app, &victim, Script::new().get(key)).await;
        assert_eq!(ran.status, 200, "{key}");
    }
    let ran = run_with(
        &probe.app,
        &victim,
        Script::new().then("keys").then("pop_flash"),
    )
    .await;
    assert_eq!(ran.status, 200);
    assert_eq!(
        call(&probe.app, &victim, json!(["get", "ok"])).await,
        json!(6)
    );

    let mut twice = RawDocumentBuf::new();
    for (name, value) in good.clone() {
        let value = mongodb::bson::RawBson::try_from(value).expect("raw");
        twice.append(name, value);
    }
    twice.append("user", "root");
    let store = probe.sessions().clone_with_type::<RawDocumentBuf>();
    store.delete_one(id).await.expect("a delete");
    store.insert_one(&twice).await.expect("a user twice");
    assert_eq!(whoami(&probe.app, &victim).await, null());
    assert_eq!(whoami(&probe.app, &fine).await, json!("bob"));
}

/// TO-01, TO-04, DB-11: the document's presence proves nothing; its times do.
#[rocket::async_test]
async fn a_document_that_was_not_deleted_ends_by_its_times() {
    let keys = [
        ("timeout", 60.into()),
        ("lifetime", 600.into()),
        ("indexes", false.into()),
    ];
    let probe = Probe::start("sec_documents_times", &keys).await;
    let cookie = member(&probe, "alice").await;
    // Far beyond what the configuration allows, by hand.
    let longer = doc! { "$set": { "expires": DateTime::MAX } };
    let id = doc! { "_id": id_of(&cookie) };
    probe
        .sessions()
        .update_one(id, longer)
        .await
        .expect("an update");
    for _ in 0..11 {
        probe.clock.advance(Duration::from_secs(54));
        assert_eq!(whoami(&probe.app, &cookie).await, json!("alice"));
        let use_it = Script::new().call(json!(["increment", "n", 1]));
        run_with(&probe.app, &cookie, use_it).await;
    }
    probe.clock.advance(Duration::from_secs(7));
    assert_eq!(
        whoami(&probe.app, &cookie).await,
        null(),
        "TO-02, TO-03: use does not prolong it"
    );
    assert!(
        probe.document(&cookie).await.is_some(),
        "and it is there still"
    );
}

/// TO-10: a browser that keeps a cookie beyond its life is let in, and one that has a life to come
/// is not, as the document says.
#[rocket::async_test]
async fn the_cookies_life_ends_nothing_on_the_server() {
    let keys = [("max_age", 60.into()), ("timeout", 600.into())];
    let probe = Probe::start("sec_documents_life", &keys).await;
    let login = Script::new().login("alice");
    let ran = run_with(&probe.app, "", login.clone()).await;
    let line = ran.sent().expect("a cookie");
    assert!(line.contains("Max-Age=60"), "{line}");
    let cookie = ran.cookie();
    probe.clock.advance(Duration::from_secs(599));
    assert_eq!(whoami(&probe.app, &cookie).await, json!("alice"));

    let longer = login.call(json!(["set_max_age", 86_400]));
    let ran = run_with(&probe.app, "", longer).await;
    let line = ran.sent().expect("a cookie");
    assert!(line.contains("Max-Age=86400"), "{line}");
    let cookie = ran.cookie();
    probe.clock.advance(Duration::from_secs(601));
    assert_eq!(whoami(&probe.app, &cookie).await, null());
}

/// TO-07: a user who returns within the idle time stays, however often that is, and few of the
/// requests are noted.
#[rocket::async_test]
async fn a_session_in_use_does_not_idle_out() {
    let probe = Probe::start("sec_documents_used", &[("timeout", 120.into())]).await;
    let cookie = member(&probe, "alice").await;
    let created = probe.document(&cookie).await.expect("a document");
    let created = created.get_f64("created").expect("a time");
    for round in 1..=30_u32 {
        probe.clock.advance(Duration::from_secs(119));
        for _ in 0..10 {
            assert_eq!(whoami(&probe.app, &cookie).await, json!("alice"), "{round}");
        }
        // A note is on its way when the response is; time stands still until it has arrived.
        crate::apps::probe::eventually("the use is noted", async || {
            let document = probe.document(&cookie).await.expect("a document");
            document.get_f64("accessed") == Ok(created + f64::from(round) * 119.0)
        })
        .await;
    }
    let stats = ask(&probe.app, json!(["stats"])).await;
    let stats = stats.as_str().expect("text");
    let (_, touches) = stats.split_once("touches: ").expect("a number");
    let (touches, _) = touches.split_once(',').expect("a number");
    let touches: u32 = touches.parse().expect("a number");
    // One a round, and one more where a read was running while the note arrived; not all 300.
    assert!((30..=90).contains(&touches), "{stats}");
    probe.clock.advance(Duration::from_millis(120_001));
    assert_eq!(whoami(&probe.app, &cookie).await, null());
}
