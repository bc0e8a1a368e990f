//! A plugin's socket in a test, on Unix.

use hyper_util::rt::TokioIo;
use spire_plugin::Listener;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

const SOCKET: &str = "plugin.sock";

/// A folder, and the listener of a socket in it.
pub(super) async fn listen() -> (TempDir, Listener) {
    let folder = tempfile::tempdir().unwrap();
    let listener = Listener::bind(folder.path().join(SOCKET)).unwrap();
    (folder, listener)
}

pub(super) async fn connect(folder: &TempDir) -> Channel {
    let path = folder.path().join(SOCKET);
    let connect = tower::service_fn(move |_| {
        let connected = UnixStream::connect(path.clone());
        async { connected.await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://plugin").connect_with_connector(connect).await.unwrap()
}
