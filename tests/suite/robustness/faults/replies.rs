//! Replies that are lost after the server did what was asked, and networks that swallow everything.

use rocket_mongo_session::testing::Clock;

use super::{both_ways, serves, setting, view};
use crate::apps::arena::{Arena, Op, set};
use crate::apps::database;
use crate::apps::opened::opened;
use crate::apps::probe::id_of;
use crate::robustness::crowd::stored;
use crate::support::{
    FailPoint, Failure, Mode, Mongod, Proxy, ReplicaSet, Traffic, eventually, in_time, watchful,
};

both_ways! {
    a_write_whose_reply_was_lost_happens_once => lost;
    a_network_that_swallows_everything_hangs_no_request => swallowed;
}

async fn lost(share: bool) {
    let one = ReplicaSet::builder()
        .members(1)
        .behind_proxies()
        .start()
        .await;
    let url = watchful(&one.url(&database()));
    let arena = Arena::start(&setting(&url, share).clock(&Clock::new())).await;
    serves(&arena).await;
    let add = || Op::Increment("n".into(), 1);
    let keep = || Op::LoginKeeping("me".into(), vec!["n".into()]);
    for (command, program) in [
        ("update", vec![add()]),
        ("update", vec![Op::Renew, add()]),
        ("insert", vec![keep(), add()]),
        ("findAndModify", vec![keep(), add()]),
        ("update", vec![Op::Pop, add()]),
        ("delete", vec![Op::Logout]),
    ] {
        for times in 1..=2 {
            let planted = [set("n", 1), Op::Flash("hello".into())];
            let browser = arena.plant(&planted).await;
            let before = one.proxy(0).cuts();
            one.proxy(0).cut_replies(command, 0, times);
            let response = arena.run(&browser, &program).await;
            let what = format!("{command} of {program:?}, {times} lost: {:?}", response.0);
            assert_eq!(one.proxy(0).cuts(), before + times, "{what}");
            let view = view(&arena, &browser).await;
            let told = response.status() == 200 && response.results().get(0).is_ok();
            if times == 1 {
                assert!(told, "{what}");
            }
            match (command, told) {
                ("delete", true) => assert!(view.is_new, "{what}"),
                ("delete", false) => {}
                (_, true) => assert_eq!(view.int("n"), 2, "{what}"),
                // Once or not at all, and the browser has what it had, or had it taken away by a
                // login whose outcome is unknown.
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

/// How many loads, and how many commits, are in progress when the network goes.
const EACH: i64 = 20;

async fn swallowed(share: bool) {
    let mongod = Mongod::start().await;
    let proxy = Proxy::start(mongod.port()).await;
    let url = watchful(&proxy.url(&database()));
    let arena = Arena::start(&setting(&url, share).clock(&Clock::new())).await;
    for traffic in [Traffic::Hold, Traffic::HoldReplies, Traffic::HoldRequests] {
        let browser = arena.plant(&[set("n", 1)]).await;
        let mut tabs = Vec::new();
        for _ in 0..EACH {
            tabs.push(arena.poise_outside(&browser, &[Op::View]));
            // Loaded before the network goes; the commit meets it.
            let add = [Op::Increment("n".into(), 1)];
            tabs.push(arena.poise(&browser, &[Op::View], &add).await);
        }
        proxy.set(traffic);
        tabs.iter().for_each(|tab| tab.release());
        let everybody = async {
            for tab in &mut tabs {
                let response = tab.response().await;
                assert_eq!(response.status(), 503, "{traffic:?}");
                assert_eq!(response.0.set_cookies(), Vec::<&str>::new());
            }
        };
        in_time("all responses", everybody).await;
        proxy.set(Traffic::Pass);
        serves(&arena).await;
        // Whatever was on its way arrives, and takes effect once, though no client was told: the
        // first commit at least was sent before its deadline.
        eventually("what was held arrives", async || {
            let n = view(&arena, &browser).await.int("n");
            assert!((1..=1 + EACH).contains(&n), "{n} after {traffic:?}");
            n > 1
        })
        .await;
    }
}

/// A primary does a write, loses its office before a majority has it, and says so; from then on
/// every attempt is refused, and surely does nothing. That says nothing of the first.
#[rocket::async_test]
async fn a_write_that_was_done_is_not_said_to_have_failed() {
    let one = ReplicaSet::builder()
        .members(1)
        .behind_proxies()
        .start()
        .await;
    let db = database();
    let arena = Arena::start(&setting(&watchful(&one.url(&db)), true).clock(&Clock::new())).await;
    serves(&arena).await;
    let browser = arena.plant(&[set("n", 1)]).await;
    let program = [Op::Increment("n".into(), 1), Op::Save];
    let mut tab = arena.poise(&browser, &[Op::View], &program).await;

    let tests = one.nodes()[0].client().await;
    let shutdown = Failure::write_concern(91);
    // Used up by the time that the next one takes its place.
    let _done = FailPoint::on(&tests, &["update"], Mode::Times(1), shutdown).await;
    one.proxy(0).set(Traffic::HoldReplies);
    tab.release();
    let cookie = browser.cookie("session").expect("a cookie");
    eventually("the write", async || {
        let all = stored(&tests, &db).await.into_iter();
        let mut own = all.filter(|one| one.get_str("_id") == Ok(id_of(&cookie)));
        let own = own.next().map(|own| opened(own, &cookie));
        let value = own.as_ref().and_then(|own| own.get_document("value").ok());
        value.is_some_and(|value| value.get_i64("n") == Ok(2))
    })
    .await;
    let refused = Failure::code(10107).labels(&["RetryableWriteError", "NoWritesPerformed"]);
    let point = FailPoint::on(&tests, &["update"], Mode::Always, refused).await;
    one.proxy(0).set(Traffic::Pass);

    let response = tab.response().await;
    point.clear().await;
    let results = response.results();
    let said = results.get(results.len() - 1);
    let is_unknown = matches!(said, Err(error) if error.starts_with("Unknown"));
    assert!(is_unknown, "{said:?}");
    // What may have been done is not done again with the response.
    assert_eq!(response.status(), 200);
    assert_eq!(view(&arena, &browser).await.int("n"), 2);
}
