//! The accounts, in the sessions' database or in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rocket::fairing::AdHoc;
use rocket_mongo_session::mongodb::bson::doc;
use rocket_mongo_session::mongodb::error::{ErrorKind, WriteFailure};
use rocket_mongo_session::mongodb::{Collection, error};
use serde::{Deserialize, Serialize};

use crate::failure::Result;
use crate::{Db, password};

/// The administrator's account. Sign-up refuses its name.
pub const ADMIN: &str = "admin";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct User {
    #[serde(rename = "_id")]
    pub name: String,
    pub password: String,
}

impl User {
    /// Normalizes a name for storage and lookup: in lower case, without blanks that keyboards append. It
    /// is a part of a URL on the administrator's pages, where a name of dots only would be another path.
    pub fn name(typed: &str) -> Option<String> {
        let typed = typed.trim();
        let fits = (2..=30).contains(&typed.len())
            && typed.starts_with(|first: char| first.is_ascii_alphanumeric())
            && typed
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        fits.then(|| typed.to_ascii_lowercase())
    }

    pub fn is_admin(&self) -> bool {
        self.name == ADMIN
    }
}

pub enum Users {
    Memory(Mutex<BTreeMap<String, User>>),
    Database(Collection<User>),
}

impl Users {
    pub async fn find(&self, name: &str) -> Result<Option<User>> {
        match self {
            Users::Memory(users) => Ok(lock(users).get(name).cloned()),
            Users::Database(users) => Ok(users.find_one(doc! { "_id": name }).await?),
        }
    }

    /// Creates an account. Returns false if the name is taken.
    pub async fn create(&self, user: User) -> Result<bool> {
        match self {
            Users::Memory(users) => {
                let mut users = lock(users);
                let is_free = !users.contains_key(&user.name);
                if is_free {
                    users.insert(user.name.clone(), user);
                }
                Ok(is_free)
            }
            // Inserted without a lookup: of two concurrent sign-ups the database accepts one.
            Users::Database(users) => match users.insert_one(&user).await {
                Ok(_) => Ok(true),
                Err(error) if is_duplicate(&error) => Ok(false),
                Err(error) => Err(error.into()),
            },
        }
    }

    pub async fn set_password(&self, name: &str, hash: &str) -> Result<()> {
        match self {
            Users::Memory(users) => {
                if let Some(user) = lock(users).get_mut(name) {
                    user.password = hash.to_owned();
                }
            }
            Users::Database(users) => {
                let set = doc! { "$set": { "password": hash } };
                users.update_one(doc! { "_id": name }, set).await?;
            }
        }
        Ok(())
    }

    pub async fn count(&self) -> Result<u64> {
        match self {
            Users::Memory(users) => Ok(lock(users).len() as u64),
            Users::Database(users) => Ok(users.count_documents(doc! {}).await?),
        }
    }

    /// Returns the first names with this prefix, in order.
    pub async fn names(&self, start: &str, limit: usize) -> Result<Vec<String>> {
        match self {
            Users::Memory(users) => {
                let users = lock(users);
                let from_start = users.range(start.to_owned()..);
                let names = from_start.map(|(name, _)| name.clone());
                Ok(names
                    .take_while(|name| name.starts_with(start))
                    .take(limit)
                    .collect())
            }
            Users::Database(users) => {
                // A range instead of a pattern, so that the input of a search box stays text.
                let range = doc! { "_id": { "$gte": start, "$lt": format!("{start}\u{10FFFF}") } };
                let query = users.find(range).sort(doc! { "_id": 1 });
                let mut found = query.limit(limit as i64).await?;
                let mut names = Vec::new();
                while found.advance().await? {
                    names.push(found.deserialize_current()?.name);
                }
                Ok(names)
            }
        }
    }
}

/// No code panics while the lock is held.
fn lock(users: &Mutex<BTreeMap<String, User>>) -> MutexGuard<'_, BTreeMap<String, User>> {
    users.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_duplicate(error: &error::Error) -> bool {
    matches!(&*error.kind, ErrorKind::Write(WriteFailure::WriteError(e)) if e.code == 11000)
}

/// Opens the accounts when the pool is attached, and creates the administrator's.
pub fn fairing() -> AdHoc {
    AdHoc::on_ignite("Accounts", |rocket| async {
        let users = match rocket.state::<Db>() {
            Some(db) => {
                let database = db.default_database();
                let database = database.unwrap_or_else(|| db.database("showcase"));
                Users::Database(database.collection("user"))
            }
            None => Users::Memory(Mutex::default()),
        };
        let admin = AdHoc::on_liftoff("Administrator", |rocket| {
            Box::pin(async move {
                let (Some(users), Ok(password)) = (
                    rocket.state::<Users>(),
                    rocket
                        .figment()
                        .extract_inner::<String>("showcase.admin_password"),
                ) else {
                    return;
                };
                match make_admin(users, &password).await {
                    Ok(true) => rocket::info!("Administrator: the account {ADMIN:?} is made."),
                    Ok(false) => {}
                    Err(failure) => rocket::warn!("Administrator: not made ({failure:?})."),
                }
            })
        });
        rocket.manage(users).attach(admin)
    })
}

async fn make_admin(users: &Users, password: &str) -> Result<bool> {
    if users.find(ADMIN).await?.is_some() {
        return Ok(false);
    }
    let name = ADMIN.to_owned();
    let password = password::hash(password).await?;
    users.create(User { name, password }).await
}

#[cfg(test)]
mod tests {
    use super::User;

    #[test]
    fn a_name_is_a_part_of_an_address_that_no_browser_rewrites() {
        for name in ["..", ".", ".a", "-a", "_a", "a", "a/..", "a%2e", "", "é.e"] {
            assert_eq!(User::name(name), None, "{name}");
        }
        for name in ["al", "a.", "a..", "4-2_0.b"] {
            assert_eq!(User::name(name).as_deref(), Some(name));
        }
        assert_eq!(User::name(" Alice ").as_deref(), Some("alice"));
    }
}
