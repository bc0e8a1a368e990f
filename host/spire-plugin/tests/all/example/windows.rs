//! The example on Windows: it listens on a port of 127.0.0.1 that the client chose.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

use spire_plugin::tonic::Code;
use spire_plugin::tonic::transport::{Channel, Endpoint};

pub(super) const NETWORK: &str = "tcp";
/// The file of the example.
pub(super) const PROGRAM: &str = "process_name.exe";

/// The ports from which the plugin takes the first that is free. The first of them is taken.
pub(super) struct Place(TcpListener);

impl Place {
    pub(super) fn new() -> Place {
        Place(TcpListener::bind((Ipv4Addr::LOCALHOST, 20_000)).unwrap())
    }

    pub(super) fn variables(&self) -> [(&'static str, &'static str); 2] {
        [("PLUGIN_MIN_PORT", "20000"), ("PLUGIN_MAX_PORT", "20100")]
    }

    /// Checks the address of a plugin that runs.
    pub(super) fn check(&self, address: &str) {
        let address: SocketAddrV4 = address.parse().unwrap();
        assert_eq!(*address.ip(), Ipv4Addr::LOCALHOST);
        assert!((20_001..=20_100).contains(&address.port()), "{address}: the first port is taken");
        assert!(TcpListener::bind(address).is_err(), "it listens there");
    }

    /// Checks what a plugin that has ended left.
    pub(super) fn check_end(&self, address: &str) {
        assert!(std::net::TcpStream::connect(address).is_err(), "the port is left");
        assert_eq!(self.0.local_addr().unwrap().port(), 20_000);
    }
}

pub(super) async fn connect(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// What the example answers: it reads /proc, which Windows does not have.
pub(super) fn attested() -> Result<Vec<String>, Code> {
    Err(Code::Unavailable)
}
