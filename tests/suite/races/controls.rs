//! Negative controls: the same races must fail with stores that break their promises, or they would
//! prove nothing.

use std::collections::HashMap;
use std::sync::Mutex;

use rocket::async_trait;
use rocket::tokio;
use rocket_mongo_session::store::{
    Created, Document, Durability, Filter, Store, Touch, Update, Updated,
};
use rocket_mongo_session::{Error, MemoryStore, Sessions};

use super::{ROUNDS, Race, TOGETHER, ending, failures, logins, values};
use crate::arena::{Arena, Setting};

/// What a store does wrong.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    /// Nothing: the races hold on the wrapper as such.
    Nothing,
    /// A change of a document that is gone makes it again.
    Upserts,
    /// A change writes the whole document, as it was read a moment before.
    WritesWholeDocuments,
}

/// A store in memory that does one thing wrong.
struct WrongStore {
    wrong: Wrong,
    inner: MemoryStore,
    /// Every document as it was last seen.
    seen: Mutex<HashMap<String, Document>>,
}

impl WrongStore {
    fn see(&self, document: &Document) {
        let id = document.id().unwrap_or_default().to_owned();
        let mut seen = self.seen.lock().expect("no panic");
        seen.insert(id, document.clone());
    }

    fn last_seen(&self, filter: &Filter) -> Option<Document> {
        let id = filter.wanted_id()?;
        self.seen.lock().expect("no panic").get(id).cloned()
    }
}

#[async_trait]
impl Store for WrongStore {
    async fn load(&self, id: &str) -> Result<Option<Document>, Error> {
        let found = self.inner.load(id).await?;
        if let Some(document) = &found {
            self.see(document);
        }
        Ok(found)
    }

    async fn create(
        &self,
        documents: Vec<Document>,
        durability: Durability,
    ) -> Result<Created, Error> {
        documents.iter().for_each(|document| self.see(document));
        self.inner.create(documents, durability).await
    }

    async fn update(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Updated, Error> {
        match self.wrong {
            Wrong::Nothing => self.inner.update(filter, update, durability).await,
            Wrong::Upserts => {
                let updated = self
                    .inner
                    .update(filter.clone(), update.clone(), durability);
                if updated.await? == Updated::Applied {
                    return Ok(Updated::Applied);
                }
                let Some(seen) = self.last_seen(&filter) else {
                    return Ok(Updated::Gone);
                };
                let whole = update.apply(&seen)?;
                self.inner.create(vec![whole], durability).await?;
                Ok(Updated::Applied)
            }
            Wrong::WritesWholeDocuments => {
                let id = filter.wanted_id().unwrap_or_default().to_owned();
                let Some(before) = self.inner.load(&id).await? else {
                    return Ok(Updated::Gone);
                };
                if !filter.matches(&before) {
                    return Ok(Updated::Gone);
                }
                let whole = update.apply(&before)?;
                // As long as the way to a database and back.
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                if !self.inner.delete(filter).await? {
                    return Ok(Updated::Gone);
                }
                self.inner.create(vec![whole], durability).await?;
                Ok(Updated::Applied)
            }
        }
    }

    async fn update_returning(
        &self,
        filter: Filter,
        update: Update,
        durability: Durability,
    ) -> Result<Option<Document>, Error> {
        self.inner
            .update_returning(filter, update, durability)
            .await
    }

    async fn delete(&self, filter: Filter) -> Result<bool, Error> {
        self.inner.delete(filter).await
    }

    async fn take(&self, filter: Filter) -> Result<Option<Document>, Error> {
        self.inner.take(filter).await
    }

    fn touch(&self, touch: Touch) {
        self.inner.touch(touch);
    }

    async fn find(&self, filter: Filter, skip: u64, limit: u32) -> Result<Vec<Document>, Error> {
        self.inner.find(filter, skip, limit).await
    }

    async fn count(&self, filter: Filter) -> Result<u64, Error> {
        self.inner.count(filter).await
    }

    async fn delete_all(&self, filter: Filter) -> Result<u64, Error> {
        self.inner.delete_all(filter).await
    }

    async fn ensure_indexes(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn flush(&self) {}

    fn describe(&self) -> String {
        "wrongly, for the tests".into()
    }
}

/// How many rounds of a race fail on a store.
async fn lost(wrong: Wrong, race: Race) -> usize {
    let store = WrongStore {
        wrong,
        inner: MemoryStore::new(),
        seen: Mutex::default(),
    };
    let fairing = Sessions::with_store(store);
    let arena = Arena::start_with(&Setting::in_memory(), fairing).await;
    failures(&arena, race, ROUNDS / 5, TOGETHER).await.len()
}

#[rocket::async_test]
async fn upserts_bring_sessions_back_and_the_races_see_it() {
    let races: [Race; 3] = [
        ending::a_logged_out_session_never_comes_back::round,
        ending::a_revoked_user_is_out_and_so_are_logins_that_were_under_way::round,
        ending::a_session_revoked_by_its_id_stays_away::round,
    ];
    for race in races {
        assert_eq!(lost(Wrong::Nothing, race).await, 0);
        assert!(lost(Wrong::Upserts, race).await > 0);
    }
}

#[rocket::async_test]
async fn whole_documents_lose_updates_and_the_races_see_it() {
    let races: [Race; 5] = [
        values::different_keys_are_all_kept::round,
        values::every_increment_counts::round,
        values::every_push_is_there_once::round,
        values::every_modify_wins_in_the_end::round,
        logins::a_kept_key_has_every_change_that_was_saved::round,
    ];
    for race in races {
        assert_eq!(lost(Wrong::Nothing, race).await, 0);
        assert!(lost(Wrong::WritesWholeDocuments, race).await > 0);
    }
}
