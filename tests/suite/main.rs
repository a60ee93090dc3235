//! The one integration-test binary: every test here runs against real processes and real sockets.

mod admin;
mod apps;
mod auth;
mod batching;
mod bearer;
mod config;
mod cookies;
mod csrf;
mod deployment;
mod documents;
mod epoch;
mod expiry;
mod flash;
mod kinds;
mod legacy;
mod live;
mod project;
mod requests;
mod robustness;
mod sealed;
mod secret_forms;
mod security;
mod store;
mod support;
mod support_works;
mod values;
