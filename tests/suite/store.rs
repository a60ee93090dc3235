//! The storage trait: what every store keeps, and stores that do not.

pub mod conformance;
pub mod hooked;
mod writes;
pub mod wrong_stores;
