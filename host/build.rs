//! Turns the guest's module into the built-in policy: encodes it as a component and compiles it ahead of time for
//! the target, with the same wasmtime and the same settings as the program.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{env, fs};

use sha2::{Digest, Sha256};

#[path = "src/engine/settings.rs"]
mod settings;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let module = module(&out)?;
    println!("cargo::rerun-if-changed={}", module.display());
    println!("cargo::rerun-if-changed=src/engine/settings.rs");
    println!("cargo::rerun-if-changed=../wit");
    println!("cargo::rerun-if-changed=../guest/src");

    let bytes = fs::read(&module)
        .map_err(|error| format!("the guest is not built ({}: {error}): run `just guest` first", module.display()))?;
    let built = fs::metadata(&module)?.modified()?;
    if newest(Path::new("../guest/src"))?.max(newest(Path::new("../wit"))?) > built {
        return Err("the guest is older than its sources: run `just guest` first".into());
    }

    let component = wit_component::ComponentEncoder::default().validate(true).module(&bytes)?.encode()?;
    let mut config = settings::config(settings::Allocation::OnDemand);
    // A named target means baseline CPU features, so that the program runs on other machines than this one.
    config.target(&env::var("TARGET")?)?;
    let compiled = wasmtime::Engine::new(&config)?.precompile_component(&component)?;

    let digest: String = Sha256::digest(&component).iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(out.join("policy.wasm"), &component)?;
    fs::write(out.join("policy.cwasm"), &compiled)?;
    println!("cargo::rustc-env=BUILTIN_POLICY_DIGEST=sha256:{digest}");
    Ok(())
}

/// `just guest` leaves the module in the target directory that `OUT_DIR` is in.
fn module(out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let target = out
        .ancestors()
        .find(|dir| dir.join("wasm32-unknown-unknown").is_dir())
        .ok_or("the guest is not built: run `just guest` first")?;
    Ok(target.join("wasm32-unknown-unknown/release/docker_attestor_policy.wasm"))
}

fn newest(dir: &Path) -> Result<SystemTime, Box<dyn Error>> {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        newest = newest.max(entry.metadata()?.modified()?);
    }
    Ok(newest)
}
