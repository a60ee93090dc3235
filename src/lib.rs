//! Server-side sessions for Rocket, kept in MongoDB.

mod ancestor;
mod changes;
mod clock;
mod commit;
mod config;
mod cookie;
mod csrf;
mod deadline;
mod depth;
mod document;
mod error;
mod fairing;
mod guard;
mod key;
mod origin;
mod pool;
mod recent;
mod record;
mod session;
mod sessions;
mod state;
mod stats;
pub mod store;
pub mod testing;
mod token;
mod value;

pub use mongodb;
pub use rocket_db_pools;
pub use time;

pub use csrf::{CsrfError, CsrfForm, CsrfHeader, CsrfRefusal};
pub use error::{Cause, Error, Result};
pub use fairing::SessionFairing;
pub use key::{AsKey, Key, KeyFor, KeyOf};
pub use pool::MongoPool;
pub use recent::RecentLogin;
pub use session::{Queue, Session};
pub use sessions::{SessionInfo, Sessions};
pub use stats::Stats;
pub use store::Store;
pub use store::memory::MemoryStore;
pub use store::mongo::MongoStore;
