//! Replies that are lost after the server did what was asked, and networks that swallow everything.

use std::time::{Duration, Instant};

use super::{DEADLINE, both_ways, serves, setting, view};
use crate::arena::{Arena, Op, database, set};
use crate::support::{Mongod, Proxy, ReplicaSet, Traffic};

both_ways! {
    a_write_whose_reply_was_lost_happens_once => lost;
    a_network_that_swallows_everything_hangs_nobody => swallowed;
}

async fn lost(share: bool) {
    let one = ReplicaSet::builder()
        .members(1)
        .behind_proxies()
        .start()
        .await;
    let arena = Arena::start(&setting(&one.url(&database()), share)).await;
    serves(&arena).await;
    let add = || Op::Increment("n".into(), 1);
    let keep = || Op::LoginKeeping("me".into(), vec!["n".into()]);
    for (command, program) in [
        ("update", vec![add()]),
        ("update", vec![Op::Renew, add()]),
        ("insert", vec![keep(), add()]),
        ("findAndModify", vec![keep(), add()]),
        ("findAndModify", vec![Op::Pop, add()]),
        ("delete", vec![Op::Logout]),
    ] {
        for times in 1..=2 {
            let browser = arena.browser();
            arena
                .run(&browser, &[set("n", 1), Op::Flash("hello".into())])
                .await;
            let before = one.proxy(0).cuts();
            one.proxy(0).cut_replies(command, 0, times);
            let answer = arena.run(&browser, &program).await;
            let what = format!("{command} of {program:?}, {times} lost: {:?}", answer.0);
            assert_eq!(one.proxy(0).cuts(), before + times, "{what}");
            let view = view(&arena, &browser).await;
            let told = answer.status() == 200 && answer.results().get(0).is_ok();
            if times == 1 {
                assert!(told, "{what}");
            }
            match (command, told) {
                ("delete", true) => assert!(view.is_new, "{what}"),
                ("delete", false) => {}
                (_, true) => assert_eq!(view.int("n"), 2, "{what}"),
                // Once or not at all, and the browser has what it had, or had it taken away by a
                // login whose outcome nobody knows.
                (_, false) => assert!(
                    view.is_new || (1..=2).contains(&view.int("n")),
                    "{what}: {view:?}"
                ),
            }
            // None is cut that is not this program's.
            one.proxy(0).cut_replies(command, 0, 0);
        }
    }
}

async fn swallowed(share: bool) {
    let mongod = Mongod::start().await;
    let proxy = Proxy::start(mongod.port()).await;
    let arena = Arena::start(&setting(&proxy.url(&database()), share)).await;
    let browser = arena.browser();
    arena.run(&browser, &[set("n", 1)]).await;
    for traffic in [Traffic::Hold, Traffic::HoldReplies, Traffic::HoldRequests] {
        proxy.set(traffic);
        let mut tabs = Vec::new();
        let began = Instant::now();
        for tab in 0..40 {
            let program = if tab % 2 == 0 {
                vec![Op::View]
            } else {
                vec![Op::Increment("n".into(), 1)]
            };
            tabs.push(arena.poise_outside(&browser, &program));
        }
        tabs.iter().for_each(|tab| tab.release());
        for tab in &mut tabs {
            let answer = tab.answer().await;
            assert_eq!(answer.status(), 503);
            assert_eq!(answer.0.set_cookies(), Vec::<&str>::new());
        }
        let longest = Duration::from_secs(DEADLINE * 2 + 10);
        assert!(began.elapsed() < longest, "{:?}", began.elapsed());
        proxy.set(Traffic::Pass);
        serves(&arena).await;
    }
    // What was late may have arrived since; the session is whole.
    let view = view(&arena, &browser).await;
    assert!((1..=61).contains(&view.int("n")), "{view:?}");
}
