//! The limits that only Windows needs.

use std::time::Duration;

/// Bytes that a named pipe holds in each direction until they are read. A plugin's answer fits into it, so that the plugin
/// waits for no reader.
pub(crate) const PIPE_BUFFER: u32 = 64 << 10;
/// The pause before a named pipe is opened again whose instances are all taken.
pub(crate) const PIPE_PAUSE: Duration = Duration::from_millis(10);
/// How long a search waits for the owner of a named pipe. A pipe whose instances are all taken does not tell it.
pub(crate) const PIPE_OWNER: Duration = Duration::from_secs(1);
/// Named pipes with a plugin's name that a search asks for their owner. Any user may create some.
pub(crate) const PIPES: usize = 1_024;

/// Bytes of the system's table of TCP connections: some 700,000 of them.
pub(crate) const TCP_TABLE: u32 = 16 << 20;
/// Connections that are checked at the same time. Any user may make some.
pub(crate) const PEER_CHECKS: usize = 1_024;
/// How long a connection may take to say something. The agent's client speaks at once.
pub(crate) const PEER_SPEAKS: Duration = Duration::from_secs(1);
