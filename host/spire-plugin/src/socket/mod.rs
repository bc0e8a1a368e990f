//! The socket that a plugin is served on.

mod unix;

pub use self::unix::SocketDirectory;
pub(crate) use self::unix::{NETWORK, Socket, connections, dial, directories};
