//! The socket on which a plugin is served.

mod unix;

pub use self::unix::SocketDirectory;
pub(crate) use self::unix::{NETWORK, Socket, connections, dial, directories};
