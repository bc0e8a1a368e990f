//! The example on Unix: its socket lies in a directory of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use hyper_util::rt::TokioIo;
use spire_plugin::tonic::Code;
use spire_plugin::tonic::transport::{Channel, Endpoint};
use tokio::net::UnixStream;

pub(super) const NETWORK: &str = "unix";
/// The file of the example.
pub(super) const PROGRAM: &str = "process_name";

/// The directory in which the socket must be made.
pub(super) struct Place(tempfile::TempDir);

impl Place {
    pub(super) fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    pub(super) fn variables(&self) -> [(&'static str, &Path); 1] {
        [("PLUGIN_UNIX_SOCKET_DIR", self.0.path())]
    }

    /// Checks the address of a plugin that runs.
    pub(super) fn check(&self, address: &str) {
        let own = Path::new(address).parent().unwrap();
        assert!(own.file_name().unwrap().to_str().unwrap().starts_with("process-name-"));
        assert_eq!(own.parent().unwrap(), self.0.path());
        assert_eq!(fs::metadata(own).unwrap().permissions().mode() & 0o777, 0o700);
    }

    /// Checks what a plugin that has ended left.
    pub(super) fn check_end(&self, _: &str) {
        assert_eq!(fs::read_dir(self.0.path()).unwrap().count(), 0, "the socket's directory is left");
    }
}

pub(super) async fn connect(address: &str) -> Channel {
    let socket = address.to_owned();
    let connect = tower::service_fn(move |_| {
        let connected = UnixStream::connect(socket.clone());
        async { connected.await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://plugin").connect_with_connector(connect).await.unwrap()
}

/// What the example answers for its own process.
pub(super) fn attested() -> Result<Vec<String>, Code> {
    Ok(vec!["name:process_name".to_owned()])
}
