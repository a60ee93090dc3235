//! Ctrl-C, TERM and a terminal that closes: asked for between batches, so that what runs ends whole.

#[cfg(unix)]
use std::io::{IsTerminal, stderr};
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
    /// Listens for Ctrl-C, TERM and the end of its terminal from now on. A second one ends the process
    /// at once.
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
    use signal::unix::SignalKind;
    select! {
        _ = signal::ctrl_c() => {}
        () = received(SignalKind::terminate()) => {}
        // `nohup`, which ignores it, leaves no terminal.
        () = received(SignalKind::hangup()), if stderr().is_terminal() => {}
    }
}

/// Returns when the process gets this signal; never if it cannot listen.
#[cfg(unix)]
async fn received(kind: signal::unix::SignalKind) {
    match signal::unix::signal(kind) {
        Ok(mut signals) => drop(signals.recv().await),
        Err(_) => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn one_signal() {
    let _ = signal::ctrl_c().await;
}
