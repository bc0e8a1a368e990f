//! The command `docker-attestor policy inspect`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use bounded::text::printable;
use sandbox::inspect::{Description, Refused};
use sandbox::needs::Needs;
use serde_json::json;

use super::super::config::ConfigFile;
use super::super::style::Style;
use super::super::{Failure, Output};
use super::describe;
use crate::components::{extension_name, needs};
use crate::config::Configuration;

/// A block of the configuration that names the component's file: its name, and warnings or what does not fit.
type Block = (String, Result<Vec<String>, String>);

pub(super) fn run(
    path: &Path,
    config: Option<ConfigFile>,
    output: Output,
    out: &mut impl Write,
    style: Style,
) -> Result<ExitCode, Failure> {
    let description = describe(path)?;
    let refused = match description.world() {
        Ok((world, _)) => description.check(world).err(),
        Err(why) => Some(why),
    };
    let blocks = match config {
        Some(config) if refused.is_none() => blocks_of(path, &description, config)?,
        _ => Vec::new(),
    };
    match output {
        Output::Text => print(path, &description, refused.as_ref(), &blocks, out, style)?,
        Output::Json => writeln!(out, "{}", to_json(path, &description, refused.as_ref(), &blocks))?,
    }
    let fits = refused.is_none() && blocks.iter().all(|(_, outcome)| outcome.is_ok());
    Ok(if fits { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(
    path: &Path,
    description: &Description,
    refused: Option<&Refused>,
    blocks: &[Block],
    out: &mut impl Write,
    style: Style,
) -> std::io::Result<()> {
    let world = match description.world() {
        Ok((world, version)) => format!("{world}, contract docker-attestor:policy@{version}"),
        Err(_) => "none of the contract".to_owned(),
    };
    let version = description.version.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    writeln!(out, "{}", style.bold(&printable(&path.display().to_string())))?;
    for (name, value) in [
        ("world", world),
        ("version", version),
        ("digest", description.digest.clone()),
        ("size", format!("{} bytes", description.size)),
        ("code", format!("{} bytes in {} functions", description.code, description.functions)),
    ] {
        writeln!(out, "  {name:8} {}", printable(&value))?;
    }
    for need in description.needs.iter().flat_map(needed) {
        writeln!(out, "  needs    {}", printable(&need))?;
    }
    for (name, list) in [("imports", &description.imports), ("exports", &description.exports)] {
        writeln!(out, "  {name:8} {}", if list.is_empty() { "none" } else { "" })?;
        for item in list {
            writeln!(out, "    {}", printable(item))?;
        }
    }
    match refused {
        None => writeln!(out, "\n{}: pin it with sha256 = \"{}\"", style.good("may run"), pin(&description.digest))?,
        Some(why) => writeln!(out, "\n{}: {}", style.bad("may not run"), printable(&why.to_string()))?,
    }
    for (name, outcome) in blocks {
        match outcome {
            Ok(warnings) if warnings.is_empty() => writeln!(out, "{name}: {}", style.good("has what it needs"))?,
            Ok(warnings) => writeln!(out, "{name}: {}", printable(&warnings.join("; ")))?,
            Err(why) => writeln!(out, "{name}: {}", style.bad(&printable(why)))?,
        }
    }
    Ok(())
}

/// The same for programs.
fn to_json(path: &Path, description: &Description, refused: Option<&Refused>, blocks: &[Block]) -> serde_json::Value {
    let world = description.world().ok();
    let blocks: Vec<serde_json::Value> = blocks
        .iter()
        .map(|(name, outcome)| {
            json!({"name": name, "error": outcome.as_ref().err(), "warnings": outcome.as_deref().unwrap_or_default()})
        })
        .collect();
    json!({
        "file": path.display().to_string(),
        "world": world.as_ref().map(|(world, _)| world.to_string()),
        "contract": world.as_ref().map(|(_, version)| version.to_string()),
        "version": description.version.as_ref().map(ToString::to_string),
        "digest": description.digest,
        "size": description.size,
        "code": description.code,
        "functions": description.functions,
        "needs": description.needs.as_ref().map(needed).unwrap_or_default(),
        "imports": description.imports,
        "exports": description.exports,
        "may_run": refused.is_none(),
        "reason": refused.map(ToString::to_string),
        "blocks": blocks,
    })
}

/// The digest as sha256sum prints it, without `sha256:`.
fn pin(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

/// What a component needs of its configuration, in the form of the configuration.
fn needed(needs: &Needs) -> Vec<String> {
    let list = |names: Vec<String>| format!("[{}]", names.join(", "));
    let grants = needs
        .grants
        .iter()
        .map(|grants| format!("grants = {}", list(grants.iter().map(|grant| format!("{:?}", grant.name())).collect())));
    let settings = needs.settings.iter().map(|keys| {
        let required = keys.required.iter().map(|key| format!("{key:?}"));
        let optional = keys.optional.iter().map(|key| format!("{key:?} (optional)"));
        format!("settings {}", list(required.chain(optional).collect()))
    });
    grants.chain(settings).collect()
}

/// Compares what the component needs with each block of the configuration that names its file.
fn blocks_of(path: &Path, description: &Description, mut config: ConfigFile) -> Result<Vec<Block>, Failure> {
    let name = config.name().to_owned();
    let blocks = blocks(path, description, &config.accept()?);
    match blocks.is_empty() {
        true => {
            let path = path.display();
            Err(Failure::Usage(format!("{name} has no policy and no extension whose path is {path}")))
        }
        false => Ok(blocks),
    }
}

/// The blocks of the configuration that name this file, and how each compares with what the component needs.
fn blocks(path: &Path, description: &Description, configuration: &Configuration) -> Vec<Block> {
    let same = |other: &Path| match (path.canonicalize(), other.canonicalize()) {
        (Ok(path), Ok(other)) => path == other,
        _ => path == other,
    };
    let nothing = Needs::default();
    let needs = description.needs.as_ref().unwrap_or(&nothing);
    let policy = configuration.policy.iter().filter(|policy| same(&policy.path));
    let policies = policy
        .map(|policy| ("policy".to_owned(), needs::compare_settings(needs, &policy.settings).map(|()| Vec::new())));
    let extensions = configuration.extensions.iter().filter(|extension| same(&extension.component.path));
    policies.chain(extensions.map(|extension| (extension_name(extension), needs::compare(needs, extension)))).collect()
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{ComponentSection as _, CustomSection};

    use super::*;

    #[test]
    fn what_a_component_needs_is_shown_and_compared_with_the_blocks_that_name_it() {
        let folder = tempfile::tempdir().unwrap();
        let [component, config] = ["x.wasm", "plugin_data.hcl"].map(|name| folder.path().join(name));
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/components/labels.wasm");
        let mut bytes = std::fs::read(fixture).unwrap();
        let needs = br#"{"grants": ["labels"], "settings": {"required": ["label"], "optional": ["prefix"]}}"#;
        CustomSection { name: sandbox::needs::SECTION.into(), data: needs.into() }.append_to_component(&mut bytes);
        std::fs::write(&component, bytes).unwrap();
        let inspect = |block: &str| {
            let block = format!("extension \"x\" {{ path = {component:?} unpinned = true {block} }}");
            std::fs::write(&config, block).unwrap();
            let mut out = Vec::new();
            let code =
                run(&component, Some(ConfigFile::read(&config, None).unwrap()), Output::Text, &mut out, Style::plain());
            (String::from_utf8(out).unwrap(), code)
        };
        let (out, code) = inspect("grants = [\"labels\"] settings = { label = \"a\" }");
        assert!(out.contains("  needs    grants = [\"labels\"]\n"), "{out}");
        assert!(out.contains("  needs    settings [\"label\", \"prefix\" (optional)]\n"), "{out}");
        assert!(out.ends_with("extension x: has what it needs\n") && code.unwrap() == ExitCode::SUCCESS, "{out}");
        let (out, code) = inspect("grants = [\"labels\", \"image\"] settings = { label = \"a\" }");
        assert!(out.contains("it does not need \"image\"") && code.unwrap() == ExitCode::SUCCESS, "{out}");
        let (out, code) = inspect("grants = [\"image\"] settings = { lable = \"a\" }");
        assert!(out.contains("it needs grants = [\"labels\"]") && out.contains("it has no setting \"lable\""), "{out}");
        assert_eq!(code.unwrap(), ExitCode::FAILURE);
        std::fs::write(&config, "").unwrap();
        let failure = run(
            &component,
            Some(ConfigFile::read(&config, None).unwrap()),
            Output::Text,
            &mut Vec::new(),
            Style::plain(),
        )
        .unwrap_err();
        assert!(failure.to_string().contains("no policy and no extension whose path is"), "{failure}");
    }
}
