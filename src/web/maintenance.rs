//! In the background: keeps the indexes of the session collection in place, and continues deletions of
//! revoked sessions that a process has left.

use std::sync::Arc;
use std::time::Duration;

use rocket::tokio;

use crate::commit::Core;

/// How often the indexes are checked. They go with a collection that is dropped.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// How often an unfinished deletion is checked: the process that carries it out records that every
/// second.
const SWEEP_CHECK_INTERVAL: Duration = Duration::from_secs(5);

const MIN_RETRY_DELAY: Duration = Duration::from_millis(500);

/// The longest pause before the store has answered once: while an orchestrator waits for readiness it
/// sends no request, so nothing else asks the store.
const MAX_UNREADY_DELAY: Duration = Duration::from_secs(5);

/// Maintains the collection of one kind of session. Never returns.
pub(super) async fn run(core: Arc<Core>) {
    tokio::join!(maintain_indexes(Arc::clone(&core)), continue_sweeps(core));
}

/// Creates the indexes as soon as the database answers, and once a minute checks that they are
/// there. Sessions work without them, so a failure is logged and does not stop the application.
async fn maintain_indexes(core: Arc<Core>) {
    let mut retry_delay = MIN_RETRY_DELAY;
    let mut is_reported = false;
    loop {
        let result = if core.config.indexes {
            core.store.ensure_indexes().await
        } else {
            core.store.ping().await
        };
        match result {
            Ok(()) => {
                if is_reported {
                    rocket::info!("Sessions: the store and its indexes are available again");
                }
                (retry_delay, is_reported) = (MIN_RETRY_DELAY, false);
                tokio::time::sleep(CHECK_INTERVAL).await;
            }
            Err(error) => {
                // Without the privilege to create indexes the store can be ready nevertheless.
                if core.config.indexes && !core.is_ready() {
                    let _ = core.store.ping().await;
                }
                if !is_reported {
                    rocket::warn!(
                        "Sessions: the store or its indexes are unavailable; retrying in the \
                         background"
                    );
                    error.log();
                }
                is_reported = true;
                tokio::time::sleep(retry_delay).await;
                let limit = match core.is_ready() {
                    true => CHECK_INTERVAL,
                    false => MAX_UNREADY_DELAY,
                };
                retry_delay = (retry_delay * 2).min(limit);
            }
        }
    }
}

async fn continue_sweeps(core: Arc<Core>) {
    let mut epoch = None;
    loop {
        let pause = match core.continue_sweep(&mut epoch).await {
            Ok(true) => SWEEP_CHECK_INTERVAL,
            // Without the database there is nothing to continue.
            Ok(false) | Err(_) => CHECK_INTERVAL,
        };
        tokio::time::sleep(pause).await;
    }
}
