//! Touches that the server refuses are sent again ever more seldom.

use log::Level;
use rocket::serde::json::json;
use std::time::Duration;

use super::Standalone;
use crate::apps::probe::{Script, run};
use crate::support::alone::{Line, alone, lines};
use crate::support::{Fate, in_time};

/// How many refusals of one touch are waited for.
const REFUSALS: usize = 6;

/// Reads a session until the touch that the first read is due was refused `REFUSALS` times: how
/// many reads there were at each refusal.
async fn reads_at_refusals(standalone: &Standalone) -> Vec<i32> {
    let (probe, proxy) = (&standalone.probe, &standalone.proxy);
    let browser = super::visitor(&probe.app).await;
    probe.clock.advance(Duration::from_secs(5));
    let before = proxy.requests("update").len();
    proxy.plan("update", std::iter::repeat_n(Fate::Refuse(13), 10_000));
    let (mut reads, mut reads_at) = (0, Vec::new());
    in_time("refusals", async {
        while reads_at.len() < REFUSALS {
            let read = run(&browser, Script::new().get("n")).await;
            assert_eq!((read.status, read.last()), (200, &json!(1)));
            reads += 1;
            let refused = proxy.requests("update").len() - before;
            reads_at.resize(refused.max(reads_at.len()), reads);
        }
    })
    .await;
    reads_at
}

#[rocket::async_test]
async fn refused_touch_is_sent_again_ever_more_seldom() {
    let standalone = Standalone::start(&[]).await;
    let reads_at = reads_at_refusals(&standalone).await;
    // Pauses are measured in reads, so that a slow machine measures them, too.
    let pauses = reads_at.windows(2).map(|pair| pair[1] - pair[0]);
    let pauses: Vec<i32> = pauses.take(REFUSALS - 1).collect();
    // Each is twice as long as the one before it: the last is sixteen times the first.
    let (first, last) = (pauses[0], pauses[REFUSALS - 2]);
    assert!(
        first > 0 && last > 3 * first,
        "reads between refusals: {pauses:?}"
    );
}

#[test]
fn refused_touch_is_not_logged_each_time() {
    let test = "robustness::reproduced::touches::refused_touch_is_not_logged_each_time";
    alone(test, async {
        let standalone = Standalone::start(&[]).await;
        let is_failure =
            |line: &Line| line.level <= Level::Warn && !line.text.starts_with("caused by");
        let said = || lines().into_iter().filter(is_failure);
        let before = said().count();
        reads_at_refusals(&standalone).await;
        let said: Vec<_> = said().skip(before).collect();
        assert_eq!(said.len(), 1, "{said:?}");
    });
}
