//! The implementation with Unix signals.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use crate::limits::TERMINATION_GRACE;

/// Ignores SIGINT from now on, and calls `terminate` one `TERMINATION_GRACE` after SIGTERM.
pub(crate) fn watch(terminate: impl Fn() + Send + 'static) -> io::Result<()> {
    // Ctrl-C sends SIGINT to the whole process group, but the agent stops its plugins in order.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupts.recv() => tracing::debug!("SIGINT ignored: the agent stops its plugins in order"),
                _ = terminations.recv() => {
                    tracing::info!("SIGTERM: a stop is coming");
                    tokio::time::sleep(TERMINATION_GRACE).await;
                    terminate();
                }
            }
        }
    });
    Ok(())
}
