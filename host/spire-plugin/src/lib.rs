#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod hclog;
pub mod metrics;
pub mod proto;

mod contained;
mod error;
mod goplugin;
mod handshake;
mod health;
mod init;
mod limits;
mod parent;
mod plugin;
mod run;
mod server;
mod signals;
mod socket;

pub use prost;
pub use tonic;
pub use tracing;

pub use self::contained::contained;
pub use self::error::{Refusal, ServeError};
pub use self::handshake::Environment;
pub use self::plugin::Plugin;
pub use self::run::run;
pub use self::server::{Services, Started};
pub use self::socket::SocketDirectory;
