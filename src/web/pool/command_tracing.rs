//! Detects that the driver's command tracing is logged, which shows the contents of sessions.
//!
//! With its feature `tracing-unstable` the driver emits every command and reply as an event at debug
//! level: values, flash messages and CSRF secrets, and the digests of cookies' secrets.

use mongodb::options::ClientOptions;
use tracing::Level;

/// Returns whether the application's subscriber takes the driver's commands.
pub(in crate::web) fn is_logged() -> bool {
    is_compiled_in() && tracing::enabled!(target: "mongodb::command", Level::DEBUG)
}

/// Returns whether the application switched the driver's feature on. A crate cannot ask for the
/// features of another, but the driver's options have one more field with it.
fn is_compiled_in() -> bool {
    format!("{:?}", ClientOptions::builder().build()).contains("tracing_max_document_length_bytes")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use rocket::tokio::runtime::Builder;
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    /// Takes everything, and remembers whether something came from the driver.
    #[derive(Clone, Default)]
    struct Everything {
        has_driver_event: Arc<AtomicBool>,
        spans: Arc<AtomicU32>,
    }

    impl Subscriber for Everything {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(u64::from(self.spans.fetch_add(1, Ordering::Relaxed)) + 1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            if event.metadata().target().starts_with("mongodb::") {
                self.has_driver_event.store(true, Ordering::Relaxed);
            }
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    /// Holds with and without the driver's feature: `.ci/run` runs it both ways.
    #[test]
    fn command_tracing_is_seen_exactly_where_the_driver_has_it() {
        assert!(!is_logged(), "no subscriber");
        let everything = Everything::default();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        tracing::subscriber::with_default(everything.clone(), || {
            let selecting = async {
                let url = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=50";
                let client = mongodb::Client::with_uri_str(url).await.unwrap();
                client.list_database_names().await.unwrap_err();
            };
            runtime.block_on(selecting);
            let has_driver_event = everything.has_driver_event.load(Ordering::Relaxed);
            assert_eq!(is_logged(), has_driver_event);
        });
    }
}
