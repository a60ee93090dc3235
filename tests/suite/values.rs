//! Values of a session: read, written, counted, saved.

mod calls;
mod concurrency;
mod creation;
mod map;
mod nested;
mod saving;
