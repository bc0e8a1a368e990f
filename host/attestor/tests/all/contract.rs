//! The promise of the contract. A component built against 1.0 runs as long as the major version is 1. A later minor version
//! is no reason for refusal. A missing import is named.

#![expect(clippy::unwrap_used, clippy::panic, reason = "in a test a panic is the verdict")]

use std::path::{Path, PathBuf};

use docker_attestor::components::load::Step;
use docker_attestor::config;
use docker_attestor::error::Error;
use sandbox::inspect::Description;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine};
use wit_parser::Resolve;

use crate::component::{data_at, encode_in, extension_text, policy_text, validating_extension};
use crate::machine::{PID, attestor, configure, unconfigured};

/// The digests of frozen components that import every function of their world. Each was made from the text beside it when the
/// contract was 1.0.0.
const POLICY: &str = "sha256:e4c63895a1b31170fb754e19fe0d484fa3ccde502c3b53391c641b657db5c4bd";
const EXTENSION: &str = "sha256:b1f590cb6bac2ea24287ab9e21a9b823e5a12988e20aafedc9bebf2a2b037983";

fn frozen(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/contract/1.0").join(name)
}

#[tokio::test]
async fn components_of_1_0_run() {
    let attestor = attestor(&format!(
        "policy {{ path = {:?} sha256 = {POLICY:?} }}
        extension \"x\" {{ path = {:?} sha256 = {EXTENSION:?} grants = [\"labels\"] settings = {{ a = \"1\" b = \"2\" }} }}",
        frozen("policy-imports-all.wasm"),
        frozen("extension-imports-all.wasm")
    ))
    .await;
    assert_eq!(attestor.attest(PID).await.unwrap(), ["frozen:1.0", "label:name:ours", "x:ours", "x:2"]);
    let policy = format!("policy {{ path = {:?} sha256 = {POLICY:?} }}", frozen("policy-imports-all.wasm"));
    let notes = attestor.validate(config::load(Some("example.org"), &policy).unwrap()).await.unwrap();
    assert!(notes.contains(&"frozen at 1.0.0".to_owned()), "{notes:?}");
}

/// These components have no text any more. The encoder of that time made them, and they import nothing.
#[tokio::test]
async fn components_of_1_0_that_import_nothing_run() {
    let policy = std::fs::read(frozen("policy.wasm")).unwrap();
    assert_eq!(offered(&policy, true).await.unwrap()[0], "tag:frozen:0");
    let extension = std::fs::read(frozen("extension.wasm")).unwrap();
    assert!(offered(&extension, false).await.unwrap().contains(&"label:name:ours".to_owned()));
}

/// An extension of this program's version and one of a later version check their settings.
#[tokio::test]
async fn an_extension_that_checks_its_settings_is_asked() {
    // `err(["not these"])` if there are settings, otherwise `ok([])`.
    let data =
        [data_at(640, &[1, 0, 0, 0, 188, 2, 0, 0, 1]), data_at(700, &[0, 32, 0, 0, 9]), data_at(8192, b"not these")];
    let body = "(if (local.get 1) (then (return (i32.const 640)))) (i32.const 16)";
    let of_this = validating_extension(&data.concat(), body, "(call $done)");
    let functions = format!(
        r#"{} (func (export "docker-attestor:policy/settings-validator@1.2.0#validate") (param i32 i32) (result i32) {body})"#,
        data.concat()
    );
    let text = extension_text("1.2.0", &functions, "(call $done)");
    for component in [of_this, encode_in(&text, &later("1.2.0"), "validating-extension")] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), component).unwrap();
        let with =
            |settings: &str| format!("extension \"x\" {{ path = {:?} unpinned = true {settings} }}", file.path());
        let attestor = attestor(&with("")).await;
        let error = configure(&attestor, &with("settings = { a = \"b\" }")).await.unwrap_err();
        assert!(error.to_string().ends_with(": settings: not these"), "{error}");
        assert!(attestor.attest(PID).await.is_ok());
    }
}

/// The contract as a later version might be: one more function in `process` and in `log`, and one more interface in both
/// worlds.
fn later(version: &str) -> Resolve {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit/policy.wit")).unwrap();
    let text = [
        ("package docker-attestor:policy@1.1.0;", format!("package docker-attestor:policy@{version};")),
        ("interface process {\n", "interface process {\n    start-time: func() -> u64;\n".to_owned()),
        ("interface log {\n", "interface log {\n    flush: func();\n".to_owned()),
        ("import log;\n", "import log;\n    import weather;\n".to_owned()),
        ("/// What a policy exports.\n", "interface weather { rains: func() -> bool; }\n".to_owned()),
    ]
    .iter()
    .fold(text, |text, (old, new)| {
        assert!(text.contains(old), "{old}");
        text.replace(old, new)
    });
    let mut resolve = Resolve::default();
    resolve.push_str("policy.wit", &text).unwrap();
    resolve
}

/// A policy of a later version that also imports and calls this function.
fn policy(version: &str, interface: &str, function: &str, signature: &str) -> Vec<u8> {
    let text = policy_text(version, "", "(i32.const 16)", "(i32.const 16)");
    encode_in(&and_calls(&text, version, interface, function, signature), &later(version), "policy")
}

fn extension(version: &str, interface: &str, function: &str, signature: &str) -> Vec<u8> {
    let text = extension_text(version, "", "(call $done)");
    encode_in(&and_calls(&text, version, interface, function, signature), &later(version), "extension")
}

fn and_calls(text: &str, version: &str, interface: &str, function: &str, signature: &str) -> String {
    if interface.is_empty() {
        return text.to_owned();
    }
    let import = format!("(import \"docker-attestor:policy/{interface}@{version}\" {function:?} (func {signature}))");
    text.replacen("(module", &format!("(module {import}"), 1)
}

/// The result of offering a component to this program, which speaks 1.1.
async fn offered(component: &[u8], policy: bool) -> Result<Vec<String>, Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), component).unwrap();
    let attestor = unconfigured();
    let block = if policy { "policy" } else { "extension \"x\"" };
    configure(&attestor, &format!("{block} {{ path = {:?} unpinned = true }}", file.path())).await?;
    attestor.attest(PID).await
}

/// The step at which a component is refused, and the reason.
async fn refused(component: &[u8], policy: bool) -> (&'static str, String) {
    match offered(component, policy).await {
        Err(Error::Component { step, reason, .. }) => (step, reason),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_component_of_a_later_minor_that_uses_nothing_new_runs() {
    for version in ["1.1.1", "1.2.0", "1.20.3"] {
        assert_eq!(offered(&policy(version, "", "", ""), true).await.unwrap(), [""; 0], "{version}");
        assert!(offered(&extension(version, "", "", ""), false).await.unwrap().len() > 3, "{version}");
    }
}

#[tokio::test]
async fn what_a_later_minor_has_more_is_refused_by_name() {
    let (step, why) = refused(&policy("1.2.0", "process", "start-time", "(result i64)"), true).await;
    assert!(
        step == Step::Link.name() && why.contains("start-time") && why.contains("policy/process@1.2.0"),
        "{step}: {why}"
    );
    let (step, why) = refused(&extension("1.2.0", "log", "flush", ""), false).await;
    assert!(step == Step::Link.name() && why.contains("flush") && why.contains("policy/log@1.2.0"), "{step}: {why}");
    for (component, is_policy) in [
        (policy("1.2.0", "weather", "rains", "(result i32)"), true),
        (extension("1.2.0", "weather", "rains", "(result i32)"), false),
    ] {
        let (step, why) = refused(&component, is_policy).await;
        let named =
            "imports \"docker-attestor:policy/weather@1.2.0\", which version 1.1.0 of the contract does not have";
        assert!(step == Step::Inspect.name() && why.contains(named), "{step}: {why}");
    }
}

#[tokio::test]
async fn another_major_is_refused_with_both_versions() {
    for (component, is_policy) in [
        (policy("2.0.0", "", "", ""), true),
        (policy("2.0.0", "weather", "rains", "(result i32)"), true),
        (extension("2.0.0", "", "", ""), false),
    ] {
        let (step, why) = refused(&component, is_policy).await;
        let named = "it speaks version 2.0.0 of the contract, this program speaks 1.1.0: build it for 1.x";
        assert!(step == Step::Inspect.name() && why.contains(named), "{step}: {why}");
    }
}

/// A program that speaks a later minor version, as far as a linker is concerned. It has every function of that version, and
/// thus all of 1.0.
#[test]
fn components_of_1_0_link_where_there_is_more() {
    let engine = Engine::new(Config::new().wasm_component_model(true)).unwrap();
    for world in ["policy", "extension"] {
        // Imports the same as the frozen component, but from 1.2, and the new functions of 1.2.
        let text =
            std::fs::read_to_string(frozen(&format!("{world}-imports-all.wat"))).unwrap().replace("@1.0.0", "@1.2.0");
        let text = and_calls(&text, "1.2.0", "log", "flush", "");
        let text = and_calls(&text, "1.2.0", "weather", "rains", "(result i32)");
        let everything = Component::from_binary(&engine, &encode_in(&text, &later("1.2.0"), world)).unwrap();
        let mut linker = Linker::<()>::new(&engine);
        linker.define_unknown_imports_as_traps(&everything).unwrap();
        let component = std::fs::read(frozen(&format!("{world}-imports-all.wasm"))).unwrap();
        assert!(Description::of(&component).unwrap().imports.iter().all(|import| import.ends_with("@1.0.0")));
        let component = Component::from_binary(&engine, &component).unwrap();
        linker.instantiate_pre(&component).unwrap();
        // Without these functions in the linker, instantiation fails.
        Linker::<()>::new(&engine).instantiate_pre(&component).err().unwrap();
    }
}
