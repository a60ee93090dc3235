//! The showcase in a real Chromium, which is driven through WebDriver.
//!
//! The shop forbids scripts altogether (see its `headers.rs`), so each of these also shows that it
//! works without JavaScript.

mod support;

mod administrator;
mod customer;
mod database;
mod devices;
mod forms;
mod held_open;
mod looks;
mod password;
mod routes;
mod signing_in;
