//! Where logins lie on Windows, and how helpers end there.

use std::path::PathBuf;

use tokio::process::{Child, Command};

/// The variable with the user's folder.
pub(super) const HOME: &str = "USERPROFILE";
/// The PATH where the environment has none.
pub(super) const PATH: &str = r"C:\Windows\System32";
/// The flag with which a process gets a console without a window (`CREATE_NO_WINDOW`).
const NO_WINDOW: u32 = 0x0800_0000;

/// Windows has no folder of logins that last until the system restarts.
pub(super) fn runtime_folder() -> Option<PathBuf> {
    None
}

/// Lets the helper show no window.
pub(super) fn prepare(command: &mut Command) {
    command.creation_flags(NO_WINDOW);
}

/// Does nothing: tokio kills the helper itself when it is dropped (`kill_on_drop`). What the helper started lives on.
pub(super) fn kill_group(_: &Child) {}
