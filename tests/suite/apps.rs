//! The applications that tests send requests to, and what a test asks of them.

use std::sync::atomic::{AtomicU32, Ordering};

pub mod arena;
pub mod calls;
pub mod jobs;
pub mod opened;
pub mod probe;

/// The name of a database that no other test has, of this run or another.
pub fn database() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("test_{}_{next}", std::process::id())
}
