//! Touches that the server refuses are sent again ever more seldom.

use rocket::serde::json::json;
use std::time::Duration;

use super::Standalone;
use crate::probe::{Script, run};
use crate::support::{Fate, in_time};

#[rocket::async_test]
async fn refused_touch_is_sent_again_ever_more_seldom() {
    const REFUSALS: usize = 6;
    let standalone = Standalone::start(&[]).await;
    let (probe, proxy) = (&standalone.probe, &standalone.proxy);
    let browser = super::visitor(&probe.app).await;
    probe.clock.advance(Duration::from_secs(5));
    let before = proxy.requests("update").len();
    proxy.plan("update", std::iter::repeat_n(Fate::Refuse(13), 10_000));

    // One read is due to be noted. The others measure the pauses, so that a slow machine does, too.
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
    let pauses = reads_at.windows(2).map(|pair| pair[1] - pair[0]);
    let pauses: Vec<i32> = pauses.take(REFUSALS - 1).collect();
    // Each is twice as long as the one before, or four times where a read took long.
    let (first, last) = (pauses[0], pauses[REFUSALS - 2]);
    assert!(last > 3 * first, "reads between refusals: {pauses:?}");
}
