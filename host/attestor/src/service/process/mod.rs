//! The process of the plugin: its file descriptors, and the signal that asks it to reload.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(super) use self::unix::{ReloadRequests, raise_descriptor_limit};
#[cfg(windows)]
pub(super) use self::windows::{ReloadRequests, raise_descriptor_limit};
