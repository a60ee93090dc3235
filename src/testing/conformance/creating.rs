use std::sync::Arc;

use super::sample::{DATA, a_tombstone, holds, holds_raw, id, put, raw, session, stored, stores};
use super::{Failure, Kept};
use crate::store::{Inserted, Store};

/// [`load`](Store::load) returns what [`insert`](Store::insert) was given, byte by byte, the
/// tombstones beside a session included.
pub async fn insert_stores_documents_as_they_were_given(store: Arc<dyn Store>) -> Kept {
    let missing = store.load(&id(1)).await?;
    must!(missing.is_none(), "the store is not empty");
    stored(&*store, 0).await?;
    let (first, tombstone) = (session(&id(1)), a_tombstone(1, 0));
    let mut large = session(&id(2));
    large.insert("large", "x".repeat(1 << 20));
    stores(&*store, vec![raw(&first), tombstone.clone()], DATA).await?;
    put(&*store, &large).await?;
    holds(&*store, &first).await?;
    holds(&*store, &large).await?;
    holds_raw(&*store, &tombstone).await
}

/// Of an id that a document has, [`insert`](Store::insert) says [`Inserted::Exists`] and changes
/// nothing: not that document, and no tombstone either.
pub async fn insert_never_replaces_a_document(store: Arc<dyn Store>) -> Kept {
    let before = stored(&*store, 1).await?;
    let mut other = session(&id(1));
    other.insert("unknown", "another");
    let tombstone = a_tombstone(1, 0);
    for documents in [vec![raw(&other)], vec![raw(&other), tombstone.clone()]] {
        let created = store.insert(documents, DATA).await?;
        must!(
            created == Inserted::Exists,
            "insert said {created:?} of an id that a document has"
        );
        holds(&*store, &before).await?;
    }
    let tombstone = store.load(tombstone.id().unwrap_or_default()).await?;
    must!(tombstone.is_none(), "a tombstone was stored nevertheless");
    Ok(())
}

/// A tombstone that exists does not keep a session from being stored, and stays as it is, as
/// [`Inserted::Beside`] says; the tombstones after it are stored.
pub async fn insert_leaves_a_tombstone_that_exists_as_it_is(store: Arc<dyn Store>) -> Kept {
    let (first, again, next) = (a_tombstone(1, 0), a_tombstone(1, 5), a_tombstone(2, 5));
    let (one, two) = (session(&id(1)), session(&id(2)));
    stores(&*store, vec![raw(&one), first.clone()], DATA).await?;
    let documents = vec![raw(&two), again, next.clone()];
    let created = store.insert(documents, DATA).await?;
    must!(
        created == Inserted::Beside,
        "insert said {created:?} where a tombstone exists"
    );
    holds(&*store, &two).await?;
    holds_raw(&*store, &first).await?;
    holds_raw(&*store, &next).await
}
