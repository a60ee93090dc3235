//! Ends: a session that was logged out or revoked never comes back, whatever was in progress.

use rocket::serde::json::json;
use rocket_mongo_session::Sessions;

use super::{Round, race};
use crate::apps::arena::{ArenaResponse, Op, set};

/// What a tab may be in the middle of.
fn busy(kind: i64) -> Vec<Op> {
    match kind {
        0 => vec![set("late", 1)],
        1 => vec![Op::Increment("n".into(), 1), Op::Save, set("later", 2)],
        2 => vec![Op::Touch],
        3 => vec![Op::Renew, set("late", 1)],
        4 => vec![Op::Add("n".into(), 1)],
        5 => vec![Op::Flash(json!("late")), Op::Pop],
        6 => vec![Op::Clear, Op::SetTimeout(86_400_000)],
        7 => vec![Op::Elevate],
        8 => vec![Op::Logout, set("late", 1)],
        9 => vec![Op::LogoutKeeping(vec!["planted".into()])],
        10 => vec![
            Op::SkipTouch,
            Op::CountDown("planted".into()),
            Op::ResetTimes,
        ],
        _ => vec![Op::LoginKeeping("another".into(), vec!["planted".into()])],
    }
}

/// What several tabs of one session are in the middle of.
fn kinds(round: &mut Round) -> Vec<i64> {
    (0..5).map(|_| round.some(0, 11)).collect()
}

/// No cookie of these answers lets this user in.
async fn assert_over(round: &Round, responses: &[ArenaResponse], user: &str) {
    for response in responses.iter().filter(|response| response.sends_cookie()) {
        let own = round.arena.browser();
        response.arrive(&own);
        let view = round.look(&own).await;
        assert_ne!(view.user.as_deref(), Some(user), "{view:?}");
    }
}

race! {
    a_logged_out_session_never_comes_back(round) {
        let browser = round.member("alice").await;
        let id = round.look(&browser).await.id.expect("a stored session");
        let thief = browser.twin();
        let logout = match round.flip() {
            true => Op::Logout,
            false => Op::LogoutKeeping(vec!["planted".into()]),
        };
        let mut tabs = vec![round.arena.poise(&browser, &[Op::View], &[logout]).await];
        for kind in kinds(&mut round) {
            tabs.push(match round.some(0, 3) {
                0 => round.arena.poise_outside(&browser, &busy(kind)),
                _ => round.arena.poise(&browser, &[Op::View], &busy(kind)).await,
            });
        }
        let responses = round.let_go(tabs).await;
        assert_eq!(responses[0].status(), 200);
        round.assert_dead(&thief, "the logged-out session").await;
        let revoked = round.arena.sessions().revoke(&id).await;
        assert!(!revoked.expect("a result"), "its document is still there");
        // What a tab was given instead is another session: the same login is over, be it renewed
        // or elevated.
        assert_over(&round, &responses, "alice").await;
    }

    a_logout_ends_only_its_own_session(round) {
        let browser = round.member("alice").await;
        let other = round.member("alice").await;
        let tabs = vec![
            round.arena.poise(&browser, &[], &[Op::Logout]).await,
            round.arena.poise(&browser, &[], &[Op::Logout]).await,
            round.arena.poise(&other, &[], &[Op::Increment("n".into(), 1)]).await,
        ];
        let responses = round.let_go(tabs).await;
        round.deliver(&responses[..2], &browser);
        assert_eq!(browser.cookie("session"), None);
        let view = round.look(&other).await;
        assert_eq!((view.user.as_deref(), view.int("n")), (Some("alice"), 1));
    }

    a_revoked_user_is_out_and_so_are_logins_in_progress(round) {
        let user = format!("user{}", round.seed);
        let (one, two) = (round.member(&user).await, round.member(&user).await);
        let bystander = round.member(&format!("other{}", round.seed)).await;
        let visitor = round.visitor().await;
        let sessions: Sessions = round.arena.sessions().clone();
        let name = user.clone();
        let mut tabs = vec![round.arena.poise_call(async move {
            sessions.of(name.as_str()).revoke_all().await.expect("a revocation");
        })];
        for browser in [&one, &two] {
            let kind = round.some(0, 9);
            tabs.push(round.arena.poise(browser, &[Op::View], &busy(kind)).await);
        }
        // The password was checked before it was changed.
        let login = match round.flip() {
            true => Op::Login(user.clone()),
            false => Op::LoginKeeping(user.clone(), vec!["planted".into()]),
        };
        tabs.push(round.arena.poise(&visitor, &[Op::View], &[login]).await);
        tabs.push(round.arena.poise(&bystander, &[], &[set("n", 1)]).await);
        let tokens = [one.twin(), two.twin()];
        let responses = round.let_go(tabs).await;
        for token in &tokens {
            round.assert_dead(token, "a revoked session").await;
        }
        for response in &responses[1..4] {
            assert_eq!(response.status(), 200, "{}", response.0.text());
            let own = round.arena.browser();
            response.arrive(&own);
            let view = round.look(&own).await;
            assert_ne!(view.user.as_ref(), Some(&user), "{:?}", response.0);
        }
        let left = round.arena.sessions().of(user.as_str()).count().await;
        assert_eq!(left.expect("a count"), 0);
        assert_eq!(round.look(&bystander).await.int("n"), 1);
        // A login that begins afterwards is let in.
        let again = round.member(&user).await;
        assert_eq!(round.look(&again).await.user, Some(user));
    }

    a_session_revoked_by_its_id_stays_away(round) {
        let browser = round.member("alice").await;
        let id = round.look(&browser).await.id.expect("a stored session");
        let sessions: Sessions = round.arena.sessions().clone();
        let revoked = id.clone();
        let mut tabs = vec![round.arena.poise_call(async move {
            sessions.of("alice").revoke(&revoked).await.expect("a revocation");
        })];
        for kind in kinds(&mut round) {
            tabs.push(round.arena.poise(&browser, &[Op::View], &busy(kind)).await);
        }
        let thief = browser.twin();
        let responses = round.let_go(tabs).await;
        round.assert_dead(&thief, "the revoked session").await;
        let again = round.arena.sessions().revoke(&id).await.expect("a result");
        assert!(!again, "its document is still there");
        // Under another id the same login is over as well.
        assert_over(&round, &responses[1..], "alice").await;
    }

    other_devices_are_out_and_this_one_is_not(round) {
        let user = format!("many{}", round.seed);
        let here = round.member(&user).await;
        let mut devices = Vec::new();
        for _ in 0..3 {
            devices.push(round.member(&user).await);
        }
        // By itself, or with the new session that a change of the password ends in.
        let revoke = match round.flip() {
            true => vec![Op::RevokeOthers],
            false => vec![Op::Elevate, Op::RevokeOthers],
        };
        let mut tabs = vec![round.arena.poise(&here, &[Op::View], &revoke).await];
        for device in &devices {
            let kind = round.some(0, 9);
            tabs.push(round.arena.poise(device, &[Op::View], &busy(kind)).await);
        }
        // One more device, whose password was checked before it was changed.
        let visitor = round.visitor().await;
        let login = [Op::Login(user.clone())];
        tabs.push(round.arena.poise(&visitor, &[Op::View], &login).await);
        tabs.push(round.arena.poise(&here, &[], &[Op::Increment("n".into(), 1), Op::Save]).await);
        let thieves: Vec<_> = devices.iter().map(|device| device.twin()).collect();
        let responses = round.let_go(tabs).await;
        responses[0].results().value(1 + revoke.len());
        for thief in &thieves {
            round.assert_dead(thief, "another device").await;
        }
        assert_over(&round, &responses[1..5], &user).await;
        responses[0].arrive(&here);
        let counted = i64::from(responses[5].results().is_saved());
        let view = round.look(&here).await;
        assert_eq!((view.int("n"), view.user.as_ref()), (counted, Some(&user)));
        let left = round.arena.sessions().of(user.as_str()).count().await;
        assert_eq!(left.expect("a count"), 1, "this one");
    }
}

/// Mass logout concerns everybody, so its rounds come one after the other.
pub mod mass_logout_ends_everything_that_began_before_it {
    use super::*;
    use crate::robustness::races::{ROUNDS, everywhere, run_apart};

    pub fn round(round: Round) -> futures::future::BoxFuture<'static, ()> {
        Box::pin(everybody_out(round))
    }

    async fn everybody_out(mut round: Round) {
        let member = round.member("alice").await;
        let visitor = round.visitor().await;
        let stranger = round.arena.browser();
        let sessions: Sessions = round.arena.sessions().clone();
        let mut tabs = vec![round.arena.poise_call(async move {
            sessions.revoke_all().await.expect("a revocation");
        })];
        let kind = round.some(0, 9);
        let login = || Op::Login("alice".into());
        tabs.push(round.arena.poise(&member, &[Op::View], &busy(kind)).await);
        tabs.push(round.arena.poise(&visitor, &[Op::View], &[login()]).await);
        tabs.push(round.arena.poise(&stranger, &[Op::View], &[login()]).await);
        let thieves = [member.twin(), visitor.twin()];
        let responses = round.let_go(tabs).await;
        for thief in &thieves {
            round
                .assert_dead(thief, "a session from before the mass logout")
                .await;
        }
        for response in &responses[1..] {
            let own = round.arena.browser();
            response.arrive(&own);
            assert_eq!(round.look(&own).await.user, None, "{:?}", response.0);
        }
        let again = round.member("alice").await;
        assert_eq!(round.look(&again).await.user.as_deref(), Some("alice"));
    }

    // On a server each round waits for two seconds, until every process has heard of it.
    everywhere!(|place| run_apart(place, round, ROUNDS / 10, |setting| setting));
}
