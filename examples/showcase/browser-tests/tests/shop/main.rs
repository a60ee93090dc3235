//! The showcase in a real Chromium, which is driven through WebDriver.
//!
//! The shop's one script lets open pages change by themselves (`live`). All else works without it.

mod support;

mod administrator;
mod customer;
mod database;
mod devices;
mod forms;
mod held_open;
mod live;
mod looks;
mod password;
mod routes;
mod signing_in;
