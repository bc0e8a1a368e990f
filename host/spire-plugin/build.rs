//! Generates the gRPC services of go-plugin and SPIRE.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

/// We serve all services but the agent's metrics, which we call.
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut protos: Vec<PathBuf> =
        fs::read_dir("proto")?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    protos.sort();
    let (called, served): (Vec<_>, Vec<_>) = protos.into_iter().partition(|path| path.ends_with("metrics.proto"));
    let descriptors = protox::compile(&served, ["proto"])?;
    tonic_prost_build::configure().build_client(false).compile_fds(descriptors)?;
    let descriptors = protox::compile(&called, ["proto"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(descriptors)?;
    Ok(())
}
