use std::sync::Arc;

use bson::RawBson;

use super::sample::{DATA, a_tombstone, at, id, integer, listed, put, raw, session, set, stored};
use super::{Failure, Kept};
use crate::record::{field, seconds};
use crate::store::{Document, Filter, Order, Store};

/// A write is seen by every read that begins after it has returned.
pub async fn reads_see_every_completed_write(store: Arc<dyn Store>) -> Kept {
    let this = || Filter::id(&id(1));
    for round in 0..50_i64 {
        stored(&*store, 1).await?;
        let used = at(round);
        let mut update = set("number", round);
        update.raise(field::ACCESSED, used.seconds());
        store.update(this(), update, DATA).await?;
        let loaded = store.load(&id(1)).await?;
        let found = store.find(this(), Order::OldestFirst, 0, 10).await?;
        let count = store.count(super::sample::is(
            this(),
            "number",
            Some(RawBson::Int64(round)),
        ));
        let count = count.await?;
        let loaded = loaded.and_then(|document| integer(&document, "number"));
        // A list may leave the values out.
        let accessed = |document: &Document| document.get(field::ACCESSED).and_then(seconds);
        let found = found.first().and_then(accessed) == Some(used);
        must!(
            (loaded, found, count) == (Some(round), true, 1),
            "after {round} was written, load saw {loaded:?}, find {} and count {count}",
            if found { "it" } else { "not" }
        );
        store.delete(this()).await?;
        let loaded = store.load(&id(1)).await?.is_some();
        let (found, count) = (
            store.find(this(), Order::OldestFirst, 0, 1).await?,
            store.count(this()).await?,
        );
        must!(
            !loaded && found.is_empty() && count == 0,
            "after a delete the document was still seen"
        );
    }
    Ok(())
}

/// [`find`](Store::find) goes by `created` and, where that is the same, by `_id`, and returns whole
/// documents, except perhaps for the fields that lists do not show.
pub async fn find_goes_by_created_and_then_by_id(store: Arc<dyn Store>) -> Kept {
    let created = [
        at(-10),
        at(-10),
        at(-30),
        at(-20),
        at(-20),
        at(-40),
        at(-10),
    ];
    let mut wanted = Vec::new();
    for (number, created) in (0..).zip(created) {
        let mut document = session(&id(number));
        // Drivers of other languages write whole seconds as integers.
        let seconds = created.millis().div_euclid(1000);
        if number % 2 == 0 {
            document.insert(field::CREATED, seconds);
        } else {
            document.insert(field::CREATED, seconds as f64);
        }
        put(&*store, &document).await?;
        wanted.push((seconds, number, listed(&raw(&document))));
    }
    wanted.sort_by_key(|(seconds, number, _)| (*seconds, *number));
    let wanted: Vec<_> = wanted.into_iter().map(|(.., document)| document).collect();
    let found = store
        .find(Filter::sessions(), Order::OldestFirst, 0, 100)
        .await?;
    let found: Vec<_> = found.iter().map(listed).collect();
    let ids = |documents: &[Document]| -> Vec<String> {
        let ids = documents.iter().filter_map(Document::id);
        ids.map(str::to_owned).collect()
    };
    must!(
        found == wanted,
        "it gave {:?} and not {:?}",
        ids(&found),
        ids(&wanted)
    );
    Ok(())
}

/// [`find`](Store::find) skips as many as it is asked to, and gives at most as many as it is asked
/// for: with a limit of zero, none. Each [`Order`] is kept.
pub async fn find_gives_the_page_that_was_asked_for(store: Arc<dyn Store>) -> Kept {
    const ALL: u32 = 250; // more than a driver fetches at once
    let created = |number: u32| number * 7 % ALL; // in another order than the ids
    for number in 0..ALL {
        let mut document = session(&id(number));
        document.insert(field::CREATED, f64::from(created(number)));
        put(&*store, &document).await?;
    }
    let pages = [
        (0, 10),
        (7, 3),
        (0, ALL),
        (0, u32::MAX),
        (120, 1000),
        (249, 2),
        (250, 1),
        (1 << 40, 1),
        (u64::MAX, 1),
        (0, 0),
        (3, 0),
    ];
    let orders = [Order::OldestFirst, Order::NewestFirst, Order::Id];
    let tries = orders
        .iter()
        .flat_map(|order| pages.map(|page| (*order, page)));
    for (order, (skip, limit)) in tries {
        let found = store.find(Filter::sessions(), order, skip, limit).await?;
        let ids: Vec<&str> = found.iter().filter_map(|document| document.id()).collect();
        let mut wanted: Vec<u32> = (0..ALL).collect();
        match order {
            Order::OldestFirst => wanted.sort_by_key(|number| created(*number)),
            Order::NewestFirst => wanted.sort_by_key(|number| ALL - created(*number)),
            Order::Id => {}
        }
        let first = usize::try_from(skip).unwrap_or(usize::MAX);
        let wanted = wanted.into_iter().skip(first).take(limit as usize);
        let wanted: Vec<String> = wanted.map(id).collect();
        must!(
            ids == wanted,
            "in the order {order:?}, after skipping {skip}, of at most {limit} it gave {}, the first of them {:?}, and not {}",
            ids.len(),
            ids.first(),
            wanted.len()
        );
    }
    Ok(())
}

/// [`count`](Store::count) counts what [`find`](Store::find) finds, whatever the filter.
pub async fn count_counts_what_find_finds(store: Arc<dyn Store>) -> Kept {
    for number in 0..20_u32 {
        let mut document = session(&id(number));
        document.insert(field::USER, i64::from(number % 3));
        document.insert(field::ACCESSED, f64::from(number));
        if number % 5 == 0 {
            document.remove(field::EXPIRES);
        }
        put(&*store, &document).await?;
    }
    store.insert(vec![a_tombstone(1, 0)], DATA).await?;
    let sessions = Filter::sessions;
    let cases = [
        ("all", Filter::all(), 21),
        ("sessions", sessions(), 20),
        ("one", Filter::id(&id(3)), 1),
        ("none", Filter::id(&id(30)), 0),
        ("some ids", Filter::ids(vec![id(1), id(2), id(30)]), 2),
        ("no ids", Filter::ids(Vec::new()), 0),
        (
            "a user's",
            sessions().equals(field::USER, RawBson::Int64(1)),
            7,
        ),
        (
            "a user's others",
            sessions()
                .equals(field::USER, RawBson::Int64(1))
                .except(&id(1)),
            6,
        ),
        ("without a date", sessions().no_date(field::EXPIRES), 4),
        ("alive", sessions().not_before(field::EXPIRES, at(0)), 16),
        ("expired", sessions().before(field::EXPIRES, at(0)), 0),
        (
            "old",
            sessions().older(field::ACCESSED, crate::clock::Moment::from_millis(10_000)),
            10,
        ),
    ];
    for (what, filter, wanted) in cases {
        let count = store.count(filter.clone()).await?;
        let found = store.find(filter, Order::OldestFirst, 0, 1000).await?.len();
        must!(
            (count, found) == (wanted, found) && found as u64 == wanted,
            "of {what}, which are {wanted}, it counted {count} and found {found}"
        );
    }
    Ok(())
}

/// A filter of sessions leaves tombstones out.
pub async fn tombstones_are_not_sessions(store: Arc<dyn Store>) -> Kept {
    let document = stored(&*store, 1).await?;
    let tombstone = a_tombstone(2, 0);
    store.insert(vec![tombstone.clone()], DATA).await?;
    let found = store
        .find(Filter::sessions(), Order::OldestFirst, 0, 10)
        .await?;
    let found: Vec<_> = found.iter().map(listed).collect();
    must!(
        found == [listed(&raw(&document))],
        "a list of sessions holds a tombstone"
    );
    let deleted = store.delete_all(Filter::sessions()).await?;
    let left = store.load(tombstone.id().unwrap_or_default()).await?;
    must!(
        deleted == 1 && left == Some(tombstone),
        "a tombstone was deleted with the sessions"
    );
    Ok(())
}

/// [`ensure_indexes`](Store::ensure_indexes) can be called at any time, and again; the store
/// replies to a [`ping`](Store::ping), and its documents stay.
pub async fn indexes_can_be_ensured_again_and_again(store: Arc<dyn Store>) -> Kept {
    store.ping().await?;
    store.ensure_indexes().await?;
    let document = stored(&*store, 1).await?;
    store.ensure_indexes().await?;
    store.ping().await?;
    super::sample::holds(&*store, &document).await?;
    must!(!store.describe().is_empty(), "it does not say what it is");
    Ok(())
}
