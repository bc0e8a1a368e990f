//! The command line's log: plain lines on stderr, or lines that a command prints itself.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use bounded::text::printable;
use spire_plugin::hclog;
use tracing::field::{Field, Visit};
use tracing::instrument::WithSubscriber as _;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::telemetry::LOGGED;

/// Installs the log, which writes warnings to stderr, or everything if `verbose`.
pub(super) fn install(verbose: bool) {
    let least = if verbose { Level::DEBUG } else { Level::WARN };
    // A process can set its subscriber only once, and the first one stays.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Stderr(least)));
}

/// Runs `work`, and returns the lines that it logged instead of writing them to stderr: warnings and errors, or everything if
/// everything is logged.
pub(super) async fn captured<T>(work: impl Future<Output = T>) -> (T, Vec<String>) {
    let least = if tracing::enabled!(Level::DEBUG) { Level::DEBUG } else { Level::WARN };
    let lines = Arc::new(Mutex::new(Vec::new()));
    let subscriber = tracing_subscriber::registry().with(Captured { least, lines: Arc::clone(&lines) });
    let done = work.with_subscriber(subscriber).await;
    let lines = std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner));
    (done, lines)
}

/// Keeps lines, at most [`CAPTURED`].
struct Captured {
    least: Level,
    lines: Arc<Mutex<Vec<String>>>,
}

/// The lines that are kept of one run.
const CAPTURED: usize = 256;

impl<S: Subscriber> Layer<S> for Captured {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        hclog::passes(metadata, LOGGED) && *metadata.level() <= self.least
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < CAPTURED {
            lines.push(line(event));
        }
    }
}

/// An event as a line of text.
fn line(event: &Event<'_>) -> String {
    let mut line = Line::default();
    event.record(&mut line);
    let level = event.metadata().level().as_str().to_lowercase();
    format!("{level}: {}{}", printable(&line.message), printable(&line.fields))
}

struct Stderr(Level);

impl<S: Subscriber> Layer<S> for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        hclog::passes(metadata, LOGGED) && *metadata.level() <= self.0
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let _ = writeln!(std::io::stderr(), "{}", line(event));
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}
