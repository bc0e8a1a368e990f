//! The standard handles of the plugin, of which the agent holds the other ends.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use self::unix::keep_from_children;
#[cfg(windows)]
pub(crate) use self::windows::keep_from_children;
