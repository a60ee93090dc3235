//! Mass logout in three ways, while everybody is at work.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mongodb::bson::doc;
use rocket::futures::future::join_all;
use rocket::serde::json::json;

use crate::apps::calls::{ask, go, script};
use crate::apps::probe::{PATIENCE, Probe, Ran, id_of, run, run_with};
use crate::support::Browser;

const VISITORS: usize = 8;

/// The requests that run during it.
struct Traffic {
    answered: [AtomicUsize; VISITORS],
    over: AtomicBool,
}

impl Traffic {
    /// One visitor at work until it is over: reads, writes, messages.
    async fn visitor(&self, n: usize, browser: &Browser) {
        let mut round = 0;
        while !self.over.load(Ordering::SeqCst) {
            let calls = match round % 4 {
                0 => json!([["set", "n", round]]),
                1 => json!([["get", "n"], ["increment", "i", 1]]),
                2 => json!([["flash", round], ["csrf_token"]]),
                _ => json!([["pop_flash"]]),
            };
            let response: Ran = run(browser, script(calls)).await;
            assert_eq!(
                response.status, 200,
                "visitor {n}, round {round}: {response:?}"
            );
            self.answered[n].fetch_add(1, Ordering::SeqCst);
            round += 1;
        }
    }

    /// Every visitor got this number of further responses.
    async fn continues(&self, times: usize) {
        let counts = || self.answered.each_ref().map(|n| n.load(Ordering::SeqCst));
        let before = counts();
        let waiting = async {
            loop {
                let now = counts();
                if now
                    .iter()
                    .zip(before)
                    .all(|(now, before)| *now >= before + times)
                {
                    return;
                }
                rocket::tokio::task::yield_now().await;
                rocket::tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let waited = rocket::tokio::time::timeout(PATIENCE, waiting).await;
        waited.expect("everybody is still served");
    }
}

async fn ids(probe: &Probe) -> HashSet<String> {
    let stored = super::stored(probe).await.into_iter();
    stored
        .map(|d| d.get_str("_id").unwrap().to_owned())
        .collect()
}

/// Every session of before has ended, with requests in flight, and each visitor gets a new one.
async fn logs_everybody_out(name: &str, mass_logout: impl AsyncFnOnce(&Probe)) -> Probe {
    // As an application has it, with its indexes and reads that extend.
    let probe = Probe::start(&format!("mass_{name}"), &[]).await;
    let browsers: Vec<Browser> = (0..VISITORS).map(|_| probe.browser()).collect();
    for (n, browser) in browsers.iter().enumerate() {
        go(browser, json!([["login", n]])).await;
    }
    let before = ids(&probe).await;
    let cookies: Vec<String> = browsers
        .iter()
        .map(|b| b.cookie("session").unwrap())
        .collect();
    assert_eq!(before.len(), VISITORS);

    let traffic = Traffic {
        answered: Default::default(),
        over: AtomicBool::new(false),
    };
    let working = browsers
        .iter()
        .enumerate()
        .map(|(n, browser)| traffic.visitor(n, browser));
    let logging_out = async {
        traffic.continues(3).await;
        mass_logout(&probe).await;
        // Requests that had loaded their session before it end as well.
        traffic.continues(6).await;
        traffic.over.store(true, Ordering::SeqCst);
    };
    rocket::tokio::join!(join_all(working), logging_out);

    let after = ids(&probe).await;
    assert!(after.is_disjoint(&before), "{after:?}");
    for (browser, old) in browsers.iter().zip(&cookies) {
        let read = run_with(&probe.app, old, script(json!([["user"], ["is_new"]]))).await;
        assert_eq!(read.results, [json!(null), json!(true)]);
        let read = go(browser, json!([["user"], ["is_new"], ["get", "n"]])).await;
        assert_eq!(
            read.results[..2],
            [json!(null), json!(false)],
            "a session of its own again"
        );
        assert_ne!(id_of(&browser.cookie("session").unwrap()), id_of(old));
    }
    probe
}

#[rocket::async_test]
async fn revoke_all_ends_every_session_while_requests_run() {
    logs_everybody_out("revoke_all", async |probe| {
        let ended = ask(&probe.browser(), json!(["revoke_all"])).await;
        assert!(
            ended.as_u64().is_some_and(|ended| ended >= VISITORS as u64),
            "{ended}"
        );
    })
    .await;
}

#[rocket::async_test]
async fn deleting_every_document_ends_every_session() {
    logs_everybody_out("by_hand", async |probe| {
        probe.sessions().delete_many(doc! {}).await.unwrap();
    })
    .await;
}

#[rocket::async_test]
async fn dropping_the_collection_ends_every_session() {
    logs_everybody_out("drop", async |probe| {
        probe.sessions().drop().await.unwrap();
    })
    .await;
}
