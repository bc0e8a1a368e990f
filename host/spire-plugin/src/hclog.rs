//! The log: one JSON object a line on stderr, in the form of hashicorp/go-hclog, which the agent parses.
//!
//! `@message`, `@level` and `@timestamp` are always strings: anything else there kills the agent. Numbers become floats in the
//! agent, so that all fields are written as strings. Only events of the crates that the program lists pass: those of another
//! dependency could hold secrets.

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

/// What the thread that writes to stderr is sent.
enum Message {
    /// A line with its end.
    Line(Vec<u8>),
    /// Asks for an answer once everything before is written.
    Flush(SyncSender<()>),
}

/// The queue of the thread that writes to stderr.
static LINES: OnceLock<SyncSender<Message>> = OnceLock::new();
/// Lines that found the queue full, since the last time that this was logged.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Sends the events of these crates to stderr from now on, and panics too. A reader of stderr that is slow or gone costs lines,
/// never an attestation.
///
/// Events of level TRACE never pass, and those of this crate always do. An event's crate is the first part of its target.
///
/// The first crate is the program's. It is the `@module` of lines that no event wrote: panics, and how many lines were dropped.
pub fn install(crates: &'static [&'static str]) {
    let module = crates.first().copied().unwrap_or(OWN);
    let (sender, receiver) = sync_channel::<Message>(LOG_QUEUE);
    let writer = move || {
        for message in receiver {
            // An error is a closed stderr, or a caller that did not wait: nobody reads, and nothing else depends on it.
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

/// Waits until what was logged so far has been written, at most a moment: stderr may be stuck.
pub fn flush() {
    let (done, written) = sync_channel(1);
    if let Some(lines) = LINES.get()
        && lines.try_send(Message::Flush(done)).is_ok()
    {
        let _ = written.recv_timeout(LOG_FLUSH);
    }
}

/// The layer that writes hclog's lines.
struct Hclog {
    /// The crates whose events pass, beside [`OWN`].
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

/// Whether an event may be logged: it is of one of these crates, or of the crate of this layer. An event's target begins with the
/// name of its crate.
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
        // Each field is bounded: they were many, or escaping made them long. Where it came from says more than nothing.
        return line(level, module, text_only("a log line was too long"));
    }
    text.push(b'\n');
    text
}

/// RFC 3339 with exactly six digits of a second: another form makes the agent take the line for plain text.
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

/// The fields of a line with a message only.
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

    /// Remembers the targets of the events that pass.
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
