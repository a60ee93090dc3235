//! Spans of loads, commits and touches, for the application's `tracing` subscriber.
//!
//! No field holds an id, a user, a value or a secret. Without the feature `tracing` all types here are
//! empty, and futures pass through.

#[cfg(not(feature = "tracing"))]
pub(crate) use disabled::{Origin, RequestSpan, SharedCommand, carried, run_batch};
#[cfg(feature = "tracing")]
pub(crate) use enabled::{Origin, RequestSpan, SharedCommand, carried, run_batch};

#[cfg(feature = "tracing")]
mod enabled {
    use std::future::Future;
    use std::pin::Pin;

    use tracing::field::Empty;
    use tracing::instrument::Instrumented;
    use tracing::{Instrument, Span, info_span};

    use crate::error::Operation;

    const TARGET: &str = "rocket_mongo_session";

    /// The span of the request that a session is of.
    pub(crate) struct RequestSpan(Span);

    impl RequestSpan {
        pub(crate) fn new(span: Span) -> Self {
            RequestSpan(span)
        }

        #[cfg(test)]
        pub(crate) fn none() -> Self {
            RequestSpan(Span::none())
        }

        /// Runs a load in a span of its own. `outcome` names its outcome.
        ///
        /// It is pinned by the caller: these futures are large, and each function that takes one by
        /// value copies it.
        pub(crate) async fn load<T>(
            &self,
            kind: &str,
            outcome: impl Fn(&T) -> &'static str,
            load: Pin<&mut impl Future<Output = T>>,
        ) -> T {
            let span = info_span!(
                target: TARGET, parent: &self.0, "session.load", kind, outcome = Empty
            );
            run(span, outcome, load).await
        }

        /// Runs a commit, or a write that only records a use, in a span of its own.
        pub(crate) async fn commit<T>(
            &self,
            kind: &str,
            is_touch: bool,
            outcome: impl Fn(&T) -> &'static str,
            commit: Pin<&mut impl Future<Output = T>>,
        ) -> T {
            let span = match is_touch {
                true => info_span!(
                    target: TARGET, parent: &self.0, "session.touch", kind, outcome = Empty
                ),
                false => info_span!(
                    target: TARGET, parent: &self.0, "session.commit", kind, outcome = Empty
                ),
            };
            run(span, outcome, commit).await
        }
    }

    async fn run<T>(
        span: Span,
        outcome: impl Fn(&T) -> &'static str,
        operation: Pin<&mut impl Future<Output = T>>,
    ) -> T {
        let done = operation.instrument(span.clone()).await;
        span.record("outcome", outcome(&done));
        done
    }

    /// Keeps the current span current in a task.
    pub(crate) fn carried<F: Future>(future: F) -> Instrumented<F> {
        future.in_current_span()
    }

    /// The span in which an operation was asked for.
    pub(crate) struct Origin(Span);

    impl Origin {
        pub(crate) fn current() -> Self {
            Origin(Span::current())
        }
    }

    /// A command for several requests: a span that follows from that of each.
    pub(crate) struct SharedCommand(Span);

    impl SharedCommand {
        pub(crate) fn new(operation: Operation) -> Self {
            SharedCommand(info_span!(
                target: TARGET, parent: None, "session.command", %operation, requests = Empty
            ))
        }

        pub(crate) fn follows_from(&self, origin: &Origin) {
            self.0.follows_from(&origin.0);
        }

        /// Runs the command for this number of operations.
        pub(crate) fn run<F: Future>(self, operations: usize, command: F) -> Instrumented<F> {
            self.0.record("requests", operations as u64);
            command.instrument(self.0)
        }
    }

    /// Runs a batch: in the span of its only operation, or as a shared command.
    pub(crate) fn run_batch<F: Future>(
        operation: Operation,
        origins: Vec<Origin>,
        command: F,
    ) -> Instrumented<F> {
        if let [Origin(only)] = origins.as_slice() {
            return command.instrument(only.clone());
        }
        let shared = SharedCommand::new(operation);
        for origin in &origins {
            shared.follows_from(origin);
        }
        shared.run(origins.len(), command)
    }
}

#[cfg(not(feature = "tracing"))]
mod disabled {
    use std::future::Future;
    use std::pin::Pin;

    use crate::error::Operation;

    pub(crate) struct RequestSpan;

    impl RequestSpan {
        #[cfg(test)]
        pub(crate) fn none() -> Self {
            RequestSpan
        }

        pub(crate) async fn load<T>(
            &self,
            _: &str,
            _: impl Fn(&T) -> &'static str,
            load: Pin<&mut impl Future<Output = T>>,
        ) -> T {
            load.await
        }

        pub(crate) async fn commit<T>(
            &self,
            _: &str,
            _: bool,
            _: impl Fn(&T) -> &'static str,
            commit: Pin<&mut impl Future<Output = T>>,
        ) -> T {
            commit.await
        }
    }

    pub(crate) fn carried<F: Future>(future: F) -> F {
        future
    }

    pub(crate) struct Origin;

    impl Origin {
        pub(crate) fn current() -> Self {
            Origin
        }
    }

    pub(crate) struct SharedCommand;

    impl SharedCommand {
        pub(crate) fn new(_: Operation) -> Self {
            SharedCommand
        }

        pub(crate) fn follows_from(&self, _: &Origin) {}

        pub(crate) fn run<F: Future>(self, _: usize, command: F) -> F {
            command
        }
    }

    pub(crate) fn run_batch<F: Future>(_: Operation, _: Vec<Origin>, command: F) -> F {
        command
    }
}
