//! Server-side sessions for Rocket 0.5, stored in MongoDB.
//!
//! A handler takes [`&Session`](Session), reads values and changes them, and the crate stores the
//! changes before the response is sent.
//!
//! ```no_run
//! use rocket::{get, launch, routes};
//! use rocket_mongo_session::{Error, Key, Session, Sessions};
//!
//! const VISITS: Key<i64> = Key::new("visits");
//!
//! #[get("/")]
//! fn index(session: &Session) -> Result<String, Error> {
//!     Ok(format!("visit number {}", session.increment(VISITS, 1)?))
//! }
//!
//! #[launch]
//! fn rocket() -> _ {
//!     rocket::build().attach(Sessions::fairing()).mount("/", routes![index])
//! }
//! ```
//!
//! `cargo add rocket@0.5.2 rocket_mongo_session`, and run it: without a database, sessions are kept in memory. The
//! [quick start](guide::start) continues from here, and **[the guide](guide) has a page for each
//! subject**. Something does not work: [my session is lost](guide::troubleshooting).
//!
//! # What it promises
//!
//! * **Concurrent requests do not overwrite each other's keys.** `increment`, `push` and `modify`
//!   lose no update ([values](guide::values#concurrent-requests)).
//! * **A session that ended never comes back.** No late request revives a session that was logged
//!   out, revoked or expired.
//! * **No success without storage.** If the changes cannot be stored, the browser gets an error
//!   (503) and no session cookie. If the session ended while the request ran, its changes are
//!   dropped and the handler's response is sent.
//!
//! [What it does not promise](guide::limits) is as exact.
//!
//! # What is in it
//!
//! | for | use | read |
//! |---|---|---|
//! | values of any serde type, counters, lists | [`Session`], [`Key`] | [values](guide::values) |
//! | signing in and out, a second factor, privileges | [`Session::login`], [`RecentLogin`] | [signing in](guide::sign_in) |
//! | lists of devices, revocation, jobs, search | [`Sessions`], [`UserSessions`], [`Query`] | [devices](guide::sign_in#a-users-devices), [jobs](guide::operation#outside-of-a-request) |
//! | idle and absolute timeouts, "remember me" | [`Session::remember_for`] | [timeouts](guide::timeouts) |
//! | flash messages | [`Session::flash`], [`Queue`] | [flash messages](guide::flash) |
//! | CSRF tokens and a same-origin check | [`CsrfForm`], [`CsrfHeader`] | [CSRF](guide::csrf) |
//! | streams and websockets that end with their session | [`Session::ended`], [`Sessions::events`] | [streams](guide::streams) |
//! | several kinds of session, bearer tokens | [`Kind`], [`Of`] | [kinds](guide::kinds) |
//! | encrypted values | `seal = true` | [sealed sessions](guide::sealed) |
//! | tests without a database, and a clock to advance | [`testing`], [`Sessions::in_memory`] | [testing](guide::testing) |
//! | configuration in `Rocket.toml` | `[default.session]` | [configuration](guide::configuration) |
//! | operation: readiness, counters, indexes, privileges | [`Sessions::is_ready`], [`Stats`] | [operation](guide::operation) |
//!
//! # Versions
//!
//! | Rust | Rocket | `mongodb` (the driver) | MongoDB |
//! |---|---|---|---|
//! | 1.89 or later | 0.5.2 or later | 3.9.1 or later, [re-exported](mongodb) | 4.4 to 7.0; [what was tested](guide::operation#versions) |
//!
//! [Features](guide::operation#features): `srv` (`mongodb+srv://` addresses) and `rustls-tls` are on by
//! default; `openssl-tls` uses the system's OpenSSL; `metrics` and `tracing` export counters and
//! spans.
#![deny(missing_docs)]
#![cfg_attr(
    not(test),
    warn(
        clippy::exit,
        clippy::expect_used,
        clippy::missing_errors_doc,
        clippy::missing_panics_doc,
        clippy::panic,
        clippy::print_stderr,
        clippy::print_stdout,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

mod admin;
mod clock;
mod commit;
mod config;
mod debug;
mod document;
mod epoch;
mod error;
#[cfg(doc)]
pub mod guide;
mod live;
mod lock;
mod metrics;
mod origin;
mod principals;
mod record;
mod seal;
mod session;
mod spans;
mod state;
mod stats;
#[cfg(feature = "unstable-store")]
#[doc(hidden)]
pub mod store;
#[cfg(not(feature = "unstable-store"))]
mod store;
mod tasks;
pub mod testing;
mod web;

pub use mongodb;
pub use rocket_db_pools;
pub use time;

pub use admin::{Edit, Page, Query, RevokedPage, SessionInfo, Sessions, UserSessions};
pub use document::key::{AsKey, Key, KeyFor, KeyOf};
pub use error::{Cause, Error, Operation, Result};
pub use live::{End, Ended, Event, EventKind, Events};
pub use session::{Queue, Session};
pub use state::NewReason;
pub use stats::Stats;
#[cfg(feature = "unstable-store")]
#[doc(hidden)]
pub use store::{Store, memory::MemoryStore, mongo::MongoStore};
#[cfg(feature = "unstable-store")]
#[doc(hidden)]
pub use web::parse_url;
pub use web::{
    CsrfError, CsrfForm, CsrfHeader, CsrfRefusal, Kind, Main, MongoPool, NoFields, Of, RecentLogin,
    RefusedForm, SessionFairing, SessionsOf,
};
