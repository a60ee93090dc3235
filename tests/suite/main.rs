//! The one integration-test binary: every test here runs against real processes and real sockets.

mod support;
mod support_works;
