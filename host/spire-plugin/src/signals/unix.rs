//! The signals as Unix has them.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use crate::limits::TERMINATION_GRACE;

/// Ignores SIGINT from here on, and calls `terminate` a moment after SIGTERM.
pub(crate) fn watch(terminate: impl Fn() + Send + 'static) -> io::Result<()> {
    // SIGINT reaches the whole group on Ctrl-C; the agent stops its plugins in order.
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
