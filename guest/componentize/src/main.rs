//! Encodes the output of a compiler as a component. `just extension` runs this program, so that authors need no other tool.

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use semver::Version;
use wasm_encoder::{ComponentSection, CustomSection};
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;
use wit_component::ComponentEncoder;

const USAGE: &str =
    "usage: componentize encode MODULE VERSION COMPONENT [NEEDS]\n       componentize c-bindings WIT WORLD FOLDER";

#[expect(clippy::print_stderr, reason = "a program for a terminal")]
fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["encode", module, version, component] => encode(module, version, component, None),
        ["encode", module, version, component, needs] => encode(module, version, component, Some(needs)),
        ["c-bindings", wit, world, folder] => c_bindings(wit, world, Path::new(folder)),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Encodes a core module as a component. The module carries its world, because it contains the bindings of wit-bindgen. The version
/// and the file of what the component needs are written into the custom sections where the attestor looks for them.
fn encode(module: &str, version: &str, component: &str, needs: Option<&str>) -> Result<(), String> {
    let version = Version::parse(version).map_err(|why| format!("{version:?} is no semantic version: {why}"))?;
    let bytes = fs::read(module).map_err(|why| format!("{module}: {why}"))?;
    let encoder = ComponentEncoder::default().validate(true).module(&bytes);
    let encoded = encoder.and_then(|mut encoder| encoder.encode());
    let mut encoded = encoded.map_err(|why| format!("{module} makes no component: {why:#}"))?;
    let data = version.to_string().into_bytes();
    CustomSection { name: "version".into(), data: data.into() }.append_to_component(&mut encoded);
    if let Some(needs) = needs {
        let data = fs::read(needs).map_err(|why| format!("{needs}: {why}"))?;
        CustomSection { name: "docker-attestor:needs".into(), data: data.into() }.append_to_component(&mut encoded);
    }
    fs::write(component, encoded).map_err(|why| format!("{component}: {why}"))
}

/// Writes WORLD.h, WORLD.c and an object file that carries the world.
fn c_bindings(wit: &str, world: &str, folder: &Path) -> Result<(), String> {
    let mut files = Files::default();
    generate(wit, world, &mut files).map_err(|why| format!("{wit}: {why:#}"))?;
    for (name, content) in files.iter() {
        let file = folder.join(name);
        fs::write(&file, content).map_err(|why| format!("{}: {why}", file.display()))?;
    }
    Ok(())
}

fn generate(wit: &str, world: &str, files: &mut Files) -> anyhow::Result<()> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit)?;
    let world = resolve.select_world(&[package], Some(world))?;
    wit_bindgen_c::Opts::default().build().generate(&mut resolve, world, files)
}
