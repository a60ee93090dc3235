//! Batches that a server carried out although it answered something else.

use rocket::futures::future::join_all;
use rocket::serde::json::json;
use rocket::tokio::time::sleep;
use std::time::Duration;

use super::{OneNode, visitor};
use crate::probe::{Ran, Script, run};
use crate::support::{Browser, Fate, eventually};

/// So many counters that are raised at once.
const TABS: usize = 20;

/// Raises the counters of these browsers while the fates meet the commands that do it.
async fn count_at_once(one: &OneNode, browsers: &[Browser], fates: [Fate; 3]) -> Vec<Ran> {
    // No `save`: what a handler is told of travels alone.
    let add = Script::new().pause("half");
    let add = add.call(json!(["increment", "n", 1]));
    let tabs = browsers.iter().map(|browser| run(browser, add.clone()));
    let go = async {
        for _ in browsers {
            one.probe.gates.reached("half").await;
        }
        let held = one.proxy().held();
        one.proxy().plan("update", fates);
        // The first goes by itself and is held. The others meet meanwhile; that they have met, no
        // event tells. Whatever is promised here holds however they travel.
        one.probe.gates.open("half");
        eventually("a held update", async || one.proxy().held() > held).await;
        (1..browsers.len()).for_each(|_| one.probe.gates.open("half"));
        sleep(Duration::from_millis(200)).await;
        one.proxy().release();
    };
    let (ran, ()) = rocket::tokio::join!(join_all(tabs), go);
    one.proxy().plan("update", []);
    ran
}

/// What each browser's counter has, and whether the response acknowledged it.
async fn counted(browsers: &[Browser], ran: &[Ran]) -> Vec<(i64, bool)> {
    let mut counted = Vec::new();
    for (browser, ran) in browsers.iter().zip(ran) {
        let seen = run(browser, Script::new().get("n")).await;
        let count = seen.last().as_i64().expect("a count");
        counted.push((count, ran.status == 200));
    }
    counted
}

async fn visitors(one: &OneNode) -> Vec<Browser> {
    let mut browsers = Vec::new();
    for _ in 0..TABS {
        browsers.push(visitor(&one.probe.app).await);
    }
    browsers
}

/// Code 20 says that the server takes no transaction numbers, but it took one: the reply was lost.
#[rocket::async_test]
async fn batch_that_was_done_and_then_refused_is_not_applied_twice() {
    let one = OneNode::start(&[]).await;
    let browsers = visitors(&one).await;
    let fates = [Fate::Hold, Fate::LoseReply, Fate::Refuse(20)];
    let ran = count_at_once(&one, &browsers, fates).await;
    let counted = counted(&browsers, &ran).await;
    for (count, is_acknowledged) in &counted {
        assert!((1..=2).contains(count), "{counted:?}");
        assert!(!is_acknowledged || *count == 2, "{counted:?}");
    }
}

/// A count of matches that contradicts what is stored is no acknowledgement.
#[rocket::async_test]
async fn batch_whose_count_is_wrong_is_not_acknowledged() {
    let one = OneNode::start(&[]).await;
    let browsers = visitors(&one).await;
    let fates = [Fate::Hold, Fate::MissOne, Fate::Pass];
    let ran = count_at_once(&one, &browsers, fates).await;
    let counted = counted(&browsers, &ran).await;
    let is_true = |(count, is_acknowledged): &(i64, bool)| !is_acknowledged || *count == 2;
    assert!(counted.iter().all(is_true), "{counted:?}");
}

/// The text of code 225 names transaction numbers as well. It is about one of them.
#[rocket::async_test]
async fn number_that_is_too_old_ends_no_retries() {
    let one = OneNode::start(&[]).await;
    let browser = visitor(&one.probe.app).await;
    let add = || Script::new().call(json!(["increment", "n", 1]));
    one.proxy().plan("update", [Fate::Refuse(225)]);
    run(&browser, add()).await;
    let seen = run(&browser, Script::new().get("n")).await;
    let before = seen.last().as_i64().expect("a count");

    let lost = one.proxy().cuts();
    one.proxy().plan("update", [Fate::LoseReply]);
    let ran = run(&browser, add()).await;
    assert_eq!((ran.status, one.proxy().cuts()), (200, lost + 1), "{ran:?}");
    let seen = run(&browser, Script::new().get("n")).await;
    assert_eq!(seen.results, [json!(before + 1)]);
}
