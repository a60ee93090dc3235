//! Loops that never ended: they compared a value with itself, and NaN is not equal to NaN; or two
//! readings of one key that disagreed. Each test runs in a process of its own, because such a loop
//! blocks its thread.

use rocket::serde::json::{Value, json};
use rocket::{Build, Rocket, post, routes};
use rocket_mongo_session::{Error, Session};

use super::InMemory;
use crate::apps::probe::{Probe, Script, run};
use crate::support::alone::alone;
use crate::support::{Browser, Mongod, Request};

#[post("/price?<price>")]
fn price(session: &Session, price: f64) -> Result<(), Error> {
    session.set("price", &price)
}

#[post("/take")]
fn take(session: &Session) -> Result<String, Error> {
    let (taken, left) = (session.take::<f64>("price")?, session.contains("price"));
    Ok(format!("{taken:?} {left}"))
}

#[post("/modify")]
async fn modify(session: &Session) -> Result<String, Error> {
    let next = |price: Option<f64>| price.unwrap_or_default() + 1.0;
    Ok(format!("{:?}", session.modify("price", next).await?))
}

/// The same for a session that is not stored yet.
#[post("/modify/new?<price>")]
async fn modify_new(session: &Session, price: f64) -> Result<String, Error> {
    session.set("price", &price)?;
    let next = |price: Option<f64>| price.unwrap_or_default() + 1.0;
    Ok(format!("{:?}", session.modify("price", next).await?))
}

fn prices(rocket: Rocket<Build>) -> Rocket<Build> {
    rocket.mount("/", routes![price, take, modify, modify_new])
}

async fn post(browser: &Browser, path: &str) -> (u16, String) {
    let response = browser.send(Request::post(path)).await;
    (response.status, response.text())
}

#[test]
fn take_of_a_stored_nan_ends() {
    alone(
        "robustness::reproduced::loops::take_of_a_stored_nan_ends",
        async {
            let memory = InMemory::start(prices).await;
            let browser = memory.app.browser();
            assert_eq!(post(&browser, "/price?price=NaN").await.0, 200);
            let taken = post(&browser, "/take").await;
            assert_eq!(taken, (200, "Some(NaN) false".to_owned()));
            let taken = post(&browser, "/take").await;
            assert_eq!(taken, (200, "None false".to_owned()));
        },
    );
}

#[test]
fn modify_of_a_nan_in_a_new_session_ends() {
    let test = "robustness::reproduced::loops::modify_of_a_nan_in_a_new_session_ends";
    alone(test, async {
        let memory = InMemory::start(prices).await;
        let modified = post(&memory.app.browser(), "/modify/new?price=NaN").await;
        assert_eq!(modified, (200, "NaN".to_owned()));
    });
}

/// The store compares NaN, too.
#[test]
fn modify_of_a_stored_nan_ends() {
    alone(
        "robustness::reproduced::loops::modify_of_a_stored_nan_ends",
        async {
            let memory = InMemory::start(prices).await;
            let mongod = Mongod::start().await;
            let (client, url) = (mongod.client().await, mongod.url("nan"));
            let probe = Probe::start_at(client, &url, "nan", &[], prices).await;
            for app in [&memory.app, &probe.app] {
                let browser = app.browser();
                assert_eq!(post(&browser, "/price?price=NaN").await.0, 200);
                let modified = post(&browser, "/modify").await;
                assert_eq!(modified, (200, "NaN".to_owned()));
            }
        },
    );
}

/// An increment is pending, and another request has stored a text in its place.
#[test]
fn get_or_insert_of_a_mismatch_ends() {
    alone(
        "robustness::reproduced::loops::get_or_insert_of_a_mismatch_ends",
        async {
            let results = with_a_mismatch(json!(["get_or_insert", "n", 5])).await;
            let said = &results[0];
            assert_eq!(said["error"], "Mismatch", "{said}");
        },
    );
}

#[test]
fn contains_agrees_with_get_on_a_mismatch() {
    let test = "robustness::reproduced::loops::contains_agrees_with_get_on_a_mismatch";
    alone(test, async {
        let results = with_a_mismatch(json!(["contains", "n"])).await;
        let is_there = !results[1].is_null();
        assert_eq!(results[0], json!(is_there), "{results:?}");
    });
}

#[test]
fn take_of_a_mismatch_is_not_silent() {
    alone(
        "robustness::reproduced::loops::take_of_a_mismatch_is_not_silent",
        async {
            let results = with_a_mismatch(json!(["take", "n"])).await;
            assert_eq!(results[0]["error"], "Mismatch", "{results:?}");
        },
    );
}

/// What a call gives in that state, and what `get` gave before it.
async fn with_a_mismatch(call: Value) -> [Value; 2] {
    let memory = InMemory::start(|rocket| rocket).await;
    let browser = super::visitor(&memory.app).await;
    let first = Script::new()
        .call(json!(["increment", "n", 1]))
        .pause("half")
        // It loses to the other request, and sees from then on what that one stored.
        .call(json!(["modify", "m", 1]))
        .get("n")
        .call(call)
        // Or the commit would meet the mismatch, and no result would arrive.
        .set("n", "text");
    let second = async {
        memory.gates.reached("half").await;
        let other = Script::new().set("n", "text").set("m", 7);
        assert_eq!(run(&browser, other).await.status, 200);
        memory.gates.open("half");
    };
    let (ran, ()) = rocket::tokio::join!(run(&browser, first), second);
    assert_eq!(ran.results[2], json!(8), "{ran:?}");
    [ran.results[4].clone(), ran.results[3].clone()]
}
