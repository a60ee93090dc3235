//! The session's own times, and what counts as use of it.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

impl Bench {
    /// How many times a session was written, by any call.
    fn writes(&self) -> u64 {
        self.sessions.stats().commits
    }
}

async fn accessed(bench: &Bench) -> Option<f64> {
    bench.settled().await;
    let stored = bench.stored().await;
    stored[0].get("accessed").and_then(|value| value.as_f64())
}

#[rocket::async_test]
async fn getters_show_own_times_and_otherwise_the_configured_ones() {
    let bench = Bench::with(|config| config.lifetime = Some(DAY));
    let session = bench.session();
    let configured = (Some(20 * MINUTE), Some(DAY), None);
    let times = |s: &Session| (s.timeout(), s.lifetime(), s.max_age());
    assert_eq!(times(&session), configured);
    session.set_timeout(None).unwrap();
    session.set_lifetime(Some(2 * DAY)).unwrap();
    session.set_max_age(Some(MINUTE)).unwrap();
    let own = (None, Some(2 * DAY), Some(MINUTE));
    assert_eq!(times(&session), own);
    let cookie = given(&session).await.expect("a cookie");
    let session = bench.comes(&cookie).await;
    assert_eq!(times(&session), own);
    session.login(1).unwrap();
    assert_eq!(times(&session), configured, "a login starts anew");
}

#[rocket::async_test]
async fn equal_times_are_no_change() {
    let bench = Bench::new();
    let session = bench.session();
    session.login(1).unwrap();
    session.remember_for(DAY + Duration::from_nanos(1)).unwrap();
    let cookie = given(&session).await.expect("a cookie");
    let writes = bench.writes();
    for _ in 0..2 {
        let session = bench.comes(&cookie).await;
        session.set_timeout(Some(DAY)).unwrap();
        session.set_max_age(Some(MINUTE)).unwrap();
        session.remember_for(DAY).unwrap(); // what differed is taken back
        assert!(given(&session).await.is_none());
    }
    assert_eq!(bench.writes(), writes);
    // Equal to what is configured, but the session has none of its own.
    let session = bench.session();
    session.set_timeout(Some(20 * MINUTE)).unwrap();
    assert!(given(&session).await.is_some());
}

#[rocket::async_test]
async fn time_set_during_a_save_is_stored_after_it() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.set_timeout(Some(MINUTE)).unwrap();
    let held = bench.store.hold("update");
    let sets = async {
        held.has_come().await;
        session.set_timeout(Some(MINUTE)).unwrap(); // as the save has it
        session.set_lifetime(Some(DAY)).unwrap();
        held.release();
    };
    let (saved, ()) = rocket::tokio::join!(session.save(), sets);
    saved.unwrap();
    session.finish().await.unwrap();
    let session = bench.comes(&cookie).await;
    assert_eq!(
        (session.timeout(), session.lifetime()),
        (Some(MINUTE), Some(DAY))
    );
}

#[rocket::async_test]
async fn reset_times_returns_to_the_configured_times() {
    let bench = Bench::new();
    let session = bench.session();
    session.remember_for(30 * DAY).unwrap();
    let cookie = given(&session).await.expect("a cookie");
    let session = bench.comes(&cookie).await;
    session.reset_times().unwrap();
    let expected = session.expires();
    let sent = session.finish().await.unwrap();
    assert!(
        matches!(sent, CookieChange::Send(_, None)),
        "until it closes"
    );
    let stored = bench.stored().await;
    for name in ["timeout", "lifetime", "max_age"] {
        assert!(stored[0].get(name).is_none(), "{name}");
    }
    let session = bench.comes(&cookie).await;
    assert_eq!(session.expires(), expected);
    assert_eq!(
        (session.timeout(), session.lifetime(), session.max_age()),
        (Some(20 * MINUTE), None, None)
    );
    bench.advance(1201);
    assert!(bench.stored().await.iter().all(|document| {
        let record = bench.sessions.core.read(document.clone()).unwrap();
        record
            .meta
            .is_expired(&bench.sessions.core.config, bench.sessions.core.now())
    }));
}

#[rocket::async_test]
async fn reset_times_on_a_session_without_its_own_is_nothing() {
    let bench = Bench::new();
    let session = bench.session();
    session.reset_times().unwrap();
    session.set_timeout(None).unwrap();
    session.reset_times().unwrap();
    assert!(given(&session).await.is_none());
    assert!(bench.stored().await.is_empty());
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let writes = bench.writes();
    let session = bench.comes(&cookie).await;
    session.reset_times().unwrap();
    assert!(given(&session).await.is_none());
    assert_eq!(bench.writes(), writes);
}

#[rocket::async_test]
async fn skip_touch_records_no_use_whatever_the_request_writes() {
    let bench = Bench::with(|config| config.max_age = Some(DAY));
    let cookie = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.flash("hello").unwrap();
    session.finish().await.unwrap();
    let before = accessed(&bench).await;
    bench.advance(600);
    let expires = bench.comes(&cookie).await.expires();

    let poll = bench.comes(&cookie).await;
    poll.skip_touch();
    assert!(given(&poll).await.is_none());
    assert_eq!(accessed(&bench).await, before);

    let poll = bench.comes(&cookie).await;
    poll.skip_touch();
    poll.increment("n", 1).unwrap();
    assert_eq!(poll.pop_flash::<String>().await.unwrap(), ["hello"]);
    let add = |n: Option<i64>| n.unwrap_or(0) + 1;
    assert_eq!(poll.modify("n", add).await.unwrap(), 3);
    assert!(given(&poll).await.is_none());
    assert_eq!(accessed(&bench).await, before);
    let session = bench.comes(&cookie).await;
    assert_eq!(
        (number(&session, "n"), session.expires()),
        (Some(3), expires)
    );

    // What sets times or secrets, or asks for it, is use.
    for act in [
        (|s: &Session| s.touch()) as fn(&Session),
        |s| s.renew().unwrap(),
        |s| s.set_lifetime(Some(30 * DAY)).unwrap(),
    ] {
        let cookie = bench.begun(Some(1), &[("n", 1)]).await;
        bench.advance(600);
        let session = bench.comes(&cookie).await;
        session.skip_touch();
        act(&session);
        let cookie = given(&session).await.unwrap_or(cookie);
        bench.settled().await;
        let accessed = bench.comes(&cookie).await.accessed();
        assert_eq!(accessed, bench.sessions.core.now().date());
    }
}

#[rocket::async_test]
async fn request_without_skip_touch_records_use() {
    let bench = Bench::new();
    let cookie = bench.begun(Some(1), &[]).await;
    let before = accessed(&bench).await;
    bench.advance(600);
    given(&bench.comes(&cookie).await).await;
    assert_ne!(accessed(&bench).await, before);
}

#[rocket::async_test]
async fn renew_touch_and_elevate_leave_nothing_on_a_session_that_is_not_stored() {
    let bench = Bench::new();
    let session = bench.session();
    session.renew().unwrap();
    session.elevate().unwrap();
    session.touch();
    assert!(!session.lock().state.is_pending());
    session.save().await.unwrap();
    session.set("n", &1).unwrap();
    session.save().await.unwrap();
    let commits = bench.writes();
    let first = given(&session).await.expect("a cookie");
    assert_eq!(bench.writes(), commits, "the save left nothing to write");
    let stored = bench.stored().await;
    assert!(stored[0].get("renewed").is_none());
    assert!(!bench.comes(&first).await.is_new());
}
