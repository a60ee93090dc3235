//! Loads that travel together: one `find` for all that wait.
//!
//! Strictly current: a load is answered only by a find that was sent after the load arrived.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mongodb::bson::{RawDocumentBuf, doc};
use rocket::futures::TryStreamExt;
use rocket::tokio::time::Instant;

use super::batch::{self, Kind, Together, Turn, Waiting, Way};
use super::{Inner, bytes_out, left, primary, reading};
use crate::document::Document;
use crate::error::Result;

/// Finds that may be under way before loads begin to share. Fewer make the batches larger and the
/// wait for the next one longer. Measured on two processors, CPU time of the application and of a
/// standalone server for a load at 8, 32 and 128 connections, in µs: by hand 275, 297 and 271; one
/// 136, 68 and 78; two 195, 94 and 79; four 261, 116 and 94; eight 319, 159 and 102. Two keeps most
/// of it and waits for half as long as one would; and one find that is slow stops nobody.
pub(super) const FEW: usize = 2;

/// Documents that are larger than this on average go alone: a command saved is little then, and
/// what one find answers, nobody else can work on. Measured at 32 connections, shared and by hand,
/// in requests a second: of 16 KB 11475 and 10162, of 64 KB 7581 and 7079, of 256 KB 2032 and 3338.
const LARGE: usize = 96 << 10;

const OPERATION: &str = "loading a session";

/// How large the documents were of late, on average: so much a load will answer.
#[derive(Default)]
pub(super) struct Sizes(AtomicUsize);

impl Sizes {
    fn note(&self, bytes: usize) {
        // Of two at the same moment one is lost, and is one of many.
        let before = self.0.load(Ordering::Relaxed);
        self.0.store((before * 7 + bytes) / 8, Ordering::Relaxed);
    }

    fn average(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

pub(super) struct Load;

/// What a shared find answers: the document, or that the load is to be tried alone.
pub(super) enum Reply {
    Found(Option<Document>),
    TryAlone,
}

impl Kind for Load {
    type Job = String;
    type Reply = Reply;

    fn of(store: &Inner) -> &Together<Self> {
        &store.loads
    }

    async fn run(turn: Turn<Self>, batch: Vec<Waiting<Self>>) {
        let store = Arc::clone(&turn.store);
        let mut ids: Vec<String> = batch.iter().map(|waiting| waiting.job.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        let is_twice = ids.len() < batch.len();
        let latest = batch.iter().map(|waiting| waiting.until).max();
        let until = latest.unwrap_or_else(Instant::now);
        // The next find may start while these are handed out.
        let mut found = turn.over(find(&store, ids, until)).await;
        if found.is_err() {
            store.loads.failed();
        }
        for waiting in batch {
            let reply = match &mut found {
                Ok(found) if is_twice => Reply::Found(found.get(&waiting.job).cloned()),
                Ok(found) => Reply::Found(found.remove(&waiting.job)),
                Err(_) => Reply::TryAlone,
            };
            // Who is not there any more does not mind.
            let _ = waiting.reply.send(reply);
        }
    }
}

pub(super) async fn load(store: &Arc<Inner>, id: &str) -> Result<Option<Document>> {
    let until = Instant::now() + store.deadline;
    let size = store.sizes.average();
    if !store.share || size > LARGE {
        return alone(store, id, until).await;
    }
    match batch::join::<Load>(store, until, size, id.to_owned()) {
        Way::Alone(turn, _) => turn.over(alone(store, id, until)).await,
        Way::Apart(_) => alone(store, id, until).await,
        Way::With(answer) => match answer.await {
            Ok(Reply::Found(found)) => Ok(found),
            // The shared find failed, or its task did.
            Ok(Reply::TryAlone) | Err(_) => alone(store, id, until).await,
        },
    }
}

async fn alone(store: &Inner, id: &str, until: Instant) -> Result<Option<Document>> {
    let _place = store.place(OPERATION, until).await?;
    let found = store
        .sessions
        .find_one(doc! { "_id": id })
        .max_time(left(until))
        .selection_criteria(primary())
        .await
        .map_err(|error| reading(OPERATION, error))?;
    // Asked after the answer: a touch that was written meanwhile is in it, or still here.
    Ok(found.map(|document| {
        store.sizes.note(document.as_bytes().len());
        store.touches.seen(id, bytes_out(document))
    }))
}

/// The documents with these ids, by one find.
pub(super) async fn load_many(store: &Inner, ids: Vec<String>) -> Result<Vec<Document>> {
    let until = Instant::now() + store.deadline;
    let found = find(store, ids, until).await?;
    Ok(found.into_values().collect())
}

async fn find(
    store: &Inner,
    ids: Vec<String>,
    until: Instant,
) -> Result<HashMap<String, Document>> {
    let _place = store.place(OPERATION, until).await?;
    let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    let found = store
        .sessions
        .find(doc! { "_id": { "$in": ids } })
        // All of them at once, where the server's own first batch would hold a hundred.
        .batch_size(count.saturating_add(1))
        .max_time(left(until))
        .selection_criteria(primary())
        .await
        .map_err(|error| reading(OPERATION, error))?;
    let found: Vec<RawDocumentBuf> = found
        .try_collect()
        .await
        .map_err(|error| reading(OPERATION, error))?;
    let documents = found.into_iter().map(bytes_out);
    let by_id = documents.filter_map(|document| {
        store.sizes.note(document.as_bytes().len());
        let id = document.id()?.to_owned();
        let document = store.touches.seen(&id, document);
        Some((id, document))
    });
    Ok(by_id.collect())
}
