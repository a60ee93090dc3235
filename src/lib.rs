//! Server-side sessions for Rocket 0.5, stored in MongoDB.
//!
//! A handler takes [`&Session`](Session), reads values and changes them, and the crate stores the
//! changes before the response is sent.
//!
//! * **Concurrent requests do not overwrite each other's keys.** `increment`, `push` and `modify`
//!   lose no update.
//! * **A session that ended never comes back.** No late request revives a session that was logged
//!   out, revoked or expired.
//! * **No success without storage.** If the changes cannot be stored, the browser gets an error
//!   (503) and no session cookie. Changes to a session that ended while the request ran end with
//!   it: they are dropped, and the response is the handler's.
//!
//! This page is the guide. A complete application is in `examples/showcase` of the repository.
//!
//! | how do I … | |
//! |---|---|
//! | start? | [quick start](#quick-start) |
//! | store a value, a counter, a list? | [values](#values), [concurrent requests](#concurrent-requests) |
//! | sign users in and out? | [signing in and out](#signing-in-and-out) |
//! | ask for a second factor? | [a second factor](#a-second-factor) |
//! | show a user's devices and end them? | [a user's devices](#a-users-devices) |
//! | use single sign-on? | [single sign-on](#single-sign-on) |
//! | show a message on the next page? | [flash messages](#flash-messages) |
//! | protect forms and `fetch()`? | [CSRF](#csrf) |
//! | end streams and websockets with their session? | [streams, sockets and long requests](#streams-sockets-and-long-requests) |
//! | hear what happens to sessions? | [what happens to sessions](#what-happens-to-sessions) |
//! | keep users signed in? | [timeouts and remember-me](#timeouts-and-remember-me) |
//! | handle errors and outages? | [errors and outages](#errors-and-outages), [one error type](#one-error-type-for-your-handlers) |
//! | test my application? | [testing an application](#testing-an-application) |
//! | configure it? | [configuration](#configuration) |
//! | encrypt what sessions contain? | [sealed sessions](#sealed-sessions) |
//! | go live? | [going live](#going-live) |
//! | have several kinds of session? | [several kinds of session](#several-kinds-of-session) |
//! | serve phones and command lines? | [bearer tokens](#bearer-tokens-for-phones-and-command-lines) |
//! | run several applications? | [several applications on one database](#several-applications-on-one-database) |
//! | operate it? | [operation](#operation): versions, connections, TLS, readiness, logs, indexes, privileges, sizes, backups |
//! | know its limits? | [what it does not promise](#what-it-does-not-promise) |
//! | use sessions outside of a request? | [outside of a request](#outside-of-a-request) |
//! | migrate from another library? | [migrating](#migrating) |
//! | find a call? | [the calls at a glance](#the-calls-at-a-glance) |
//!
#![doc = include_str!("guide/start.md")]
//!
#![doc = include_str!("guide/data.md")]
//!
#![doc = include_str!("guide/sign_in.md")]
//!
#![doc = include_str!("guide/flash.md")]
//!
#![doc = include_str!("guide/csrf.md")]
//!
#![doc = include_str!("guide/times.md")]
//!
#![doc = include_str!("guide/streams.md")]
//!
#![doc = include_str!("guide/errors.md")]
//!
#![doc = include_str!("guide/testing.md")]
//!
#![doc = include_str!("../docs/configuration.md")]
//!
#![doc = include_str!("guide/kinds.md")]
//!
#![doc = include_str!("guide/sealed.md")]
//!
#![doc = include_str!("guide/live.md")]
//!
#![doc = include_str!("guide/operation.md")]
//!
#![doc = include_str!("guide/limits.md")]
//!
#![doc = include_str!("guide/migration.md")]
//!
#![doc = include_str!("guide/calls.md")]
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
mod document;
mod error;
mod live;
mod origin;
mod principals;
mod record;
mod seal;
mod session;
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
pub use web::{
    CsrfError, CsrfForm, CsrfHeader, CsrfRefusal, Kind, Main, MongoPool, NoFields, Of, RecentLogin,
    RefusedForm, SessionFairing, SessionsOf,
};
