//! For the tests of applications and of stores.

pub use crate::clock::Clock;

pub mod conformance;
