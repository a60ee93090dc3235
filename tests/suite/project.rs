//! The project, held to itself: the documentation, the public API and the language.

mod docs;
mod language;
mod public_api;
mod signatures;
