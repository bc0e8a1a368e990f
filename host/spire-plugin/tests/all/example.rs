//! Runs the example as SPIRE does: launches it with the cookie, calls it through its socket, and ends it in order.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use spire_plugin::proto::{
    AttestReferenceRequest, AttestRequest, ConfigClient, ConfigureRequest, WorkloadAttestorClient,
};
use spire_plugin::tonic::client::Grpc;
use spire_plugin::tonic::codegen::http::uri::PathAndQuery;
use spire_plugin::tonic::{Code, Request};
use tonic_prost::ProstCodec;

#[cfg(unix)]
use self::unix as system;
#[cfg(windows)]
use self::windows as system;

/// The program of the example, which cargo builds before it runs tests. It lies in examples/, beside the deps/ of this
/// test.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().parent().unwrap().join("examples").join(system::PROGRAM);
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

#[tokio::test]
async fn the_example_is_a_plugin_from_launch_to_end() {
    let place = system::Place::new();
    let started = Command::new(program())
        .env("WorkloadAttestor", "WorkloadAttestor")
        .envs(place.variables())
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
    assert_eq!([core, protocol, network, kind], ["1", "1", system::NETWORK, "grpc"]);
    place.check(address);

    let channel = system::connect(address).await;
    let mut config = ConfigClient::new(channel.clone());
    let settings = ConfigureRequest { hcl_configuration: "a = 1".to_owned(), ..ConfigureRequest::default() };
    assert_eq!(config.configure(settings).await.unwrap_err().code(), Code::InvalidArgument);
    config.configure(ConfigureRequest::default()).await.unwrap();
    let mut attestor = WorkloadAttestorClient::new(channel.clone());
    let pid = plugin.0.id().try_into().unwrap();
    let attested = attestor.attest(AttestRequest { pid }).await.map(|answer| answer.into_inner().selector_values);
    assert_eq!(attested.map_err(|status| status.code()), system::attested());
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
    place.check_end(address);

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
