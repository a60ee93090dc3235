//! When a session ends by the clock, and what extends it.

mod reissue;
mod timeout;
