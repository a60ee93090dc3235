//! A handler may begin a `save` and stop polling it. Nothing that others need may hang on it.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use rocket::futures::future::join_all;
use rocket::serde::json::json;
use rocket::{Build, Rocket, State, post, routes};
use rocket_mongo_session::{Error, Session};

use super::visitor;
use crate::apps::probe::{Gates, Probe, Script, run};
use crate::support::{Browser, Request};

/// Begins a `save`, and looks at it again when the gate opens.
#[post("/aside")]
async fn aside(session: &Session, gates: &State<Gates>) -> Result<(), Error> {
    session.set("n", &2)?;
    let mut save = pin!(session.save());
    let begun = poll_fn(|context| Poll::Ready(save.as_mut().poll(context))).await;
    gates.pass("aside").await;
    match begun {
        Poll::Ready(saved) => saved,
        Poll::Pending => save.await,
    }
}

fn routes(rocket: Rocket<Build>) -> Rocket<Build> {
    rocket.mount("/", routes![aside])
}

async fn probe(db: &str, share: bool) -> Probe {
    // Seconds: the end of the wait for those who are stopped.
    let keys = [("deadline", 10.into()), ("share", share.into())];
    Probe::start_with(db, &keys, routes).await
}

/// Reads, writes and visits of everybody else.
async fn others_are_served(probe: &Probe, other: &Browser) {
    let read = run(other, Script::new().get("n")).await;
    assert_eq!((read.status, &read.results[..]), (200, &[json!(1)][..]));
    let write = run(other, Script::new().set("m", 1)).await;
    assert_eq!(write.status, 200, "{write:?}");
    visitor(&probe.app).await;
}

async fn a_new_session_aside(share: bool) {
    let probe = probe(&format!("aside_new_{share}"), share).await;
    let (other, browser) = (visitor(&probe.app).await, probe.browser());
    let served = async {
        probe.gates.reached("aside").await;
        others_are_served(&probe, &other).await;
        probe.gates.open("aside");
    };
    let (ended, ()) = rocket::tokio::join!(browser.send(Request::post("/aside")), served);
    assert_eq!(ended.status, 200, "{ended:?}");
    let read = run(&browser, Script::new().get("n")).await;
    assert_eq!(read.results, [json!(2)]);
}

/// More than there are connections.
const MANY: usize = 40;

async fn many_stored_sessions_aside(share: bool) {
    let probe = probe(&format!("aside_stored_{share}"), share).await;
    let other = visitor(&probe.app).await;
    let mut browsers = Vec::new();
    for _ in 0..MANY {
        browsers.push(visitor(&probe.app).await);
    }
    let asides = browsers.iter();
    let asides = asides.map(|browser| browser.send(Request::post("/aside")));
    let served = async {
        for _ in 0..MANY {
            probe.gates.reached("aside").await;
        }
        others_are_served(&probe, &other).await;
        (0..MANY).for_each(|_| probe.gates.open("aside"));
    };
    let (ended, ()) = rocket::tokio::join!(join_all(asides), served);
    for (ended, browser) in ended.iter().zip(&browsers) {
        assert_eq!(ended.status, 200, "{ended:?}");
        let read = run(browser, Script::new().get("n")).await;
        assert_eq!(read.results, [json!(2)]);
    }
}

mod save_of_a_new_session_put_aside_stops_no_other_request {
    #[rocket::async_test]
    async fn sharing() {
        super::a_new_session_aside(true).await;
    }

    #[rocket::async_test]
    async fn each_alone() {
        super::a_new_session_aside(false).await;
    }
}

mod saves_of_many_sessions_put_aside_stop_no_other_request {
    #[rocket::async_test]
    async fn sharing() {
        super::many_stored_sessions_aside(true).await;
    }

    #[rocket::async_test]
    async fn each_alone() {
        super::many_stored_sessions_aside(false).await;
    }
}
