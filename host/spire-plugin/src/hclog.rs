//! The log. Writes one JSON object a line to stderr, in the format of hashicorp/go-hclog, which the agent parses.
//!
//! `@message`, `@level` and `@timestamp` are always strings, because any other type there kills the agent. All other
//! fields are written as strings, too, because the agent reads numbers as floats. Only events of the crates that the
//! program lists are logged, because those of another dependency could hold secrets.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use serde_json::{Map, Value};
use time::OffsetDateTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::limits::{LOG_FIELD, LOG_FLUSH, LOG_LINE, LOG_QUEUE, LOG_STACK};

/// The crate of this layer, whose events always pass.
const OWN: &str = env!("CARGO_CRATE_NAME");

/// A message to the thread that writes to stderr.
enum Message {
    /// A line with its newline.
    Line(Vec<u8>),
    /// A request to answer once all earlier messages are written.
    Flush(SyncSender<()>),
}

/// The queue of the thread that writes to stderr.
static LINES: OnceLock<SyncSender<Message>> = OnceLock::new();
/// The number of lines dropped because the queue was full, since this number was last logged.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Logs the events of these crates and panics to stderr from now on. If the reader of stderr is slow or gone, lines are
/// lost, but no attestation is delayed.
///
/// Events of level TRACE are never logged, and those of this crate always are. An event's crate is the first part of
/// its target.
///
/// The first crate is the program's. It is the `@module` of lines that do not come from an event: panics, and the
/// number of dropped lines.
pub fn install(crates: &'static [&'static str]) {
    let module = crates.first().copied().unwrap_or(OWN);
    let (sender, receiver) = sync_channel::<Message>(LOG_QUEUE);
    let writer = move || {
        for message in receiver {
            // A failure means that stderr is closed or that the caller of `flush` stopped waiting. Neither matters to
            // anything else.
            let _ = match message {
                Message::Line(line) => std::io::stderr().write_all(&line).is_ok(),
                Message::Flush(done) => done.send(()).is_ok(),
            };
            let dropped = DROPPED.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                let text = format!("{dropped} log lines were dropped: stderr was not read in time");
                let _ = std::io::stderr().write_all(&line("warn", module, text_only(&text)));
            }
        }
    };
    let thread = std::thread::Builder::new().name("log".to_owned()).stack_size(LOG_STACK).spawn(writer);
    if thread.is_ok() && LINES.set(sender).is_ok() {
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Hclog { crates }));
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("no message");
        let mut fields = text_only(&format!("panic: {text}"));
        fields.insert("place".to_owned(), Value::from(place));
        send(line("error", module, fields));
    }));
}

/// Waits until all earlier lines are written, but no longer than `LOG_FLUSH`, because stderr may be stuck.
pub fn flush() {
    let (done, written) = sync_channel(1);
    if let Some(lines) = LINES.get()
        && lines.try_send(Message::Flush(done)).is_ok()
    {
        let _ = written.recv_timeout(LOG_FLUSH);
    }
}

/// The layer that writes lines in hclog's format.
struct Hclog {
    /// The crates whose events are logged, in addition to [`OWN`].
    crates: &'static [&'static str],
}

impl<S: Subscriber> Layer<S> for Hclog {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        passes(metadata, self.crates) && *metadata.level() != Level::TRACE
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        send(line(level(metadata.level()), &metadata.target().replace("::", "."), fields.0));
    }
}

/// Whether an event may be logged, because it comes from one of these crates or from the crate of this layer. An
/// event's target begins with the name of its crate.
pub fn passes(metadata: &Metadata<'_>, crates: &[&str]) -> bool {
    metadata.target().split("::").next().is_some_and(|name| name == OWN || crates.contains(&name))
}

fn level(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

fn line(level: &'static str, module: &str, mut fields: Map<String, Value>) -> Vec<u8> {
    fields.entry("@message").or_insert_with(|| Value::from(""));
    fields.insert("@level".to_owned(), Value::from(level));
    fields.insert("@module".to_owned(), Value::from(module));
    fields.insert("@timestamp".to_owned(), Value::from(timestamp(OffsetDateTime::now_utc())));
    let mut text = Value::Object(fields).to_string().into_bytes();
    if text.len() > LOG_LINE {
        // Each field is bounded, so there were many fields or escaping made them long. The module still tells where the
        // line came from.
        return line(level, module, text_only("a log line was too long"));
    }
    text.push(b'\n');
    text
}

/// Formats a time as RFC 3339 with exactly six digits of a second. The agent takes a line with another format for plain
/// text.
fn timestamp(now: OffsetDateTime) -> String {
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        now.year(),
        u8::from(now.month()),
        now.day(),
        now.hour(),
        now.minute(),
        now.second(),
        now.microsecond()
    )
}

fn send(line: Vec<u8>) {
    if let Some(lines) = LINES.get()
        && let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = lines.try_send(Message::Line(line))
    {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn insert(&mut self, field: &Field, value: String) {
        let name = match field.name() {
            "message" => "@message",
            name => name,
        };
        self.0.insert(name.to_owned(), bounded(&value));
    }
}

/// The fields of a line that has only a message.
fn text_only(text: &str) -> Map<String, Value> {
    Map::from_iter([("@message".to_owned(), bounded(text))])
}

fn bounded(text: &str) -> Value {
    Value::from(text.get(..text.floor_char_boundary(LOG_FIELD)).unwrap_or_default())
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.insert(field, text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Records the targets of the events that are logged.
    struct Passed(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Passed {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().unwrap().push(event.metadata().target().to_owned());
        }
    }

    #[test]
    fn only_events_of_the_listed_crates_pass_and_no_traces() {
        let passed = Arc::new(Mutex::new(Vec::new()));
        let subscriber =
            tracing_subscriber::registry().with(Passed(Arc::clone(&passed))).with(Hclog { crates: &["listed"] });
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "listed", "");
            tracing::debug!(target: "listed::module", "");
            tracing::warn!("this crate's own");
            tracing::trace!(target: "listed", "too fine for the agent");
            tracing::error!(target: "listed_too", "");
            tracing::error!(target: "hyper::proto", "");
        });
        assert_eq!(*passed.lock().unwrap(), ["listed", "listed::module", module_path!()]);
    }

    #[test]
    fn a_line_is_what_the_agent_parses() {
        let fields = Map::from_iter([
            ("@message".to_owned(), Value::from("a\n\u{1b}[31m\"b\"")),
            ("pid".to_owned(), Value::from("7")),
        ]);
        let text = line("warn", "docker_attestor.attestor", fields);
        assert_eq!(text.iter().filter(|&&byte| byte == b'\n').count(), 1);
        let value: Value = serde_json::from_slice(&text).unwrap();
        for key in ["@message", "@level", "@timestamp", "@module", "pid"] {
            assert!(value[key].is_string(), "{key}");
        }
        assert_eq!(value["@message"], "a\n\u{1b}[31m\"b\"");
    }

    #[test]
    fn the_timestamp_has_six_digits() {
        let time = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        assert_eq!(timestamp(time), "2023-11-14T22:13:20.000000Z");
    }

    #[test]
    fn no_line_is_longer_than_the_agent_reads() {
        let field = |number: usize| (format!("field{number}"), Value::from("x".repeat(LOG_FIELD)));
        for fields in [Map::from_iter((0..8).map(field)), text_only(&"\u{1}".repeat(1 << 20))] {
            let text = line("info", "m", fields);
            assert!(text.len() < 64 << 10);
            let value: Value = serde_json::from_slice(&text).unwrap();
            assert!(["@message", "@level", "@timestamp", "@module"].iter().all(|key| value[key].is_string()));
        }
    }
}
