//! What the tests stand on. A failure here is a panic that says what to do.

mod browser;
mod chromium;
mod devtools;
mod group;
mod mongod;
mod process;
mod shop;
mod wire;

pub use browser::Browser;
pub use chromium::{Chromium, Screen};
pub use mongod::Mongod;
pub use process::Process;
pub use shop::{Shop, figment, launch, release_figment};
pub use wire::{Answer, Wire};

/// What everybody's password is, unless a test changes it.
pub const PASSWORD: &str = "a pot of green tea";
