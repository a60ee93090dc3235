//! Commands that operations share, and the round trips of a request.

mod sharing;
mod trips;
