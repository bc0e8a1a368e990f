//! The command `docker-attestor policy record`, which records a live workload as a scenario for testing policies and
//! extensions.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use bounded::file::create;
use containers::engine::recording::RecordingEngine;
use containers::process::System;
use containers::process::recorded::RecordedProcess;
use containers::process::recording::RecordingProcesses;
use hcl1::{Document, Item, Literal, Node};
use serde_json::{Map, Value, json};

use super::super::config::ConfigFile;
use super::super::{
    Failure, FoundProcess, ProcessName, attestor_of, configure, configured, gone, sandbox_runtime, this_machine,
    waiting,
};
use crate::config::Configuration;
use crate::machine::{FixedMachine, Machine, OpenMachine};
use crate::scenario::verdict::RecordedVerdict;
use crate::scenario::{Expect, Scenario};
use crate::workload::{Answer, Question};

/// Replaces a value of an environment variable that is not recorded.
const REDACTED: &str = "redacted";

/// The blocks of a configuration that a scenario keeps.
const BLOCKS: [&str; 3] = ["policy", "extension", "sigstore"];
/// The key of `sigstore` that a scenario never keeps.
const CREDENTIALS: &str = "registry_credentials";

pub(super) async fn run(
    process: &ProcessName,
    mut config: Option<ConfigFile>,
    output: Option<&Path>,
    with_env_values: bool,
    out: &mut impl Write,
    open: OpenMachine,
) -> Result<ExitCode, Failure> {
    let configuration = configured(&mut config)?;
    let blocks = config.as_ref().map(|config| blocks(config.data())).unwrap_or_default();
    if blocks.iter().any(|(_, block)| has_settings(block)) {
        tracing::warn!("the scenario holds the settings of components: read them before you share it");
    }
    let text = replayable(&configuration, blocks)?;
    let this = this_machine(open)?;
    let found = process.find(&*this.engine(&configuration, Arc::new(|_| {}))).await?;
    let pid = found.pid;
    let mut scenario = record(&found, configuration, config, &*this).await?;
    scenario.config = text;
    if !with_env_values {
        for recording in scenario.docker.values_mut() {
            recording.env.iter_mut().for_each(redact);
        }
    }
    // Expect the outcome on the recorded machine, so that a test of the components that are in use passes.
    scenario.expect = Expect::of(&scenario.run(&sandbox_runtime()?).await);
    let text = scenario.to_json().map_err(|error| Failure::Usage(error.to_string()))?;
    match output {
        None => out.write_all(text.as_bytes())?,
        Some(path) => {
            create(path, text.as_bytes()).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
            writeln!(out, "{}: process {pid}, {} processes read", path.display(), scenario.processes.len())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Attests the process under the whole configuration, and records what was read, answered and decided.
async fn record(
    found: &FoundProcess,
    configuration: Configuration,
    config: Option<ConfigFile>,
    this: &dyn Machine,
) -> Result<Scenario, Failure> {
    let pid = found.pid;
    let processes = Arc::new(RecordingProcesses::new(this.processes()));
    let engine = Arc::new(RecordingEngine::new(this.engine(&configuration, Arc::new(|_| {}))));
    let reads_namespaces = this.reads_namespaces();
    let machine =
        FixedMachine { processes: processes.clone(), engine: engine.clone(), reads_namespaces, decision: None };
    let attestor = attestor_of(Arc::new(machine))?;
    configure(&attestor, configuration, config).await?;
    let explanation = waiting(attestor.explain(pid), || attestor.progress()).await?;
    found.check(&explanation)?;
    let verdict = explanation.transcript.answer(&Question::Verify).map(|answer| match answer {
        Ok(Answer::Verify(decision)) => Some(RecordedVerdict::of(Ok(decision))),
        Ok(_) => None,
        Err(fault) => Some(RecordedVerdict::of(Err(fault))),
    });
    if explanation.transcript.container().is_none() {
        explanation.outcome?;
    }
    let docker = engine.recorded();
    let (mut processes, own_cgroup) = (processes.recorded(), processes.own_cgroup());
    let shows_nothing = |process: &&RecordedProcess| {
        process.cgroup.is_empty() && (System::THIS == System::Linux || !process.denied.is_empty())
    };
    match processes.get(&pid) {
        None => return Err(gone(pid)),
        Some(process) if shows_nothing(&process) && process.denied.is_empty() => return Err(gone(pid)),
        Some(process) if shows_nothing(&process) => {
            return Err(Failure::Usage(format!("process {pid} may not be read ({})", process.denied.join(", "))));
        }
        Some(_) => {}
    }
    for process in processes.values_mut() {
        // Keeps the cgroup mounts, because another policy may read them although this one did not need to.
        process.mountinfo.retain(|line| line.contains(" - cgroup"));
    }
    Ok(Scenario {
        schema: None,
        system: System::THIS,
        description: format!("process {pid}, recorded by docker-attestor {}", env!("CARGO_PKG_VERSION")),
        config: String::new(),
        pid,
        processes,
        own_cgroup,
        now: u64::MAX,
        docker,
        verdict: verdict.flatten(),
        expect: Expect::Selectors(Vec::new()),
    })
}

/// The configuration of the scenario: how ids are found, and the blocks. Empty for the defaults. The engine is the recorded one.
fn replayable(configuration: &Configuration, mut blocks: Map<String, Value>) -> Result<String, Failure> {
    if configuration.engine_shares_pid_namespace {
        blocks.insert("engine_shares_pid_namespace".to_owned(), json!(true));
    }
    if !configuration.use_new_container_locator {
        blocks.insert("use_new_container_locator".to_owned(), json!(false));
        let matchers = &configuration.container_id_cgroup_matchers;
        blocks.insert("container_id_cgroup_matchers".to_owned(), json!(matchers));
    }
    if blocks.is_empty() {
        return Ok(String::new());
    }
    // HCL has a form in JSON, which needs no escapes of its own.
    serde_json::to_string_pretty(&blocks).map_err(|error| Failure::Usage(error.to_string()))
}

/// The blocks of a configuration that a scenario keeps, in HCL's form in JSON. Registry credentials are left out.
fn blocks(data: &Document) -> Map<String, Value> {
    let mut kept = object(&data.items);
    kept.retain(|key, _| BLOCKS.iter().any(|block| block.eq_ignore_ascii_case(key)));
    kept.values_mut().for_each(remove_credentials);
    kept
}

/// Whether a component in it has settings.
fn has_settings(value: &Value) -> bool {
    match value {
        Value::Object(object) => {
            object.iter().any(|(key, value)| key.eq_ignore_ascii_case("settings") || has_settings(value))
        }
        Value::Array(values) => values.iter().any(has_settings),
        _ => false,
    }
}

/// Removes the credentials wherever they stand: keys may be written one in another, or one after the other as labels.
fn remove_credentials(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|key, _| !key.eq_ignore_ascii_case(CREDENTIALS));
            object.values_mut().for_each(remove_credentials);
        }
        Value::Array(values) => values.iter_mut().for_each(remove_credentials),
        _ => {}
    }
}

/// An object in JSON. What is written more than once under a key is a list there, as HCL reads repeated blocks.
fn object(items: &[Item]) -> Map<String, Value> {
    let mut object = Map::new();
    for item in items {
        let Some((first, labels)) = item.keys.split_first() else { continue };
        let value = labels.iter().rev().fold(value(&item.value), |value, label| json!({ &*label.name: value }));
        match (object.get_mut(&*first.name), value) {
            (Some(Value::Array(before)), Value::Array(more)) => before.extend(more),
            (Some(Value::Array(before)), value @ Value::Object(_)) => before.push(value),
            (Some(before @ Value::Object(_)), value @ Value::Object(_)) => *before = json!([before.take(), value]),
            (_, value) => {
                object.insert(first.name.to_string(), value);
            }
        }
    }
    object
}

fn value(node: &Node) -> Value {
    match node {
        Node::Literal(Literal::Bool(value), _) => json!(value),
        Node::Literal(Literal::Number(text) | Literal::Float(text) | Literal::String(text), _) => json!(text),
        Node::List(nodes, _) => nodes.iter().map(value).collect(),
        Node::Object(items, _) => Value::Object(object(items)),
    }
}

/// Replaces the value of a variable and leaves its name.
fn redact(variable: &mut String) {
    if let Some((name, _)) = variable.split_once('=') {
        *variable = format!("{name}={REDACTED}");
    }
}

#[cfg(test)]
mod tests {
    use containers::process::System;

    use super::*;

    #[test]
    fn policy_extensions_and_sigstore_are_kept_without_credentials() {
        let digest = "a".repeat(64);
        let text = format!(
            r#"
            docker_socket_path = "unix:///run/x.sock"
            use_new_container_locator = false
            container_id_cgroup_matchers = ["/a/<id>"]
            policy {{ path = "/p.wasm" sha256 = "{digest}" settings {{ a = "1" }} }}
            extension "x" {{ path = "/x.wasm" unpinned = true grants = ["labels"] }}
            extension "y" {{ path = "/y.wasm" unpinned = true }}
            sigstore {{
                allowed_identities {{ "https://issuer" = ["me"] }}
                ignore_tlog = true
                registry_credentials {{ "registry.example.com" {{ username = "u" password = "hunter2" }} }}
            }}
            "#
        );
        let configuration = |text: &str| crate::config::load_for(System::Linux, Some("example.org"), text).unwrap();
        let before = configuration(&text);
        let kept = replayable(&before, blocks(&hcl1::parse(&text).unwrap())).unwrap();
        assert!(!kept.contains("hunter2") && !kept.contains("x.sock"), "{kept}");
        let after = configuration(&kept);
        assert_eq!((after.policy, after.extensions), (before.policy, before.extensions));
        assert_eq!(after.container_id_cgroup_matchers, ["/a/<id>"]);
        assert!(after.sigstore.is_some());
        for text in [
            r#"{"sigstore": {"registry_credentials": {"r": {"username": "u", "password": "hunter2"}}}}"#,
            r#"{"sigstore": [{"ignore_tlog": true, "registry_credentials": {"r": {"username": "u", "password": "hunter2"}}}]}"#,
            r#"sigstore "registry_credentials" { "r" { username = "u" password = "hunter2" } }"#,
            r#"Sigstore { Registry_Credentials "r" { username = "u" password = "hunter2" } }"#,
        ] {
            let kept = serde_json::to_string(&blocks(&hcl1::parse(text).unwrap())).unwrap();
            assert!(kept.to_lowercase().contains("sigstore") && !kept.contains("hunter2"), "{text}: {kept}");
        }
        let kept = replayable(&configuration(""), blocks(&hcl1::parse("").unwrap())).unwrap();
        assert_eq!(kept, "");
    }
}
