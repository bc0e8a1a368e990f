//! Why a plugin is not served.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

/// Why a plugin could not be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The client asks for something that this crate does not support.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The socket could not be created.
    #[error("the plugin's socket cannot be made in {}: {error}", .directory.display())]
    Socket {
        /// The directory in which the socket's own directory was to be created.
        directory: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// No port could be listened on (Windows).
    #[error(
        "the plugin can listen on no port from {first} to {last} of 127.0.0.1: {error}; free one, or name others \
         with PLUGIN_MIN_PORT and PLUGIN_MAX_PORT"
    )]
    Ports {
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
        /// The error of the last port that was tried.
        error: io::Error,
    },
    /// A handler of signals, or of Windows' console events, could not be set.
    #[error("the handlers of signals that stop the plugin cannot be set: {0}")]
    Signals(io::Error),
    /// The thread that watches the parent process could not be started.
    #[error("the process that started the plugin cannot be watched: {0}")]
    Parent(io::Error),
    /// The handshake could not be written.
    #[error("the handshake cannot be written to stdout: {0}")]
    Handshake(io::Error),
}

/// A request of a go-plugin client, made in the plugin's environment, that this crate does not support. SPIRE makes
/// none of these requests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// None of the client's protocol versions is 1.
    #[error("PLUGIN_PROTOCOL_VERSIONS is {0:?}: this plugin speaks version 1 only")]
    Protocol(String),
    /// The client wants all connections of the broker on one socket.
    #[error("PLUGIN_MULTIPLEX_GRPC is set: this plugin does not multiplex its broker; SPIRE does not ask for it")]
    Multiplex,
    /// The handshake cannot express the socket's directory.
    #[error("PLUGIN_UNIX_SOCKET_DIR is {0:?}: it must be UTF-8 without control characters and without \"|\"")]
    SocketDirectory(OsString),
    /// The socket's directory would lie in a directory whose owner could replace the socket.
    #[error(
        "PLUGIN_UNIX_SOCKET_DIR is {directory:?}, which belongs to user {owner}: only root or the plugin's user {user} may own it; \
         chown it, or name another"
    )]
    ForeignSocketDirectory {
        /// The directory.
        directory: PathBuf,
        /// The uid of its owner.
        owner: u32,
        /// The uid of the plugin.
        user: u32,
    },
    /// The socket's directory would lie in a directory where other users could replace the socket.
    #[error(
        "PLUGIN_UNIX_SOCKET_DIR is {directory:?}, which others may write to (mode {mode:04o}): chmod go-w it, set its sticky bit, \
         or name another"
    )]
    WritableSocketDirectory {
        /// The directory.
        directory: PathBuf,
        /// The permission bits of its mode.
        mode: u32,
    },
    /// A variable holds no port.
    #[error("{variable} is {value:?}: it must be a port, a number from 1 to 65535")]
    Port {
        /// The name of the variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// No port lies between the two that the client names.
    #[error("PLUGIN_MIN_PORT is {first} and PLUGIN_MAX_PORT is {last}: the first port must not be above the last")]
    PortRange {
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
    },
    /// The client wants TLS with certificates that both sides generate.
    #[error("PLUGIN_CLIENT_CERT is set: this plugin does not speak AutoMTLS; SPIRE does not ask for it")]
    AutoMtls,
}
