//! The implementation on Unix, where nothing is left to do.

/// Does nothing: a child process has the standard streams that its parent chooses, and no others.
pub(crate) fn keep_from_children() {}
