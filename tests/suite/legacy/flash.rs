//! Flash messages under races: exactly once, and none lost.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use mongodb::bson::doc;
use rocket::futures::future::join_all;
use rocket::serde::json::{Value, json};
use rocket::tokio::join;
use rocket::tokio::runtime::Handle;
use rocket::tokio::task::block_in_place;
use rocket_mongo_session::{Error, Session};
use serde::{Deserialize, Deserializer};

use super::{Jobs, start};
use crate::apps::calls::{ask, go, keys, script, value};
use crate::apps::probe::{asked, id_of, run};

/// All messages that pops delivered, sorted.
fn sorted(deliveries: impl IntoIterator<Item = Vec<String>>) -> Vec<String> {
    let mut all: Vec<String> = deliveries.into_iter().flatten().collect();
    all.sort_unstable();
    all
}

fn expected(count: usize) -> Vec<String> {
    sorted([(0..count).map(|n| format!("m{n}")).collect()])
}

fn texts(list: &Value) -> Vec<String> {
    let list = list
        .as_array()
        .unwrap_or_else(|| panic!("messages, not {list}"));
    list.iter()
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

#[rocket::async_test]
async fn flash_delivers_each_message_once_to_many_requests() {
    for encoding in ["document", "binary"] {
        let (_, probe) = start("flash_race", &[("encoding", encoding.into())]).await;
        let browser = probe.browser();
        go(&browser, json!([["set", "k", 1]])).await;
        const ALL: usize = 60;
        let (browser, mut delivered) = (&browser, Vec::new());
        let work = (0..ALL).map(|n| async move {
            go(browser, json!([["queue_push", "q", format!("m{n}")]])).await;
            match n % 2 {
                0 => texts(&ask(browser, json!(["queue_pop", "q"])).await),
                _ => Vec::new(),
            }
        });
        delivered.extend(join_all(work).await);
        delivered.push(texts(&ask(browser, json!(["queue_pop", "q"])).await));
        assert_eq!(sorted(delivered), expected(ALL), "{encoding}");
    }
}

#[rocket::async_test]
async fn flash_pushed_while_another_request_pops_stays() {
    let (_, probe) = start("flash_while", &[]).await;
    let browser = probe.browser();
    go(&browser, json!([["flash", "m0"]])).await;
    let popping = run(
        &browser,
        script(json!([
            ["peek_flash"],
            ["pause", "pop"],
            ["pop_flash"],
            ["pause", "end"]
        ])),
    );
    let meanwhile = async {
        probe.gates.reached("pop").await;
        go(&browser, json!([["flash", "m1"]])).await; // loaded before, popped after
        probe.gates.open("pop");
        probe.gates.reached("end").await;
        go(&browser, json!([["flash", "m2"]])).await; // popped, not yet answered
        probe.gates.open("end");
    };
    let (popped, ()) = join!(popping, meanwhile);
    assert_eq!(popped.results[2], json!(["m0", "m1"]));
    assert_eq!(ask(&browser, json!(["pop_flash"])).await, json!(["m2"]));
}

#[rocket::async_test]
async fn pop_flash_of_one_request_delivers_each_message_once() {
    let (jobs, probe) = start("flash_tasks", &[]).await;
    let browser = probe.browser();
    for stored in [true, false] {
        if stored {
            go(&browser, json!([["flash", "m0"], ["flash", "m1"]])).await;
        }
        let (delivered, response) = jobs
            .run_async(&browser, move |s| {
                Box::pin(async move {
                    for n in if stored { 2..4 } else { 0..4 } {
                        s.flash(format!("m{n}")).unwrap();
                    }
                    let pops = join_all((0..8).map(|_| s.pop_flash::<String>())).await;
                    pops.into_iter().map(Result::unwrap).collect::<Vec<_>>()
                })
            })
            .await;
        assert_eq!(sorted(delivered), expected(4));
        assert_eq!(response.status, 200);
        assert_eq!(ask(&browser, json!(["pop_flash"])).await, json!([]));
    }
}

/// Where a pop that is reading its messages meets a push, once.
static READING: Barrier = Barrier::new(2);
static PUSHED: Barrier = Barrier::new(2);
static MEET: AtomicBool = AtomicBool::new(false);

/// A message that takes its time to be read.
struct Slow(String);

impl<'de> Deserialize<'de> for Slow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if MEET.swap(false, Ordering::SeqCst) {
            READING.wait();
            PUSHED.wait();
        }
        Ok(Slow(text))
    }
}

#[rocket::async_test]
async fn flash_of_another_thread_during_a_pop_is_not_lost() {
    let (jobs, probe) = start("flash_threads", &[]).await;
    for stored in [false, true] {
        let browser = probe.browser();
        if stored {
            go(&browser, json!([["flash", "m0"]])).await;
        }
        let (delivered, response) = jobs
            .run_async(&browser, move |s| {
                Box::pin(async move {
                    if !stored {
                        s.flash("m0").unwrap();
                    }
                    MEET.store(true, Ordering::SeqCst);
                    let handle = Handle::current();
                    let popped = block_in_place(|| in_two_threads(s, &handle)).unwrap();
                    popped.into_iter().map(|Slow(text)| text).collect()
                })
            })
            .await;
        assert_eq!(response.status, 200);
        let left = texts(&ask(&browser, json!(["pop_flash"])).await);
        assert_eq!(sorted([delivered, left]), expected(2), "stored: {stored}");
    }
}

fn in_two_threads(session: &Session, handle: &Handle) -> Result<Vec<Slow>, Error> {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            READING.wait();
            session.flash("m1").unwrap();
            PUSHED.wait();
        });
        handle.block_on(session.pop_flash::<Slow>())
    })
}

#[rocket::async_test]
async fn pop_flash_of_another_type_fails_and_empties_the_queue() {
    let (_, probe) = start("flash_type", &[]).await;
    let browser = probe.browser();
    go(&browser, json!([["flash", 1], ["flash", "two"]])).await;
    let calls = json!([["flash", 3], ["queue_pop_as_i64", ""], ["peek_flash"]]);
    let refused = go(&browser, calls).await;
    let error = json!({ "error": "Decode" });
    assert_eq!(refused.results[1..], [error.clone(), json!([])]);
    // One odd message does not stand in the way of every page that follows.
    go(&browser, json!([["flash", 4]])).await;
    assert_eq!(ask(&browser, json!(["pop_flash"])).await, json!([4]));
    // The same goes for messages that are not stored yet.
    let fresh = probe.browser();
    let calls = json!([["flash", "two"], ["queue_pop_as_i64", ""], ["peek_flash"]]);
    let refused = go(&fresh, calls).await;
    assert_eq!(refused.results[1..], [error, json!([])]);
}

#[rocket::async_test]
async fn pop_flash_is_one_trip_and_stands_when_the_handler_fails() {
    let keys = keys(&[("set_on_exception", false.into())]);
    let (_, probe) = Jobs::start("legacy_flash_fails", &keys).await;
    let browser = probe.browser();
    go(&browser, json!([["flash", "m"]])).await;
    let profile = probe.profile().await;
    let failed = script(json!([["pop_flash"], ["set", "k", 1]])).fail(500);
    assert_eq!(run(&browser, failed).await.status, 500);
    assert_eq!(asked(&profile).await, ["find", "update"]);
    let read = go(&browser, json!([["peek_flash"], ["get", "k"]])).await;
    assert_eq!(read.results, [json!([]), json!(null)]);
}

#[rocket::async_test]
async fn pop_flash_of_an_ended_session_is_gone() {
    let (_, probe) = start("flash_gone", &[]).await;
    let browser = probe.browser();
    let cookie = go(&browser, json!([["flash", "m"]])).await.cookie();
    let popping = run(
        &browser,
        script(json!([["pause", "gone"], ["pop_flash"], ["flash", "late"]])),
    );
    let twin = browser.twin();
    let logout = async {
        probe.gates.reached("gone").await;
        go(&twin, json!([["logout"]])).await;
        probe.gates.open("gone");
    };
    let (popped, ()) = join!(popping, logout);
    assert_eq!(popped.results[1], json!({ "error": "Gone" }));
    // What was logged out stays so, and its message with it; what came after is another session's.
    let sessions = super::stored(&probe).await;
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    assert_ne!(sessions[0].get_str("_id"), Ok(id_of(&cookie)));
    let values = value(&probe, &popped.cookie()).await;
    assert_eq!(values, Some(doc! { "_f_": ["late"] }));
}

#[rocket::async_test]
async fn flash_of_an_unserializable_type_fails_and_keeps_the_queue() {
    let (jobs, probe) = start("flash_bad", &[]).await;
    let browser = probe.browser();
    let (refused, _) = jobs
        .run(&browser, |s| {
            s.flash("m").unwrap();
            s.flash(u64::MAX)
        })
        .await;
    assert!(matches!(refused, Err(Error::Encode { .. })));
    assert_eq!(ask(&browser, json!(["pop_flash"])).await, json!(["m"]));
}
