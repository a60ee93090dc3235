//! A session and its store, without Rocket.

use std::sync::Arc;

use super::*;
use crate::clock::Clock;
use crate::config::Config;
use crate::document::Document;
use crate::stats::Counters;
use crate::store::bounded::Bounded;
use crate::store::memory::MemoryStore;
use crate::store::{Filter, Store};

struct Bench {
    store: Arc<MemoryStore>,
    committer: Committer,
}

impl Bench {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let config = Config::default_for(&rocket::Config::DEBUG_PROFILE);
        let stats = Arc::new(Counters::default());
        let committer = Committer {
            store: Bounded::new(store.clone(), config.deadline, stats.clone()),
            config: Arc::new(config),
            clock: Clock::new(),
            stats,
        };
        Bench { store, committer }
    }

    fn session(&self) -> Session {
        Session::new(self.committer.clone(), Arrival::Nothing, Default::default())
    }

    async fn stored(&self) -> Vec<Document> {
        self.store.find(Filter::all(), 0, 10).await.unwrap()
    }
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
async fn a_logout_takes_back_the_cookie_that_a_save_was_to_send() {
    let bench = Bench::new();
    let session = bench.session();
    session.login(1).unwrap();
    session.save().await.unwrap();
    session.logout().unwrap();
    let sent = session.finish().await.unwrap();
    assert!(matches!(sent, CookieChange::Remove));
    assert!(bench.stored().await.is_empty());
}
