//! A request as a list of session calls, for tests that look at one or two requests: [`go`] sends it,
//! [`ask`] gives the result of one call.

use std::time::Duration;

use mongodb::bson::Document;
use rocket::figment::value::Value as Setting;
use rocket::serde::json::{Value, json};

use super::database;
use crate::apps::jobs::Jobs;
use crate::apps::opened::opened;
use crate::apps::probe::{Probe, Ran, Script, run};
use crate::support::{App, Browser, figment};

/// A configuration for tests that count commands: reads extend nothing, and no work on indexes is among the
/// commands.
pub fn keys<'k>(more: &[(&'k str, Setting)]) -> Vec<(&'k str, Setting)> {
    let own = [("reissue_time", false.into()), ("indexes", false.into())];
    own.into_iter().chain(more.iter().cloned()).collect()
}

pub async fn probe(more: &[(&str, Setting)]) -> Probe {
    Probe::start(&database(), &keys(more)).await
}

/// With closures as handlers.
pub async fn jobs(more: &[(&str, Setting)]) -> (Jobs, Probe) {
    Jobs::start(&database(), &keys(more)).await
}

/// A script of these calls.
pub fn script(calls: Value) -> Script {
    let calls = calls.as_array().cloned().expect("a list of calls");
    calls.into_iter().fold(Script::new(), Script::call)
}

/// One request of the browser's, with these calls.
pub async fn go(browser: &Browser, calls: Value) -> Ran {
    let ran = run(browser, script(calls)).await;
    assert_eq!(ran.status, 200, "{ran:?}");
    ran
}

/// What one call gives.
pub async fn ask(browser: &Browser, call: Value) -> Value {
    go(browser, json!([call])).await.last().clone()
}

/// A browser with a session that holds `k` = "v", and its cookie.
pub async fn visitor(probe: &Probe) -> (Browser, String) {
    let browser = probe.browser();
    let cookie = go(&browser, json!([["set", "k", "v"]])).await.cookie();
    (browser, cookie)
}

/// The data of the document that a cookie names, opened if it is sealed.
pub async fn value(probe: &Probe, cookie: &str) -> Option<Document> {
    let document = opened(probe.document(cookie).await?, cookie);
    Some(document.get_document("value").expect("a value").clone())
}

/// What the clock shows, as documents have it.
pub fn now(probe: &Probe) -> f64 {
    (probe.clock.time().unix_timestamp_nanos() / 1_000_000) as f64 / 1000.0
}

/// A time that a script tells, as documents have it; on its way it may lose its last bit.
pub fn told(time: &Value) -> f64 {
    let seconds = time
        .as_f64()
        .unwrap_or_else(|| panic!("a time, not {time}"));
    (seconds * 1000.0).round() / 1000.0
}

/// To compare sums of times.
pub fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

pub fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Why an application with these keys does not launch.
pub async fn refusal(profile: &str, keys: &[(&str, Setting)]) -> String {
    let rocket = rocket::custom(figment(profile, None, keys));
    let rocket = rocket.attach(rocket_mongo_session::Sessions::in_memory());
    match App::try_launch(rocket).await {
        Ok(_) => panic!("{keys:?} is launched"),
        Err(error) => format!("{:?}", error.kind()),
    }
}
