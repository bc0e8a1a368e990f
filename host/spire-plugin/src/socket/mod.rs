//! The plugin's socket.

mod unix;

pub use self::unix::{Environment, Refused, SocketDirectory};
pub(crate) use self::unix::{Socket, directories};
