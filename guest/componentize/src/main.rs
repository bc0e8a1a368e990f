//! What stands between a compiler and a component: `just extension` runs it, so that an author needs no other tool.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use semver::Version;
use wasm_encoder::{ComponentSection, CustomSection};
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;
use wit_component::ComponentEncoder;

const USAGE: &str =
    "usage: componentize encode MODULE VERSION COMPONENT\n       componentize c-bindings WIT WORLD FOLDER";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["encode", module, version, component] => encode(module, version, component),
        ["c-bindings", wit, world, folder] => c_bindings(wit, world, Path::new(folder)),
        _ => Err(USAGE.into()),
    }
}

/// Makes a component of a core module that wit-bindgen's bindings are in: they carry its world. The component says its version
/// where the attestor looks for it.
fn encode(module: &str, version: &str, component: &str) -> Result<(), Box<dyn Error>> {
    let version = Version::parse(version).map_err(|error| format!("{version:?} is no semantic version: {error}"))?;
    let module = fs::read(module).map_err(|error| format!("{module}: {error}"))?;
    let mut encoded = ComponentEncoder::default().validate(true).module(&module)?.encode()?;
    let data = version.to_string().into_bytes();
    CustomSection { name: "version".into(), data: data.into() }.append_to_component(&mut encoded);
    fs::write(component, encoded).map_err(|error| format!("{component}: {error}").into())
}

/// Writes WORLD.h, WORLD.c and an object file that carries the world.
fn c_bindings(wit: &str, world: &str, folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit)?;
    let world = resolve.select_world(&[package], Some(world))?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default().build().generate(&mut resolve, world, &mut files)?;
    for (name, content) in files.iter() {
        let file = folder.join(name);
        fs::write(&file, content).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}
