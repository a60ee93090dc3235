//! Server-side sessions for Rocket 0.5, kept in MongoDB.
//!
//! A [`&Session`](Session) guard loads the session of a request, the handler reads and changes it,
//! and what changed is committed before the answer leaves. It loses no update, brings back no
//! session that ended, and tells no browser about a session that it failed to save.
//!
//! This page is the guide: [quick start](#quick-start), [data](#data), [login and
//! logout](#login-and-logout), [flash messages](#flash-messages), [CSRF](#csrf),
//! [times](#timeouts-and-remember-me), [errors and outages](#errors-and-outages),
//! [tests](#testing-an-application), [configuration](#configuration), [several
//! applications](#several-applications-on-one-database), [operation](#operating-it),
//! [migration](#migrating).
//!
//! A whole application to click through is in `examples/showcase` of the repository.
//!
#![doc = include_str!("../docs/guide.md")]
//!
//! # Configuration
//!
#![doc = include_str!("../docs/configuration.md")]
//!
//! Where the sessions are kept is rocket_db_pools' section `[default.databases.sessions]`: `url`,
//! `max_connections` (32 unless set), `min_connections`, `connect_timeout` (5 unless set),
//! `idle_timeout`.
//!
#![doc = include_str!("../docs/operation.md")]
//!
#![doc = include_str!("../docs/migration.md")]

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
