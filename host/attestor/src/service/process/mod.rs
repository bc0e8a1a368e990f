//! The process of the plugin: its file descriptors, its memory, and the signal that asks it to reload.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(super) use self::unix::{ReloadRequests, give_back_program, raise_descriptor_limit};
#[cfg(windows)]
pub(super) use self::windows::{ReloadRequests, give_back_program, raise_descriptor_limit};
