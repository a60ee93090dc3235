//! What a read or a write extends, and how often.

use mongodb::bson::doc;
use rocket::serde::json::{Value, json};
use rstest::rstest;

use crate::apps::calls;
use crate::apps::calls::{ask, go, now, probe, script, seconds, visitor};
use crate::apps::database;
use crate::apps::probe::{Probe, asked, eventually, id_of, run};
use crate::support::{Browser, Fate, Mongod, Proxy};

/// How many times a session's use was noted, in all.
async fn touches(browser: &Browser) -> u64 {
    let stats = ask(browser, json!(["stats"])).await;
    let stats = stats.as_str().expect("text");
    let count = stats.split("touches: ").nth(1).expect("a count");
    let digits = count.split([',', ' ']).next().expect("a number");
    digits.parse().expect("a number")
}

async fn accessed(probe: &Probe, cookie: &str) -> f64 {
    let stored = probe.document(cookie).await.expect("a session");
    stored.get_f64("accessed").expect("a time")
}

#[rocket::async_test]
async fn a_read_extends_the_session_and_tells_the_browser_nothing() {
    // 66; and 78
    let probe = probe(&[("reissue_time", 0.into())]).await;
    let (browser, cookie) = visitor(&probe).await;
    probe.clock.advance(seconds(2.0));
    let read = go(&browser, json!([["get", "k"]])).await;
    assert_eq!(read.sent(), None, "it has that cookie");
    eventually("the touch", || async {
        accessed(&probe, &cookie).await == now(&probe)
    })
    .await;
}

#[rocket::async_test]
async fn a_cookie_with_a_life_is_sent_again_when_it_is_due() {
    let keys = [("reissue_time", 0.into()), ("max_age", 300.into())];
    let probe = probe(&keys).await;
    let (browser, cookie) = visitor(&probe).await;
    probe.clock.advance(seconds(29.0));
    assert_eq!(go(&browser, json!([["get", "k"]])).await.sent(), None);
    probe.clock.advance(seconds(2.0));
    let read = go(&browser, json!([["get", "k"]])).await;
    assert_eq!(read.cookie(), cookie, "the same value");
    assert!(read.sent().unwrap().contains("Max-Age=300"));
    assert_eq!(accessed(&probe, &cookie).await, now(&probe));
}

#[rocket::async_test]
async fn a_session_that_reads_never_extend_is_only_read() {
    let probe = probe(&[("timeout", false.into())]).await;
    let (browser, _) = visitor(&probe).await;
    probe.clock.advance(seconds(10.0 * 365.0 * 86_400.0));
    let profile = probe.profile().await;
    let read = go(&browser, json!([["get", "k"]])).await;
    assert_eq!(read.results, [json!("v")]);
    assert_eq!(read.sent(), None);
    assert_eq!(asked(&profile).await, ["find"]);
    assert_eq!(touches(&browser).await, 0);
}

#[rocket::async_test]
async fn a_read_extends_no_more_often_than_the_reissue_time() {
    let probe = probe(&[("reissue_time", 10.into())]).await;
    let (browser, cookie) = visitor(&probe).await;
    let written = accessed(&probe, &cookie).await;
    probe.clock.advance(seconds(9.0));
    go(&browser, json!([["get", "k"]])).await;
    assert_eq!(touches(&browser).await, 0);
    assert_eq!(accessed(&probe, &cookie).await, written);
    probe.clock.advance(seconds(3.0));
    go(&browser, json!([["get", "k"]])).await;
    eventually("the touch", || async {
        accessed(&probe, &cookie).await == now(&probe)
    })
    .await;
}

#[rocket::async_test]
async fn whatever_reads_extends() {
    let probe = probe(&[("reissue_time", 10.into())]).await;
    let (browser, cookie) = visitor(&probe).await;
    go(&browser, json!([["csrf_token"], ["flash", "m"]])).await;
    for call in [
        json!(["get", "k"]),
        json!(["contains", "k"]),
        json!(["keys"]),
        json!(["len"]),
        json!(["is_empty"]),
        json!(["peek_flash"]),
        json!(["csrf_token"]),
        json!(["user"]),
        json!(["get_or_insert", "k", "x"]),
    ] {
        probe.clock.advance(seconds(11.0));
        let read = go(&browser, json!([call])).await;
        assert_eq!(read.sent(), None, "{call}");
        eventually(&format!("the touch of {call}"), || async {
            accessed(&probe, &cookie).await == now(&probe)
        })
        .await;
    }
}

#[rocket::async_test]
async fn a_write_extends_whatever_the_reissue_time() {
    let probe = probe(&[]).await;
    let (browser, cookie) = visitor(&probe).await;
    for call in [
        json!(["set", "n", 1]),
        json!(["remove", "n"]),
        json!(["flash", "m"]),
        json!(["pop_flash"]),
        json!(["new_csrf_token"]),
        json!(["increment", "i", 1]),
        json!(["modify", "i", 1]),
        json!(["clear"]),
    ] {
        probe.clock.advance(seconds(30.0));
        let written = go(&browser, json!([call])).await;
        assert_eq!(written.sent(), None, "{call}: it has that cookie");
        assert_eq!(accessed(&probe, &cookie).await, now(&probe), "{call}");
    }
}

/// A read in progress: it was due when it loaded.
async fn reading(
    probe: &Probe,
    browser: &Browser,
    meanwhile: impl AsyncFnOnce(),
) -> crate::apps::probe::Ran {
    let read = run(browser, script(json!([["get", "k"], ["pause", "read"]])));
    let meanwhile = async {
        probe.gates.reached("read").await;
        meanwhile().await;
        probe.gates.open("read");
    };
    rocket::tokio::join!(read, meanwhile).0
}

#[rocket::async_test]
async fn an_extension_leaves_a_concurrent_write_alone() {
    let probe = probe(&[("reissue_time", 0.into())]).await;
    let (browser, cookie) = visitor(&probe).await;
    probe.clock.advance(seconds(2.0));
    let (twin, loaded) = (browser.twin(), now(&probe));
    reading(&probe, &browser, async || {
        let calls = json!([["skip_touch"], ["set", "k", "new"], ["set", "n", 1]]);
        go(&twin, calls).await;
        probe.clock.advance(seconds(3.0));
    })
    .await;
    // It counts as use when it was loaded.
    eventually("the touch", || async {
        accessed(&probe, &cookie).await == loaded
    })
    .await;
    let stored = calls::value(&probe, &cookie).await;
    assert_eq!(stored, Some(doc! { "k": "new", "n": 1_i64 }));
}

#[rocket::async_test]
async fn an_extension_brings_no_session_back() {
    let probe = probe(&[("reissue_time", 0.into())]).await;
    let (browser, cookie) = visitor(&probe).await;
    probe.clock.advance(seconds(2.0));
    let read = reading(&probe, &browser, async || {
        let by_id = doc! { "_id": id_of(&cookie) };
        probe.sessions().delete_one(by_id).await.unwrap();
    })
    .await;
    assert_eq!(read.results[0], Value::from("v"));
    assert_eq!(read.sent(), None);
    // The application writes what it still owes before it ends.
    let Probe {
        app, client, db, ..
    } = probe;
    app.shutdown().await.expect("an end");
    let sessions = client
        .database(&db)
        .collection::<mongodb::bson::Document>("session");
    assert_eq!(sessions.count_documents(doc! {}).await.unwrap(), 0);
}

#[rocket::async_test]
async fn reading_a_new_session_creates_nothing_at_any_time() {
    let probe = probe(&[("reissue_time", 0.into())]).await;
    let browser = probe.browser();
    let slow = async {
        probe.gates.reached("slow").await;
        probe.clock.advance(seconds(1.5));
        probe.gates.open("slow");
    };
    let read = run(
        &browser,
        script(json!([["get", "k"], ["pause", "slow"], ["len"]])),
    );
    let (read, ()) = rocket::tokio::join!(read, slow);
    assert_eq!(read.sent(), None);
    assert_eq!(touches(&browser).await, 0);
    assert!(probe.documents().await.is_empty());
}

/// The use that extends the session is on its way to the database, where its end has passed.
#[rstest]
#[test_attr(rocket::async_test)]
#[case(json!([["set", "n", 1]]))]
#[case(json!([["set", "n", 1], ["save"]]))]
#[case(json!([["modify", "n", 1]]))]
async fn a_write_finds_a_session_whose_use_is_not_stored_yet(#[case] calls: Value) {
    let (mongod, db) = (Mongod::shared().await, database());
    let proxy = Proxy::start(mongod.port()).await;
    let keys = [("timeout", 60.into()), ("reissue_time", 1.into())];
    let (client, url) = (mongod.client().await, proxy.url(&db));
    let probe = Probe::start_at(client, &url, &db, &keys, |rocket| rocket).await;
    let (browser, _) = visitor(&probe).await;
    probe.clock.advance(seconds(59.0));
    proxy.plan("update", [Fate::Hold]);
    go(&browser, json!([["get", "k"]])).await;
    eventually("the touch", || async { proxy.held() == 1 }).await;
    probe.clock.advance(seconds(2.0));
    assert_eq!(go(&browser, calls).await.status, 200);
    proxy.release();
    let read = go(&browser, json!([["get", "n"], ["is_new"]])).await;
    assert_eq!(read.results, [json!(1), json!(false)]);
}
