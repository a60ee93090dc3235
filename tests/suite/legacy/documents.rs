//! What the Python package wrote is read.

use bson::oid::ObjectId;
use bson::{Binary, DateTime};
use mongodb::bson::{Bson, doc};
use rocket::serde::json::{Value, json};
use rstest::rstest;

use super::{fixture, start, stored};
use crate::apps::calls::{ask, go, millis, script, seconds, told};
use crate::apps::database;
use crate::apps::probe::{asked, eventually, run_with};

const KEYS: [&str; 17] = [
    "text",
    "empty",
    "nul",
    "int",
    "negative",
    "long",
    "least",
    "float",
    "whole float",
    "true",
    "none",
    "bytes",
    "tuple",
    "list",
    "date",
    "object id",
    "ключ",
];

#[rocket::async_test]
async fn values_of_every_python_type_are_read_before_and_after_the_upgrade() {
    let (jobs, probe) = start("data", &[]).await;
    let browser = fixture("data", &probe).visitor(&probe).await;
    for is_upgraded in [false, true] {
        let (keys, response) = jobs
            .run(&browser, move |s| {
                assert!(!s.is_new());
                let text: String = s.get("text").unwrap().unwrap();
                assert_eq!(text, "café \u{1f600}");
                assert_eq!(s.get::<String>("empty").unwrap().unwrap(), "");
                assert_eq!(s.get::<String>("nul").unwrap().unwrap(), "a\0b");
                assert_eq!(s.get::<u8>("int").unwrap(), Some(7));
                assert_eq!(s.get::<i32>("negative").unwrap(), Some(i32::MIN));
                assert_eq!(s.get::<i64>("long").unwrap(), Some((1 << 53) + 1));
                assert_eq!(s.get::<i64>("least").unwrap(), Some(i64::MIN));
                assert_eq!(s.get::<f64>("float").unwrap(), Some(1.5));
                assert_eq!(s.get::<f64>("whole float").unwrap(), Some(2.0));
                assert_eq!(s.get::<bool>("true").unwrap(), Some(true));
                assert_eq!(s.get::<Option<i32>>("none").unwrap(), Some(None));
                let bytes: Binary = s.get("bytes").unwrap().unwrap();
                assert_eq!(bytes.bytes, [0, 255, 128]);
                let tuple: (i32, String, f64) = s.get("tuple").unwrap().unwrap();
                assert_eq!(tuple, (1, "two".to_owned(), 3.0));
                let list: Value = s.get("list").unwrap().unwrap();
                assert_eq!(list, json!([1, [2, [3]], { "four": 5 }]));
                let date: DateTime = s.get("date").unwrap().unwrap();
                let expected = DateTime::parse_rfc3339_str("2020-02-29T12:30:15.123Z");
                assert_eq!(date, expected.unwrap());
                let id: ObjectId = s.get("object id").unwrap().unwrap();
                assert_eq!(id.to_hex(), "5f5f5f5f5f5f5f5f5f5f5f5f");
                assert_eq!(s.get::<String>("ключ").unwrap().unwrap(), "key");
                s.keys()
            })
            .await;
        assert_eq!(response.status, 200);
        assert_eq!(keys[..17], KEYS, "upgraded: {is_upgraded}");
        go(&browser, json!([["set", "more", 1]])).await;
    }
    assert_eq!(stored(&probe).await.len(), 1);
}

#[rocket::async_test]
async fn flash_messages_of_the_python_package_are_delivered_once() {
    let (_, probe) = start("messages", &[]).await;
    let fixture = fixture("flash", &probe);
    let browser = fixture.visitor(&probe).await;
    let queues = json!({
        "": ["hello", "again", "again"],
        "errors": [{ "level": "error", "text": "no" }],
        "ц queue": [7],
        "100%": ["percent"],
        "$x": ["dollar"]
    });
    for (name, messages) in queues.as_object().unwrap() {
        let seen = ask(&browser, json!(["queue_peek", name])).await;
        assert_eq!(&seen, messages, "{name}");
    }
    assert_eq!(ask(&browser, json!(["keys"])).await, json!(["name"]));
    for (name, messages) in queues.as_object().unwrap() {
        let seen = ask(&browser, json!(["queue_pop", name])).await;
        assert_eq!(&seen, messages, "{name}");
        let seen = ask(&browser, json!(["queue_pop", name])).await;
        assert_eq!(seen, json!([]), "{name}: shown once");
    }
    let cookie = browser.cookie("session");
    assert_eq!(cookie.as_ref(), Some(&fixture.cookie));
    assert_eq!(ask(&browser, json!(["get", "name"])).await, "Bob");
}

#[rocket::async_test]
async fn nested_values_and_escaped_keys_are_read_before_and_after_the_upgrade() {
    let (_, probe) = start("nested", &[]).await;
    let browser = fixture("nested", &probe).visitor(&probe).await;
    let cart = json!({
        "items": [{ "id": 1, "tags": ["a", "b"] }, { "id": 2, "tags": [] }],
        "total": 12.5,
        "shipping": { "to": { "street": "Main", "zip": "0123" }, "gift": null }
    });
    let deep = (0..50).fold(json!(0), |inner, _| json!({ "in": inner }));
    for _ in 0..2 {
        assert_eq!(ask(&browser, json!(["get", "cart"])).await, cart);
        assert_eq!(ask(&browser, json!(["get", "deep"])).await, deep);
        go(&browser, json!([["set", "n", 1]])).await;
    }

    let names = fixture("names", &probe);
    let browser = names.visitor(&probe).await;
    let long = "x".repeat(1000);
    let names = [
        "%",
        "50%",
        "%2E",
        "%24set",
        "%25",
        "a%2Eb",
        "_f",
        "_csrft",
        "x_f_",
        "a$b",
        "__proto__",
        "0",
        " ",
    ];
    for _ in 0..2 {
        for name in names {
            assert_eq!(ask(&browser, json!(["get", name])).await, name);
        }
        assert_eq!(ask(&browser, json!(["get", long])).await, "long");
        // The empty key alone is not read.
        let keys = ask(&browser, json!(["keys"])).await;
        assert_eq!(keys.as_array().unwrap()[..13], names.map(Value::from));
        assert!(!keys.as_array().unwrap().contains(&json!("")));
        go(&browser, json!([["set", "n", 1]])).await;
    }
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case("empty", json!([]))]
#[case("unpickled", json!(["a", "b"]))]
#[case("attributes", json!(["a", "b"]))]
#[case("csrf", json!(["name"]))]
async fn emptied_and_unpickled_documents_are_sessions(#[case] name: &str, #[case] keys: Value) {
    let (_, probe) = start(&database(), &[]).await;
    let browser = fixture(name, &probe).visitor(&probe).await;
    let read = go(&browser, json!([["is_new"], ["keys"]])).await;
    assert_eq!(read.results, [json!(false), keys]);
}

#[rocket::async_test]
async fn pickled_documents_are_not_read_and_not_overwritten() {
    let (_, probe) = start("pickled", &[]).await;
    for name in ["pickled", "pickled_flash", "repickled"] {
        let fixture = fixture(name, &probe);
        let browser = fixture.visitor(&probe).await;
        let before = probe.document(&fixture.cookie).await;
        assert!(before.is_some());
        let calls = json!([["is_new"], ["keys"], ["pop_flash"], ["set", "n", 1]]);
        let written = go(&browser, calls).await;
        let nothing = [json!(true), json!([]), json!([])];
        assert_eq!(written.results[..3], nothing, "{name}");
        assert_ne!(written.cookie(), fixture.cookie, "{name}");
        assert_eq!(probe.document(&fixture.cookie).await, before, "{name}");
        assert_eq!(ask(&browser, json!(["get", "n"])).await, 1, "{name}");
    }
}

#[rocket::async_test]
async fn values_under_reserved_keys_break_no_other_key() {
    let (_, probe) = start("odd", &[]).await;
    let browser = fixture("odd", &probe).visitor(&probe).await;
    let calls = json!([
        ["get", "a"],
        ["keys"],
        ["peek_flash"],
        ["flash", "m"],
        ["pop_flash"]
    ]);
    let read = go(&browser, calls).await;
    let error = |name: &str| json!({ "error": name });
    let expected = [
        json!(1),
        json!(["a"]),
        error("Decode"),
        error("Mismatch"),
        error("Decode"),
    ];
    assert_eq!(read.results, expected);
    let token = ask(&browser, json!(["csrf_token"])).await;
    let calls = json!([["verify_csrf", token], ["verify_csrf", "5"], ["get", "a"]]);
    let read = go(&browser, calls).await;
    assert_eq!(read.results, [json!(true), json!(false), json!(1)]);
}

#[rocket::async_test]
async fn expired_legacy_sessions_are_not_read() {
    for (what, keys, age) in [
        ("idle", vec![], 1201.0),
        (
            "old",
            vec![("timeout", false.into()), ("lifetime", 60.into())],
            61.0,
        ),
    ] {
        let (_, probe) = start("expired", &keys).await;
        let fixture = fixture("data", &probe);
        let browser = fixture.visitor(&probe).await;
        probe.clock.advance(seconds(age - 2.0));
        assert_eq!(ask(&browser, json!(["is_new"])).await, false, "{what}");
        probe.clock.advance(seconds(2.0));
        let read = go(&browser, json!([["is_new"], ["keys"], ["user"]])).await;
        assert_eq!(
            read.results,
            [json!(true), json!([]), json!(null)],
            "{what}"
        );
        assert_eq!(read.sent(), None, "{what}");
        let written = go(&browser, json!([["set", "n", 1]])).await;
        assert_ne!(written.cookie(), fixture.cookie, "{what}");
        assert_eq!(ask(&browser, json!(["keys"])).await, json!(["n"]), "{what}");
    }
    let (_, probe) = start("expired", &[("timeout", false.into())]).await;
    let browser = fixture("data", &probe).visitor(&probe).await;
    probe.clock.advance(seconds(1e8));
    let read = go(&browser, json!([["is_new"], ["expires"]])).await;
    assert_eq!(read.results, [json!(false), json!(null)]);
}

#[rocket::async_test]
async fn created_accessed_and_expires_are_those_of_the_document() {
    let (_, probe) = start("times", &[("lifetime", 3600.into())]).await;
    let fixture = fixture("data", &probe);
    let browser = fixture.visitor(&probe).await;
    let created = fixture.document.get_f64("created").unwrap();
    let accessed = f64::from(fixture.document.get_i32("accessed").unwrap());
    probe.clock.advance(seconds(900.0));
    let said = go(
        &browser,
        json!([["created"], ["accessed"], ["expires"], ["id"]]),
    )
    .await;
    let times: Vec<_> = said.results[..3].iter().map(told).collect();
    assert_eq!(times, [created, accessed, accessed + 1200.0]);
    assert_eq!(said.last(), &Value::Null);
    // An upgrade leaves it as old as it was.
    let written = go(&browser, json!([["set", "n", 1], ["created"]])).await;
    assert_eq!(told(written.last()), created);
    let said = go(&browser, json!([["created"], ["expires"]])).await;
    assert_eq!(told(&said.results[0]), created);
    let expires = said.last();
    let expected = crate::apps::calls::now(&probe) + 1200.0;
    assert_eq!(millis(told(expires)), millis(expected));
}

#[rocket::async_test]
async fn reads_change_only_the_times_of_a_legacy_document() {
    // `accessed` grows, as the package itself would have it.
    let (_, probe) = start("reading", &[("reissue_time", 0.into())]).await;
    let fixture = fixture("data", &probe);
    let browser = fixture.visitor(&probe).await;
    let before = probe.document(&fixture.cookie).await.unwrap();
    probe.clock.advance(seconds(100.0));
    let profile = probe.profile().await;
    let read = go(&browser, json!([["get", "int"], ["keys"]])).await;
    assert_eq!(read.sent(), None);
    assert_eq!(asked(&profile).await[0], "find");
    let expected = crate::apps::calls::now(&probe);
    eventually("the touch", || async {
        let after = probe.document(&fixture.cookie).await.unwrap();
        after.get_f64("accessed") == Ok(expected)
    })
    .await;
    let mut after = probe.document(&fixture.cookie).await.unwrap();
    assert!(
        after.remove("expires").is_some(),
        "so that it goes by itself"
    );
    after.insert("accessed", before.get("accessed").unwrap());
    assert_eq!(after, before);
    probe.clock.advance(seconds(1150.0));
    assert_eq!(ask(&browser, json!(["is_new"])).await, false);
}

#[rocket::async_test]
async fn bare_id_is_not_looked_up_without_legacy_ids() {
    let (_, probe) = start("off", &[("legacy_ids", false.into())]).await;
    let fixture = fixture("csrf", &probe);
    let browser = fixture.visitor(&probe).await;
    let before = probe.document(&fixture.cookie).await;
    let profile = probe.profile().await;
    let calls = json!([["is_new"], ["keys"], ["verify_csrf", fixture.csrf]]);
    let read = go(&browser, calls).await;
    assert_eq!(read.results, [json!(true), json!([]), json!(false)]);
    assert!(asked(&profile).await.is_empty(), "not looked up");
    let written = go(&browser, json!([["set", "n", 1]])).await;
    assert!(written.sent().is_some());
    assert_eq!(probe.document(&fixture.cookie).await, before);
}

#[rocket::async_test]
async fn bare_id_is_looked_up_in_its_exact_form_only() {
    let (_, probe) = start("exact", &[]).await;
    let fixture = fixture("data", &probe);
    fixture.visitor(&probe).await;
    let id = &fixture.cookie;
    let profile = probe.profile().await;
    // The package took what was left after dropping every other character.
    for cookie in [
        id.to_uppercase(),
        format!("ZZ{id}"),
        format!("{id}%24"),
        format!("{}-{}", &id[..8], &id[8..]),
        id[..31].to_owned(),
        format!("{id}0"),
        format!("{id}.{id}"),
        "abcdef".to_owned(),
    ] {
        let read = run_with(&probe.app, &cookie, script(json!([["is_new"]]))).await;
        assert_eq!(read.results, [json!(true)], "{cookie}");
    }
    assert!(asked(&profile).await.is_empty());
    let read = run_with(&probe.app, id, script(json!([["is_new"]]))).await;
    assert_eq!(read.results, [json!(false)]);
}

#[rocket::async_test]
async fn document_with_a_malformed_token_is_not_read() {
    let (_, probe) = start("malformed_token", &[]).await;
    let fixture = fixture("data", &probe);
    fixture.visitor(&probe).await;
    for token in ["anything".into(), Bson::Null, Bson::Int32(7)] {
        let update = doc! { "$set": { "token": &token } };
        let by_id = doc! { "_id": &fixture.cookie };
        probe.sessions().update_one(by_id, update).await.unwrap();
        let before = probe.document(&fixture.cookie).await;
        let calls = script(json!([["is_new"], ["set", "n", 1]]));
        let read = run_with(&probe.app, &fixture.cookie, calls).await;
        assert_eq!(
            (read.status, &read.results[0]),
            (200, &json!(true)),
            "{token}"
        );
        assert_eq!(probe.document(&fixture.cookie).await, before, "{token}");
    }
}
