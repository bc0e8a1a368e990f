//! The command `docker-attestor policy record`, which records a live workload as a scenario for testing policies and
//! extensions.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use containers::engine::recording::RecordingEngine;
use containers::process::System;
use containers::process::recorded::RecordedProcess;
use containers::process::recording::RecordingProcesses;

use super::super::config::ConfigFile;
use super::super::{Failure, PLACEHOLDER, ProcessName, configured, gone, sandbox_runtime, this_machine};
use crate::attestor::Attestor;
use crate::config::{self, Configuration};
use crate::error::Error;
use crate::machine::{FixedMachine, Machine, OpenMachine};
use crate::scenario::{Expect, Scenario, trial_workloads};
use crate::telemetry::metrics::Metrics;

/// Replaces a value of an environment variable that is not recorded.
const REDACTED: &str = "redacted";

pub(super) async fn run(
    process: &ProcessName,
    mut config: Option<ConfigFile>,
    output: Option<&Path>,
    with_env_values: bool,
    out: &mut impl Write,
    open: OpenMachine,
) -> Result<ExitCode, Failure> {
    let configuration = configured(&mut config)?;
    let this = this_machine(open)?;
    let (pid, _) = process.find(&*this.engine(&configuration, Arc::new(|_| {}))).await?;
    let mut scenario = record(pid, &locator_settings(&configuration), &*this).await?;
    if !with_env_values {
        for recording in scenario.docker.values_mut() {
            recording.env.iter_mut().for_each(redact);
        }
    }
    // Expect the outcome of the built-in policy on the recorded machine, so that a test of that policy passes.
    let attested = scenario.run(&sandbox_runtime()?).await?;
    scenario.expect = match attested.outcome {
        Ok(selectors) => Expect::Selectors(selectors),
        Err(error) => Expect::Error { code: format!("{:?}", error.code()), contains: String::new() },
    };
    let text = scenario.to_json().map_err(|error| Failure::Usage(error.to_string()))?;
    match output {
        None => out.write_all(text.as_bytes())?,
        Some(path) => {
            std::fs::write(path, text).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
            writeln!(out, "{}: process {pid}, {} processes read", path.display(), scenario.processes.len())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn record(pid: i32, config: &str, this: &dyn Machine) -> Result<Scenario, Failure> {
    let configuration = config::load(Some(PLACEHOLDER), config).map_err(Error::from)?;
    let processes = Arc::new(RecordingProcesses::new(this.processes()));
    let engine = Arc::new(RecordingEngine::new(this.engine(&configuration, Arc::new(|_| {}))));
    let reads_namespaces = this.reads_namespaces();
    let machine =
        FixedMachine { processes: processes.clone(), engine: engine.clone(), reads_namespaces, decision: None };
    let attestor = Attestor::new(Arc::new(machine), sandbox_runtime()?, trial_workloads, Metrics::disabled());
    attestor.configure(configuration).await?;
    attestor.explain(pid).await?.outcome?;
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
        config: config.lines().filter(|line| !line.starts_with("docker_")).collect::<Vec<_>>().join("\n"),
        pid,
        processes,
        own_cgroup,
        now: u64::MAX,
        docker,
        verdict: None,
        expect: Expect::Selectors(Vec::new()),
    })
}

/// The settings that decide about the container and can be replayed: the engine, and how ids are found.
fn locator_settings(configuration: &Configuration) -> String {
    let key = match System::THIS {
        System::Linux => "docker_socket_path",
        System::Windows => "docker_host",
    };
    let mut text = format!("{key} = {:?}\n", configuration.docker.to_string());
    if configuration.engine_shares_pid_namespace {
        text.push_str("engine_shares_pid_namespace = true\n");
    }
    if !configuration.use_new_container_locator {
        text.push_str("use_new_container_locator = false\n");
        text.push_str(&format!("container_id_cgroup_matchers = {:?}\n", configuration.container_id_cgroup_matchers));
    }
    text
}

/// Replaces the value of a variable and leaves its name.
fn redact(variable: &mut String) {
    if let Some((name, _)) = variable.split_once('=') {
        *variable = format!("{name}={REDACTED}");
    }
}
