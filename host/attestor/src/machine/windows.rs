//! The machine on Windows.

use std::io;
use std::sync::Arc;

use containers::process::windows::Windows;
use containers::process::{ManagerAccount, Processes};

/// The processes that Windows shows, and the container manager of this account.
pub(super) fn processes(manager: ManagerAccount) -> io::Result<Arc<dyn Processes>> {
    Ok(Arc::new(Windows::new(manager)))
}

/// Windows has no pid namespaces, so that nothing about them is left out.
pub(super) fn reads_namespaces() -> bool {
    true
}
