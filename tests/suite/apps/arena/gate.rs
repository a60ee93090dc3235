//! Gates: places in a handler where it waits until the test opens them. And what handlers follow.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rocket::tokio::sync::Semaphore;
use rocket_mongo_session::Ended;

/// The gates of one application, by number.
#[derive(Clone, Default)]
pub struct Gates(Arc<All>);

#[derive(Default)]
struct All {
    next: AtomicU64,
    gates: Mutex<HashMap<u64, Gate>>,
    followed: Mutex<HashMap<u64, Ended>>,
}

impl Gates {
    pub fn make(&self) -> Gate {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let gate = Gate {
            number,
            arrived: Arc::new(Semaphore::new(0)),
            open: Arc::new(Semaphore::new(0)),
        };
        self.lock().insert(number, gate.clone());
        gate
    }

    /// What a handler does at a gate.
    pub async fn pass(&self, number: u64) {
        // Forgotten here: each is passed once.
        let gate = self.lock().remove(&number);
        if let Some(gate) = gate {
            gate.pass().await;
        }
    }

    /// What a handler follows.
    pub fn follow(&self, number: u64, ended: Ended) {
        let followed = self.0.followed.lock();
        let mut followed = followed.unwrap_or_else(PoisonError::into_inner);
        followed.insert(number, ended);
    }

    /// Takes it out; `None` when no handler has come to it.
    pub fn followed(&self, number: u64) -> Option<Ended> {
        let followed = self.0.followed.lock();
        let mut followed = followed.unwrap_or_else(PoisonError::into_inner);
        followed.remove(&number)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Gate>> {
        self.0.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
pub struct Gate {
    number: u64,
    arrived: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Gate {
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Resolves when a handler waits at it.
    pub async fn arrived(&self) {
        if let Ok(arrived) = self.arrived.acquire().await {
            arrived.forget();
        }
    }

    pub fn open(&self) {
        self.open.add_permits(1);
    }

    pub async fn pass(&self) {
        self.arrived.add_permits(1);
        if let Ok(open) = self.open.acquire().await {
            open.forget();
        }
    }
}
