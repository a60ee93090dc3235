//! A session of the Python package is upgraded in place by its first write, whatever races.

use mongodb::bson::{Bson, Document, doc, spec::BinarySubtype};
use rocket::futures::future::join_all;
use rocket::serde::json::{Value, json};
use rstest::rstest;

use super::{Fixture, fixture, start, stored};
use crate::apps::calls::{ask, go, keys, script, seconds};
use crate::apps::database;
use crate::apps::probe::{Probe, Ran, id_of, removes, run, run_with};
use crate::support::{Browser, Mongod};

const SECRET_CHARS: usize = 43;

fn bytes<'d>(document: &'d Document, name: &str) -> &'d [u8] {
    match document.get(name) {
        Some(Bson::Binary(binary)) if binary.subtype == BinarySubtype::Generic => &binary.bytes,
        other => panic!("{name}: {other:?}"),
    }
}

/// Whether a cookie opens a session.
async fn opens(probe: &Probe, cookie: &str) -> bool {
    let read = run_with(&probe.app, cookie, script(json!([["is_new"]]))).await;
    assert_eq!(read.status, 200, "{read:?}");
    read.results == [json!(false)]
}

/// A legacy session with these values.
fn with_values(probe: &Probe, values: bson::Document) -> Fixture {
    let mut fixture = fixture("data", probe);
    fixture.document.insert("value", values);
    fixture
}

#[rstest]
#[test_attr(rocket::async_test)]
#[case(json!(["set", "n", 1]))]
#[case(json!(["remove", "name"]))]
#[case(json!(["increment", "i", 1]))]
#[case(json!(["push", "list", 1]))]
#[case(json!(["modify", "i", 1]))]
#[case(json!(["flash", "m"]))]
#[case(json!(["pop_flash"]))]
#[case(json!(["new_csrf_token"]))]
#[case(json!(["set_timeout", 60]))]
#[case(json!(["touch"]))]
#[case(json!(["clear"]))]
async fn first_write_upgrades_the_document_in_place(#[case] call: Value) {
    let (_, probe) = start(&database(), &[]).await;
    let fixture = fixture("flash", &probe);
    let browser = fixture.visitor(&probe).await;
    probe.clock.advance(seconds(5.0));
    let written = go(&browser, json!([call, ["id"]])).await;
    assert_eq!(written.last(), &json!(null), "the id is a credential");
    // The browser has its cookie already. Only `touch` sends it again.
    let sent = written.sent().map(|_| written.cookie());
    let expected = (call == json!(["touch"])).then(|| fixture.cookie.clone());
    assert_eq!(sent, expected);

    let document = probe.document(&fixture.cookie).await.expect("a document");
    assert_eq!(bytes(&document, "token").len(), 32);
    assert_eq!(bytes(&document, "csrf").len(), 32);
    assert!(document.get_datetime("expires").is_ok());
    let created = fixture.document.get_f64("created").unwrap();
    assert_eq!(document.get_f64("created"), Ok(created));
    assert_eq!(stored(&probe).await.len(), 1);

    let read = go(&browser, json!([["get", "name"], ["queue_peek", "errors"]])).await;
    let name = match call[0].as_str() {
        Some("remove" | "clear") => json!(null),
        _ => json!("Bob"),
    };
    assert_eq!(read.results[0], name);
    assert_eq!(read.results[1][0]["text"], "no");
    assert!(opens(&probe, &fixture.cookie).await);
}

#[rocket::async_test]
async fn first_write_renames_only_the_keys_that_it_touches() {
    let (_, probe) = start("rename", &[]).await;
    let browser = fixture("names", &probe).visitor(&probe).await;
    let calls = json!([["set", "50%", 5], ["remove", "a%2Eb"], ["set", "c.d", 6]]);
    go(&browser, calls).await;
    let document = stored(&probe).await.remove(0);
    let values = document.get_document("value").unwrap();
    for (name, is_there) in [
        ("50%", false),
        ("50%25", true),
        ("a%2Eb", false),
        ("a%252Eb", false),
        ("c%2Ed", true),
        ("%2E", true),
        ("%24set", true),
    ] {
        assert_eq!(values.contains_key(name), is_there, "{name}");
    }
    for (key, value) in [
        ("50%", json!(5)),
        ("a%2Eb", json!(null)),
        ("a.b", json!(null)),
        ("c.d", json!(6)),
        ("%2E", json!("%2E")),
        (".", json!(null)),
        ("%24set", json!("%24set")),
        ("$set", json!(null)),
        ("a$b", json!("a$b")),
    ] {
        assert_eq!(ask(&browser, json!(["get", key])).await, value, "{key}");
    }
}

#[rocket::async_test]
async fn key_that_no_update_can_name_is_replaced_by_a_write() {
    let (_, probe) = start("dotted", &[]).await;
    let values = bson::doc! { "a.b": 1, "c.d": 2, "e.f": 3, "plain": 4 };
    let browser = with_values(&probe, values).visitor(&probe).await;
    let calls = json!([
        ["set", "a.b", 5],
        ["remove", "c.d"],
        ["increment", "e.f", 10]
    ]);
    go(&browser, calls).await;
    let read = go(
        &browser,
        json!([["get", "a.b"], ["get", "c.d"], ["get", "e.f"], ["keys"]]),
    )
    .await;
    assert_eq!(read.results[..3], [json!(5), json!(null), json!(13)]);
    let mut keys: Vec<_> = read.results[3].as_array().unwrap().iter().collect();
    keys.sort_by_key(|key| key.to_string());
    assert_eq!(keys, [&json!("a.b"), &json!("e.f"), &json!("plain")]);
}

#[rocket::async_test]
async fn renew_and_elevate_give_the_legacy_id_a_secret() {
    let (_, probe) = start("renew", &[]).await;
    let strict = keys(&[("legacy_ids", false.into())]);
    let url = Mongod::shared().await.url(&probe.db);
    for call in ["renew", "elevate"] {
        for is_upgraded in [false, true] {
            let what = format!("{call}, upgraded before: {is_upgraded}");
            probe.sessions().delete_many(doc! {}).await.unwrap();
            let fixture = fixture("csrf", &probe);
            let browser = fixture.visitor(&probe).await;
            if is_upgraded {
                go(&browser, json!([["set", "n", 1]])).await;
            }
            let renewed = go(&browser, json!([["set", "k", 1], [call], ["id"]])).await;
            let cookie = renewed.cookie();
            assert_eq!(id_of(&cookie), fixture.cookie, "{what}");
            assert_eq!(
                cookie.len(),
                fixture.cookie.len() + 1 + SECRET_CHARS,
                "{what}"
            );
            assert_eq!(stored(&probe).await.len(), 1, "{what}");
            assert!(!opens(&probe, &fixture.cookie).await, "{what}: the bare id");

            let calls = json!([
                ["get", "name"],
                ["get", "k"],
                ["id"],
                ["verify_csrf", fixture.csrf]
            ]);
            let read = go(&browser, calls).await;
            let keeps_csrf = call == "renew";
            let expected = [
                json!("Bob"),
                json!(1),
                json!(fixture.cookie),
                json!(keeps_csrf),
            ];
            assert_eq!(read.results, expected, "{what}");
            // The new cookie is one of ours.
            let app = probe.again(&url, &strict).await;
            let read = run_with(&app, &cookie, script(json!([["get", "name"]]))).await;
            assert_eq!(read.results, [json!("Bob")], "{what}");
            let read = run_with(&app, &fixture.cookie, script(json!([["is_new"]]))).await;
            assert_eq!(read.results, [json!(true)], "{what}");
        }
    }
}

#[rocket::async_test]
async fn bare_id_with_a_secret_of_anybodys_opens_nothing() {
    let (_, probe) = start("forged", &[]).await;
    let fixture = fixture("data", &probe);
    let browser = fixture.visitor(&probe).await;
    for _ in 0..2 {
        for secret in [
            "A".repeat(SECRET_CHARS),
            format!("{}8", "_".repeat(SECRET_CHARS - 1)),
        ] {
            let forged = format!("{}.{secret}", fixture.cookie);
            assert!(!opens(&probe, &forged).await);
        }
        go(&browser, json!([["set", "n", 1]])).await;
    }
}

#[rocket::async_test]
async fn save_upgrades_and_later_changes_are_stored_too() {
    let (_, probe) = start("save", &[]).await;
    let fixture = fixture("flash", &probe);
    let browser = fixture.visitor(&probe).await;
    let calls = json!([
        ["set", "a", 1],
        ["queue_pop", "100%"],
        ["save"],
        ["queue_push", "100%", "more"],
        ["set", "b", 2],
        ["pop_flash"]
    ]);
    let saved = go(&browser, calls).await;
    assert_eq!(saved.results[1], json!(["percent"]));
    assert_eq!(saved.last(), &json!(["hello", "again", "again"]));
    assert_eq!(saved.sent(), None);
    let calls = json!([
        ["get", "a"],
        ["get", "b"],
        ["get", "name"],
        ["peek_flash"],
        ["queue_peek", "100%"]
    ]);
    let read = go(&browser, calls).await;
    let expected = [json!(1), json!(2), json!("Bob"), json!([]), json!(["more"])];
    assert_eq!(read.results, expected);
    assert_eq!(stored(&probe).await.len(), 1);
}

#[rocket::async_test]
async fn pop_flash_upgrades_and_stands_when_the_handler_fails() {
    let (_, probe) = start("at_once", &[("set_on_exception", false.into())]).await;
    let fixture = fixture("flash", &probe);
    let browser = fixture.visitor(&probe).await;
    let calls = json!([["set", "name", "Eve"], ["set_timeout", 60], ["pop_flash"]]);
    let failed = run(&browser, script(calls).fail(500)).await;
    assert_eq!(failed.status, 500);
    let read = go(&browser, json!([["get", "name"], ["peek_flash"]])).await;
    assert_eq!(read.results, [json!("Bob"), json!([])]);
    let document = probe.document(&fixture.cookie).await.expect("a session");
    assert!(!document.contains_key("timeout"));
    assert_eq!(bytes(&document, "token").len(), 32);
}

/// Requests of one browser that have all loaded the session before any of them is answered.
async fn at_once(probe: &Probe, browser: &Browser, all: &[Value]) -> Vec<Ran> {
    let requests = all.iter().map(|calls| {
        let calls = calls.as_array().unwrap().iter();
        // The pause is a call on the session, so the session is loaded when it is reached.
        let gate = json!(["pause", "at once"]);
        let calls: Vec<Value> = std::iter::once(gate).chain(calls.cloned()).collect();
        async move {
            let request = script(json!(calls)).request();
            Ran::from(browser.send_undelivered(request).await)
        }
    });
    let opening = async {
        for _ in all {
            probe.gates.reached("at once").await;
        }
        for _ in all {
            probe.gates.open("at once");
        }
    };
    rocket::tokio::join!(join_all(requests), opening).0
}

#[rocket::async_test]
async fn concurrent_first_writes_are_all_stored() {
    let (_, probe) = start("race", &[]).await;
    for round in 0..5 {
        probe.sessions().delete_many(doc! {}).await.unwrap();
        let values = bson::doc! { "plain": 1, "50%": 10, "a.b": 20, "kept%": "Bob" };
        let browser = with_values(&probe, values).visitor(&probe).await;
        let writes: Vec<_> = (0..4)
            .map(|n| {
                json!([
                    ["set", format!("k{n}%"), n],
                    ["increment", "plain", 1],
                    ["increment", "50%", 1],
                    ["increment", "a.b", 1],
                    ["push", "list%", n],
                ])
            })
            .collect();
        let responses = at_once(&probe, &browser, &writes).await;
        for response in &responses {
            assert_eq!(
                (response.status, response.sent()),
                (200, None),
                "round {round}"
            );
        }
        let calls = json!([
            ["get", "plain"],
            ["get", "50%"],
            ["get", "a.b"],
            ["get", "kept%"],
            ["get", "k0%"],
            ["get", "k1%"],
            ["get", "k2%"],
            ["get", "k3%"],
            ["get", "list%"]
        ]);
        let read = go(&browser, calls).await;
        let expected = json!([5, 14, 24, "Bob", 0, 1, 2, 3]);
        assert_eq!(json!(read.results[..8]), expected, "round {round}");
        let mut list: Vec<_> = read.last().as_array().unwrap().iter().collect();
        list.sort_by_key(|n| n.as_i64());
        assert_eq!(json!(list), json!([0, 1, 2, 3]), "round {round}");
    }
}

/// `%25` is this crate's name of `%`, and `%2525` of `%25`.
#[rocket::async_test]
async fn concurrent_writes_of_keys_with_each_others_names_are_all_stored() {
    let (_, probe) = start("names_meet", &[]).await;
    for round in 0..5 {
        probe.sessions().delete_many(doc! {}).await.unwrap();
        let values = bson::doc! { "%25": 20, "%2525": 30, "a%2Eb": 40 };
        let browser = with_values(&probe, values).visitor(&probe).await;
        let writes = [
            json!([["set", "%", 1], ["increment", "%25", 1]]),
            json!([["increment", "%25", 1], ["set", "a.b", 2]]),
            json!([["modify", "%25", 1], ["increment", "a%2Eb", 1]]),
            json!([["set", "plain", 3], ["remove", "a.b"]]),
        ];
        let responses = at_once(&probe, &browser, &writes).await;
        for response in &responses {
            assert_eq!(response.status, 200, "round {round}: {response:?}");
        }
        let calls = json!([
            ["get", "%"],
            ["get", "%25"],
            ["get", "%2525"],
            ["get", "a%2Eb"],
            ["get", "plain"]
        ]);
        let read = go(&browser, calls).await;
        assert_eq!(
            json!(read.results),
            json!([1, 23, 30, 41, 3]),
            "round {round}"
        );
    }
}

#[rocket::async_test]
async fn concurrent_pops_deliver_a_legacy_message_once() {
    let (_, probe) = start("pop_at_once", &[]).await;
    for (queue, messages) in [
        ("", json!(["hello", "again", "again"])),
        ("100%", json!(["percent"])),
    ] {
        for round in 0..5 {
            probe.sessions().delete_many(doc! {}).await.unwrap();
            let browser = fixture("flash", &probe).visitor(&probe).await;
            let pops = vec![json!([["queue_pop", queue]]); 4];
            let responses = at_once(&probe, &browser, &pops).await;
            let got = |expected: &Value| {
                let got = responses
                    .iter()
                    .filter(|response| response.last() == expected);
                got.count()
            };
            assert_eq!(got(&messages), 1, "{queue:?}, round {round}: {responses:?}");
            assert_eq!(
                got(&json!([])),
                3,
                "{queue:?}, round {round}: {responses:?}"
            );
        }
    }
}

#[rocket::async_test]
async fn late_first_write_takes_no_renewal_back() {
    let (_, probe) = start("late", &[]).await;
    for call in ["renew", "elevate"] {
        probe.sessions().delete_many(doc! {}).await.unwrap();
        let fixture = fixture("csrf", &probe);
        let browser = fixture.visitor(&probe).await;
        let late = browser.twin();
        let calls = json!([["set", "late", 1], ["pause", "late"]]);
        let writing = run(&late, script(calls));
        let meanwhile = async {
            probe.gates.reached("late").await;
            let renewed = go(&browser, json!([[call]])).await;
            probe.gates.open("late");
            renewed.cookie()
        };
        let (written, cookie) = rocket::tokio::join!(writing, meanwhile);
        assert_eq!((written.status, written.sent()), (200, None), "{call}");
        assert!(opens(&probe, &cookie).await, "{call}");
        assert!(!opens(&probe, &fixture.cookie).await, "{call}");
        let calls = json!([["get", "late"], ["verify_csrf", fixture.csrf]]);
        let read = go(&browser, calls).await;
        assert_eq!(read.results, [json!(1), json!(call == "renew")], "{call}");
    }
}

#[rocket::async_test]
async fn first_write_keeps_what_others_changed_since_the_load() {
    let (_, probe) = start("carried", &[]).await;
    let fixture = fixture("flash", &probe);
    let browser = fixture.visitor(&probe).await;
    let calls = json!([
        ["set", "name", "Eve"],
        ["flash", "ours"],
        ["pause", "carried"]
    ]);
    let writing = run(&browser, script(calls));
    let meanwhile = async {
        probe.gates.reached("carried").await;
        let update = doc! {
            "$set": { "value.new": 1, "value.name": "Python" },
            "$push": { "value._f_": "theirs" },
            "$unset": { "value._f_errors": true },
        };
        let by_id = doc! { "_id": &fixture.cookie };
        probe.sessions().update_one(by_id, update).await.unwrap();
        probe.gates.open("carried");
    };
    let (written, ()) = rocket::tokio::join!(writing, meanwhile);
    assert_eq!(written.status, 200);
    let calls = json!([
        ["get", "name"],
        ["get", "new"],
        ["peek_flash"],
        ["queue_peek", "errors"]
    ]);
    let read = go(&browser, calls).await;
    let messages = json!(["hello", "again", "again", "theirs", "ours"]);
    assert_eq!(read.results, [json!("Eve"), json!(1), messages, json!([])]);
}

#[rocket::async_test]
async fn login_and_logout_end_a_legacy_session() {
    let (_, probe) = start("login", &[]).await;
    for (call, name) in [
        (json!(["login", "bob"]), json!(null)),
        (json!(["login_keeping", "bob", ["name"]]), json!("Bob")),
    ] {
        for is_upgraded in [false, true] {
            probe.sessions().delete_many(doc! {}).await.unwrap();
            let fixture = fixture("flash", &probe);
            let browser = fixture.visitor(&probe).await;
            if is_upgraded {
                go(&browser, json!([["set", "n", 1]])).await;
            }
            let logged_in = go(&browser, json!([call])).await;
            let cookie = logged_in.cookie();
            assert_eq!((id_of(&cookie).len(), cookie.len()), (22, 66), "{call}");
            assert_eq!(probe.document(&fixture.cookie).await, None, "{call}");
            assert_eq!(stored(&probe).await.len(), 1, "{call}");
            let read = go(&browser, json!([["get", "name"], ["user"], ["peek_flash"]])).await;
            assert_eq!(
                read.results,
                [name.clone(), json!("bob"), json!([])],
                "{call}"
            );
        }
    }
    for is_upgraded in [false, true] {
        probe.sessions().delete_many(doc! {}).await.unwrap();
        let fixture = fixture("flash", &probe);
        let browser = fixture.visitor(&probe).await;
        if is_upgraded {
            go(&browser, json!([["set", "n", 1]])).await;
        }
        let out = go(&browser, json!([["logout"], ["keys"]])).await;
        assert!(out.sent().is_some_and(removes));
        assert!(stored(&probe).await.is_empty());
        assert!(!opens(&probe, &fixture.cookie).await);
    }
}

#[rocket::async_test]
async fn login_stands_beside_a_first_write_of_another_request() {
    let (_, probe) = start("login_race", &[]).await;
    for call in [
        json!(["login", "bob"]),
        json!(["login_keeping", "bob", ["name"]]),
    ] {
        probe.sessions().delete_many(doc! {}).await.unwrap();
        let browser = fixture("flash", &probe).visitor(&probe).await;
        let other = browser.twin();
        let login = run(&browser, script(json!([call, ["pause", "login"]])));
        let meanwhile = async {
            probe.gates.reached("login").await;
            go(&other, json!([["set", "n", 1]])).await;
            probe.gates.open("login");
        };
        let (login, ()) = rocket::tokio::join!(login, meanwhile);
        assert!(login.sent().is_some(), "{call}");
        assert_eq!(ask(&browser, json!(["user"])).await, "bob", "{call}");
        assert_eq!(stored(&probe).await.len(), 1, "{call}");
    }
}

#[rocket::async_test]
async fn logout_wins_over_a_late_first_write() {
    let (_, probe) = start("logout_race", &[]).await;
    let fixture = fixture("flash", &probe);
    let browser = fixture.visitor(&probe).await;
    let other = browser.twin();
    let writing = run(
        &other,
        script(json!([["set", "n", 1], ["pause", "logout"], ["save"]])),
    );
    let meanwhile = async {
        probe.gates.reached("logout").await;
        go(&browser, json!([["logout"]])).await;
        probe.gates.open("logout");
    };
    let (written, ()) = rocket::tokio::join!(writing, meanwhile);
    assert_eq!(written.last(), &json!({ "error": "Gone" }));
    assert_eq!(written.sent(), None);
    assert!(stored(&probe).await.is_empty());
}

/// What the Python package makes of a document (`BaseCookieSessionFactory` of its release 0.1).
fn as_python_reads(document: &Document) -> Document {
    for name in ["accessed", "created"] {
        let time = document.get(name);
        assert!(
            matches!(
                time,
                Some(Bson::Double(_) | Bson::Int32(_) | Bson::Int64(_))
            ),
            "float() takes it: {time:?}"
        );
    }
    assert_eq!(document.get_bool("pickled"), Ok(false));
    document.get_document("value").expect("a dict").clone()
}

#[rocket::async_test]
async fn python_package_reads_an_upgraded_document_after_a_rollback() {
    let (_, probe) = start("rollback", &[]).await;
    let fixture = fixture("csrf", &probe);
    let browser = fixture.visitor(&probe).await;
    probe.clock.advance(seconds(5.0));
    let calls = json!([
        ["set", "cart", { "items": [1, 2], "total": 1.5 }],
        ["increment", "n", 3],
        ["push", "list", "a"],
        ["flash", "hello"],
        ["queue_push", "errors", { "level": "error" }]
    ]);
    go(&browser, calls).await;
    go(
        &browser,
        json!([["set", "name", "Eve"], ["remove", "list"]]),
    )
    .await;
    let document = probe.document(&fixture.cookie).await.expect("a session");
    let values = as_python_reads(&document);
    let expected = doc! {
        "_csrft_": &fixture.csrf,
        "name": "Eve",
        "cart": { "items": [1_i64, 2_i64], "total": 1.5 },
        "n": 3_i64,
        "_f_": ["hello"],
        "_f_errors": [{ "level": "error" }],
    };
    let sorted = |document: &Document| {
        let mut pairs: Vec<_> = document
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs
    };
    assert_eq!(sorted(&values), sorted(&expected));

    // The package replaces the whole document, and then this crate is switched on again.
    let mut replaced = values.clone();
    replaced.insert("name", "Python");
    let accessed = i32::try_from(probe.clock.time().unix_timestamp()).unwrap();
    let replaced = doc! {
        "_id": &fixture.cookie,
        "accessed": accessed,
        "created": document.get("created").unwrap(),
        "value": replaced,
        "pickled": false,
    };
    let by_id = doc! { "_id": &fixture.cookie };
    let sessions = probe.sessions();
    sessions.replace_one(by_id, replaced).await.unwrap();
    let calls = json!([
        ["get", "name"],
        ["get", "n"],
        ["verify_csrf", fixture.csrf],
        ["pop_flash"]
    ]);
    let read = go(&browser, calls).await;
    let expected = [json!("Python"), json!(3), json!(true), json!(["hello"])];
    assert_eq!(read.results, expected);
    let document = probe.document(&fixture.cookie).await.expect("a session");
    assert_eq!(bytes(&document, "token").len(), 32, "upgraded again");
}
