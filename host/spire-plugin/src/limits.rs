//! Every limit and timeout, each with its reason.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::ops::RangeInclusive;
use std::time::Duration;

#[cfg(unix)]
pub(crate) use self::unix::*;
#[cfg(windows)]
pub(crate) use self::windows::*;

/// How long calls in flight may still take once the plugin stops. The agent kills the plugin after 2 s.
pub(crate) const DRAIN: Duration = Duration::from_millis(1_500);
/// How long calls are still answered after SIGTERM. Under systemd the plugin gets SIGTERM with the agent, before Deinit.
pub(crate) const TERMINATION_GRACE: Duration = Duration::from_secs(1);
/// The pause between the answer to Shutdown and the stop. The graceful stop sends only complete answers, and this
/// answer must be one.
pub(crate) const SHUTDOWN_PAUSE: Duration = Duration::from_millis(50);

/// Calls that the agent may cancel before the server has accepted them. The agent, the only client, cancels a
/// workload's calls when the workload does. Beyond this number (20 by default) h2 closes the connection, which fails
/// all other calls.
pub(crate) const CANCELLED_CALLS: usize = 65_536;
/// The pause after accepting a connection failed. The usual reason is a lack of file descriptors, and some may be free
/// again by then.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The ports of a plugin on Windows, unless the client names others. They are go-plugin's own.
pub(crate) const PORTS: RangeInclusive<u16> = 10_000..=25_000;
/// Characters of a variable of the client that an error repeats.
pub(crate) const SHOWN_VALUE: usize = 100;

/// Bytes of a log line. The agent splits lines over 64 KiB, and loses them.
pub(crate) const LOG_LINE: usize = 60 << 10;
/// Bytes of one field of a log line, so that one long field leaves room for the others.
pub(crate) const LOG_FIELD: usize = 16 << 10;
/// Log lines that wait for a reader of stderr. The agent reads them as they come; more are dropped and counted.
pub(crate) const LOG_QUEUE: usize = 1_024;
/// The stack of the thread that writes the log. That thread holds one line at a time.
pub(crate) const LOG_STACK: usize = 256 << 10;
/// How long the end of the program waits for the log to be written. Stderr may be stuck.
pub(crate) const LOG_FLUSH: Duration = Duration::from_millis(200);

/// How often recorded metrics are sent.
pub(crate) const METRICS_INTERVAL: Duration = Duration::from_secs(1);
/// The time for one call of the metrics service. The agent answers within milliseconds, or hangs.
pub(crate) const METRICS_CALL: Duration = Duration::from_secs(2);
/// The longest pause after the metrics service failed. The pause doubles from [`METRICS_INTERVAL`] on.
pub(crate) const METRICS_BACKOFF: Duration = Duration::from_secs(60);
/// Samples that are kept for one series between two sends. Further ones are counted only.
pub(crate) const METRICS_SAMPLES: usize = 64;
/// Gauges that wait to be sent. Further ones are dropped.
pub(crate) const METRICS_GAUGES: usize = 256;
/// Series that wait to be sent, including gauges. Further ones are dropped. The bound is needed because a label's
/// values may come from outside.
pub(crate) const METRICS_SERIES: usize = 4_096;
