//! The process that started the plugin.

mod linux;

pub(crate) use self::linux::watch;
