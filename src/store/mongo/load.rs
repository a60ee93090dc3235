//! Loads: one `find` for all that wait.
//!
//! Strictly current: a load is answered only by a find that was sent after the load arrived.

use std::collections::HashMap;
use std::sync::Arc;

use mongodb::bson::doc;
use mongodb::options::FindOptions;
use rocket::tokio::time::Instant;

use super::batch::Batcher;
use super::client::Client;
use super::touch::Touches;
use crate::document::Document;
use crate::error::{Operation, Result};
use crate::lock::Mutex;
use crate::spans::carried;

/// Larger documents have a find of their own: a command saved is little then, and only one task can
/// work on the documents of one find. Measured at 32 connections, shared and by hand, in requests a
/// second: of 16 KB 11475 and 10162, of 64 KB 7581 and 7079, of 256 KB 2032 and 3338.
const LARGE_THRESHOLD: usize = 96 << 10;

const OPERATION: Operation = Operation::LoadSession;

pub(super) struct Loads {
    finder: Arc<Finder>,
    batcher: Option<Batcher<Vec<String>, Vec<Document>>>,
}

impl Loads {
    pub(super) fn new(client: &Arc<Client>, touches: &Arc<Touches>, share: bool) -> Self {
        let finder = Arc::new(Finder {
            client: Arc::clone(client),
            touches: Arc::clone(touches),
            sizes: Sizes::default(),
        });
        let batching = Arc::clone(&finder);
        let run = move |jobs, until| run(Arc::clone(&batching), jobs, until);
        let batcher = share.then(|| {
            let (most, tasks, waits) = (client.permit_count, &client.tasks, &client.usage.batch);
            Batcher::new(most, OPERATION, tasks, waits, run)
        });
        Loads { finder, batcher }
    }

    pub(super) async fn load_many(&self, ids: Vec<String>) -> Result<Vec<Document>> {
        let until = self.finder.client.until();
        let size = self.finder.sizes.expected(&ids);
        match &self.batcher {
            Some(batcher) if size <= LARGE_THRESHOLD => batcher.submit(ids, size, until).await,
            _ => {
                let finder = Arc::clone(&self.finder);
                let find = async move { finder.find(ids, until).await };
                let tasks = &self.finder.client.tasks;
                tasks.run(OPERATION, carried(find)).await
            }
        }
    }
}

async fn run(
    finder: Arc<Finder>,
    jobs: Vec<Vec<String>>,
    until: Instant,
) -> Result<Vec<Result<Vec<Document>>>> {
    let mut distinct: Vec<String> = jobs.iter().flatten().cloned().collect();
    distinct.sort_unstable();
    let all = distinct.len();
    distinct.dedup();
    let is_twice = distinct.len() < all;
    let found = finder.find(distinct, until).await?;
    if jobs.len() == 1 {
        return Ok(vec![Ok(found)]);
    }
    let found = found.into_iter();
    let found = found.filter_map(|document| Some((document.id()?.to_owned(), document)));
    let mut found: HashMap<String, Document> = found.collect();
    let mut document = |id: &String| match is_twice {
        true => found.get(id).cloned(),
        false => found.remove(id),
    };
    let results = jobs.iter();
    Ok(results
        .map(|ids| Ok(ids.iter().filter_map(&mut document).collect()))
        .collect())
}

struct Finder {
    client: Arc<Client>,
    touches: Arc<Touches>,
    sizes: Sizes,
}

impl Finder {
    async fn find(&self, ids: Vec<String>, until: Instant) -> Result<Vec<Document>> {
        let query = || {
            let mut options = FindOptions::default();
            let filter = match ids.as_slice() {
                [id] => {
                    options.limit = Some(-1);
                    doc! { "_id": id }
                }
                // All of them at once, where the server's own first batch would hold a hundred.
                _ => {
                    options.batch_size = u32::try_from(ids.len() + 1).ok();
                    doc! { "_id": { "$in": &ids } }
                }
            };
            (filter, options)
        };
        let before = self.touches.pending(&ids);
        let found = self.client.find(OPERATION, until, query).await?;
        let found = self.touches.apply(&ids, &before, found);
        for document in &found {
            if let Some(id) = document.id() {
                self.sizes.note(id, document.as_bytes().len());
            }
        }
        Ok(found)
    }
}

/// The sizes of loaded documents, which predict the size of the next load.
#[derive(Default)]
struct Sizes(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    /// Settles at the median of the documents. An average would follow a few large ones, and then
    /// small ones were not batched either.
    typical: usize,
    /// The documents that were not small when they were loaded last.
    large: HashMap<String, usize>,
}

impl Sizes {
    /// A document above this size is remembered by its id.
    const SMALL: usize = 16 << 10;
    /// Beyond this number all are forgotten: those that are still loaded come back.
    const MAX_REMEMBERED: usize = 10_000;

    fn note(&self, id: &str, bytes: usize) {
        let mut seen = self.0.lock();
        let step = (seen.typical / 8).max(64);
        seen.typical = match bytes > seen.typical {
            true => (seen.typical + step).min(bytes),
            false => seen.typical.saturating_sub(step).max(bytes),
        };
        if bytes > Self::SMALL {
            if seen.large.len() >= Self::MAX_REMEMBERED {
                seen.large.clear();
            }
            seen.large.insert(id.to_owned(), bytes);
        } else if !seen.large.is_empty() {
            seen.large.remove(id);
        }
    }

    fn expected(&self, ids: &[String]) -> usize {
        let seen = self.0.lock();
        let sizes = ids.iter().map(|id| seen.large.get(id).copied());
        sizes.map(|size| size.unwrap_or(seen.typical)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_document_is_expected_to_be_large_again() {
        let sizes = Sizes::default();
        sizes.note("large", 1 << 20);
        (0..100).for_each(|_| sizes.note("small", 1000));
        let expected = |id: &str| sizes.expected(&[id.to_owned()]);
        assert_eq!(expected("large"), 1 << 20);
        assert!(expected("small") < 2000 && expected("new") < 2000);
        sizes.note("large", 1000);
        assert!(expected("large") < 2000);
    }

    #[test]
    fn a_few_large_documents_do_not_make_others_expected_to_be_large() {
        let sizes = Sizes::default();
        (0..1000).for_each(|at| match at % 4 {
            0 => sizes.note(&format!("large {at}"), 8 << 20),
            _ => sizes.note("small", 1000),
        });
        assert!(sizes.expected(&["new".to_owned()]) < 2000);
    }

    #[test]
    fn where_all_documents_are_large_a_new_one_is_expected_to_be_large() {
        let sizes = Sizes::default();
        (0..100).for_each(|at| sizes.note(&at.to_string(), 256 << 10));
        assert!(sizes.expected(&["new".to_owned()]) > LARGE_THRESHOLD);
    }
}
