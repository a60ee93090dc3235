//! The scratch collections.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt;
use rocket::futures::future::join_all;
use rocket::tokio::time::{sleep, timeout};
use rocket_mongo_session::mongodb::bson::{Document, doc};
use rocket_mongo_session::mongodb::{Collection, Database};

use super::connection::code;

/// Of every scratch collection.
pub const PREFIX: &str = "rocket_mongo_session_doctor_";

/// The removal takes this long at most.
const REMOVAL: Duration = Duration::from_secs(10);
/// A command that was in flight may create a collection again: the removal looks once more.
const RETRY_DELAY: Duration = Duration::from_millis(250);
const ROUNDS: u32 = 10;

pub struct Scratch {
    database: Database,
    /// The beginning of the names, which no other run has.
    name: String,
    next: AtomicU32,
    made: Mutex<Vec<String>>,
}

impl Scratch {
    pub fn new(database: &Database) -> Self {
        let random: u64 = rand::rng().random();
        Scratch {
            database: database.clone(),
            name: format!("{PREFIX}{random:016x}"),
            next: AtomicU32::new(0),
            made: Mutex::default(),
        }
    }

    /// Returns a new collection.
    pub fn collection(&self) -> Collection<Document> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}_{number}", self.name);
        self.made().push(name.clone());
        self.database.collection(&name)
    }

    /// Removes all of them; the names of those that may be left, and why.
    pub async fn remove(&self) -> Result<(), String> {
        match timeout(REMOVAL, self.remove_all()).await {
            Ok(removed) => removed,
            Err(_) => Err("the server did not answer in time".to_owned()),
        }
        .map_err(|why| format!("{}.{}_*: {why}", self.database.name(), self.name))
    }

    async fn remove_all(&self) -> Result<(), String> {
        let mut names = self.made().clone();
        if names.is_empty() {
            return Ok(());
        }
        for round in 0..ROUNDS {
            let drops = names.iter().map(|name| self.drop(name));
            let failed: Vec<String> = join_all(drops)
                .await
                .into_iter()
                .filter_map(Result::err)
                .collect();
            if let Some(why) = failed.into_iter().next() {
                return Err(why);
            }
            sleep(RETRY_DELAY).await;
            let filter = doc! { "name": { "$regex": format!("^{}_", self.name) } };
            names = match self.database.list_collection_names().filter(filter).await {
                Ok(left) => left,
                // It may not list: once more without looking.
                Err(_) if round == 0 => self.made().clone(),
                Err(_) => Vec::new(),
            };
            if names.is_empty() {
                return Ok(());
            }
        }
        Err("they were created again and again".to_owned())
    }

    async fn drop(&self, name: &str) -> Result<(), String> {
        match self.database.run_command(doc! { "drop": name }).await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some(26) => Ok(()), // it is not there
            Err(error) => Err(error.to_string()),
        }
    }

    fn made(&self) -> MutexGuard<'_, Vec<String>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
