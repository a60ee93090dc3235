//! Values: what parallel requests do to one session is all there afterwards.

use std::collections::BTreeSet;

use rocket::serde::json::json;

use super::race;
use crate::apps::arena::{Op, set};

race! {
    different_keys_are_all_kept(round) {
        let browser = round.visitor().await;
        let mut tabs = Vec::new();
        for tab in 0..5 {
            let key = format!("key{tab}");
            tabs.push(round.arena.poise(&browser, &[Op::View], &[set(&key, tab)]).await);
        }
        for response in round.let_go(tabs).await {
            assert_eq!(response.status(), 200);
        }
        let view = round.look(&browser).await;
        assert_eq!(view.values.len(), 6, "{view:?}");
        for tab in 0..5 {
            assert_eq!(view.int(&format!("key{tab}")), tab);
        }
    }

    the_same_key_has_one_of_the_values_and_nothing_else_is_touched(round) {
        let browser = round.visitor().await;
        let mut tabs = Vec::new();
        for tab in 0..4 {
            let program = [set("key", tab), set(&format!("own{tab}"), tab)];
            tabs.push(round.arena.poise(&browser, &[], &program).await);
        }
        round.let_go(tabs).await;
        let view = round.look(&browser).await;
        assert!((0..4).contains(&view.int("key")), "{view:?}");
        assert_eq!(view.int("planted"), round.seed as i64);
        assert_eq!(view.values.len(), 6, "{view:?}");
        // What comes after all of them wins over all of them.
        round.arena.run(&browser, &[set("key", 9)]).await;
        assert_eq!(round.look(&browser).await.int("key"), 9);
    }

    a_removed_key_stays_removed_and_others_stay_set(round) {
        let browser = round.visitor().await;
        round.arena.run(&browser, &[set("old", 1), set("kept", 1)]).await;
        let remove = Op::Remove("old".into());
        let tabs = vec![
            round.arena.poise(&browser, &[], &[remove]).await,
            round.arena.poise(&browser, &[], &[set("kept", 2)]).await,
            round.arena.poise(&browser, &[], &[Op::Touch]).await,
        ];
        round.let_go(tabs).await;
        let view = round.look(&browser).await;
        assert!(!view.values.contains_key("old"), "{view:?}");
        assert_eq!(view.int("kept"), 2);
    }

    every_increment_counts(round) {
        let browser = round.visitor().await;
        let (mut tabs, mut sum) = (Vec::new(), 0);
        for _ in 0..6 {
            let by = round.some(-2, 5);
            sum += by;
            let add = [Op::Increment("n".into(), by)];
            tabs.push(match round.flip() {
                true => round.arena.poise(&browser, &[], &add).await,
                false => round.arena.poise_outside(&browser, &add),
            });
        }
        for response in round.let_go(tabs).await {
            assert_eq!(response.status(), 200);
        }
        assert_eq!(round.look(&browser).await.int("n"), sum);
    }

    every_push_is_there_once(round) {
        let browser = round.visitor().await;
        let mut tabs = Vec::new();
        for tab in 0..6 {
            let push = [Op::Push("list".into(), json!(tab)), Op::Push("list".into(), json!(tab + 100))];
            tabs.push(round.arena.poise(&browser, &[], &push).await);
        }
        for response in round.let_go(tabs).await {
            assert_eq!(response.status(), 200);
        }
        let list = round.look(&browser).await.list("list");
        let items: Vec<i64> = list.iter().filter_map(|item| item.as_i64()).collect();
        assert_eq!(items.len(), 12, "{items:?}");
        for tab in 0..6 {
            // Those of one request stay side by side and in order.
            let at = items.iter().position(|item| *item == tab);
            let pair = at.and_then(|at| items.get(at..at + 2));
            assert_eq!(pair, Some([tab, tab + 100].as_slice()), "{items:?}");
        }
    }

    every_modify_wins_in_the_end(round) {
        let browser = round.visitor().await;
        let mut tabs = Vec::new();
        for tab in 0..5 {
            let program = [Op::Add("n".into(), 1), Op::Append("list".into(), json!(tab))];
            tabs.push(round.arena.poise(&browser, &[Op::View], &program).await);
        }
        let mut sums = BTreeSet::new();
        for response in round.let_go(tabs).await {
            let results = response.results();
            // Past the view and the gate. What each is told is what it made.
            sums.insert(results.value(2).as_i64());
            results.value(3);
        }
        assert_eq!(sums, (1..=5).map(Some).collect());
        let view = round.look(&browser).await;
        let list: BTreeSet<_> = view.list("list").iter().map(|item| item.as_i64()).collect();
        assert_eq!((view.int("n"), view.list("list").len()), (5, 5));
        assert_eq!(list, (0..5).map(Some).collect());
    }

    modify_or_remove_loses_no_change_and_leaves_no_zero(round) {
        let browser = round.visitor().await;
        let start = round.some(2, 9);
        round.arena.run(&browser, &[set("n", start)]).await;
        let mut tabs = Vec::new();
        for _ in 0..5 {
            let less = [Op::CountDown("n".into())];
            tabs.push(round.arena.poise(&browser, &[Op::View], &less).await);
        }
        let mut left = Vec::new();
        for response in round.let_go(tabs).await {
            left.push(response.results().value(2).as_i64().unwrap_or(0));
        }
        left.sort_unstable();
        let mut expected: Vec<i64> = (1..=5).map(|by| (start - by).max(0)).collect();
        expected.sort_unstable();
        assert_eq!(left, expected, "each saw what the one before it left");
        let view = round.look(&browser).await;
        let expected = (start > 5).then(|| json!(start - 5));
        assert_eq!(view.values.get("n"), expected.as_ref());
    }

    increment_and_modify_of_one_number_both_count(round) {
        let browser = round.visitor().await;
        let mut tabs = Vec::new();
        for tab in 0..6 {
            let add = match tab % 2 {
                0 => Op::Add("n".into(), 10),
                _ => Op::Increment("n".into(), 1),
            };
            tabs.push(round.arena.poise(&browser, &[Op::View], &[add]).await);
        }
        for response in round.let_go(tabs).await {
            response.results().value(2);
        }
        assert_eq!(round.look(&browser).await.int("n"), 33);
    }

    a_message_is_delivered_once_and_never_lost(round) {
        let browser = round.visitor().await;
        round.arena.run(&browser, &[Op::Flash(json!(1000))]).await;
        let mut tabs = Vec::new();
        for tab in 0..3 {
            let push = [Op::Flash(json!(tab)), Op::Flash(json!(tab + 100))];
            tabs.push(round.arena.poise(&browser, &[], &push).await);
            tabs.push(match round.flip() {
                true => round.arena.poise(&browser, &[], &[Op::Pop]).await,
                false => round.arena.poise_outside(&browser, &[Op::Pop]),
            });
        }
        let responses = round.let_go(tabs).await;
        let mut delivered = Vec::new();
        for response in responses.iter().skip(1).step_by(2) {
            let results = response.results();
            let popped = results.value(results.len() - 1).as_array().cloned();
            delivered.extend(popped.unwrap_or_default());
        }
        let rest = round.arena.run(&browser, &[Op::Pop]).await.results();
        delivered.extend(rest.value(0).as_array().cloned().unwrap_or_default());
        let mut delivered: Vec<_> = delivered.iter().filter_map(|item| item.as_i64()).collect();
        delivered.sort_unstable();
        assert_eq!(delivered, [0, 1, 2, 100, 101, 102, 1000]);
    }

    first_requests_each_have_a_session_of_their_own(round) {
        let browser = round.arena.browser();
        if round.flip() {
            // With a cookie that names nothing.
            let stranger = round.visitor().await;
            round.arena.run(&stranger, &[Op::View]).await;
            let id = round.look(&stranger).await.id.expect("a stored session");
            assert!(round.arena.sessions().revoke(&id).await.expect("a revocation"));
            let cookie = stranger.cookie("session").expect("a cookie");
            browser.set_cookie(&format!("session={cookie}; Path=/"));
        }
        let mut tabs = Vec::new();
        for tab in 0..4 {
            let program = [set("tab", tab)];
            tabs.push(round.arena.poise(&browser, &[], &program).await);
        }
        let responses = round.let_go(tabs).await;
        for (tab, response) in responses.iter().enumerate() {
            assert!(response.sends_cookie());
            let own = round.arena.browser();
            response.arrive(&own);
            let view = round.look(&own).await;
            assert_eq!((view.int("tab"), view.values.len()), (tab as i64, 1));
        }
        round.deliver(&responses, &browser);
        let view = round.look(&browser).await;
        assert!(!view.is_new && view.values.len() == 1, "{view:?}");
    }
}
