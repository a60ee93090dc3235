//! The one integration-test binary: every test here runs against real processes and real sockets.

mod ancestor;
mod cases;
mod conformance;
mod docs;
mod face;
mod identity;
mod jobs;
mod launch;
mod life;
mod outage;
mod probe;
mod saving;
mod security;
mod stored;
mod support;
mod support_works;
mod together;
mod trips;
mod wrong_stores;
