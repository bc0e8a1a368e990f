//! Where logins lie on Unix, and how helpers end there.

use std::path::PathBuf;

use rustix::process::{Pid, Signal, getuid, kill_process_group};
use tokio::process::{Child, Command};

/// The variable with the user's folder.
pub(super) const HOME: &str = "HOME";
/// The PATH where the environment has none.
pub(super) const PATH: &str = "/usr/bin:/bin";

/// The folder of the user's logins that last until the system restarts.
pub(super) fn runtime_folder() -> Option<PathBuf> {
    Some(PathBuf::from(format!("/run/containers/{}", getuid().as_raw())))
}

/// Gives the helper a process group of its own.
pub(super) fn prepare(command: &mut Command) {
    command.process_group(0);
}

/// Kills the process group of a helper that has not ended.
pub(super) fn kill_group(helper: &Child) {
    // Without an id the helper has ended by itself, and another process may have its number by now.
    let id = helper.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(id) = id {
        let _ = kill_process_group(id, Signal::KILL);
    }
}
