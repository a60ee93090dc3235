//! Two connections and three hundred requests: bounded waiting, then 503; other
//! requests are unaffected.

use std::time::Duration;

use super::{APP, both_ways, serves, setting};
use crate::apps::arena::{Arena, Op, set};
use crate::apps::database;
use crate::support::{FailPoint, Failure, Mode, Mongod, Request, in_time, watchful};

both_ways! {
    a_pool_of_two_bounds_the_wait_of_three_hundred => three_hundred;
}

async fn three_hundred(share: bool) {
    let mongod = Mongod::start().await;
    let setting = setting(&watchful(&mongod.url(&database())), share).connections(2);
    let arena = Arena::start(&setting).await;
    let browser = arena.plant(&[set("n", 1)]).await;

    let slow = Failure::block(Duration::from_millis(400)).app_name(APP);
    let tests = mongod.client().await;
    let point = FailPoint::on(&tests, &["find"], Mode::Always, slow).await;
    let mut tabs: Vec<_> = (0..300)
        .map(|_| arena.poise_outside(&browser, &[Op::View]))
        .collect();
    tabs.iter().for_each(|tab| tab.release());
    // In the middle of it, a route without a session.
    let none = arena.send(Request::get("/none")).await;
    assert_eq!(none.0.text(), "no session");
    assert!(
        tabs.iter().any(|tab| !tab.is_over()),
        "the storm was over before it was looked at"
    );
    let (mut served, mut refused) = (0, 0);
    let everybody = async {
        for tab in &mut tabs {
            match tab.response().await.status() {
                200 => served += 1,
                503 => refused += 1,
                other => panic!("{other}"),
            }
        }
    };
    in_time("all responses", everybody).await;
    point.clear().await;
    println!("{served} served, {refused} refused");
    assert!(served > 0);
    // Each alone, two at a time, they would take a minute, and none waits beyond the deadline.
    // Those that share a find may all be served.
    assert!(share || refused > 0);
    serves(&arena).await;
}
