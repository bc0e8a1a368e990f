//! The command line's log: plain lines on stderr.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use bounded::text::printable;
use spire_plugin::hclog;
use tracing::field::{Field, Visit};
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

struct Stderr(Level);

impl<S: Subscriber> Layer<S> for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        hclog::passes(metadata, LOGGED) && *metadata.level() <= self.0
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let level = event.metadata().level().as_str().to_lowercase();
        let _ = writeln!(std::io::stderr(), "{level}: {}{}", printable(&line.message), printable(&line.fields));
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
