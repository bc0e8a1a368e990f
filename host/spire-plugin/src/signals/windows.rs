//! The implementation with the events of Windows' console.

use std::io;

use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};

use crate::limits::TERMINATION_GRACE;

/// Ignores Ctrl-C and Ctrl-Break from now on, and calls `terminate` one `TERMINATION_GRACE` after the console was closed
/// or the system began to shut down. Windows ends a process of a console that was closed after 5 s.
///
/// The event of a user that logs off is left alone. Only services get it, it does not say which user it is, and the
/// system ends no service for it (<https://learn.microsoft.com/windows/console/handlerroutine>).
pub(crate) fn watch(terminate: impl Fn() + Send + 'static) -> io::Result<()> {
    // Windows sends Ctrl-C to every process of the console, but the agent stops its plugins in order.
    let (mut interrupts, mut breaks) = (ctrl_c()?, ctrl_break()?);
    let (mut closes, mut shutdowns) = (ctrl_close()?, ctrl_shutdown()?);
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                _ = interrupts.recv() => None,
                _ = breaks.recv() => None,
                _ = closes.recv() => Some("the console was closed"),
                _ = shutdowns.recv() => Some("the system shuts down"),
            };
            let Some(event) = event else {
                tracing::debug!("Ctrl-C or Ctrl-Break ignored: the agent stops its plugins in order");
                continue;
            };
            tracing::info!("{event}: a stop is coming");
            tokio::time::sleep(TERMINATION_GRACE).await;
            terminate();
        }
    });
    Ok(())
}
