//! Runs the example as SPIRE does: launches it with the cookie, calls it through its socket, and ends it in order.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use serde_json::Value;
use spire_plugin::proto::{
    AttestReferenceRequest, AttestRequest, ConfigClient, ConfigureRequest, WorkloadAttestorClient,
};
use spire_plugin::tonic::client::Grpc;
use spire_plugin::tonic::codegen::http::uri::PathAndQuery;
use spire_plugin::tonic::transport::{Channel, Endpoint};
use spire_plugin::tonic::{Code, Request};
use tokio::net::UnixStream;
use tonic_prost::ProstCodec;

/// The program of the example, which cargo builds before it runs tests. It lies in examples/, beside the deps/ of this
/// test.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().parent().unwrap().join("examples/process_name");
    assert!(program.is_file(), "{} is not built: cargo build --example process_name", program.display());
    program
}

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn connect(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    let connect = tower::service_fn(move |_| {
        let connected = UnixStream::connect(socket.clone());
        async { connected.await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://plugin").connect_with_connector(connect).await.unwrap()
}

#[tokio::test]
async fn the_example_is_a_plugin_from_launch_to_end() {
    let directory = tempfile::tempdir().unwrap();
    let started = Command::new(program())
        .env("WorkloadAttestor", "WorkloadAttestor")
        .env("PLUGIN_UNIX_SOCKET_DIR", directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut plugin = Running(started.unwrap());
    let mut stdout = BufReader::new(plugin.0.stdout.take().unwrap());
    let mut handshake = String::new();
    stdout.read_line(&mut handshake).unwrap();
    let [core, protocol, network, address, kind] =
        handshake.trim_end().split('|').collect::<Vec<_>>().try_into().unwrap();
    assert_eq!([core, protocol, network, kind], ["1", "1", "unix", "grpc"]);
    let socket = Path::new(address);
    let own = socket.parent().unwrap();
    assert!(own.file_name().unwrap().to_str().unwrap().starts_with("process-name-"));
    assert_eq!(own.parent().unwrap(), directory.path());
    assert_eq!(fs::metadata(own).unwrap().permissions().mode() & 0o777, 0o700);

    let channel = connect(socket).await;
    let mut config = ConfigClient::new(channel.clone());
    let settings = ConfigureRequest { hcl_configuration: "a = 1".to_owned(), ..ConfigureRequest::default() };
    assert_eq!(config.configure(settings).await.unwrap_err().code(), Code::InvalidArgument);
    config.configure(ConfigureRequest::default()).await.unwrap();
    let mut attestor = WorkloadAttestorClient::new(channel.clone());
    let pid = plugin.0.id().try_into().unwrap();
    let attested = attestor.attest(AttestRequest { pid }).await.unwrap().into_inner();
    assert_eq!(attested.selector_values, ["name:process_name"]);
    assert_eq!(attestor.attest(AttestRequest { pid: -1 }).await.unwrap_err().code(), Code::Unavailable);
    let referenced = attestor.attest_reference(AttestReferenceRequest::default()).await;
    assert_eq!(referenced.unwrap_err().code(), Code::Unimplemented, "the agent then calls Attest");

    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let shutdown = PathAndQuery::from_static("/plugin.GRPCController/Shutdown");
    let request = Request::new(());
    client.unary::<(), (), _>(request, shutdown, ProstCodec::default()).await.unwrap();
    drop((client, config, attestor));
    let asked = Instant::now();
    let status = loop {
        match plugin.0.try_wait().unwrap() {
            Some(status) => break status,
            None => assert!(asked.elapsed() < Duration::from_secs(2), "the agent kills after 2 s"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(status.code(), Some(0));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "the socket's directory is left");

    let (mut rest, mut log) = (String::new(), String::new());
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "stdout has the handshake only");
    plugin.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said: Vec<_> = lines.iter().map(|line| (line["@module"].as_str(), line["@message"].as_str())).collect();
    assert_eq!(
        said,
        [(Some("process_name"), Some("configured")), (Some("spire_plugin.server"), Some("stopped"))],
        "what is logged of both crates, and of no other"
    );
}

#[test]
fn a_person_who_starts_the_example_is_told_what_it_is() {
    let output = Command::new(program()).env_remove("WorkloadAttestor").output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), b"".as_slice()));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text, "process-name is a SPIRE plugin (WorkloadAttestor): SPIRE starts it, as plugin_cmd\n");
}
