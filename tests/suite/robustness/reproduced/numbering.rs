//! Batches that a server carried out although it answered something else.

use rocket::futures::future::join_all;
use rocket::serde::json::json;

use super::{OneNode, visitor};
use crate::apps::probe::{Ran, Script, run};
use crate::support::{Browser, Fate, eventually};

/// The number of counters that are raised at once.
const TABS: usize = 20;
/// Up to this number of updates each has a command of its own.
const DIRECT: usize = 8;

/// Raises the counters of these browsers at once. The fates are those of the commands that carry
/// several of the updates.
async fn count_at_once<const N: usize>(
    one: &OneNode,
    browsers: &[Browser],
    fates: [Fate; N],
) -> Vec<Ran> {
    // No `save`: what a handler is told of travels alone.
    let add = Script::new().pause("half");
    let add = add.call(json!(["increment", "n", 1]));
    let tabs = browsers.iter().map(|browser| run(browser, add.clone()));
    let go = async {
        for _ in browsers {
            one.probe.gates.reached("half").await;
        }
        let held = one.proxy().held();
        let few = std::iter::repeat_n(Fate::Hold, DIRECT);
        one.proxy().plan("update", few);
        one.proxy().plan_batches("update", fates);
        // The first few go by themselves and are held; the others meet meanwhile. When the commands
        // in flight take long, a batch goes without waiting for their end.
        (0..DIRECT).for_each(|_| one.probe.gates.open("half"));
        eventually("held updates", async || one.proxy().held() >= held + DIRECT).await;
        (DIRECT..browsers.len()).for_each(|_| one.probe.gates.open("half"));
        eventually("a batch", async || {
            one.proxy().unmet_batch_fates("update") == 0
        })
        .await;
        (0..DIRECT).for_each(|_| one.proxy().release());
    };
    let (ran, ()) = rocket::tokio::join!(join_all(tabs), go);
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
    let fates = [Fate::LoseReply, Fate::Refuse(20)];
    let lost = one.proxy().cuts();
    let ran = count_at_once(&one, &browsers, fates).await;
    assert_eq!(one.proxy().cuts(), lost + 1);
    let counted = counted(&browsers, &ran).await;
    for (count, is_acknowledged) in &counted {
        assert!((1..=2).contains(count), "{counted:?}");
        assert!(!is_acknowledged || *count == 2, "{counted:?}");
    }
}

/// A count of matches that contradicts what is stored is not an acknowledgement.
#[rocket::async_test]
async fn batch_whose_count_is_wrong_is_not_acknowledged() {
    let one = OneNode::start(&[]).await;
    let browsers = visitors(&one).await;
    let fates = [Fate::MissOne];
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
