//! The limits that only Unix needs.

use std::time::Duration;

/// How often getppid(2) is asked where the kernel has no pidfd (before Linux 5.3).
pub(crate) const PARENT_POLL: Duration = Duration::from_secs(1);
/// Attempts to create the socket's directory. Its name is random, and another plugin's cleanup can remove it only
/// between two system calls.
pub(crate) const DIRECTORY_TRIES: u32 = 16;
