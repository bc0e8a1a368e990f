//! The socket on which a plugin is served: a Unix domain socket, or a TCP port of this machine on Windows.

#[cfg(windows)]
mod peer;
#[cfg(unix)]
pub(crate) mod unix;
#[cfg(windows)]
mod windows;

use std::io;

use tokio_stream::{Stream, StreamExt as _};

#[cfg(unix)]
use self::unix as system;
#[cfg(windows)]
use self::windows as system;
use crate::limits::ACCEPT_PAUSE;

pub use self::system::Listener;
pub(crate) use self::system::{Address, NETWORK, Socket, dial};

#[cfg(test)]
pub(crate) use self::system::tests;

/// The connections that a listener accepts. A failed one is logged, and followed by a pause.
pub(crate) fn connections(listener: Listener) -> impl Stream<Item = io::Result<system::Connection>> {
    system::accepted(listener).then(async |accepted| {
        if let Err(error) = &accepted {
            tracing::warn!("a connection cannot be accepted: {error}");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        accepted
    })
}
