//! Concurrent requests that wait in their handlers, to measure the memory of each.

use std::sync::atomic::{AtomicUsize, Ordering};

use rocket::tokio::sync::Semaphore;
use rocket::{Route, State, get, routes};

pub struct Held {
    now: AtomicUsize,
    leave: Semaphore,
}

impl Default for Held {
    fn default() -> Self {
        Held {
            now: AtomicUsize::new(0),
            leave: Semaphore::new(0),
        }
    }
}

impl Held {
    pub async fn wait(&self) {
        self.now.fetch_add(1, Ordering::SeqCst);
        if let Ok(leave) = self.leave.acquire().await {
            leave.forget();
        }
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

pub fn routes() -> Vec<Route> {
    routes![hold_none, held, release]
}

#[get("/hold-none")]
async fn hold_none(held: &State<Held>) -> &'static str {
    held.wait().await;
    "ok"
}

#[get("/held")]
fn held(held: &State<Held>) -> String {
    held.now.load(Ordering::SeqCst).to_string()
}

#[get("/release")]
fn release(held: &State<Held>) -> &'static str {
    held.leave.add_permits(held.now.load(Ordering::SeqCst));
    "ok"
}
