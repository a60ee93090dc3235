//! An in-memory subscriber: every span with its parent, fields and links, and every event.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// A span, by its number among all spans.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub name: &'static str,
    pub parent: Option<usize>,
    pub fields: BTreeMap<String, String>,
    pub follows: Vec<usize>,
    pub is_closed: bool,
}

#[derive(Default)]
struct Log {
    spans: Vec<Seen>,
    /// Everything that was said in words, for searches.
    text: String,
}

#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Log>>);

/// The number of a span, kept with it: ids are used again after a span has closed.
struct Number(usize);

impl Recorder {
    /// The subscriber, which takes every level.
    pub fn subscriber(&self) -> impl Subscriber + Send + Sync + use<> {
        tracing_subscriber::registry().with(self.clone())
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().expect("no panic while it is held")
    }

    pub fn spans(&self) -> Vec<Seen> {
        self.log().spans.clone()
    }

    pub fn named(&self, name: &str) -> Vec<(usize, Seen)> {
        let spans = self.spans().into_iter().enumerate();
        spans.filter(|(_, span)| span.name == name).collect()
    }

    pub fn text(&self) -> String {
        self.log().text.clone()
    }
}

struct Fields<'a>(&'a mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).expect("a new span");
        let parent = span.parent().and_then(|parent| number(&parent));
        let mut seen = Seen {
            name: attributes.metadata().name(),
            parent,
            ..Seen::default()
        };
        attributes.record(&mut Fields(&mut seen.fields));
        let mut log = self.log();
        writeln!(log.text, "{} {:?}", seen.name, seen.fields).expect("a string");
        span.extensions_mut().insert(Number(log.spans.len()));
        log.spans.push(seen);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(at) = context.span(id).and_then(|span| number(&span)) {
            let mut log = self.log();
            let Log { spans, text } = &mut *log;
            values.record(&mut Fields(&mut spans[at].fields));
            writeln!(text, "{:?}", spans[at].fields).expect("a string");
        }
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let number_of = |id| context.span(id).and_then(|span| number(&span));
        if let (Some(at), Some(follows)) = (number_of(id), number_of(follows)) {
            self.log().spans[at].follows.push(follows);
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        let target = event.metadata().target();
        writeln!(self.log().text, "{target} {fields:?}").expect("a string");
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        if let Some(at) = context.span(&id).and_then(|span| number(&span)) {
            self.log().spans[at].is_closed = true;
        }
    }
}

fn number<'a, S: LookupSpan<'a>>(
    span: &tracing_subscriber::registry::SpanRef<'a, S>,
) -> Option<usize> {
    span.extensions().get::<Number>().map(|number| number.0)
}
