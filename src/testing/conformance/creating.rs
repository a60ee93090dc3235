use std::sync::Arc;

use super::sample::{DATA, a_marker, holds, id, raw, session, stored};
use super::{Failure, Kept, text};
use crate::store::{Inserted, Store};

/// What [`insert`](Store::insert) was given is what [`load`](Store::load) answers with, byte by
/// byte, the markers beside a session included.
///
/// # Errors
///
/// When the promise is broken.
pub async fn insert_stores_documents_as_they_were_given(store: Arc<dyn Store>) -> Kept {
    let missing = store.load(&id(1)).await?;
    must!(missing.is_none(), "the store is not empty");
    stored(&*store, 0).await?;
    let (first, marker) = (session(&id(1)), a_marker(1, 0));
    let mut large = session(&id(2));
    large.insert("large", "x".repeat(1 << 20));
    let created = store
        .insert(vec![raw(&first), marker.clone()], DATA)
        .await?;
    must!(created == Inserted::Stored, "insert said {created:?}");
    super::sample::put(&*store, &large).await?;
    holds(&*store, &first).await?;
    holds(&*store, &large).await?;
    let found = store.load(marker.id().unwrap_or_default()).await?;
    must!(
        found.as_ref() == Some(&marker),
        "a marker that was made with a session came back as {}",
        found.as_ref().map_or_else(|| "nothing".into(), text)
    );
    Ok(())
}

/// Of an id that a document has, [`insert`](Store::insert) says [`Inserted::Exists`] and changes
/// nothing: not that document, and no marker either.
///
/// # Errors
///
/// When the promise is broken.
pub async fn insert_never_replaces_a_document(store: Arc<dyn Store>) -> Kept {
    let before = stored(&*store, 1).await?;
    let mut other = session(&id(1));
    other.insert("unknown", "another");
    let marker = a_marker(1, 0);
    for documents in [vec![raw(&other)], vec![raw(&other), marker.clone()]] {
        let created = store.insert(documents, DATA).await?;
        must!(
            created == Inserted::Exists,
            "insert said {created:?} of an id that a document has"
        );
        holds(&*store, &before).await?;
    }
    let marker = store.load(marker.id().unwrap_or_default()).await?;
    must!(marker.is_none(), "a marker was stored all the same");
    Ok(())
}

/// A marker that exists keeps no session from being stored, and stays as it is, which
/// [`Inserted::Beside`] tells; the markers after it are stored.
///
/// # Errors
///
/// When the promise is broken.
pub async fn insert_leaves_a_marker_that_exists_as_it_is(store: Arc<dyn Store>) -> Kept {
    let (first, again, next) = (a_marker(1, 0), a_marker(1, 5), a_marker(2, 5));
    let (one, two) = (session(&id(1)), session(&id(2)));
    let created = store.insert(vec![raw(&one), first.clone()], DATA).await?;
    must!(created == Inserted::Stored, "insert said {created:?}");
    let documents = vec![raw(&two), again, next.clone()];
    let created = store.insert(documents, DATA).await?;
    must!(
        created == Inserted::Beside,
        "insert said {created:?} where a marker exists"
    );
    holds(&*store, &two).await?;
    for marker in [first, next] {
        let found = store.load(marker.id().unwrap_or_default()).await?;
        must!(
            found.as_ref() == Some(&marker),
            "of the marker {} there is {}",
            text(&marker),
            found.as_ref().map_or_else(|| "nothing".into(), text)
        );
    }
    Ok(())
}
