//! The signals and console events that tell a plugin to stop.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use self::unix::watch;
#[cfg(windows)]
pub(crate) use self::windows::watch;
