#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

pub mod hclog;
pub mod metrics;
pub mod proto;

mod account;
mod connection;
mod contained;
mod error;
mod goplugin;
mod handshake;
mod health;
mod init;
mod limits;
mod local;
mod parent;
mod plugin;
mod routes;
mod run;
mod server;
mod signals;
mod socket;
mod stdio;

pub use prost;
pub use tonic;
pub use tracing;

pub use self::account::Account;
pub use self::contained::contained;
pub use self::error::{Refusal, ServeError};
pub use self::handshake::Environment;
pub use self::local::{LocalListener, LocalSocket, LocalStream};
pub use self::parent::parent_id;
pub use self::plugin::Plugin;
pub use self::run::run;
pub use self::server::{Services, Started};
pub use self::socket::Listener;
