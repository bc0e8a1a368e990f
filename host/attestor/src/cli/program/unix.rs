//! The rights of a file on Unix.

use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt as _;

/// Whether anyone may execute the file.
pub(super) fn is_executable(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & 0o111 != 0
}
