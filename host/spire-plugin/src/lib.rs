//! What any SPIRE plugin in Rust needs.

mod goplugin;
mod handshake;
pub mod hclog;
mod health;
mod init;
pub mod metrics;
mod parent;
mod server;
pub mod services;

pub use self::handshake::{Environment, Refused, SocketDirectory};
pub use self::server::{Plugin, ServeError, Services, Started, contained};
