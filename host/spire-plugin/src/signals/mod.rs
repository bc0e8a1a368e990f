//! The signals that tell a plugin to stop.

mod unix;

pub(crate) use self::unix::watch;
