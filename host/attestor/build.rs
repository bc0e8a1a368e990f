//! Builds the built-in policy. Builds the guest, encodes it as a component and compiles the component ahead of time for
//! the target, with the same wasmtime and the same settings as the program.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use std::{env, fs};

use sha2::{Digest, Sha256};

/// The guest's target.
const TARGET: &str = "wasm32-unknown-unknown";
/// The file that Cargo builds from the guest.
const MODULE: &str = "docker_attestor_policy.wasm";

fn main() -> Result<(), Box<dyn Error>> {
    for source in ["../../guest/src", "../../guest/Cargo.toml", "../../wit", "../../Cargo.lock"] {
        println!("cargo::rerun-if-changed={source}");
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let module = if has_target()? { build_guest(&out)? } else { built_guest(&out)? };
    let bytes = fs::read(&module).map_err(|error| format!("{}: {error}", module.display()))?;

    let component = wit_component::ComponentEncoder::default().validate(true).module(&bytes)?.encode()?;
    // Naming a target restricts the code to baseline CPU features, so that the program also runs on other machines than
    // this one.
    let compiled = sandbox::compiler::precompile(&component, &env::var("TARGET")?)?;

    let digest: String = Sha256::digest(&component).iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(out.join("policy.wasm"), &component)?;
    fs::write(out.join("policy.cwasm"), &compiled)?;
    println!("cargo::rustc-env=BUILTIN_POLICY_DIGEST=sha256:{digest}");
    Ok(())
}

/// Whether the compiler has the standard library of the guest's target. If not, rustup is asked to install it.
fn has_target() -> Result<bool, Box<dyn Error>> {
    let installed = || -> Result<bool, Box<dyn Error>> {
        let rustc = env::var_os("RUSTC").ok_or("RUSTC is not set: build scripts are run by Cargo")?;
        let folder = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output()?;
        Ok(Path::new(String::from_utf8(folder.stdout)?.trim()).is_dir())
    };
    if !installed()? {
        // If rustup is missing or cannot install the target, the check below returns `false`.
        let _ = Command::new("rustup").args(["target", "add", TARGET]).status();
    }
    installed()
}

/// Builds the guest into a target directory of its own, because that of the running build is locked. Variables set for
/// the running build, such as flags for the host or clippy as the compiler, must not apply to the guest and are
/// removed.
fn build_guest(out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let target = out.join("guest");
    let cargo = env::var_os("CARGO").ok_or("CARGO is not set: build scripts are run by Cargo")?;
    let mut build = Command::new(cargo);
    build.args(["rustc", "--release", "--locked", "--package", "docker-attestor-policy", "--lib"]);
    build.args(["--crate-type", "cdylib", "--target", TARGET]);
    build.arg("--target-dir").arg(&target).current_dir("../..");
    for variable in [
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_TARGET_DIR",
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_TARGET",
    ] {
        build.env_remove(variable);
    }
    match build.status()?.success() {
        true => Ok(target.join(TARGET).join("release").join(MODULE)),
        false => Err("the guest cannot be built: its errors stand above".into()),
    }
}

/// Finds the guest that `just guest` built with another compiler, in the target directory that contains `OUT_DIR`.
fn built_guest(out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let advice = "run `just guest`, which builds it with Debian's compiler";
    let target = out.ancestors().find(|folder| folder.join(TARGET).is_dir());
    let target =
        target.ok_or_else(|| format!("the compiler has no target {TARGET}, and rustup cannot bring it: {advice}"))?;
    let module = target.join(TARGET).join("release").join(MODULE);
    println!("cargo::rerun-if-changed={}", module.display());
    let built = fs::metadata(&module).and_then(|metadata| metadata.modified());
    let built = built.map_err(|error| format!("the guest is not built ({}: {error}): {advice}", module.display()))?;
    match newest(Path::new("../../guest/src"))?.max(newest(Path::new("../../wit"))?) > built {
        true => Err(format!("the guest is older than its sources: {advice}").into()),
        false => Ok(module),
    }
}

fn newest(folder: &Path) -> Result<SystemTime, Box<dyn Error>> {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(folder)? {
        newest = newest.max(entry?.metadata()?.modified()?);
    }
    Ok(newest)
}
