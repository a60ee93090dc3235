//! Ctrl-C and TERM: asked for between batches, so that what runs ends whole.

use std::process;
use std::time::Duration;

use rocket::tokio::signal;
use rocket::tokio::sync::watch;
use rocket::tokio::time::sleep;
use rocket::tokio::{select, spawn};

/// Whether the command was asked to end.
#[derive(Clone)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Listens for Ctrl-C and TERM from now on. A second one ends the process at once.
    pub fn listen() -> Self {
        let (sender, receiver) = watch::channel(false);
        spawn(async move {
            one_signal().await;
            sender.send_replace(true);
            // Both signals may come from one key press.
            sleep(Duration::from_millis(300)).await;
            one_signal().await;
            process::exit(130);
        });
        Interrupt(receiver)
    }

    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when the command was asked to end.
    pub async fn wait(&mut self) {
        if self.0.wait_for(|is_set| *is_set).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
async fn one_signal() {
    use signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => select! {
            _ = signal::ctrl_c() => {},
            _ = terminate.recv() => {},
        },
        Err(_) => drop(signal::ctrl_c().await),
    }
}

#[cfg(not(unix))]
async fn one_signal() {
    let _ = signal::ctrl_c().await;
}
