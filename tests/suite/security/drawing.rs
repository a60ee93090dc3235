//! Ids: what happens when one is taken.

use std::sync::atomic::{AtomicUsize, Ordering};

use rocket::async_trait;
use rocket_mongo_session::store::{Document, Durability, Inserted};
use rocket_mongo_session::testing::Clock;
use rocket_mongo_session::{MemoryStore, Result, Sessions, Store};
use rstest::rstest;

use crate::apps::probe::{Gates, Script, id_of, sent_by, value_of};
use crate::store::wrong_stores::{Fault, Wrong};
use crate::support::{App, figment};

/// A store in which a given number of the next ids are taken.
struct Taken {
    inside: MemoryStore,
    next: AtomicUsize,
}

#[async_trait]
impl Fault for Taken {
    fn inside(&self) -> &dyn Store {
        &self.inside
    }

    async fn insert(&self, documents: Vec<Document>, durability: Durability) -> Result<Inserted> {
        let one_less = |left: usize| left.checked_sub(1);
        let taken = self
            .next
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        if taken.is_ok() {
            return Ok(Inserted::Exists);
        }
        self.inside.insert(documents, durability).await
    }
}

async fn launch(taken: usize) -> App {
    let store = Wrong(Taken {
        inside: MemoryStore::new(),
        next: AtomicUsize::new(taken),
    });
    let (clock, gates) = (Clock::new(), Gates::default());
    let rocket = crate::apps::probe::bare(figment("debug", None, &[]), &gates);
    App::launch(rocket.attach(Sessions::with_store(store).with_clock(&clock))).await
}

/// ID-07: another id is drawn, and a store in which every id is taken is not a success.
#[rstest]
#[test_attr(rocket::async_test)]
#[case(1, 200)]
#[case(2, 200)]
#[case(3, 503)]
#[case(100, 503)]
async fn an_id_that_is_taken_is_drawn_again_up_to_a_limit(
    #[case] taken: usize,
    #[case] status: u16,
) {
    let app = launch(taken).await;
    let response = app.send(Script::new().login("alice").request()).await;
    assert_eq!(response.status, status);
    match sent_by(&response) {
        Some(line) => {
            assert_eq!(status, 200);
            let cookie = value_of(line);
            assert_eq!(id_of(cookie).len(), 22);
            let user = super::whoami(&app, cookie).await;
            assert_eq!(user, "alice");
        }
        None => assert_eq!(status, 503),
    }
}
