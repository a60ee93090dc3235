//! Values that are not equal to themselves, and values that can be serialized once.

use std::cell::Cell;

use rocket::serde::{Serialize, Serializer};
use rocket::{Build, Rocket, post, routes};
use rocket_mongo_session::{Error, Session};

use super::InMemory;
use crate::apps::probe::Probe;
use crate::support::{App, Browser, Request};

/// Messages that are not to be shown twice, one of which is NaN.
#[post("/unique/<times>")]
fn unique(session: &Session, times: u32) -> Result<String, Error> {
    for _ in 0..times {
        session.flash_queue("prices").push_unique(f64::NAN)?;
        session.flash_queue("prices").push_unique(1.5)?;
    }
    Ok(format!(
        "{:?}",
        session.flash_queue("prices").peek::<f64>()?
    ))
}

/// A list that is used up by the first look at it, as an iterator is.
struct Once<I>(Cell<Option<I>>);

impl<I: Iterator<Item = u32>> Serialize for Once<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.take().expect("a list that was not used yet"))
    }
}

#[post("/once")]
fn once(session: &Session) -> Result<String, Error> {
    session.set("list", &Once(Cell::new(Some(1..4))))?;
    session.push("lists", &Once(Cell::new(Some(4..6))))?;
    session.flash(Once(Cell::new(Some(6..8))))?;
    let list: Option<Vec<u32>> = session.get("list")?;
    let lists: Option<Vec<Vec<u32>>> = session.get("lists")?;
    Ok(format!(
        "{list:?} {lists:?} {:?}",
        session.peek_flash::<Vec<u32>>()?
    ))
}

fn routes(rocket: Rocket<Build>) -> Rocket<Build> {
    rocket.mount("/", routes![unique, once])
}

async fn post(browser: &Browser, path: &str) -> (u16, String) {
    let response = browser.send(Request::post(path)).await;
    (response.status, response.text())
}

async fn keeps_one_nan(app: &App) {
    let browser = app.browser();
    let one = || (200, "[NaN, 1.5]".to_owned());
    assert_eq!(post(&browser, "/unique/2").await, one(), "pending");
    assert_eq!(post(&browser, "/unique/0").await, one(), "stored");
    assert_eq!(
        post(&browser, "/unique/2").await,
        one(),
        "pushed to what is stored"
    );
    assert_eq!(post(&browser, "/unique/0").await, one(), "stored again");
}

#[rocket::async_test]
async fn push_unique_of_nan_keeps_one() {
    let memory = InMemory::start(routes).await;
    keeps_one_nan(&memory.app).await;
    let probe = Probe::start_with("values_unique", &[], routes).await;
    keeps_one_nan(&probe.app).await;
}

#[rocket::async_test]
async fn value_that_can_be_serialized_once_can_be_set() {
    let binary = [("encoding", "binary".into())];
    let memory = InMemory::start(routes).await;
    let probe = Probe::start_with("values_once", &binary, routes).await;
    for app in [&memory.app, &probe.app] {
        let set = post(&app.browser(), "/once").await;
        let expected = "Some([1, 2, 3]) Some([[4, 5]]) [[6, 7]]";
        assert_eq!(set, (200, expected.to_owned()));
    }
}
