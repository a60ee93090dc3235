//! For the tests of applications: a [`Clock`] that a test can advance.

pub use crate::clock::Clock;

#[cfg(feature = "unstable-store")]
#[doc(hidden)]
pub mod conformance;
