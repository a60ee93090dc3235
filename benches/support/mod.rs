//! What the benchmarks stand on: the applications under test in processes of their own, the server
//! with its counters, and the clients that load them. The mongods are those of the tests.
//!
//! A failure here, and every wrong answer, is a panic: a benchmark of wrong answers measures
//! nothing.

// Each benchmark uses its part.
#![allow(dead_code, unused_imports)]

pub mod app;
pub mod child;
pub mod load;
pub mod options;
pub mod proc;
pub mod server;
pub mod side;
pub mod stats;
pub mod table;

#[path = "../../tests/suite/support/mod.rs"]
mod harness;
