//! The plugin as spire-agent runs it.

mod attest;
mod config;
mod goplugin;
mod handshake;
mod health;
mod init;
pub mod metrics;
mod parent;
mod server;
mod services;
pub mod status;

pub use self::handshake::{Environment, Refused};
use self::server::contained;
pub use self::server::{ServeError, serve};
