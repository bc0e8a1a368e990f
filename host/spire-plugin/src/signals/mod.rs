//! What tells a plugin to stop from outside.

mod unix;

pub(crate) use self::unix::watch;
