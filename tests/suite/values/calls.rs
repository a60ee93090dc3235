//! Calls of a session on a real server: what they store, in how many commands, and what a browser
//! gets.

use mongodb::bson::{Bson, doc};
use rocket::serde::json::{Value, json};
use std::time::Duration;

use crate::apps::calls::value;
use crate::apps::probe::{Probe, Ran, Script, asked, id_of, run};
use crate::support::Browser;

async fn probe(name: &str, keys: &[(&str, rocket::figment::value::Value)]) -> Probe {
    let keys = [keys, &[("indexes", false.into())]].concat();
    Probe::start(&format!("session_calls_{name}"), &keys).await
}

async fn go(browser: &Browser, calls: Value) -> Ran {
    let calls = calls.as_array().expect("calls").clone();
    let ran = run(browser, calls.into_iter().fold(Script::new(), Script::call)).await;
    assert_eq!(ran.status, 200, "{ran:?}");
    ran
}

fn cookie(browser: &Browser) -> String {
    browser.cookie("session").expect("a cookie")
}

// ---- login and logout

#[rocket::async_test]
async fn return_to_survives_a_login_and_is_taken_once() {
    let probe = probe("return_to", &[]).await;
    for login in [
        json!([["login", "alice"]]),
        json!([["login_keeping", "alice", ["basket"]]]),
        json!([["logout"], ["login", "alice"]]),
    ] {
        let browser = probe.browser();
        go(
            &browser,
            json!([["set_return_to", "/a?b=%2F%2Fc"], ["set", "basket", 1]]),
        )
        .await;
        go(&browser, login.clone()).await;
        let values = value(&probe, &cookie(&browser)).await.expect("values");
        assert_eq!(values.get_str("_return_to_"), Ok("/a?b=%2F%2Fc"), "{login}");
        let taken = go(
            &browser,
            json!([["keys"], ["take_return_to"], ["take_return_to"]]),
        )
        .await;
        let keys = if login.to_string().contains("basket") {
            json!(["basket"])
        } else {
            json!([])
        };
        assert_eq!(
            taken.results,
            [keys, json!("/a?b=%2F%2Fc"), json!(null)],
            "{login}"
        );
        let again = go(&browser, json!([["take_return_to"]])).await;
        assert_eq!(again.results, [json!(null)]);
    }
}

#[rocket::async_test]
async fn return_to_is_never_another_host() {
    let probe = probe("open_redirect", &[]).await;
    let browser = probe.browser();
    let profile = probe.profile().await;
    for address in [
        "//evil.example",
        "/%5Cevil.example",
        "/%09/evil.example",
        "/.//evil.example",
    ] {
        let refused = go(&browser, json!([["set_return_to", address]])).await;
        assert_eq!(
            refused.results,
            [json!({ "error": "BadReturnTo" })],
            "{address}"
        );
    }
    assert!(asked(&profile).await.is_empty(), "nothing is stored");
    // Another program wrote it into the database.
    go(&browser, json!([["set", "n", 1]])).await;
    let id = id_of(&cookie(&browser)).to_owned();
    for stored in [
        Bson::from("//evil.example"),
        Bson::from("https://evil.example"),
        Bson::from("javascript:alert(1)"),
        Bson::from(7),
        Bson::Null,
    ] {
        let update = doc! { "$set": { "value._return_to_": stored.clone() } };
        let updated = probe
            .sessions()
            .update_one(doc! { "_id": &id }, update)
            .await;
        assert_eq!(updated.expect("an update").matched_count, 1);
        let taken = go(&browser, json!([["take_return_to"]])).await;
        assert_eq!(taken.results, [json!(null)], "{stored}");
    }
}

#[rocket::async_test]
async fn logout_keeping_deletes_one_session_and_inserts_another() {
    let probe = probe("logout_keeping", &[]).await;
    let browser = probe.browser();
    go(
        &browser,
        json!([
            ["login", "alice"],
            ["set", "language", "de"],
            ["set", "basket", 1]
        ]),
    )
    .await;
    let (old, twin) = (cookie(&browser), browser.twin());
    let profile = probe.profile().await;
    go(&browser, json!([["logout_keeping", ["language", "theme"]]])).await;
    assert_eq!(asked(&profile).await, ["find", "delete", "insert"]);
    assert_ne!(id_of(&cookie(&browser)), id_of(&old));
    let seen = go(&browser, json!([["keys"], ["get", "language"], ["user"]])).await;
    assert_eq!(
        seen.results,
        [json!(["language"]), json!("de"), json!(null)]
    );
    let seen = go(&twin, json!([["is_new"], ["keys"]])).await;
    assert_eq!(seen.results, [json!(true), json!([])]);
    assert!(probe.document(&old).await.is_none());
}

// ---- values

#[rocket::async_test]
async fn modify_or_remove_unsets_the_key_with_one_command() {
    let probe = probe("modify_or_remove", &[]).await;
    let browser = probe.browser();
    go(&browser, json!([["set", "n", 2], ["set", "m", 1]])).await;
    for (expected, keys) in [(json!(1), json!(["n", "m"])), (json!(null), json!(["m"]))] {
        let profile = probe.profile().await;
        let ran = go(&browser, json!([["modify_or_remove", "n"], ["keys"]])).await;
        assert_eq!(ran.results, [expected, keys]);
        assert_eq!(asked(&profile).await, ["find", "update"]);
    }
    let profile = probe.profile().await;
    let ran = go(&browser, json!([["modify_or_remove", "n"]])).await;
    assert_eq!(ran.results, [json!(null)]);
    assert_eq!(
        asked(&profile).await,
        ["find"],
        "an absent key stays absent"
    );
}

#[rocket::async_test]
async fn null_of_another_writer_reads_as_none() {
    let probe = probe("null", &[]).await;
    let browser = probe.browser();
    go(&browser, json!([["set", "n", 1]])).await;
    let id = id_of(&cookie(&browser)).to_owned();
    let update = doc! { "$set": { "value.n": null, "value.m": null } };
    let updated = probe
        .sessions()
        .update_one(doc! { "_id": &id }, update)
        .await;
    updated.expect("an update");
    let seen = go(
        &browser,
        json!([
            ["get_as", "n", "string"],
            ["get_as", "n", "i64"],
            ["contains", "n"],
            ["take_as_i64", "n"],
            ["contains", "n"],
            ["modify", "m", 3]
        ]),
    )
    .await;
    let expected = json!([null, null, true, null, false, 3]);
    assert_eq!(json!(seen.results), expected);
}

// ---- messages

#[rocket::async_test]
async fn head_request_and_prefetch_leave_the_messages() {
    let probe = probe("unseen", &[]).await;
    let browser = probe.browser();
    go(
        &browser,
        json!([["flash", "hello"], ["queue_push", "q", 1]]),
    )
    .await;
    let pops = Script::new()
        .then("pop_flash")
        .call(json!(["queue_pop", "q"]));
    let profile = probe.profile().await;
    let head = browser.send(pops.request_by("HEAD")).await;
    assert_eq!(head.status, 200, "{head:?}");
    for (header, value) in [
        ("Sec-Purpose", "prefetch"),
        ("Sec-Purpose", "prefetch;prerender"),
        ("Purpose", "prefetch"),
    ] {
        let script = pops.clone().header(header, value);
        let seen = run_with_get(&browser, &script).await;
        assert_eq!(seen, json!([["hello"], [1]]), "{header}");
    }
    let names = asked(&profile).await;
    assert!(names.iter().all(|name| name != "update"), "{names:?}");
    assert_eq!(run_with_get(&browser, &pops).await, json!([["hello"], [1]]));
    assert_eq!(run_with_get(&browser, &pops).await, json!([[], []]));
}

async fn run_with_get(browser: &Browser, script: &Script) -> Value {
    let response = browser.send(script.request_by("GET")).await;
    assert_eq!(response.status, 200, "{response:?}");
    rocket::serde::json::from_str(&response.text()).expect("results")
}

// ---- times

#[rocket::async_test]
async fn skip_touch_leaves_the_times_of_the_document() {
    let probe = probe("skip_touch", &[("max_age", 86_400.into())]).await;
    let browser = probe.browser();
    go(&browser, json!([["set", "n", 1], ["flash", "hello"]])).await;
    let cookie = cookie(&browser);
    let times = async || {
        let document = probe.document(&cookie).await.expect("a session");
        (
            document.get_f64("accessed"),
            document.get_datetime("expires").copied(),
        )
    };
    let before = times().await;
    probe.clock.advance(Duration::from_secs(600));
    let profile = probe.profile().await;
    let polled = go(&browser, json!([["skip_touch"], ["get", "n"]])).await;
    assert_eq!(polled.sent(), None);
    let writes = json!([
        ["skip_touch"],
        ["increment", "n", 1],
        ["pop_flash"],
        ["modify", "m", 1]
    ]);
    assert_eq!(go(&browser, writes).await.sent(), None);
    assert_eq!(times().await, before);
    let names = asked(&profile).await;
    assert_eq!(names, ["find", "find", "update", "update", "update"]);
    // It ends when it would have ended, however often it was asked.
    probe.clock.advance(Duration::from_secs(599));
    go(&browser, json!([["skip_touch"], ["get", "n"]])).await;
    probe.clock.advance(Duration::from_secs(2));
    let ended = go(&browser, json!([["is_new"]])).await;
    assert_eq!(ended.results, [json!(true)]);
}

#[rocket::async_test]
async fn equal_times_write_nothing_and_reset_times_unsets_them() {
    let probe = probe("times", &[("timeout", 600.into())]).await;
    let browser = probe.browser();
    go(
        &browser,
        json!([["login", "alice"], ["remember_for", 86_400]]),
    )
    .await;
    let cookie = cookie(&browser);
    let profile = probe.profile().await;
    let equal = json!([
        ["set_timeout", 86_400],
        ["set_max_age", 86_400],
        ["remember_for", 86_400]
    ]);
    assert_eq!(go(&browser, equal).await.sent(), None);
    assert_eq!(asked(&profile).await, ["find"]);
    let reset = go(&browser, json!([["times"], ["reset_times"], ["times"]])).await;
    let days = json!([86_400.0, 86_400.0, 86_400.0]);
    assert_eq!(
        reset.results,
        [days, json!(null), json!([600.0, null, null])]
    );
    let sent = reset.sent().expect("a cookie").to_owned();
    assert!(!sent.contains("Max-Age"), "{sent}");
    let document = probe.document(&cookie).await.expect("a session");
    for name in ["timeout", "lifetime", "max_age"] {
        assert!(!document.contains_key(name), "{document}");
    }
    let expires = document.get_datetime("expires").expect("a date");
    let accessed = document.get_f64("accessed").expect("seconds");
    assert_eq!(
        expires.timestamp_millis(),
        (accessed * 1000.0).round() as i64 + 600_000
    );
}

// ---- errors

#[rocket::async_test]
async fn missing_right_and_unreachable_database_have_different_texts() {
    use mongodb::Client;
    use rocket_mongo_session::store::{Document, Durability};
    use rocket_mongo_session::{MongoStore, Store};

    let mongod = crate::support::Mongod::builder()
        .arg("--auth")
        .start()
        .await;
    let admin = mongod.client().await.database("admin");
    let user = doc! { "createUser": "reader", "pwd": "secret", "roles": [{ "role": "read", "db": "shop" }] };
    let root = doc! { "createUser": "root", "pwd": "root", "roles": ["root"] };
    admin.run_command(root).await.expect("a first user");
    let port = mongod.port();
    let at = async |who: &str| {
        let url = format!("mongodb://{who}127.0.0.1:{port}/?authSource=admin");
        Client::with_uri_str(url).await.expect("a client")
    };
    let as_root = at("root:root@").await.database("admin");
    as_root.run_command(user).await.expect("a user");
    let error = async |who: &str| {
        let shop = at(who).await.database("shop");
        let sessions = shop.collection::<mongodb::bson::Document>("session");
        let store = MongoStore::new(&sessions, Duration::from_secs(3), 4, true);
        let any = mongodb::bson::to_vec(&doc! { "_id": "any" }).expect("a document");
        let inserted = store.insert(vec![Document::from_bytes(any)], Durability::Data);
        inserted.await.expect_err("a refusal").to_string()
    };
    let right = error("reader:secret@").await;
    assert!(
        right.contains("lacks a right; it needs `insert`"),
        "{right}"
    );
    let login = error("reader:wrong@").await;
    assert!(
        login.contains("refused the user or the password"),
        "{login}"
    );
    drop(mongod);
    let down = error("reader:secret@").await;
    assert!(
        !down.contains("right") && !down.contains("password"),
        "{down}"
    );
}
