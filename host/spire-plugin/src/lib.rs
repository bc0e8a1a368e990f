//! What any SPIRE plugin in Rust needs.

mod goplugin;

pub mod hclog;
mod health;
mod init;
pub mod metrics;
mod parent;
pub mod proto;
mod server;
mod socket;

pub use self::server::{Plugin, ServeError, Services, Started, contained};
pub use self::socket::{Environment, Refused, SocketDirectory};
