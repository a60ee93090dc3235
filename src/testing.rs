//! For tests: a [`Clock`] to move for those of applications, and the promises of a store to try for
//! those of stores ([`conformance`]).

pub use crate::clock::Clock;

pub mod conformance;
