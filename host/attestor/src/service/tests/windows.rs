//! A plugin's port in a test, on Windows.

use std::net::SocketAddr;

use spire_plugin::Listener;
use tonic::transport::{Channel, Endpoint};

/// An address, and its listener.
pub(super) async fn listen() -> (SocketAddr, Listener) {
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap(), listener)
}

pub(super) async fn connect(address: &SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}
