//! Generates the gRPC code of SPIRE's and go-plugin's services.

use std::error::Error;
use std::path::Path;

/// What a plugin implements, and its tests call. A method that a plugin leaves out answers Unimplemented.
const IMPLEMENTED: &[&str] = &["broker.proto", "config.proto", "workloadattestor.proto"];
/// What this crate serves in every plugin.
const SERVED: &[&str] = &["goplugin.proto", "health.proto", "init.proto"];
/// What this crate calls in the agent.
const CALLED: &[&str] = &["metrics.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let compile = |files: &[&str]| protox::compile(files.iter().map(|file| Path::new("proto").join(file)), ["proto"]);
    tonic_prost_build::configure().generate_default_stubs(true).compile_fds(compile(IMPLEMENTED)?)?;
    tonic_prost_build::configure().build_client(false).compile_fds(compile(SERVED)?)?;
    tonic_prost_build::configure().build_server(false).compile_fds(compile(CALLED)?)?;
    Ok(())
}
