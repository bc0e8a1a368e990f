//! The implementation as a TCP port of 127.0.0.1, as go-plugin has it on Windows. Every local user can connect to such a port, so
//! that only connections of the process that started the plugin are served.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};

use super::peer::process_of;
use crate::error::ServeError;
use crate::handshake::{self, Environment};
use crate::limits::{PEER_CHECKS, PEER_SPEAKS};
use crate::parent::parent_id;
use crate::plugin::Plugin;

/// The listener of a plugin's socket, a TCP port of this machine.
pub use tokio::net::TcpListener as Listener;
pub(crate) use tokio::net::TcpStream as Connection;

/// The name of the network in the handshake and in the broker's offers.
pub(crate) const NETWORK: &str = "tcp";

/// The plugin's port, and the names of its local sockets.
#[derive(Debug)]
pub(crate) struct Socket {
    plugin: Plugin,
    address: SocketAddrV4,
    /// The part of the local sockets' names that no other user can take beforehand.
    random: u64,
}

impl Socket {
    /// Listens on the first port that is free.
    pub(crate) fn bind(plugin: Plugin, environment: &Environment) -> Result<(Socket, Listener), ServeError> {
        let ports = environment.ports()?;
        let (first, last) = (*ports.start(), *ports.end());
        let (port, listener) = first_free(ports).map_err(|error| ServeError::Ports { first, last, error })?;
        let socket = Socket {
            plugin,
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
            random: RandomState::new().hash_one(port),
        };
        Ok((socket, listener))
    }

    /// Whose socket it is.
    pub(crate) fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// The path of the pipe that is a local socket of this plugin. Its name holds the id of the agent's process, which
    /// tells several agents on a machine apart.
    pub(crate) fn local_path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!(r"\\.\pipe\{}-{}-{:016x}-{name}", self.plugin.name, parent_id(), self.random))
    }

    /// Writes the handshake with the address of this socket.
    pub(crate) fn announce(&self) -> io::Result<()> {
        handshake::announce(NETWORK, &self.address.to_string())
    }
}

/// The first port that can be listened on, and its listener. A port may be in use, or reserved by the system.
fn first_free(ports: RangeInclusive<u16>) -> io::Result<(u16, Listener)> {
    let mut last_error = io::Error::from(io::ErrorKind::AddrInUse);
    for port in ports {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                return Ok((port, Listener::from_std(listener)?));
            }
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

/// The connections that a listener accepts of the process that started the plugin, or of this process itself. Small messages are sent
/// at once.
///
/// Each connection is checked in a task of its own, so that those of other users delay none.
pub(crate) fn accepted(listener: Listener) -> impl Stream<Item = io::Result<Connection>> {
    let (send, receive) = mpsc::channel(1);
    tokio::spawn(accept(listener, send));
    ReceiverStream::new(receive)
}

/// Accepts connections until their receiver is dropped.
async fn accept(listener: Listener, send: mpsc::Sender<io::Result<Connection>>) {
    let clients = [parent_id(), std::process::id()];
    let permits = Arc::new(Semaphore::new(PEER_CHECKS));
    let warned = Arc::new(AtomicBool::new(false));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = send.closed() => return,
        };
        match accepted {
            Ok((connection, _)) => {
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
                let (send, warned) = (send.clone(), Arc::clone(&warned));
                tokio::spawn(async move {
                    let checked = check_peer(&connection, clients).await;
                    drop(permit);
                    match checked {
                        Ok(()) => {
                            let _ = connection.set_nodelay(true);
                            let _ = send.send(Ok(connection)).await;
                        }
                        // Another user may connect as often as it likes: one warning is enough.
                        Err(refused) => match warned.swap(true, Ordering::Relaxed) {
                            false => {
                                tracing::warn!("a connection was refused: {refused}; later ones are logged at debug");
                            }
                            true => tracing::debug!("a connection was refused: {refused}"),
                        },
                    }
                });
            }
            // A client that left before it was accepted. Any user can do that.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted) => {
            }
            Err(error) => drop(send.send(Err(error)).await),
        }
    }
}

/// Checks that a connection comes from one of these processes. Waits for its first byte, because wine does not know earlier whose
/// connection it is. A client of gRPC speaks first.
async fn check_peer(connection: &Connection, clients: [u32; 2]) -> io::Result<()> {
    let refused = |text: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    match timeout(PEER_SPEAKS, connection.peek(&mut [0])).await {
        Ok(Ok(1..)) => {}
        Ok(Ok(0)) => return refused("it was closed at once".to_owned()),
        Ok(Err(error)) => return Err(error),
        Err(_) => return refused("it says nothing".to_owned()),
    }
    match process_of(connection.peer_addr()?, connection.local_addr()?)? {
        Some(process) if clients.contains(&process) => Ok(()),
        Some(process) => {
            refused(format!("it comes from process {process}, and not from the one that started the plugin"))
        }
        None => refused("the system does not tell which process it comes from".to_owned()),
    }
}

/// The address of the agent's host services: a port of 127.0.0.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address(SocketAddrV4);

impl Address {
    /// The address of a broker's offer. `None` if it is not one of 127.0.0.1, since metrics go to this machine's agent only.
    pub(crate) fn parse(text: &str) -> Option<Address> {
        let address: SocketAddrV4 = text.parse().ok()?;
        (*address.ip() == Ipv4Addr::LOCALHOST && address.port() != 0).then_some(Address(address))
    }
}

/// Creates a channel to the agent's host services. The channel connects at the first call, and reconnects when the
/// connection is lost. It has no keepalive, because a Go server closes the connection of a client that pings too often.
pub(crate) fn dial(Address(services): &Address) -> Channel {
    let services = *services;
    // The endpoint's address is not used, because the connector has the address.
    Endpoint::from_static("http://host-services").connect_with_connector_lazy(tower::service_fn(
        move |_: Uri| async move {
            let connection = TcpStream::connect(services).await?;
            connection.set_nodelay(true)?;
            io::Result::Ok(TokioIo::new(connection))
        },
    ))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::ffi::OsString;
    use std::io::{Read as _, Write as _};

    use tokio_stream::StreamExt as _;

    use super::*;

    /// A listener of a test and its address. There is nothing that the test must keep.
    pub(crate) fn listen() -> ((), Listener, Address) {
        let (port, listener) = first_free(30_000..=40_000).unwrap();
        ((), listener, Address(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)))
    }

    const PLUGIN: Plugin = Plugin::workload_attestor("test-plugin").with_local_sockets(&["status.sock"]);

    fn environment(first: u16, last: u16) -> Environment {
        Environment::read("WorkloadAttestor", |name| match name {
            "PLUGIN_MIN_PORT" => Some(OsString::from(first.to_string())),
            "PLUGIN_MAX_PORT" => Some(OsString::from(last.to_string())),
            // go-plugin ignores it on Windows.
            "PLUGIN_UNIX_SOCKET_DIR" => Some(OsString::from("a|b")),
            _ => None,
        })
    }

    #[tokio::test]
    async fn the_first_free_port_of_the_clients_range_is_taken() {
        // Ports that the system gave out lie above those of the tests beside this one.
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = Socket::bind(PLUGIN, &environment(port, port)).unwrap_err().to_string();
        assert!(error.contains(&format!("no port from {port} to {port} of 127.0.0.1: ")), "{error}");
        assert!(error.contains("PLUGIN_MIN_PORT and PLUGIN_MAX_PORT"), "{error}");
        let (socket, listener) = Socket::bind(PLUGIN, &environment(port, port.saturating_add(50))).unwrap();
        assert!(socket.address.port() > port);
        assert_eq!(listener.local_addr().unwrap(), socket.address.into());
        let (other, _listener) = Socket::bind(PLUGIN, &environment(port, port.saturating_add(50))).unwrap();
        assert!(other.address.port() > socket.address.port());
        assert_ne!(other.local_path("status.sock"), socket.local_path("status.sock"));
    }

    /// A child of this process connects to a listener of it, and is neither its parent nor the process itself.
    #[tokio::test]
    async fn only_the_process_that_started_the_plugin_is_served() {
        const PORT: &str = "SPIRE_PLUGIN_TEST_PORT";
        if let Ok(port) = std::env::var(PORT) {
            let mut stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port.parse().unwrap())).unwrap();
            let written = stream.write_all(b"x");
            stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
            let read = stream.read(&mut [0]);
            assert!(written.is_err() || matches!(read, Ok(0) | Err(_)), "the connection was closed");
            return;
        }
        let ((), listener, _) = listen();
        let port = listener.local_addr().unwrap().port();
        let mut connections = Box::pin(accepted(listener));
        let test = "socket::windows::tests::only_the_process_that_started_the_plugin_is_served";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args([test, "--exact"]).env(PORT, port.to_string());
        let child = tokio::task::spawn_blocking(move || child.output());
        tokio::select! {
            _ = connections.next() => panic!("the child's connection was served"),
            child = child => assert!(child.unwrap().unwrap().status.success()),
        }
        let own = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        own.writable().await.unwrap();
        own.try_write(b"x").unwrap();
        let served = timeout(std::time::Duration::from_secs(5), connections.next()).await;
        served.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn clients_that_leave_or_are_silent_delay_no_other() {
        let ((), listener, _) = listen();
        let port = listener.local_addr().unwrap().port();
        let mut connections = Box::pin(accepted(listener));
        let mut silent = Vec::new();
        for _ in 0..100 {
            drop(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap());
            silent.push(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap());
        }
        let started = std::time::Instant::now();
        let own = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        own.writable().await.unwrap();
        own.try_write(b"x").unwrap();
        timeout(PEER_SPEAKS, connections.next()).await.unwrap().unwrap().unwrap();
        println!("served after {:?}", started.elapsed());
    }

    #[tokio::test]
    async fn junk_in_a_variable_is_refused() {
        let junk = Environment::read("WorkloadAttestor", |name| (name == "PLUGIN_MIN_PORT").then(|| "ten".into()));
        assert!(matches!(Socket::bind(PLUGIN, &junk), Err(ServeError::Refused(_))));
    }

    #[test]
    fn only_an_address_of_this_machine_is_dialled() {
        assert!(Address::parse("127.0.0.1:10001").is_some());
        let others =
            ["", "127.0.0.1", "127.0.0.1:0", "127.0.0.2:1", "10.0.0.1:80", "[::1]:80", "localhost:80", "C:\\a.sock"];
        for other in others {
            assert_eq!(Address::parse(other), None, "{other}");
        }
    }
}
