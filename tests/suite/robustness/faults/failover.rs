//! A primary that dies, steps down or stalls, secondaries that stall, every node restarted in turn.

use std::time::Duration;

use mongodb::bson::doc;
use mongodb::{Client, Database};

use super::{Load, both_ways, endures, eventually, serves, setting, survives, view};
use crate::apps::arena::{Arena, Op, set};
use crate::apps::database;
use crate::support::{Mongod, ReplicaSet};

both_ways! {
    a_killed_primary_takes_nothing_acknowledged_with_it => killed;
    a_step_down_loses_nothing => stepped_down;
    a_stalled_primary_neither_hangs_a_request_nor_comes_back_with_old_data => paused;
    without_a_majority_no_write_is_acknowledged => without_majority;
}

async fn killed(share: bool) {
    let set = ReplicaSet::start().await;
    survives(
        &set,
        Load::sharing(share).on_two_apps(),
        async |set, crowd| {
            let primary = set.primary().await;
            set.kill(primary).await;
            set.wait_for_primary().await;
            crowd.see(100).await;
            set.restart(primary).await;
        },
    )
    .await;
}

async fn stepped_down(share: bool) {
    let set = ReplicaSet::start().await;
    survives(
        &set,
        Load::sharing(share).on_two_apps(),
        async |set, crowd| {
            for _ in 0..3 {
                set.step_down().await;
                crowd.see(60).await;
            }
        },
    )
    .await;
}

#[rocket::async_test]
async fn a_step_down_loses_nothing_while_sealing_is_rolled_out() {
    let set = ReplicaSet::start().await;
    let load = Load::sharing(true).while_sealing_is_rolled_out();
    survives(&set, load, async |set, crowd| {
        for _ in 0..2 {
            set.step_down().await;
            crowd.see(60).await;
        }
    })
    .await;
}

#[rocket::async_test]
async fn a_step_down_loses_nothing_where_clocks_differ_by_minutes() {
    let set = ReplicaSet::start().await;
    let load = Load::sharing(true).on_two_apps();
    survives(
        &set,
        load.apart(Duration::from_secs(240)),
        async |set, crowd| {
            set.step_down().await;
            crowd.see(200).await;
        },
    )
    .await;
}

/// With one application, whose driver knows the new primary before it is told of anything there:
/// another one's might ask the old primary still, which answers until it notices.
async fn paused(share: bool) {
    let set = ReplicaSet::start().await;
    survives(&set, Load::sharing(share), async |set, crowd| {
        let primary = set.primary().await;
        set.pause(primary).await;
        // Served by another one, while the old one stands still with requests in its hands.
        crowd.see(100).await;
        set.resume(primary).await;
    })
    .await;
}

#[rocket::async_test]
async fn a_stalled_secondary_goes_unnoticed() {
    let set = ReplicaSet::start().await;
    let load = Load::sharing(true).without_failover();
    let verdict = survives(&set, load, async |set, crowd| {
        let secondary = (set.primary().await + 1) % 3;
        set.pause(secondary).await;
        crowd.see(200).await;
        set.resume(secondary).await;
    })
    .await;
    assert_eq!(verdict.open, 0, "{verdict}");
}

#[rocket::async_test]
async fn stalled_secondaries_cost_answers_and_nothing_that_was_answered() {
    let set = ReplicaSet::start().await;
    survives(&set, Load::sharing(true), async |set, crowd| {
        let primary = set.primary().await;
        let secondaries = [(primary + 1) % 3, (primary + 2) % 3];
        for secondary in secondaries {
            set.pause(secondary).await;
        }
        // What cannot be promised is refused, by a primary that soon steps down.
        crowd.see_fail(20).await;
        for secondary in secondaries {
            set.resume(secondary).await;
        }
        set.wait_for_primary().await;
    })
    .await;
}

async fn without_majority(share: bool) {
    let set_of_three = ReplicaSet::start().await;
    let db = database();
    let arena = Arena::start(&setting(&set_of_three.url(&db), share)).await;
    let browser = arena.browser();
    arena
        .run(&browser, &[Op::Login("me".into()), set("n", 0)])
        .await;
    let primary = set_of_three.primary().await;
    let secondaries: Vec<usize> = (0..3).filter(|node| *node != primary).collect();

    // One of three stands still: everything continues.
    set_of_three.pause(secondaries[0]).await;
    for _ in 0..5 {
        let response = arena.run(&browser, &[Op::Increment("n".into(), 1)]).await;
        assert_eq!(response.status(), 200);
    }
    // Two of three: nothing that is asked for can be promised.
    set_of_three.pause(secondaries[1]).await;
    for program in [
        vec![Op::Increment("n".into(), 1)],
        vec![Op::Renew],
        vec![Op::Logout],
        vec![Op::Login("other".into())],
        vec![Op::Add("m".into(), 1)],
    ] {
        let response = arena.run(&browser, &program).await;
        let told = match response.status() {
            200 => response.results().get(0).is_err(),
            _ => true,
        };
        assert!(told, "{program:?} was acknowledged: {:?}", response.0);
        assert_eq!(response.0.set_cookies(), Vec::<&str>::new());
    }
    for secondary in secondaries {
        set_of_three.resume(secondary).await;
    }
    serves(&arena).await;
    let view = view(&arena, &browser).await;
    // Whatever became of what was refused, what was acknowledged is there or was ended by it.
    assert!(view.is_new || view.int("n") >= 5, "{view:?}");
}

#[rocket::async_test]
async fn a_rolling_restart_loses_nothing() {
    let set = ReplicaSet::start().await;
    survives(&set, Load::sharing(true), async |set, crowd| {
        for node in 0..3 {
            set.restart(node).await;
            set.wait_for_primary().await;
            crowd.see(60).await;
        }
    })
    .await;
}

/// Holds replication back, so that the primary alone has what is written from now on.
async fn hold_replication(node: &Mongod, held: bool) {
    let mode = if held { "alwaysOn" } else { "off" };
    let client: Client = node.client().await;
    let admin: Database = client.database("admin");
    let order = doc! { "configureFailPoint": "stopReplProducer", "mode": mode };
    admin.run_command(order).await.expect("a fail point");
}

/// A logout that reached the primary alone, which then dies, and a second one with the same cookie, for
/// which the session is not there any more. Whether one of them was acknowledged, and whether the
/// session is there again afterwards.
async fn logout_before_a_rollback(options: &str) -> (bool, bool) {
    let three = ReplicaSet::start().await;
    let url = format!("{}{options}", three.url(&database()));
    let arena = Arena::start(&setting(&url, true)).await;
    let browser = arena.browser();
    arena.run(&browser, &[Op::Login("me".into())]).await;
    let thief = browser.twin();
    // The login itself is everywhere.
    let client = three.client().await;
    let primary = three.primary().await;
    eventually("replication", async || {
        let status = client
            .database("admin")
            .run_command(doc! { "replSetGetStatus": 1 })
            .await;
        let status = status.expect("a status");
        let members = status.get_array("members").expect("members");
        let times: Vec<_> = members
            .iter()
            .filter_map(|member| member.as_document()?.get_document("optime").ok())
            .collect();
        times.iter().all(|time| *time == times[0])
    })
    .await;
    for node in (0..3).filter(|node| *node != primary) {
        hold_replication(&three.nodes()[node], true).await;
    }
    let mut acknowledged = false;
    for browser in [browser, thief.twin()] {
        let response = arena.run(&browser, &[Op::Logout]).await;
        acknowledged |= response.status() == 200;
    }
    three.kill(primary).await;
    for node in (0..3).filter(|node| *node != primary) {
        hold_replication(&three.nodes()[node], false).await;
    }
    three.wait_for_primary().await;
    let mut back = None;
    eventually("a response", async || {
        let response = arena.run(&thief.twin(), &[Op::View]).await;
        back = (response.status() == 200).then(|| response.results().view(0).user.is_some());
        back.is_some()
    })
    .await;
    (acknowledged, back == Some(true))
}

#[rocket::async_test]
async fn a_logout_that_could_be_rolled_back_is_not_acknowledged() {
    // It may still happen, on the new primary: the driver continues to ask for it.
    let (acknowledged, _) = logout_before_a_rollback("").await;
    assert!(!acknowledged);
}

/// The negative control: what `w=1` in the URL costs, and that these tests would see it.
#[rocket::async_test]
async fn with_w_1_an_acknowledged_logout_is_rolled_back() {
    assert_eq!(logout_before_a_rollback("&w=1").await, (true, true));
}

/// The same of everything else that a crowd does, and of the checker.
#[rocket::async_test]
async fn with_w_1_the_checker_finds_what_a_killed_primary_took_with_it() {
    let set = ReplicaSet::start().await;
    let load = Load::sharing(true).with("&w=1");
    let verdict = endures(&set, load, async |set, crowd| {
        let primary = set.primary().await;
        let secondaries: Vec<usize> = (0..3).filter(|node| *node != primary).collect();
        for node in &secondaries {
            hold_replication(&set.nodes()[*node], true).await;
        }
        // Acknowledged, and only the one that dies has it.
        crowd.see(200).await;
        set.kill(primary).await;
        for node in &secondaries {
            hold_replication(&set.nodes()[*node], false).await;
        }
        set.wait_for_primary().await;
    })
    .await;
    assert!(verdict.breaks("I1"), "{:#?}", verdict.violations);
}
