//! `encoding = "binary"`, and both encodings side by side.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use mongodb::bson::{Bson, Document, doc};
use rocket::figment::value::Value as Setting;
use rocket::futures::future::join_all;
use rocket::serde::json::{Value, json};
use rocket_mongo_session::{Error, Session};
use rstest::rstest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::apps::calls::{ask, go, keys, script, value};
use crate::apps::database;
use crate::apps::jobs::Jobs;
use crate::apps::probe::{Probe, run};
use crate::support::{App, Browser, Mongod, figment};

async fn start(name: &str, encoding: &'static str) -> (Jobs, Probe) {
    let keys = keys(&[("encoding", encoding.into())]);
    Jobs::start(&format!("encoding_{name}"), &keys).await
}

/// The same application with the other encoding, on the same database, for the same browser.
async fn flipped(name: &str, probe: &Probe, encoding: &'static str) -> (Jobs, App) {
    let jobs = Jobs::default();
    let url = Mongod::shared().await.url(&format!("encoding_{name}"));
    let keys = keys(&[("encoding", Setting::from(encoding))]);
    let figment = figment("debug", Some(&url), &keys);
    let rocket = crate::apps::probe::rocket(figment, &probe.clock, &probe.gates);
    (jobs.clone(), App::launch(jobs.mount(rocket)).await)
}

/// A browser with the same cookies, at another server.
fn moved_to(app: &App, browser: &Browser) -> Browser {
    let other = app.browser();
    let cookie = browser.cookie("session").expect("a cookie");
    other.set_cookie(&format!("session={cookie}; Path=/"));
    other
}

async fn round_trip<T>(jobs: &Jobs, browser: &Browser, value: T)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + Clone + Send + Sync + 'static,
{
    let set = value.clone();
    let (same_request, _) = jobs
        .run(browser, move |s| {
            s.set("v", &set)?;
            s.get::<T>("v")
        })
        .await;
    assert_eq!(
        same_request.unwrap(),
        Some(value.clone()),
        "in this request"
    );
    let (next_request, _) = jobs.run(browser, |s| s.get::<T>("v")).await;
    assert_eq!(next_request.unwrap(), Some(value), "in the next");
}

/// Bytes as such, not as a list of numbers.
#[derive(PartialEq, Debug, Clone)]
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
enum Shape {
    Point,
    Circle(f32),
    Box {
        sides: (u64, u64),
        name: Option<String>,
    },
}

/// An integer in a compact encoding and text in a human-readable one, as bitflags are.
#[derive(PartialEq, Debug, Clone)]
struct Flags(u8);

impl Serialize for Flags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.collect_str(&self.0),
            false => serializer.serialize_u8(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Flags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u8::deserialize(deserializer).map(Flags);
        }
        let text = String::deserialize(deserializer)?;
        text.parse().map(Flags).map_err(serde::de::Error::custom)
    }
}

#[rocket::async_test]
async fn binary_encoding_keeps_any_serde_type() {
    let (jobs, probe) = start("types", "binary").await;
    let (jobs, browser) = (&jobs, &probe.browser());
    for number in [0, 1, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX] {
        round_trip(jobs, browser, number).await;
    }
    for number in [0, -1, i64::MIN, i64::MAX] {
        round_trip(jobs, browser, number).await;
    }
    round_trip(jobs, browser, i128::MIN).await;
    round_trip(jobs, browser, u128::MAX).await;
    round_trip(jobs, browser, 5_u128).await;
    round_trip(jobs, browser, -5_i128).await;
    round_trip(jobs, browser, vec![5_u128, u128::MAX]).await;
    round_trip(jobs, browser, vec![-5_i128]).await;
    round_trip(jobs, browser, Flags(5)).await;
    round_trip(jobs, browser, vec![Flags(1), Flags(2)]).await;
    round_trip(
        jobs,
        browser,
        HashMap::from([(1_u32, "one".to_owned()), (2, "two".into())]),
    )
    .await;
    round_trip(
        jobs,
        browser,
        BTreeMap::from([((1, -1), vec!['a']), ((2, 2), vec![])]),
    )
    .await;
    round_trip(
        jobs,
        browser,
        BTreeMap::from([(true, 1.5_f32), (false, f32::MIN)]),
    )
    .await;
    round_trip(jobs, browser, Bytes(vec![0, 255, 128])).await;
    round_trip(jobs, browser, Bytes(Vec::new())).await;
    round_trip(
        jobs,
        browser,
        (vec![Bytes(vec![1])], None::<u8>, 'x', "t".to_owned()),
    )
    .await;
    for shape in [
        Shape::Point,
        Shape::Circle(1.5),
        Shape::Box {
            sides: (1, u64::MAX),
            name: None,
        },
    ] {
        round_trip(jobs, browser, shape).await;
    }
    round_trip(jobs, browser, "::1".parse::<IpAddr>().unwrap()).await;
    round_trip(
        jobs,
        browser,
        json!({ "$set": { "a.b": [1, null] }, "": 0 }),
    )
    .await;
    round_trip(jobs, browser, ()).await;
    round_trip(jobs, browser, Vec::<u64>::new()).await;
}

#[rocket::async_test]
async fn push_and_pop_keep_integers_of_types_that_bson_lacks() {
    let (jobs, probe) = start("wide", "binary").await;
    let browser = probe.browser();
    let set = |s: &Session| -> Result<(), Error> {
        s.set("list", &vec![1_u128])?;
        s.push("flags", &Flags(1))?;
        s.flash(5_u128)
    };
    jobs.run(&browser, set).await.0.unwrap();
    let push = |s: &Session| -> Result<(), Error> {
        s.push("list", &2_u128)?;
        s.push("flags", &Flags(2))?;
        s.flash(6_u128)
    };
    jobs.run(&browser, push).await.0.unwrap();
    let get = |s: &Session| (s.get::<Vec<u128>>("list"), s.get::<Vec<Flags>>("flags"));
    let ((list, flags), _) = jobs.run(&browser, get).await;
    assert_eq!(list.unwrap(), Some(vec![1, 2]));
    assert_eq!(flags.unwrap(), Some(vec![Flags(1), Flags(2)]));
    let (popped, _) = jobs
        .run_async(&browser, |s| {
            Box::pin(async move { s.pop_flash::<u128>().await })
        })
        .await;
    assert_eq!(popped.unwrap(), [5, 6]);
}

#[rocket::async_test]
async fn document_encoding_refuses_other_types_with_a_hint() {
    let (jobs, probe) = start("refused", "document").await;
    let browser = probe.browser();
    let (refusals, response) = jobs
        .run(&browser, |s| {
            let tuples = BTreeMap::from([((1, 2), 3)]);
            [
                s.set("a", &u64::MAX),
                s.set("b", &tuples),
                s.flash(u64::MAX),
                s.push("c", &u64::MAX),
            ]
        })
        .await;
    for refusal in refusals {
        let error = refusal.unwrap_err();
        assert!(matches!(error, Error::Encode { .. }));
        let hint = error.to_string();
        assert!(hint.contains("`session.encoding = \"binary\"`"), "{hint}");
    }
    assert_eq!((response.status, response.set_cookies()), (200, vec![]));
}

#[rocket::async_test]
async fn increment_and_push_work_in_binary_encoding() {
    let (jobs, probe) = start("counting", "binary").await;
    let browser = probe.browser();
    let calls = json!([
        ["set", "set", 10],
        ["set", "list", [1, "two"]],
        ["increment", "n", 5]
    ]);
    let cookie = go(&browser, calls).await.cookie();
    let many = (0..20).map(|n| {
        let calls = json!([
            ["increment", "n", 1],
            ["increment", "set", 2],
            ["push", "new", n],
            ["push", "list", { "at": n }]
        ]);
        run(&browser, script(calls))
    });
    for response in join_all(many).await {
        assert_eq!(response.status, 200, "{response:?}");
        assert!(!response.text().contains("error"), "{response:?}");
    }
    let read = go(
        &browser,
        json!([
            ["get", "n"],
            ["get", "set"],
            ["get", "new"],
            ["get", "list"]
        ]),
    )
    .await;
    assert_eq!(read.results[..2], [json!(25), json!(50)]);
    let sorted = |list: &Value| {
        let mut list: Vec<i64> = list
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_i64)
            .collect();
        list.sort_unstable();
        list
    };
    assert_eq!(sorted(&read.results[2]), (0..20).collect::<Vec<i64>>());
    let list = read.results[3].as_array().unwrap();
    assert_eq!(list[..2], [json!(1), json!("two")]);
    let appended: Value = list[2..].iter().map(|item| item["at"].clone()).collect();
    assert_eq!(sorted(&appended), (0..20).collect::<Vec<i64>>());

    let stored = value(&probe, &cookie).await.expect("data");
    assert!(
        matches!(stored.get("n"), Some(Bson::Int64(25))),
        "counted by the server"
    );
    assert!(
        matches!(stored.get("new"), Some(Bson::Array(_))),
        "appended by the server"
    );

    // Beyond i64 nothing is counted: an error, and the value stays.
    let (kept, _) = jobs
        .run(&browser, |s| {
            s.set("big", &u64::MAX)?;
            assert!(matches!(s.increment("big", 1), Err(Error::Mismatch { .. })));
            s.set("most", &i64::MAX)?;
            assert!(matches!(
                s.increment("most", 1),
                Err(Error::Mismatch { .. })
            ));
            s.get::<u64>("big")
        })
        .await;
    assert_eq!(kept.unwrap(), Some(u64::MAX));
}

/// One key of each kind, written by whichever encoding is in force.
fn write(s: &Session, suffix: &str) -> Result<(), Error> {
    let key = |name: &str| format!("{name}{suffix}");
    s.set(&key("text"), "t")?;
    s.set(&key("number"), &7_u64)?;
    s.set(
        &key("map"),
        &BTreeMap::from([("a".to_owned(), Some(1.5)), ("b".to_owned(), None)]),
    )?;
    s.set(&key("list"), &vec![1, 2])?;
    s.set(
        &key("shape"),
        &Shape::Box {
            sides: (1, 2),
            name: Some("n".into()),
        },
    )?;
    s.set(&key("ip"), &"10.0.0.1".parse::<IpAddr>().unwrap())?;
    s.increment(&key("count"), 1)?;
    s.push(&key("pushed"), "first")?;
    s.flash_queue(&key("queue")).push(("level", 1))
}

fn read(s: &Session, suffix: &str) -> Result<(), Error> {
    let key = |name: &str| format!("{name}{suffix}");
    assert_eq!(s.get::<String>(&key("text"))?.as_deref(), Some("t"));
    assert_eq!(s.get::<u64>(&key("number"))?, Some(7));
    let map: Option<BTreeMap<String, Option<f64>>> = s.get(&key("map"))?;
    assert_eq!(map.unwrap()["a"], Some(1.5));
    assert_eq!(s.get::<Vec<i32>>(&key("list"))?, Some(vec![1, 2]));
    let shape = Shape::Box {
        sides: (1, 2),
        name: Some("n".into()),
    };
    assert_eq!(s.get::<Shape>(&key("shape"))?, Some(shape));
    assert_eq!(
        s.get::<IpAddr>(&key("ip"))?.unwrap().to_string(),
        "10.0.0.1"
    );
    assert_eq!(s.get::<i64>(&key("count"))?, Some(1));
    assert_eq!(
        s.get::<Vec<String>>(&key("pushed"))?,
        Some(vec!["first".to_owned()])
    );
    let queue: Vec<(String, i32)> = s.flash_queue(&key("queue")).peek()?;
    assert_eq!(queue, [("level".to_owned(), 1)]);
    Ok(())
}

#[rocket::async_test]
async fn both_encodings_are_read_and_a_write_converts_its_value() {
    for (name, first, then) in [
        ("there", "document", "binary"),
        ("back", "binary", "document"),
    ] {
        let (jobs, probe) = start(name, first).await;
        let browser = probe.browser();
        jobs.run(&browser, |s| write(s, "").unwrap()).await;
        let cookie = browser.cookie("session").expect("a cookie");
        let before = value(&probe, &cookie).await.expect("data");

        let (jobs2, app2) = flipped(name, &probe, then).await;
        let browser2 = moved_to(&app2, &browser);
        let (seen, _) = jobs2.run(&browser2, |s| read(s, "")).await;
        seen.unwrap();
        assert_eq!(
            value(&probe, &cookie).await.as_ref(),
            Some(&before),
            "reading converts nothing"
        );

        // A new key, and one that was there.
        let work = |s: &Session| {
            write(s, "2").unwrap();
            s.set("text", "new").unwrap();
        };
        jobs2.run(&browser2, work).await;
        let after = value(&probe, &cookie).await.expect("data");
        for (key, old) in before.iter().filter(|(key, _)| *key != "text") {
            assert_eq!(after.get(key), Some(old), "{key} stays as it was");
        }
        let is_opaque = |document: &Document, key: &str| matches!(document.get(key), Some(Bson::Binary(binary)) if u8::from(binary.subtype) == 0x80);
        assert_eq!(is_opaque(&before, "text"), first == "binary");
        assert_eq!(is_opaque(&after, "text"), then == "binary");
        assert_eq!(is_opaque(&after, "map2"), then == "binary");

        // The application that still has the other encoding reads all of it.
        let work = |s: &Session| -> Result<(), Error> {
            read(s, "2")?;
            assert_eq!(s.get::<String>("text")?.as_deref(), Some("new"));
            s.set("text", "t")?;
            read(s, "")
        };
        let (seen, _) = jobs.run(&browser, work).await;
        seen.unwrap();
        let (seen, _) = jobs2
            .run(&browser2, |s| read(s, "").and_then(|()| read(s, "2")))
            .await;
        seen.unwrap();
    }
}

#[rocket::async_test]
async fn push_of_both_encodings_appends_to_one_list() {
    let (jobs, probe) = start("mixed", "document").await;
    let browser = probe.browser();
    let ip = |n: u8| IpAddr::from([10, 0, 0, n]);
    let work = move |n: u8| {
        move |s: &Session| -> Result<(), Error> {
            s.push("ips", &ip(n))?;
            s.flash(ip(n))?;
            s.push("shapes", &Shape::Circle(n.into()))?;
            s.flash_queue("text").push(format!("m{n}"))?;
            s.increment("n", 1).map(drop)
        }
    };
    jobs.run(&browser, work(1)).await.0.unwrap();
    let (jobs2, app2) = flipped("mixed", &probe, "binary").await;
    let browser2 = moved_to(&app2, &browser);
    jobs2.run(&browser2, work(2)).await.0.unwrap();
    jobs.run(&browser, work(3)).await.0.unwrap();
    // An equal message is a duplicate in both encodings.
    let again = |s: &Session| s.flash_queue("text").push_unique("m2");
    jobs.run(&browser, again).await.0.unwrap();
    jobs2.run(&browser2, again).await.0.unwrap();
    for (jobs, browser) in [(&jobs, &browser), (&jobs2, &browser2)] {
        let (seen, _) = jobs
            .run(browser, move |s| -> Result<(), Error> {
                let ips = [ip(1), ip(2), ip(3)];
                assert_eq!(s.get::<Vec<IpAddr>>("ips")?.unwrap(), ips);
                assert_eq!(s.peek_flash::<IpAddr>()?, ips);
                let shapes: Vec<Shape> = s.get("shapes")?.unwrap();
                assert_eq!(shapes[1], Shape::Circle(2.0));
                assert_eq!(s.flash_queue("text").peek::<String>()?, ["m1", "m2", "m3"]);
                assert_eq!(s.get::<i64>("n")?, Some(3));
                Ok(())
            })
            .await;
        seen.unwrap();
    }
    let (popped, _) = jobs
        .run_async(&browser, |s| {
            Box::pin(async move { s.pop_flash::<IpAddr>().await })
        })
        .await;
    assert_eq!(popped.unwrap(), [ip(1), ip(2), ip(3)]);
}

#[rocket::async_test]
async fn push_appends_to_a_list_that_the_other_encoding_set() {
    for (name, first, then) in [
        ("append_there", "document", "binary"),
        ("append_back", "binary", "document"),
    ] {
        let (jobs, probe) = start(name, first).await;
        let browser = probe.browser();
        let set = |s: &Session| {
            s.set("list", &vec![1_u64]).unwrap();
            s.set("n", &1_u64).unwrap();
        };
        jobs.run(&browser, set).await;
        let (jobs2, app2) = flipped(name, &probe, then).await;
        let browser2 = moved_to(&app2, &browser);
        let appends = (2..12_u64).map(|n| {
            let work = move |s: &Session| {
                s.push("list", &n)?;
                s.increment("n", 1)
            };
            match n % 2 {
                0 => jobs.run(&browser, work),
                _ => jobs2.run(&browser2, work),
            }
        });
        for (done, response) in join_all(appends).await {
            assert!(done.is_ok() && response.status == 200, "{done:?}");
        }
        let (seen, _) = jobs
            .run(&browser, |s| (s.get::<Vec<u64>>("list"), s.get::<u64>("n")))
            .await;
        let mut list = seen.0.unwrap().unwrap();
        list.sort_unstable();
        assert_eq!(list, (1..12).collect::<Vec<u64>>());
        assert_eq!(seen.1.unwrap(), Some(11));
    }
}

#[rocket::async_test]
async fn binary_0x80_of_the_application_comes_back_unchanged() {
    for encoding in ["document", "binary"] {
        let (jobs, probe) = start("own", encoding).await;
        let browser = probe.browser();
        let own = bson::Binary {
            subtype: bson::spec::BinarySubtype::UserDefined(0x80),
            bytes: b"c\x01not cbor".to_vec(),
        };
        let set = own.clone();
        jobs.run(&browser, move |s| s.set("v", &set).unwrap()).await;
        let (seen, _) = jobs.run(&browser, |s| s.get::<bson::Binary>("v")).await;
        assert_eq!(seen.unwrap(), Some(own), "{encoding}");
    }
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(b"")]
#[case(b"c")]
#[case(b"c\xff")]
#[case(b"c\x9b\xff\xff\xff\xff\xff\xff\xff\xff")]
#[case(b"b\x05")]
#[case(b"x???")]
#[case([b"c".to_vec(), vec![0x81; 100_000]].concat())]
async fn garbage_in_an_encoded_value_fails_that_key_alone(#[case] bytes: impl Into<Vec<u8>>) {
    let (_, probe) = start(&database(), "binary").await;
    let browser = probe.browser();
    let cookie = go(&browser, json!([["set", "k", "v"]])).await.cookie();
    let binary = mongodb::bson::Binary {
        subtype: mongodb::bson::spec::BinarySubtype::UserDefined(0x80),
        bytes: bytes.into(),
    };
    let by_id = doc! { "_id": crate::apps::probe::id_of(&cookie) };
    let update = doc! { "$set": { "value.bad": binary } };
    probe.sessions().update_one(by_id, update).await.unwrap();
    let calls = json!([
        ["get", "bad"],
        ["push", "bad", 1],
        ["increment", "bad", 1],
        ["get", "k"]
    ]);
    let read = go(&browser, calls).await;
    let error = |name: &str| json!({ "error": name });
    let expected = [
        error("Decode"),
        error("Mismatch"),
        error("Mismatch"),
        json!("v"),
    ];
    assert_eq!(read.results, expected);
    assert_eq!(ask(&browser, json!(["remove", "bad"])).await, true);
}
