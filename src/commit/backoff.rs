//! The attempts of one compare-and-set.

use std::time::Duration;

use rand::RngExt;
use rocket::tokio::time::{Instant, sleep};

use crate::error::{Error, Result, cause};

/// The attempts of one compare-and-set: each waits a little longer, at random, so that requests
/// that collided do not meet again, until the deadline ends them.
pub(crate) struct Backoff {
    until: Instant,
    pause: Duration,
}

impl Backoff {
    pub(crate) fn new(deadline: Duration) -> Self {
        Backoff {
            until: Instant::now() + deadline,
            pause: Duration::from_millis(1),
        }
    }

    pub(crate) async fn wait(&mut self, doing: &'static str) -> Result<()> {
        let longest = u64::try_from(self.pause.as_micros()).unwrap_or(u64::MAX);
        let pause = Duration::from_micros(rand::rng().random_range(0..=longest));
        self.pause = (self.pause * 2).min(Duration::from_millis(32));
        if Instant::now() + pause >= self.until {
            return Err(Error::store(doing, ConflictRetriesExhausted));
        }
        sleep(pause).await;
        Ok(())
    }
}

cause!(
    ConflictRetriesExhausted,
    "other requests changed the same value until the deadline"
);
