//! The one integration-test binary: every test here runs against real processes and real sockets.

mod ancestor;
mod arena;
mod cases;
mod conformance;
mod crowd;
mod docs;
mod face;
mod faults;
mod history;
mod identity;
mod jobs;
mod launch;
mod life;
mod model;
mod outage;
mod probe;
mod races;
mod saving;
mod security;
mod soak;
mod stored;
mod support;
mod support_works;
mod together;
mod trips;
mod wrong_stores;
