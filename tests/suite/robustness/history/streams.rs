//! Streams that follow their sessions: I15.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mongodb::bson::Document;
use rocket::tokio::time::sleep;
use rocket::tokio::{spawn, task::JoinHandle};
use rocket_mongo_session::{End, Ended};

/// The streams of one history, by process and session. Each waits in a task of its own.
#[derive(Default)]
pub struct Streams(Mutex<BTreeMap<(usize, String), Stream>>);

struct Stream {
    end: Option<End>,
    task: JoinHandle<()>,
}

impl Streams {
    /// A stream of this process follows a session, unless one does already.
    pub fn follow(self: &Arc<Self>, app: usize, id: &str, ended: Ended) {
        let key = (app, id.to_owned());
        let mut streams = self.lock();
        if streams.contains_key(&key) {
            return;
        }
        let (all, its) = (Arc::clone(self), key.clone());
        let task = spawn(async move {
            let end = ended.await;
            if let Some(stream) = all.lock().get_mut(&its) {
                stream.end = Some(end);
            }
        });
        streams.insert(key, Stream { end: None, task });
    }

    /// Waits until every stream has been told whose session is not among the stored ones.
    pub async fn settle(&self, stored: &[Document], patience: Duration) {
        let began = Instant::now();
        while began.elapsed() < patience && !self.untold(stored).is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
        // What follows is not of this history.
        self.lock().values().for_each(|stream| stream.task.abort());
    }

    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// The sessions whose streams were told of the end.
    pub fn told(&self) -> BTreeSet<String> {
        let streams = self.lock();
        let told = streams.iter().filter(|(_, stream)| stream.end.is_some());
        told.map(|((_, id), _)| id.clone()).collect()
    }

    /// A session that is stored has not ended, since none comes back.
    pub(super) fn check(&self, stored: &[Document]) -> Vec<String> {
        let ids = ids(stored);
        let untold = self.untold(stored).into_iter();
        let untold = untold.map(|id| format!("I15: the streams of {id} were not told of its end"));
        let streams = self.lock();
        let early = streams
            .iter()
            .filter(|((_, id), _)| ids.contains(id.as_str()));
        let early = early.filter_map(|((_, id), stream)| {
            let end = stream.end?;
            Some(format!(
                "I15: the streams of {id} were told {end:?}, and it is stored"
            ))
        });
        untold.chain(early).collect()
    }

    fn untold(&self, stored: &[Document]) -> Vec<String> {
        let ids = ids(stored);
        let streams = self.lock();
        let missing = streams
            .iter()
            .filter(|((_, id), _)| !ids.contains(id.as_str()));
        let untold = missing.filter(|(_, stream)| stream.end.is_none());
        untold.map(|((_, id), _)| id.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(usize, String), Stream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ids(documents: &[Document]) -> BTreeSet<&str> {
    let ids = documents.iter().filter_map(|one| one.get_str("_id").ok());
    ids.collect()
}
