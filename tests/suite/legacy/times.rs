//! Times: timeout, lifetime, max_age, for all sessions and for one, and clocks that disagree.

use mongodb::bson::doc;
use rocket::figment::value::Value as Setting;
use rocket::serde::json::json;
use rocket_mongo_session::testing::Clock;

use crate::apps::calls::{ask, go, keys, millis, now, script, seconds, told, value, visitor};
use crate::apps::probe::{Gates, Probe, eventually, id_of, run};
use crate::support::{App, Browser, Mongod, figment};

async fn probe(name: &str, more: &[(&str, Setting)]) -> Probe {
    Probe::start(&format!("times_{name}"), &keys(more)).await
}

async fn is_alive(browser: &Browser) -> bool {
    ask(browser, json!(["get", "k"])).await == "v"
}

async fn expires(probe: &Probe, cookie: &str) -> i64 {
    let stored = probe.document(cookie).await.expect("a session");
    let expires = stored.get_datetime("expires").expect("a date");
    expires.timestamp_millis()
}

#[rocket::async_test]
async fn lifetime_ends_a_session_in_use() {
    let keys = [("timeout", 10.into()), ("lifetime", 60.into())];
    let probe = probe("lifetime", &keys).await;
    let (browser, cookie) = visitor(&probe).await;
    let created = now(&probe);
    for n in 0..7 {
        probe.clock.advance(seconds(8.0));
        assert!(is_alive(&browser).await);
        go(&browser, json!([["set", "n", n]])).await;
        let expected = (now(&probe) + 10.0).min(created + 60.0);
        assert_eq!(expires(&probe, &cookie).await, millis(expected));
    }
    probe.clock.advance(seconds(4.0));
    assert!(is_alive(&browser).await, "at the limit");
    probe.clock.advance(seconds(0.001));
    assert!(!is_alive(&browser).await);
}

#[rocket::async_test]
async fn lifetime_begins_again_at_login_and_not_at_renew() {
    let keys = [("timeout", false.into()), ("lifetime", 60.into())];
    let probe = probe("lifetime_login", &keys).await;
    let (browser, _) = visitor(&probe).await;
    probe.clock.advance(seconds(50.0));
    go(&browser, json!([["renew"]])).await;
    go(&browser, json!([["login_keeping", "bob", ["k"]]])).await;
    probe.clock.advance(seconds(50.0));
    assert!(is_alive(&browser).await);
    go(&browser, json!([["renew"]])).await;
    probe.clock.advance(seconds(10.5));
    assert!(!is_alive(&browser).await);
}

#[rocket::async_test]
async fn set_timeout_none_disables_the_idle_timeout() {
    let probe = probe("never", &[("lifetime", 100_000.into())]).await;
    let (browser, cookie) = visitor(&probe).await;
    go(&browser, json!([["set_timeout", null]])).await;
    let stored = probe.document(&cookie).await.expect("a session");
    assert_eq!(stored.get_bool("timeout"), Ok(false));
    probe.clock.advance(seconds(99_999.0));
    assert!(is_alive(&browser).await);
    probe.clock.advance(seconds(1.5));
    assert!(!is_alive(&browser).await, "the lifetime holds");
}

#[rocket::async_test]
async fn set_timeout_alone_moves_expires_back() {
    let probe = probe("shorter", &[]).await;
    let (browser, cookie) = visitor(&probe).await;
    let calls = json!([["set_timeout", 5.5], ["expires"]]);
    go(&browser, calls).await;
    assert_eq!(expires(&probe, &cookie).await, millis(now(&probe) + 5.5));
    probe.clock.advance(seconds(5.5));
    assert!(is_alive(&browser).await);
    go(&browser, json!([["set_timeout", 3600]])).await;
    assert_eq!(expires(&probe, &cookie).await, millis(now(&probe) + 3600.0));
    probe.clock.advance(seconds(3000.0));
    assert!(is_alive(&browser).await, "for it alone");
    assert_eq!(
        ask(&browser, json!(["set_timeout", 0])).await,
        json!({ "error": "BadDuration" })
    );
}

#[rocket::async_test]
async fn set_max_age_is_kept_and_sent_again() {
    let keys = [("reissue_time", 0.into()), ("max_age", 60.into())];
    let probe = probe("remember", &keys).await;
    let (browser, cookie) = visitor(&probe).await;
    let month = 30 * 86_400;
    let told = go(
        &browser,
        json!([["set_max_age", month], ["set_timeout", month]]),
    )
    .await;
    assert_eq!(told.cookie(), cookie);
    assert!(told.sent().unwrap().contains(&format!("Max-Age={month}")));
    let stored = probe.document(&cookie).await.expect("a session");
    assert_eq!(stored.get_f64("max_age"), Ok(f64::from(month)));
    // A tenth of its own life later, not of the configured one.
    probe.clock.advance(seconds(86_400.0));
    assert_eq!(go(&browser, json!([["get", "k"]])).await.sent(), None);
    probe.clock.advance(seconds(2.5 * 86_400.0));
    let again = go(&browser, json!([["get", "k"]])).await;
    assert_eq!(again.cookie(), cookie);
    assert!(
        again.sent().unwrap().contains(&format!("Max-Age={month}")),
        "the default would end it"
    );
    // Renewed, it keeps its life.
    let renewed = go(&browser, json!([["renew"]])).await;
    assert!(
        renewed
            .sent()
            .unwrap()
            .contains(&format!("Max-Age={month}"))
    );
    // Until the browser closes.
    let until = go(&browser, json!([["set_max_age", null]])).await;
    assert!(until.sent().is_some_and(|line| !line.contains("Max-Age")));
    probe.clock.advance(seconds(86_400.0));
    assert_eq!(go(&browser, json!([["get", "k"]])).await.sent(), None);
    browser.restart();
    assert!(!is_alive(&browser).await);
    let refused = ask(&browser, json!(["set_max_age", 0.5])).await;
    assert_eq!(refused, json!({ "error": "BadDuration" }));
}

#[rocket::async_test]
async fn set_timeout_and_set_max_age_hold_for_a_new_session() {
    let probe = probe("start", &[]).await;
    let browser = probe.browser();
    let calls = json!([["set_timeout", 9000], ["set_max_age", 300], ["expires"]]);
    let set = go(&browser, calls).await;
    assert!(set.sent().unwrap().contains("Max-Age=300"));
    assert_eq!(
        expires(&probe, &set.cookie()).await,
        millis(now(&probe) + 9000.0)
    );
    assert_eq!(millis(told(set.last())), millis(now(&probe) + 9000.0));
    let stored = probe.document(&set.cookie()).await.unwrap();
    assert_eq!(
        (stored.get_f64("timeout"), stored.get_f64("max_age")),
        (Ok(9000.0), Ok(300.0))
    );
}

#[rocket::async_test]
async fn reissue_time_shortens_the_guaranteed_idle_time() {
    // Guaranteed: timeout - reissue_time; at most: timeout.
    let keys = [("timeout", 100.into()), ("reissue_time", 40.into())];
    let probe = probe("window", &keys).await;
    let (browser, _) = visitor(&probe).await;
    probe.clock.advance(seconds(39.0));
    assert!(is_alive(&browser).await, "not written");
    probe.clock.advance(seconds(61.0));
    assert!(is_alive(&browser).await);
    let (browser, _) = visitor(&probe).await;
    probe.clock.advance(seconds(39.0));
    assert!(is_alive(&browser).await);
    probe.clock.advance(seconds(61.001));
    assert!(!is_alive(&browser).await);
}

/// The same application as another process, by another clock.
async fn elsewhere(name: &str, clock: &Clock, more: &[(&str, Setting)]) -> App {
    let url = Mongod::shared().await.url(&format!("times_{name}"));
    let figment = figment("debug", Some(&url), &keys(more));
    App::launch(crate::apps::probe::rocket(
        figment,
        clock,
        &Gates::default(),
    ))
    .await
}

fn at(app: &App, cookie: &str) -> Browser {
    let browser = app.browser();
    browser.set_cookie(&format!("session={cookie}; Path=/"));
    browser
}

#[rocket::async_test]
async fn clocks_minutes_apart_neither_end_nor_shorten_a_session() {
    let more = [("reissue_time", 0.into())];
    let probe = probe("clocks", &more).await;
    let (ahead, behind) = (Clock::new(), Clock::new());
    ahead.advance(seconds(300.0));
    behind.rewind(seconds(300.0));
    let (fast, slow) = (
        elsewhere("clocks", &ahead, &more).await,
        elsewhere("clocks", &behind, &more).await,
    );
    let (browser, cookie) = visitor(&probe).await;
    let (fast, slow) = (at(&fast, &cookie), at(&slow, &cookie));
    let mut last = (0.0, 0);
    for n in 0..6 {
        for (turn, browser) in [&fast, &slow, &browser, &slow].into_iter().enumerate() {
            assert!(is_alive(browser).await, "{n} {turn}");
            go(browser, json!([["set", "n", n], ["increment", "i", 1]])).await;
            let stored = probe.document(&cookie).await.expect("a session");
            let times = (
                stored.get_f64("accessed").unwrap(),
                expires(&probe, &cookie).await,
            );
            assert!(
                times.0 >= last.0 && times.1 >= last.1,
                "{n} {turn}: {times:?} after {last:?}"
            );
            last = times;
        }
        for clock in [&ahead, &behind, &probe.clock] {
            clock.advance(seconds(250.0));
        }
    }
    assert_eq!(ask(&browser, json!(["get", "i"])).await, 24);
}

#[rocket::async_test]
async fn touch_by_a_slow_clock_moves_no_time_back() {
    let more = [("reissue_time", 0.into())];
    let probe = probe("late_touch", &more).await;
    let slow = Clock::new();
    let app = elsewhere("late_touch", &slow, &more).await;
    let (browser, cookie) = visitor(&probe).await;
    slow.advance(seconds(5.0));
    let other = at(&app, &cookie);
    assert!(is_alive(&other).await);
    probe.clock.advance(seconds(600.0));
    go(&browser, json!([["set", "n", 1]])).await;
    let (written, until) = (now(&probe), expires(&probe, &cookie).await);
    slow.advance(seconds(5.0));
    assert!(is_alive(&other).await);
    app.shutdown()
        .await
        .expect("an end, with its touches written");
    let stored = probe.document(&cookie).await.expect("a session");
    assert_eq!(stored.get_f64("accessed"), Ok(written));
    assert_eq!(expires(&probe, &cookie).await, until);
}

#[rocket::async_test]
async fn session_that_expires_during_a_request_is_not_revived() {
    let probe = probe(
        "while",
        &[("timeout", 10.into()), ("reissue_time", 0.into())],
    )
    .await;
    let (browser, cookie) = visitor(&probe).await;
    let before = probe.document(&cookie).await;
    let reading = run(&browser, script(json!([["get", "k"], ["pause", "while"]])));
    let meanwhile = async {
        probe.gates.reached("while").await;
        probe.clock.advance(seconds(10.5));
        probe.gates.open("while");
    };
    let (read, ()) = rocket::tokio::join!(reading, meanwhile);
    assert_eq!((read.status, read.sent()), (200, None));
    assert!(!is_alive(&browser).await);
    // What it set would come too late as well.
    let (browser, cookie2) = visitor(&probe).await;
    let writing = run(
        &browser,
        script(json!([["set", "k", "late"], ["pause", "while"]])),
    );
    let meanwhile = async {
        probe.gates.reached("while").await;
        probe.clock.advance(seconds(10.5));
        probe.gates.open("while");
    };
    let (written, ()) = rocket::tokio::join!(writing, meanwhile);
    assert_eq!((written.status, written.sent()), (200, None));
    assert_eq!(value(&probe, &cookie2).await, Some(doc! { "k": "v" }));
    let Probe {
        app, client, db, ..
    } = probe;
    app.shutdown().await.expect("an end");
    let sessions = client.database(&db).collection("session");
    let found = sessions
        .find_one(doc! { "_id": id_of(&cookie) })
        .await
        .unwrap();
    assert_eq!(found, before);
}

#[rocket::async_test]
async fn changed_timeout_holds_for_stored_sessions() {
    let probe = probe("changed", &[]).await;
    let (browser, cookie) = visitor(&probe).await;
    let shorter = elsewhere("changed", &probe.clock, &[("timeout", 60.into())]).await;
    let longer = elsewhere("changed", &probe.clock, &[("timeout", 9000.into())]).await;
    let (shorter, longer) = (at(&shorter, &cookie), at(&longer, &cookie));
    probe.clock.advance(seconds(61.0));
    assert!(!is_alive(&shorter).await, "at once");
    assert!(is_alive(&browser).await);
    go(&longer, json!([["set", "n", 1]])).await;
    eventually("a longer expiry", || async {
        expires(&probe, &cookie).await == millis(now(&probe) + 9000.0)
    })
    .await;
    probe.clock.advance(seconds(5000.0));
    assert!(is_alive(&longer).await);
}
