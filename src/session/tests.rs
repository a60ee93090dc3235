//! A session and its store, without Rocket.

use std::sync::Arc;
use std::time::Duration;

use bson::RawBson;

use super::*;
use crate::admin::Sessions;
use crate::clock::Clock;
use crate::commit::tombstone;
use crate::config::{Config, Encoding};
use crate::document::Document;
use crate::state::{Creation, LoadOutcome, Stored};
use crate::store::faulty::{Fault, FaultyStore, Held};
use crate::store::{Durability, Filter, Inserted, Order, Store};

mod ending;
mod legacy_names;
mod losses;
mod modifying;
mod saving;
mod sealing;
mod times;
mod unknown_outcome;
mod values;
mod view;

/// An application's sessions in a store that can be made to fail.
pub(super) struct Bench {
    store: FaultyStore,
    sessions: Sessions,
}

impl Bench {
    pub(super) fn new() -> Self {
        Bench::with(|_| {})
    }

    fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let clock = Clock::new();
        let store = FaultyStore::with_clock(&clock);
        let mut config = Config::default_for(&rocket::Config::DEBUG_PROFILE);
        // The whole run with sealed sessions: `SEAL=1 scripts/test`.
        config.seal = std::env::var_os("SEAL").is_some();
        configure(&mut config);
        Bench::on(store, clock, config)
    }

    fn on(store: FaultyStore, clock: Clock, config: Config) -> Self {
        let core = Core::new(config, Arc::new(store.clone()), clock, Arc::default());
        let core = Arc::new(core);
        let sessions = Sessions { core };
        Bench { store, sessions }
    }

    /// The session of a request that comes without a cookie.
    pub(super) fn session(&self) -> Session {
        self.arrived(LoadOutcome::New(NewReason::NoCookie))
    }

    fn arrived(&self, outcome: LoadOutcome) -> Session {
        let (mut other_sessions, mut not_alive) = (Vec::new(), Vec::new());
        match &outcome {
            LoadOutcome::Dead(id, NewReason::NotFound) => not_alive.push(id.clone().into()),
            LoadOutcome::Dead(id, NewReason::Expired) => other_sessions.push(id.clone()),
            _ => {}
        }
        self.begins(Loaded {
            other_sessions,
            not_alive,
            brought_cookie: !matches!(outcome, LoadOutcome::New(NewReason::NoCookie)),
            creation: Creation::Allowed,
            may_be_unseen: false,
            outcome,
        })
    }

    /// The session of a request that comes with the cookies of several sessions that are alive.
    pub(super) fn comes_with_all(&self, tokens: &[Token]) -> Session {
        self.begins(Loaded {
            outcome: LoadOutcome::New(NewReason::Ambiguous),
            other_sessions: tokens.iter().map(|token| token.id.clone()).collect(),
            not_alive: Vec::new(),
            brought_cookie: true,
            creation: Creation::Allowed,
            may_be_unseen: false,
        })
    }

    fn begins(&self, loaded: Loaded) -> Session {
        let core = Arc::clone(&self.sessions.core);
        let started = core.clock.started();
        let span = RequestSpan::none();
        Session::new(core, loaded, Default::default(), started, span)
    }

    /// The session of a request that comes with this cookie, as it is stored.
    pub(super) async fn comes(&self, token: &Token) -> Session {
        let document = self.store.load(token.id.as_str()).await.unwrap();
        let record = document.and_then(|document| self.sessions.core.read(document));
        let cookie_name = &self.sessions.core.config.cookie_name;
        let digest = token.digest(cookie_name);
        let record = record.filter(|record| record.token.matches(&digest));
        let record = record.and_then(|record| record.opened_by(token, cookie_name));
        self.arrived(match record {
            Some(record) => LoadOutcome::Live(Box::new(Stored {
                record,
                token: token.clone(),
            })),
            None => {
                let core = &self.sessions.core;
                let started = core.clock.started();
                let found = tombstone::look_up(core, &token.id, Some(token), &started);
                match found.await.unwrap() {
                    Some(replaced) => LoadOutcome::Replaced(Box::new(replaced)),
                    None => LoadOutcome::Dead(token.id.clone(), NewReason::NotFound),
                }
            }
        })
    }

    /// The cookie of a new session with these numbers; of `user`, if that is one.
    pub(super) async fn begun(&self, user: Option<i32>, numbers: &[(&str, i64)]) -> Token {
        let session = self.session();
        if let Some(user) = user {
            session.login(user).unwrap();
        }
        for (key, number) in numbers {
            session.set(*key, number).unwrap();
        }
        given(&session).await.expect("a cookie")
    }

    fn advance(&self, seconds: u64) {
        self.sessions
            .core
            .clock
            .advance(Duration::from_secs(seconds));
    }

    /// Waits for what runs in the background.
    async fn settled(&self) {
        const LIMIT: Duration = Duration::from_secs(60);
        let core = &self.sessions.core;
        core.tasks.wait(LIMIT).await;
        core.store.flush(LIMIT).await;
    }

    async fn stored(&self) -> Vec<Document> {
        self.store
            .find(Filter::sessions(), Order::OldestFirst, 0, 10)
            .await
            .unwrap()
    }
}

/// The cookie that the response sets, if any.
pub(super) async fn given(session: &Session) -> Option<Token> {
    match session.finish().await.unwrap() {
        CookieChange::Send(token, _) => Some(token),
        CookieChange::None | CookieChange::Remove | CookieChange::Issued => None,
    }
}

fn number(session: &Session, key: &str) -> Option<i64> {
    session.get(key).unwrap()
}

#[rocket::async_test]
async fn stream_reads_what_the_response_committed() {
    let bench = Bench::new();
    let session = bench.session();
    session.set("a", &1).unwrap();
    session.login(7).unwrap();
    session.set("b", &2).unwrap();
    assert_eq!(session.id(), None);
    let stored = given(&session).await.map(|token| token.id.to_string());
    assert_eq!(session.get::<i32>("b").unwrap(), Some(2));
    assert_eq!(session.user::<i32>().unwrap(), Some(7));
    assert_eq!(
        (session.id(), session.keys()),
        (stored, vec!["b".to_owned()])
    );
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

#[rocket::async_test]
async fn late_response_overwrites_no_login_after_a_logout() {
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
async fn logout_stands_when_the_login_after_it_fails() {
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

#[rocket::async_test]
async fn cookie_of_a_save_is_not_sent_once_the_session_ended() {
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
async fn elevate_during_a_save_keeps_the_session() {
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
async fn revoke_all_ends_while_sessions_are_created() {
    let bench = Bench::new();
    bench.begun(Some(1), &[]).await;
    assert!(bench.sessions.revoke_all().await.unwrap() >= 1);
    assert!(bench.stored().await.is_empty());
}

#[rocket::async_test]
async fn request_that_is_answered_twice_is_committed_once() {
    let bench = Bench::new();
    let session = bench.session();
    session.increment("n", 1).unwrap();
    let cookie = given(&session).await.expect("a cookie");
    assert!(
        given(&session).await.is_none(),
        "and the second is not a failure"
    );
    assert_eq!(number(&bench.comes(&cookie).await, "n"), Some(1));
}

/// One byte more, and glibc's allocator takes a lock that workers wait for.
#[test]
#[cfg(not(feature = "tracing"))] // which adds a span
fn shared_state_of_a_request_is_small() {
    let counts = 2 * size_of::<usize>(); // of an `Arc`
    let size = size_of::<Shared>() + counts;
    assert!(size <= 1032, "{size}");
}
