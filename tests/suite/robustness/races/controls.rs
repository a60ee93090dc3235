//! Negative controls: the same races must fail with stores that break their promises, or they would
//! prove nothing.

use rocket::tokio::sync::OnceCell;
use rocket_mongo_session::{MemoryStore, MongoStore, Sessions, Store};

use super::{CONCURRENT_ROUNDS, ROUNDS, Race, ending, failures, logins, values};
use crate::apps::arena::{Arena, Setting};
use crate::apps::database;
use crate::store::wrong_stores::{Lagging, Replacing, Right, Saving, Upserting, Wrong, in_mongodb};

const ENDINGS: [Race; 3] = [
    ending::a_logged_out_session_never_comes_back::round,
    ending::a_revoked_user_is_out_and_so_are_logins_in_progress::round,
    ending::a_session_revoked_by_its_id_stays_away::round,
];

const UPDATES: [Race; 5] = [
    values::different_keys_are_all_kept::round,
    values::every_increment_counts::round,
    values::every_push_is_there_once::round,
    values::every_modify_wins_in_the_end::round,
    logins::a_kept_key_has_every_change_that_was_saved::round,
];

/// How many rounds of a race fail on a store.
async fn lost(store: impl Store, race: Race) -> usize {
    lost_of(store, race, ROUNDS / 5, CONCURRENT_ROUNDS).await
}

async fn lost_of(store: impl Store, race: Race, rounds: u64, concurrent: usize) -> usize {
    let fairing = Sessions::with_store(store);
    let arena = Arena::start_with(&Setting::in_memory(), fairing).await;
    failures(&arena, race, rounds, concurrent).await.len()
}

/// That a race is lost on such stores. Chance decides what meets, so it is run again.
async fn assert_lost<S: Store>(race: Race, make: impl AsyncFn() -> S) {
    for _ in 0..10 {
        if lost(make().await, race).await > 0 {
            return;
        }
    }
    panic!("the race is won on a store that breaks its promises");
}

/// A store in a database of its own.
async fn mongo() -> MongoStore {
    let (store, _) = in_mongodb(&database()).await;
    store
}

#[rocket::async_test]
async fn stores_that_do_nothing_wrong_lose_no_race() {
    for race in ENDINGS.into_iter().chain(UPDATES) {
        assert_eq!(lost(Wrong::<Right<MemoryStore>>::default(), race).await, 0);
        let inside = mongo().await;
        assert_eq!(lost(Wrong(Right { inside }), race).await, 0);
    }
}

#[rocket::async_test]
async fn saves_bring_sessions_back_and_the_races_see_it() {
    for race in ENDINGS {
        assert_lost(race, async || Wrong::<Saving<MemoryStore>>::default()).await;
        assert_lost(race, async || {
            let (inside, seen) = (mongo().await, Default::default());
            Wrong(Saving { inside, seen })
        })
        .await;
    }
}

/// An upsert stores no more than the update says, which lets no user in: it is seen where a race
/// looks for the document. (A user's are found by a field that no update names.)
#[rocket::async_test]
async fn upserts_store_sessions_again_and_the_races_see_it() {
    for race in [
        ending::a_logged_out_session_never_comes_back::round as Race,
        ending::a_session_revoked_by_its_id_stays_away::round,
    ] {
        assert_lost(race, async || {
            let (inside, sessions) = in_mongodb(&database()).await;
            Wrong(Upserting { inside, sessions })
        })
        .await;
    }
}

#[rocket::async_test]
async fn whole_documents_lose_updates_and_the_races_see_it() {
    for race in UPDATES {
        assert_lost(race, async || Wrong::<Replacing>::default()).await;
        assert_lost(race, async || {
            let inside = mongo().await;
            Wrong(Replacing { inside })
        })
        .await;
    }
}

/// A process that does not hear of a mass logout continues with the sessions from before it.
#[rocket::async_test]
async fn a_mass_logout_that_is_not_heard_of_is_seen_by_the_race() {
    let race = ending::mass_logout_ends_everything_that_began_before_it::round;
    let inside = mongo().await;
    assert_eq!(lost_of(Wrong(Right { inside }), race, 2, 1).await, 0);
    let (inside, epoch) = (mongo().await, OnceCell::new());
    assert!(lost_of(Wrong(Lagging { inside, epoch }), race, 2, 1).await > 0);
}
