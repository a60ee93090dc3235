//! The command line as an operator runs it: the binary, a Rocket.toml, and real servers.

#[path = "../../../tests/suite/support/mod.rs"]
#[allow(dead_code, unused_imports)] // of which this suite needs a part
mod support;

mod commands;
mod compatibility;
mod doctor;
mod faults;
mod million;
mod operator;
mod tool;
