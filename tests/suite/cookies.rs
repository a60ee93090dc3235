//! The cookie: which is sent, with which attributes, and which is accepted.

mod attributes;
mod browsers;
mod unknown;
