//! The machine on Linux.

use std::io;
use std::sync::Arc;

use containers::process::linux::{Linux, may_read_namespaces};
use containers::process::{ManagerAccount, Processes};

/// The processes that /proc shows. Linux has no container manager.
pub(super) fn processes(_: ManagerAccount) -> io::Result<Arc<dyn Processes>> {
    Ok(Arc::new(Linux::new()?))
}

pub(super) fn reads_namespaces() -> bool {
    may_read_namespaces()
}
