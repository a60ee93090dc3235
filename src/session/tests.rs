//! A session and its store, without Rocket.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use bson::RawBson;

use super::*;
use crate::admin::Sessions;
use crate::clock::Clock;
use crate::commit::tombstone;
use crate::config::{Config, Encoding};
use crate::document::Document;
use crate::state::{Creation, LoadOutcome, Stored};
use crate::stats::Counters;
use crate::store::bounded::Bounded;
use crate::store::faulty::{Fault, FaultyStore};
use crate::store::{Filter, Store};
use crate::tasks::Tasks;

mod saving;

/// An application's sessions in a store that can be told to fail.
struct Bench {
    store: FaultyStore,
    sessions: Sessions,
}

impl Bench {
    fn new() -> Self {
        Bench::with(|_| {})
    }

    fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let store = FaultyStore::default();
        let mut config = Config::default_for(&rocket::Config::DEBUG_PROFILE);
        configure(&mut config);
        let stats = Arc::new(Counters::default());
        let core = Arc::new(Core {
            store: Bounded::new(Arc::new(store.clone()), config.deadline, stats.clone()),
            config,
            clock: Clock::new(),
            stats,
            tasks: Tasks::default(),
            last_login: AtomicI64::new(i64::MIN),
        });
        let sessions = Sessions { core };
        Bench { store, sessions }
    }

    /// The session of a request that comes without a cookie.
    fn session(&self) -> Session {
        self.arrived(LoadOutcome::New(NewReason::NoCookie))
    }

    fn arrived(&self, outcome: LoadOutcome) -> Session {
        let core = Arc::clone(&self.sessions.core);
        let started = core.clock.started();
        let loaded = Loaded {
            other_sessions: Vec::new(),
            brought_cookie: !matches!(outcome, LoadOutcome::New(NewReason::NoCookie)),
            creation: Creation::Allowed,
            outcome,
        };
        Session::new(core, loaded, Default::default(), started)
    }

    /// The session of a request that comes with this cookie, as it is stored.
    async fn comes(&self, token: &Token) -> Session {
        let document = self.store.load(token.id.as_str()).await.unwrap();
        let record = document.and_then(|document| self.sessions.core.read(document));
        let digest = token.digest("session");
        let record = record.filter(|record| record.token.matches(&digest));
        self.arrived(match record {
            Some(record) => LoadOutcome::Live(Box::new(Stored {
                record,
                token: token.clone(),
            })),
            None => {
                let core = &self.sessions.core;
                let started = core.clock.started();
                let found = tombstone::look_up(core, &token.id, Some(&digest), &started);
                match found.await.unwrap() {
                    Some(replaced) => LoadOutcome::Replaced(Box::new(replaced)),
                    None => LoadOutcome::Dead(token.id.clone(), NewReason::NotFound),
                }
            }
        })
    }

    /// The cookie of a new session with these numbers; of `user`, if that is one.
    async fn begun(&self, user: Option<i32>, numbers: &[(&str, i64)]) -> Token {
        let session = self.session();
        if let Some(user) = user {
            session.login(user).unwrap();
        }
        for (key, number) in numbers {
            session.set(*key, number).unwrap();
        }
        given(&session).await.expect("a cookie")
    }

    /// Waits for what goes on in the background.
    async fn settled(&self) {
        const LIMIT: Duration = Duration::from_secs(60);
        let core = &self.sessions.core;
        core.tasks.wait(LIMIT).await;
        core.store.flush(LIMIT).await;
    }

    async fn stored(&self) -> Vec<Document> {
        self.store.find(Filter::sessions(), 0, 10).await.unwrap()
    }
}

/// The cookie that the answer gives, if it does.
async fn given(session: &Session) -> Option<Token> {
    match session.finish().await.unwrap() {
        CookieChange::Send(token, _) => Some(token),
        CookieChange::None | CookieChange::Remove => None,
    }
}

fn number(session: &Session, key: &str) -> Option<i64> {
    session.get(key).unwrap()
}

#[rocket::async_test]
async fn a_modify_or_pop_takes_nothing_of_the_session_itself_along() {
    let bench = Bench::new();
    let session = bench.session();
    session.set("n", &1).unwrap();
    session.flash("hello").unwrap();
    session.save().await.unwrap();

    session.set_timeout(None).unwrap();
    session.set_max_age(Some(Duration::from_secs(60))).unwrap();
    session.renew().unwrap();
    let csrf = session.new_csrf_token();
    session
        .modify("n", |n: Option<i32>| n.unwrap_or(0) + 1)
        .await
        .unwrap();
    assert_eq!(session.pop_flash::<String>().await.unwrap(), ["hello"]);
    assert!(session.verify_csrf(&csrf), "a page was given it");
    let sent = session.finish().await.unwrap();
    assert!(matches!(sent, CookieChange::Send(_, Some(_))));

    let stored = bench.stored().await;
    let field = |name| stored[0].get(name).map(|value| value.to_raw_bson());
    assert_eq!(field("timeout"), Some(RawBson::Boolean(false)));
    assert_eq!(field("max_age"), Some(RawBson::Double(60.0)));
    assert!(field("renewed").is_some());
    assert!(session.verify_csrf(&csrf));
}

#[rocket::async_test]
async fn a_stream_reads_what_was_written_with_the_answer() {
    let bench = Bench::new();
    let session = bench.session();
    session.set("a", &1).unwrap();
    session.login(7).unwrap();
    session.set("b", &2).unwrap();
    let id = session.id();
    session.finish().await.unwrap();
    assert_eq!(session.get::<i32>("b").unwrap(), Some(2));
    assert_eq!(session.user::<i32>().unwrap(), Some(7));
    assert_eq!((session.id(), session.keys()), (id, vec!["b".to_owned()]));
    assert!(matches!(session.set("b", &3), Err(Error::Sealed)));
}

#[rocket::async_test]
async fn logout_takes_back_the_cookie_that_a_save_was_to_send() {
    let bench = Bench::new();
    let session = bench.session();
    session.login(1).unwrap();
    session.save().await.unwrap();
    session.logout().unwrap();
    let sent = session.finish().await.unwrap();
    assert!(matches!(sent, CookieChange::None), "the browser has none");
    assert!(bench.stored().await.is_empty());
}

// ---- what becomes of a request's other changes when one of its calls goes wrong

#[rocket::async_test]
async fn a_modify_drops_nothing_that_was_set_before_it() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    let large = "x".repeat(600 << 10);
    session.set("a", &large).unwrap();
    let grown = session.modify("b", |_: Option<String>| large.clone()).await;
    assert!(
        matches!(grown, Err(Error::TooLarge { .. })),
        "both are too much"
    );
    session.finish().await.unwrap();
    let session = bench.comes(&cookie).await;
    assert_eq!(session.get("a").unwrap(), Some(large));
    assert!(!session.contains("b"));
}

#[rocket::async_test]
async fn a_modify_of_which_nobody_knows_counts_at_most_once() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 0)]).await;
    let session = bench.comes(&cookie).await;
    session.increment("n", 1).unwrap();
    bench.store.next("update", Fault::LosesReply);
    let open = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 1);
    assert!(matches!(open.await, Err(Error::Unknown { .. })));
    session.set("m", &1).unwrap();
    session.finish().await.unwrap();
    let session = bench.comes(&cookie).await;
    assert_eq!(
        (number(&session, "n"), number(&session, "m")),
        (Some(1), Some(1)),
        "the earlier change was saved first, and its reply was lost"
    );
}

#[rocket::async_test]
async fn modify_that_cannot_save_the_earlier_change_drops_it() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 0)]).await;
    let session = bench.comes(&cookie).await;
    session.increment("n", 1).unwrap();
    bench.store.next("update", Fault::Fails);
    let failed = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 1);
    assert!(matches!(failed.await, Err(Error::Store { .. })));
    session.finish().await.unwrap();
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(0));
}

#[rocket::async_test]
async fn a_save_that_fails_drops_what_it_carried_and_nothing_that_came_after() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("a", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.set("a", &2).unwrap();
    let held = bench.store.hold_to_fail("update");
    let later = async {
        held.has_come().await;
        session.set("b", &3).unwrap();
        held.release();
    };
    let (saved, ()) = rocket::tokio::join!(session.save(), later);
    assert!(matches!(saved, Err(Error::Store { .. })));
    session.finish().await.unwrap();
    let session = bench.comes(&cookie).await;
    assert_eq!(
        (number(&session, "a"), number(&session, "b")),
        (Some(1), Some(3))
    );
}

#[rocket::async_test]
async fn a_value_that_went_and_came_back_is_no_end_of_the_session() {
    // The server cannot append to an opaque list, so it goes by compare-and-set.
    let bench = Bench::with(|config| config.encoding = Encoding::Binary);
    let session = bench.session();
    session.set("list", &[1_i64]).unwrap();
    let cookie = given(&session).await.expect("a cookie");
    let session = bench.comes(&cookie).await;
    session.push("list", &2_i64).unwrap();
    bench.store.next("update", Fault::Misses);
    session.finish().await.unwrap();
    let list: Option<Vec<i64>> = bench.comes(&cookie).await.get("list").unwrap();
    assert_eq!(list, Some(vec![1, 2]));
}

// ---- which cookie is sent, and which session it is

#[rocket::async_test]
async fn a_late_answer_does_not_overwrite_a_login_that_followed_a_logout() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[]).await;
    let session = bench.comes(&old).await;
    session.logout().unwrap();
    session.login(1).unwrap();
    assert!(given(&session).await.is_some());
    // Another tab, with the cookie of before.
    let late = bench.comes(&old).await;
    late.set("n", &1).unwrap();
    assert!(given(&late).await.is_none());
}

#[rocket::async_test]
async fn a_logout_stands_when_the_login_after_it_fails() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[]).await;
    let session = bench.comes(&old).await;
    session.logout().unwrap();
    session.login(1).unwrap();
    bench.store.next("insert", Fault::Fails);
    assert!(session.finish().await.is_err());
    assert!(bench.stored().await.is_empty());
}

#[rocket::async_test]
async fn elevate_that_failed_leaves_the_session_and_its_cookie() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[]).await;
    let first = bench.comes(&old).await;
    first.elevate().unwrap();
    bench.store.next("update", Fault::Fails);
    assert!(first.finish().await.is_err());
    let second = bench.comes(&old).await;
    second.elevate().unwrap();
    let elevated = given(&second).await.expect("a cookie");
    assert_eq!(elevated.id, old.id);
    assert!(bench.comes(&old).await.is_new());
    assert!(bench.sessions.revoke(old.id.as_str()).await.unwrap());
    assert!(bench.comes(&elevated).await.is_new());
    assert!(bench.stored().await.is_empty());
}

// ---- a login that fails

/// A session whose login could not be saved.
async fn failed_login(fault: Fault) -> (Bench, Session) {
    let bench = Bench::new();
    let session = bench.session();
    session.login(1).unwrap();
    bench.store.next("insert", fault);
    let saved = session.save().await;
    assert!(saved.is_err(), "{saved:?}");
    (bench, session)
}

#[rocket::async_test]
async fn failed_save_of_a_login_signs_nobody_in() {
    for fault in [Fault::Fails, Fault::LosesReply] {
        let (bench, session) = failed_login(fault).await;
        assert_eq!(session.user::<i32>().unwrap(), None);
        let sent = session.finish().await.unwrap();
        assert!(matches!(sent, CookieChange::None));
        // What an insert with a lost reply has stored is rolled back in the background.
        bench
            .sessions
            .core
            .tasks
            .wait(Duration::from_secs(60))
            .await;
        while !bench.stored().await.is_empty() {
            rocket::tokio::task::yield_now().await;
        }
    }
}

#[rocket::async_test]
async fn change_after_a_failed_save_is_stored_under_another_id() {
    let (bench, session) = failed_login(Fault::LosesReply).await;
    let first: Vec<_> = bench.store.inserted();
    session.set("n", &1).unwrap();
    let cookie = given(&session).await.expect("a cookie");
    assert!(!first.contains(&cookie.id.to_string()));
    assert_eq!(bench.comes(&cookie).await.user::<i32>().unwrap(), None);
}

// ---- a save that is dropped

#[rocket::async_test]
async fn dropped_save_goes_on_and_the_response_waits_for_it() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.increment("n", 1).unwrap();
    let held = bench.store.hold("update");
    let save = async {
        rocket::tokio::select! {
            biased;
            () = held.has_come() => {} // the save is dropped
            saved = session.save() => panic!("{saved:?}"),
        }
    };
    save.await;
    held.release();
    session.finish().await.unwrap();
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(2));
}

#[rocket::async_test]
async fn dropped_save_that_fails_is_an_error_of_the_response() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.increment("n", 1).unwrap();
    let held = bench.store.hold_to_fail("update");
    rocket::tokio::select! {
        biased;
        () = held.has_come() => {}
        saved = session.save() => panic!("{saved:?}"),
    }
    held.release();
    assert!(session.finish().await.is_err());
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(1));
}

#[rocket::async_test]
async fn save_that_succeeds_does_not_hide_a_dropped_one_that_failed() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.increment("n", 1).unwrap();
    let held = bench.store.hold_to_fail("update");
    rocket::tokio::select! {
        biased;
        () = held.has_come() => {}
        saved = session.save() => panic!("{saved:?}"),
    }
    held.release();
    session.set("m", &2).unwrap();
    session.save().await.unwrap();
    assert!(session.finish().await.is_err());
    let session = bench.comes(&cookie).await;
    assert_eq!(
        (number(&session, "n"), number(&session, "m")),
        (Some(1), Some(2))
    );
}

// ---- loops

#[rocket::async_test]
async fn nan_is_taken_and_modified() {
    let bench = Bench::new();
    let session = bench.session();
    session.set("a", &f64::NAN).unwrap();
    session.set("b", &f64::NAN).unwrap();
    let cookie = given(&session).await.expect("a cookie");
    let session = bench.comes(&cookie).await;
    assert!(session.take::<f64>("a").unwrap().is_some_and(f64::is_nan));
    let kept = session.modify("b", |b: Option<f64>| b.unwrap_or(0.0));
    assert!(kept.await.unwrap().is_nan());
    let fresh = bench.session();
    fresh.set("c", &f64::NAN).unwrap();
    let kept = fresh.modify("c", |c: Option<f64>| c.unwrap_or(0.0));
    assert!(kept.await.unwrap().is_nan());
}

#[rocket::async_test]
async fn get_or_insert_over_a_mismatch_is_an_error() {
    let bench = Bench::new();
    let cookie = bench.begun(None, &[("n", 1), ("m", 1)]).await;
    let session = bench.comes(&cookie).await;
    session.increment("n", 1).unwrap();
    let other = bench.comes(&cookie).await;
    other.set("n", "text").unwrap();
    other.set("m", &2).unwrap();
    other.finish().await.unwrap();
    // The compare-and-set of `m` loses once, and loads what the other request has stored.
    session
        .modify("m", |m: Option<i64>| m.unwrap_or(0) + 1)
        .await
        .unwrap();
    let got = session.get_or_insert("n", 5_i64);
    assert!(matches!(got, Err(Error::Mismatch { .. })), "{got:?}");
    assert!(session.contains("n"));
    assert!(session.get::<i64>("n").is_err());
}

#[rocket::async_test]
async fn no_cookie_of_a_save_is_sent_for_a_session_that_ended_since() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[]).await;
    let session = bench.comes(&old).await;
    session.renew().unwrap();
    session.save().await.unwrap();
    // Another request carries the session on under another name.
    bench
        .store
        .delete(Filter::id(old.id.as_str()))
        .await
        .unwrap();
    session.set("n", &1).unwrap();
    assert!(
        given(&session).await.is_none(),
        "it would overwrite the new one"
    );
}

#[rocket::async_test]
async fn an_elevation_during_a_save_carries_the_session_on() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    session.increment("n", 1).unwrap();
    let held = bench.store.hold("update");
    let elevates = async {
        held.has_come().await;
        session.elevate().unwrap();
        held.release();
    };
    let (saved, ()) = rocket::tokio::join!(session.save(), elevates);
    saved.unwrap();
    let elevated = given(&session).await.expect("a cookie");
    let session = bench.comes(&elevated).await;
    assert_eq!(session.user::<i32>().unwrap(), Some(1));
    assert_eq!(
        number(&session, "n"),
        Some(2),
        "and counts what was saved once"
    );
    assert_eq!(bench.stored().await.len(), 1);
}

#[rocket::async_test]
async fn a_login_during_a_modify_of_an_ended_session_stands() {
    let bench = Bench::new();
    let old = bench.begun(None, &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    bench
        .store
        .delete(Filter::id(old.id.as_str()))
        .await
        .unwrap();
    let held = bench.store.hold("update");
    let login = async {
        held.has_come().await;
        session.login(2).unwrap();
        held.release();
    };
    let modify = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 1);
    let (modified, ()) = rocket::tokio::join!(modify, login);
    assert!(matches!(modified, Err(Error::Gone)));
    let cookie = given(&session).await.expect("a cookie");
    assert_eq!(bench.comes(&cookie).await.user::<i32>().unwrap(), Some(2));
}

#[rocket::async_test]
async fn what_a_modify_took_along_does_not_follow_a_logout() {
    let bench = Bench::new();
    let old = bench.begun(Some(1), &[("n", 1)]).await;
    let session = bench.comes(&old).await;
    session.increment("n", 1).unwrap();
    let held = bench.store.hold("update");
    let logout = async {
        held.has_come().await;
        session.logout().unwrap();
        held.release();
    };
    let modify = session.modify("n", |n: Option<i64>| n.unwrap_or(0) + 1);
    let (_, ()) = rocket::tokio::join!(modify, logout);
    assert!(given(&session).await.is_none());
    assert!(session.is_empty() && bench.stored().await.is_empty());
}

#[rocket::async_test]
async fn a_mass_logout_ends_although_others_come_in_meanwhile() {
    let bench = Bench::new();
    bench.begun(Some(1), &[]).await;
    assert!(bench.sessions.revoke_all().await.unwrap() >= 1);
    assert!(bench.stored().await.is_empty());
}

#[rocket::async_test]
async fn a_request_that_is_answered_twice_is_committed_once() {
    let bench = Bench::new();
    let session = bench.session();
    session.increment("n", 1).unwrap();
    let cookie = given(&session).await.expect("a cookie");
    assert!(
        given(&session).await.is_none(),
        "and the second is no failure"
    );
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(1));
}
