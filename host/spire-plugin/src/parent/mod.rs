//! The process that started the plugin.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
use self::linux as system;
#[cfg(windows)]
use self::windows as system;

pub use self::system::parent_id;
pub(crate) use self::system::watch;
