//! The implementation on Unix.

use std::io;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Raises the soft limit of file descriptors to the hard limit. A process that waits to be attested holds one
/// descriptor and a cached container two, while systemd's soft limit of 1,024 is meant for programs that use select(2).
pub(in super::super) fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("the limit of file descriptors cannot be raised: {error}");
    }
}

/// The requests to look at policy and extensions again: SIGHUP.
pub(in super::super) struct ReloadRequests(Signal);

impl ReloadRequests {
    /// Handles the signal from now on.
    pub(in super::super) fn new() -> io::Result<ReloadRequests> {
        signal(SignalKind::hangup()).map(ReloadRequests)
    }

    /// Waits for the next request. Requests that arrive between two calls count as one. `None` if there will be no more.
    pub(in super::super) async fn next(&mut self) -> Option<()> {
        self.0.recv().await
    }
}
