//! Malformed stored documents. Each is tried in the crate's own form and in the Python package's.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, bson, doc};
use rocket::serde::json::json;
use rstest::rstest;

use crate::apps::calls;
use crate::apps::calls::{ask, go, probe, script, told, visitor};
use crate::apps::opened::opened;
use crate::apps::probe::{Probe, id_of, run_with};

/// A document of the Python package, written now.
fn legacy(probe: &Probe, id: &str) -> Document {
    let now = probe.clock.time().unix_timestamp();
    doc! {
        "_id": id,
        "accessed": now as i32,
        "created": now as f64 - 100.25,
        "value": { "k": "v" },
        "pickled": false,
    }
}

const ID: &str = "0123456789abcdef0123456789abcdef";

/// Asserts that a document is not a session: the browser is a new visitor and can continue, and the
/// document and other sessions stay as they are.
async fn assert_not_a_session(probe: &Probe, cookie: &str, document: Document, what: &str) {
    let (other, _) = visitor(probe).await;
    let sessions = probe.sessions();
    let by_id = doc! { "_id": id_of(cookie) };
    sessions.delete_one(by_id).await.unwrap();
    sessions.insert_one(&document).await.unwrap();

    let calls = json!([["keys"], ["is_new"], ["user"], ["peek_flash"]]);
    let read = run_with(&probe.app, cookie, script(calls)).await;
    assert_eq!(read.status, 200, "{what}");
    let none = [json!([]), json!(true), json!(null), json!([])];
    assert_eq!(read.results, none, "{what}");
    assert_eq!(read.sent(), None, "{what}");
    let written = run_with(&probe.app, cookie, script(json!([["set", "n", 1]]))).await;
    assert_eq!(written.status, 200, "{what}");
    let new = written.cookie();
    assert_ne!(id_of(&new), id_of(cookie), "{what}");
    let again = run_with(&probe.app, &new, script(json!([["get", "n"]]))).await;
    assert_eq!(again.results, [json!(1)], "{what}");
    assert_same(&probe.document(cookie).await, &document, what);
    assert_eq!(ask(&other, json!(["get", "k"])).await, "v", "{what}");
}

/// By their bytes: NaN is not NaN.
fn assert_same(stored: &Option<Document>, expected: &Document, what: &str) {
    let bytes = |document| mongodb::bson::to_vec(document).unwrap();
    let stored = stored.as_ref().expect("the document");
    assert_eq!(bytes(stored), bytes(expected), "{what}");
}

/// Asserts that a document with this value, or without the field, is not a session.
async fn both(field: &str, value: Option<Bson>) {
    let probe = probe(&[("legacy_ids", true.into())]).await;
    let (_, cookie) = visitor(&probe).await;
    let ours = probe.document(&cookie).await.expect("a document");
    for (whose, cookie, mut document) in [
        ("ours", cookie.as_str(), ours),
        ("legacy", ID, legacy(&probe, ID)),
    ] {
        match &value {
            Some(value) => document.insert(field, value.clone()),
            None => document.remove(field),
        };
        let what = format!("{whose}, {field}: {value:?}");
        assert_not_a_session(&probe, cookie, document, &what).await;
    }
}

fn bytes(bytes: &[u8]) -> Bson {
    Bson::Binary(Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    })
}

#[rstest]
#[test_attr(rocket::async_test)]
async fn times_that_are_none_make_no_session(
    #[values("accessed", "created")] field: &str,
    #[values(
        Some(bson!(null)),
        Some(bson!("abc")),
        Some(bson!([1])),
        Some(bson!({})),
        Some(bson!(true)),
        Some(bson!("1700000000")),
        None
    )]
    value: Option<Bson>,
) {
    both(field, value).await;
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(Some(bson!("text")))]
#[case(Some(bson!(7)))]
#[case(Some(bson!([1])))]
#[case(Some(bson!([["k", "v"]])))]
#[case(Some(bson!(null)))]
#[case(Some(bytes(b"")))]
#[case(None)]
async fn data_that_is_not_a_document_is_not_a_session(#[case] value: Option<Bson>) {
    both("value", value).await;
}

/// A pickle that runs a command if it is loaded.
const EVIL: &[u8] = b"cos\nsystem\n(S'touch /tmp/evil'\ntR.";

#[rstest]
#[test_attr(rocket::async_test)]
#[case(bson!(true), bytes(b"\x80\x03}q\x00X\x01\x00\x00\x00kK\x01s."))]
#[case(bson!(true), bytes(b""))]
#[case(bson!(true), bytes(b"garbage"))]
#[case(bson!(true), bytes(EVIL))]
#[case(bson!(true), bson!({ "k": "v" }))]
#[case(bson!(true), bson!("(dp0\nS'k'\np1\nI1\ns."))]
#[case(bson!(1), bson!({ "k": "v" }))]
#[case(bson!("yes"), bson!({ "k": "v" }))]
#[case(bson!(false), bytes(EVIL))]
async fn nothing_pickled_is_ever_read(#[case] pickled: Bson, #[case] value: Bson) {
    let probe = probe(&[("legacy_ids", true.into())]).await;
    let mut document = legacy(&probe, ID);
    document.insert("pickled", pickled);
    document.insert("value", value);
    assert_not_a_session(&probe, ID, document, "pickled").await;
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(f64::NAN)]
#[case(f64::INFINITY)]
#[case(f64::NEG_INFINITY)]
#[case(1e300)]
async fn no_time_of_last_use_makes_a_session_immortal(#[case] time: f64) {
    both("accessed", Some(time.into())).await;
}

/// Of ours `expires` still has its say; the legacy time is not believed.
#[rocket::async_test]
async fn a_session_last_used_in_the_year_2255_expires() {
    let probe = probe(&[("legacy_ids", true.into())]).await;
    let (browser, cookie) = visitor(&probe).await;
    let far = doc! { "$set": { "accessed": 9e9 } };
    let by_id = doc! { "_id": id_of(&cookie) };
    probe.sessions().update_one(by_id, far).await.unwrap();
    probe.clock.advance(calls::seconds(1201.0));
    assert_eq!(ask(&browser, json!(["is_new"])).await, true);

    let mut document = legacy(&probe, ID);
    document.insert("accessed", 9e9);
    assert_not_a_session(&probe, ID, document, "9e9").await;
}

#[rocket::async_test]
async fn a_session_from_the_near_future_is_alive() {
    let keys = [("legacy_ids", true.into()), ("reissue_time", 0.into())];
    let probe = probe(&keys).await;
    let (browser, cookie) = visitor(&probe).await;
    probe.clock.rewind(calls::seconds(60.0));
    let before = probe.document(&cookie).await;
    assert_eq!(ask(&browser, json!(["get", "k"])).await, "v");
    assert_eq!(probe.document(&cookie).await, before, "no reissue");
    let stats = ask(&browser, json!(["stats"])).await;
    assert!(stats.as_str().unwrap().contains("touches: 0"), "{stats}");
    go(&browser, json!([["set", "k", "w"]])).await;
    let after = probe.document(&cookie).await.expect("a session");
    let before = before.expect("a session");
    for time in ["accessed", "expires", "created"] {
        assert_eq!(after.get(time), before.get(time), "{time} never goes back");
    }

    let mut document = legacy(&probe, ID);
    let soon = probe.clock.time().unix_timestamp() + 60;
    document.insert("accessed", soon);
    probe.sessions().insert_one(document).await.unwrap();
    let read = run_with(&probe.app, ID, script(json!([["get", "k"]]))).await;
    assert_eq!(read.results, [json!("v")]);
}

#[rocket::async_test]
async fn times_of_every_number_type_are_read() {
    let probe = probe(&[("legacy_ids", true.into())]).await;
    let (_, cookie) = visitor(&probe).await;
    let ours = probe.document(&cookie).await.expect("a document");
    let now = probe.clock.time().unix_timestamp();
    for (whose, cookie, document) in [
        ("ours", cookie.as_str(), ours),
        ("legacy", ID, legacy(&probe, ID)),
    ] {
        for time in [bson!(now as i32), bson!(now), bson!(now as f64 + 0.25)] {
            let mut document = document.clone();
            document.insert("accessed", time.clone());
            document.insert("created", time.clone());
            let by_id = doc! { "_id": id_of(cookie) };
            probe.sessions().delete_one(by_id).await.unwrap();
            probe.sessions().insert_one(document).await.unwrap();
            let calls = json!([["get", "k"], ["is_new"], ["created"]]);
            let read = run_with(&probe.app, cookie, script(calls)).await;
            let expected = [json!("v"), json!(false)];
            assert_eq!(read.results[..2], expected, "{whose} {time:?}");
            assert_eq!(told(read.last()), seconds(&time), "{whose} {time:?}");
        }
    }
}

fn seconds(time: &Bson) -> f64 {
    match time {
        Bson::Int32(time) => f64::from(*time),
        Bson::Int64(time) => *time as f64,
        time => time.as_f64().expect("a number"),
    }
}

#[rocket::async_test]
async fn unknown_fields_survive_a_write() {
    let probe = probe(&[]).await;
    let (browser, cookie) = visitor(&probe).await;
    let extra = doc! { "$set": { "user_id": 7, "note": { "by": "hand" }, "value.odd": [1] } };
    let by_id = doc! { "_id": id_of(&cookie) };
    probe.sessions().update_one(by_id, extra).await.unwrap();
    go(&browser, json!([["set", "k", "w"]])).await;
    let stored = probe.document(&cookie).await.expect("a session");
    let stored = opened(stored, &cookie);
    assert_eq!(stored.get_i32("user_id"), Ok(7));
    assert_eq!(stored.get_document("note"), Ok(&doc! { "by": "hand" }));
    let value = stored.get_document("value").unwrap();
    assert_eq!(value, &doc! { "k": "w", "odd": [1] });
}
