//! The fields of a stored document, what a read changes of them, and the types of its values.

use std::time::Duration;

use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Bson, DateTime, Document, doc};
use rocket::serde::json::{Value, json};
use rocket::time::OffsetDateTime;
use rocket_mongo_session::{Error, Session};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::apps::calls::{ask, go, jobs, probe, script, seconds, value, visitor};
use crate::apps::jobs::Jobs;
use crate::apps::probe::{Probe, Script, eventually, id_of, run, run_with};
use crate::support::Browser;

fn millis(time: OffsetDateTime) -> i64 {
    (time.unix_timestamp_nanos() / 1_000_000) as i64
}

#[rocket::async_test]
async fn a_document_has_the_legacy_fields_and_ours() {
    let probe = probe(&[]).await;
    let created = millis(probe.clock.time());
    let (browser, cookie) = visitor(&probe).await;
    probe.clock.advance(seconds(7.25));
    go(&browser, json!([["set", "n", 1]])).await;
    let stored = probe.document(&cookie).await.expect("a session");
    let names: Vec<_> = stored.keys().map(String::as_str).collect();
    let expected = [
        "_id", "created", "accessed", "value", "token", "csrf", "expires",
    ];
    assert_eq!(names, expected);
    assert_eq!(stored.get_str("_id"), Ok(id_of(&cookie)));
    let accessed = millis(probe.clock.time());
    assert_eq!(stored.get_f64("created"), Ok(created as f64 / 1000.0));
    assert_eq!(stored.get_f64("accessed"), Ok(accessed as f64 / 1000.0));
    assert_eq!(
        stored.get_document("value"),
        Ok(&doc! { "k": "v", "n": 1_i64 })
    );
    let expires = DateTime::from_millis(accessed + 1_200_000);
    assert_eq!(stored.get_datetime("expires"), Ok(&expires));
}

#[rocket::async_test]
async fn a_session_that_never_expires_has_the_last_of_dates() {
    let probe = probe(&[("timeout", false.into())]).await;
    let (_, cookie) = visitor(&probe).await;
    let stored = probe.document(&cookie).await.expect("a session");
    let expires = stored.get_datetime("expires").expect("a date");
    assert!(expires.to_string().starts_with("9999-12-31"), "{expires}");
}

#[rocket::async_test]
async fn a_session_is_the_document_of_the_design() {
    let probe = Probe::start("stored_document", &[("timeout", 100.into())]).await;
    let now = probe.clock.time().unix_timestamp_nanos() / 1_000_000;
    let browser = probe.browser();
    let script = Script::new()
        .set("n", 1)
        .set("text", "a")
        .set("list", json!([1.5, true, null]))
        .set("map", json!({"a.b": {"c": "d"}}))
        .set("a.b", 2)
        .set("$gt", 3)
        .set("%", 4)
        .set("_f_mine", 5)
        .call(json!(["flash", "m"]));
    let cookie = run(&browser, script).await.cookie();
    let document = probe.document(&cookie).await.expect("a session");
    let fields: Vec<&String> = document.keys().collect();
    assert_eq!(
        fields,
        [
            "_id", "created", "accessed", "value", "token", "csrf", "expires"
        ]
    );
    assert_eq!(document.get_str("_id"), Ok(id_of(&cookie)));
    for field in ["created", "accessed"] {
        assert_eq!(document.get_f64(field), Ok(now as f64 / 1000.0), "{field}");
    }
    let expires = DateTime::from_millis((now + 100_000) as i64);
    assert_eq!(document.get_datetime("expires"), Ok(&expires));
    let secret = cookie.split_once('.').expect("two parts").1;
    for field in ["token", "csrf"] {
        let Some(Bson::Binary(binary)) = document.get(field) else {
            panic!("{field} in {document}");
        };
        assert_eq!(
            (binary.subtype, binary.bytes.len()),
            (BinarySubtype::Generic, 32),
            "{field}"
        );
    }
    assert!(
        !format!("{document:?}").contains(secret),
        "read access gives no one a cookie"
    );

    let value = document.get_document("value").expect("values");
    assert_eq!(value.get("n"), Some(&Bson::Int64(1)));
    assert_eq!(value.get_str("text"), Ok("a"));
    assert_eq!(
        value.get_array("list"),
        Ok(&vec![1.5.into(), true.into(), Bson::Null])
    );
    assert_eq!(value.get_document("map"), Ok(&doc! { "a.b": { "c": "d" } }));
    assert_eq!(value.get_array("_f_"), Ok(&vec!["m".into()]));
    assert_eq!(value.len(), 9);
    let names = value
        .keys()
        .filter(|name| name.contains('.') || name.starts_with('$'));
    assert_eq!(names.count(), 0, "no key is a path or an operator: {value}");
    let keys = run(&browser, Script::new().then("keys")).await;
    let expected = json!(["n", "text", "list", "map", "a.b", "$gt", "%", "_f_mine"]);
    assert_eq!(keys.results, [expected]);
}

#[rocket::async_test]
async fn fields_that_say_nothing_are_not_there() {
    let probe = Probe::start("stored_optional", &[("max_age", 500.into())]).await;
    let browser = probe.browser();
    let script = Script::new()
        .login("bob")
        .call(json!(["set_timeout", null]));
    let script = script.call(json!(["set_max_age", 50.5]));
    let cookie = run(&browser, script).await.cookie();
    let document = probe.document(&cookie).await.expect("a session");
    assert_eq!(document.get_str("user"), Ok("bob"));
    assert_eq!(document.get_bool("timeout"), Ok(false));
    assert_eq!(document.get_f64("max_age"), Ok(50.5));
    let never = document.get_datetime("expires").expect("always present");
    assert!(never.to_string().starts_with("9999-12-31"), "{never}");
    assert!(!document.contains_key("renewed"));
    run(&browser, Script::new().then("renew")).await;
    let document = probe.document(&cookie).await.expect("a session");
    assert!(document.get_datetime("renewed").is_ok(), "{document}");
}

#[rocket::async_test]
async fn a_read_moves_only_the_times() {
    let probe = Probe::start("stored_touch", &[("timeout", 100.into())]).await;
    let browser = probe.browser();
    let cookie = run(&browser, Script::new().set("n", 1)).await.cookie();
    let mut before = probe.document(&cookie).await.expect("a session");
    probe.clock.advance(Duration::from_secs(30));
    assert_eq!(
        run(&browser, Script::new().get("n")).await.results,
        [json!(1)]
    );
    let then = before.get_f64("accessed").expect("a time");
    eventually("the touch", async || {
        let document = probe.document(&cookie).await.expect("a session");
        document.get_f64("accessed") == Ok(then + 30.0)
    })
    .await;
    let mut after = probe.document(&cookie).await.expect("a session");
    let moved = |of: &Document| {
        of.get_datetime("expires")
            .expect("a time")
            .timestamp_millis()
    };
    assert_eq!(moved(&after) - moved(&before), 30_000);
    for times in [&mut before, &mut after] {
        times.remove("accessed");
        times.remove("expires");
    }
    assert_eq!(after, before);

    // A clock that is set back moves nothing back.
    let latest = probe.document(&cookie).await;
    probe.clock.rewind(Duration::from_secs(3000));
    run(&browser, Script::new().then("touch")).await;
    assert_eq!(probe.document(&cookie).await, latest);
}

/// Sets a value in one request and reads it in the next.
async fn round_trip<T>(jobs: &Jobs, browser: &Browser, value: T)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + Clone + Send + Sync + 'static,
{
    let set = value.clone();
    let work = move |s: &Session| {
        s.set("v", &set)?;
        s.get::<T>("v")
    };
    let (same_request, _) = jobs.run(browser, work).await;
    assert_eq!(
        same_request.unwrap(),
        Some(value.clone()),
        "in this request"
    );
    let (next_request, _) = jobs.run(browser, |s| s.get::<T>("v")).await;
    assert_eq!(next_request.unwrap(), Some(value), "in the next");
}

#[rocket::async_test]
async fn primitives_come_back_as_they_were() {
    let (jobs, probe) = jobs(&[]).await;
    let browser = probe.browser();
    let (jobs, browser) = (&jobs, &browser);
    round_trip(jobs, browser, ()).await;
    round_trip(jobs, browser, None::<i32>).await;
    round_trip(jobs, browser, true).await;
    for number in [0, -1, i32::MIN, i32::MAX] {
        round_trip(jobs, browser, number).await;
    }
    for number in [1 << 31, (1 << 53) + 1, i64::MIN, i64::MAX] {
        round_trip(jobs, browser, number).await;
    }
    for number in [
        0.0,
        -1.5,
        f64::MAX,
        f64::MIN_POSITIVE,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ] {
        round_trip(jobs, browser, number).await;
    }
    jobs.run(browser, |s| s.set("v", &f64::NAN).unwrap()).await;
    let (nan, _) = jobs.run(browser, |s| s.get::<f64>("v")).await;
    assert!(nan.unwrap().is_some_and(f64::is_nan));
    for text in ["", "ключ \u{1f600}", "a\0b", "%$.", &"long ".repeat(1000)] {
        round_trip(jobs, browser, text.to_owned()).await;
    }
    round_trip(jobs, browser, Vec::<i32>::new()).await;
    round_trip(jobs, browser, vec![vec![1], vec![]]).await;
    round_trip(jobs, browser, json!({})).await;
    round_trip(
        jobs,
        browser,
        json!({ "": { "a.b": 1, "$c": [2] }, "z": 1, "a": 2 }),
    )
    .await;
    // 209: a tuple stays one.
    round_trip(jobs, browser, (1, "two".to_owned(), 3.5, Some('4'))).await;
    let nested = (0..50).fold(json!(1), |inner, _| json!({ "in": inner }));
    round_trip(jobs, browser, nested).await;

    let too_deep = (0..65).fold(json!(1), |inner, _| json!([inner]));
    let (refused, _) = jobs.run(browser, move |s| s.set("v", &too_deep)).await;
    assert!(matches!(refused, Err(Error::Encode { .. })), "{refused:?}");
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
enum Role {
    Guest,
    Named(String),
    Admin { level: u8, of: Vec<String> },
}

#[rocket::async_test]
async fn types_of_bson_and_of_the_application_come_back() {
    let (jobs, probe) = jobs(&[]).await;
    let (jobs, browser) = (&jobs, &probe.browser());
    round_trip(jobs, browser, DateTime::from_millis(1_582_979_415_123)).await;
    round_trip(jobs, browser, ObjectId::new()).await;
    let binary = mongodb::bson::Binary {
        subtype: mongodb::bson::spec::BinarySubtype::Generic,
        bytes: vec![0, 255, 128],
    };
    round_trip(jobs, browser, binary).await;
    round_trip(
        jobs,
        browser,
        doc! { "a": { "b": [DateTime::from_millis(1), Bson::Null] } },
    )
    .await;
    round_trip(jobs, browser, "::1".parse::<std::net::IpAddr>().unwrap()).await;
    round_trip(jobs, browser, std::time::Duration::new(7, 5)).await;
    for role in [
        Role::Guest,
        Role::Named("x".into()),
        Role::Admin {
            level: 3,
            of: vec!["a".into()],
        },
    ] {
        round_trip(jobs, browser, role).await;
    }
}

#[rocket::async_test]
async fn any_text_is_a_key_but_the_empty_one_and_nul() {
    let probe = probe(&[]).await;
    let browser = probe.browser();
    let long = "k".repeat(1000);
    let names = vec![
        "a.b",
        ".",
        "..",
        "$set",
        "$",
        "$[]",
        "a$",
        "%",
        "%2E",
        "ключ",
        "\u{1f600}",
        " ",
        "0",
        "_id",
        "_f_x",
        "__proto__",
        "value",
        &long,
    ];
    let mut cookie = None;
    for (n, name) in names.iter().enumerate() {
        let set = go(&browser, json!([["set", name, n]])).await;
        cookie = cookie.or_else(|| set.sent().map(|_| set.cookie()));
    }
    for (n, name) in names.iter().enumerate() {
        assert_eq!(
            ask(&browser, json!(["get", name])).await,
            json!(n),
            "{name:?}"
        );
    }
    assert_eq!(ask(&browser, json!(["keys"])).await, json!(names));
    let stored = value(&probe, &cookie.expect("a cookie"))
        .await
        .expect("data");
    assert!(
        stored
            .keys()
            .all(|name| !name.contains('.') && !name.starts_with('$'))
    );
    for name in ["", "\0", "a\0b"] {
        for call in [
            json!(["set", name, 1]),
            json!(["push", name, 1]),
            json!(["increment", name, 1]),
        ] {
            let refused = ask(&browser, call).await;
            assert_eq!(refused, json!({ "error": "BadKey" }), "{name:?}");
        }
    }
    for name in names {
        assert_eq!(
            ask(&browser, json!(["remove", name])).await,
            true,
            "{name:?}"
        );
    }
    assert_eq!(ask(&browser, json!(["len"])).await, 0);
}

#[rocket::async_test]
async fn data_over_the_limit_is_an_error_where_it_is_set() {
    for (limit, too_long) in [("10KB", 10_000), ("8MiB", 8 << 20)] {
        let probe = probe(&[("max_bytes", limit.into())]).await;
        let (browser, cookie) = visitor(&probe).await;
        let before = probe.document(&cookie).await;
        let refused = go(
            &browser,
            json!([["set_long", "long", too_long], ["get", "k"]]),
        )
        .await;
        assert_eq!(
            refused.results,
            [json!({ "error": "TooLarge" }), json!("v")]
        );
        assert_eq!(probe.document(&cookie).await, before);
        let fits = go(&browser, json!([["set_long", "long", too_long - 100]])).await;
        assert_eq!(fits.results, [Value::Null]);
        let read = ask(&browser, json!(["get", "long"])).await;
        assert_eq!(read.as_str().map(str::len), Some(too_long - 100));
    }
}

#[rocket::async_test]
async fn a_document_with_the_readmes_four_fields_is_a_session() {
    let probe = probe(&[("legacy_ids", true.into())]).await;
    let now = probe.clock.time().unix_timestamp() as f64;
    let id = "00ff00ff00ff00ff00ff00ff00ff00ff";
    let document = doc! { "_id": id, "created": now - 0.5, "accessed": now, "value": { "k": "v" } };
    probe.sessions().insert_one(document).await.unwrap();
    let read = run_with(&probe.app, id, script(json!([["get", "k"], ["is_new"]]))).await;
    assert_eq!(read.results, [json!("v"), json!(false)]);
}

#[rocket::async_test]
async fn a_write_leaves_every_other_field_in_its_place() {
    let probe = probe(&[]).await;
    let (browser, cookie) = visitor(&probe).await;
    let by_id = doc! { "_id": id_of(&cookie) };
    let stored = probe.document(&cookie).await.expect("a session");
    let mut shuffled = doc! { "first": 1 };
    let mut rest: Vec<_> = stored
        .into_iter()
        .filter(|(name, _)| name != "_id")
        .collect();
    rest.reverse();
    shuffled.extend(rest);
    shuffled.insert("last", doc! { "z": 1, "a": 2 });
    let sessions = probe.sessions();
    let replaced = sessions.replace_one(by_id, shuffled);
    assert_eq!(replaced.await.unwrap().matched_count, 1);
    let before = probe.document(&cookie).await.expect("a session");
    go(&browser, json!([["set", "n", 1], ["remove", "k"]])).await;
    let after = probe.document(&cookie).await.expect("a session");
    let names = |document: &Document| document.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before));
    assert_eq!(after.get("first"), before.get("first"));
    assert_eq!(after.get("last"), before.get("last"));
}
