//! Commands that operations share, and the round trips of a request.

mod round_trips;
mod sharing;
