//! A recorded machine: processes, the engine's answers, and what an attestation must come to. One JSON file each; see
//! fixtures/scenarios.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use containers::engine::recorded::{RecordedContainer, RecordedEngine};
use containers::process::recorded::{RecordedProcess, RecordedProcesses};
use containers::{Clause, Containers, ProofContext};
use serde::{Deserialize, Serialize};

use crate::attestation::{Attestor, Error, Explanation};
use crate::config::Configuration;
use crate::limits;
use crate::sandbox::bindings::docker_attestor::policy::types::Fault;
use crate::telemetry::metrics::Metrics;
use crate::workload::{Machine, Workload};

/// One scenario.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What machine this is, and what the scenario shows.
    pub description: String,
    /// The `plugin_data`; empty for the defaults.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub config: String,
    /// The process that is attested.
    pub pid: i32,
    /// The processes, by pid.
    pub processes: BTreeMap<i32, RecordedProcess>,
    /// Lines of the attestor's own /proc/self/cgroup.
    #[serde(default, skip_serializing_if = "is_default")]
    pub own_cgroup: Vec<String>,
    /// When the engine is asked, in clock ticks since boot; after everything, if it is not said.
    #[serde(default = "after_everything", skip_serializing_if = "is_after_everything")]
    pub now: u64,
    /// What the Docker engine answers, by container id. Other ids it does not know.
    #[serde(default)]
    pub docker: BTreeMap<String, RecordedContainer>,
    /// What the attestation must come to.
    pub expect: Expect,
}

fn after_everything() -> u64 {
    u64::MAX
}

fn is_after_everything(now: &u64) -> bool {
    *now == after_everything()
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What an attestation must come to.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Expect {
    /// These selectors, in this order; none when the process is not ours.
    Selectors(Vec<String>),
    /// No selectors, because this clause does not hold.
    NotProven(Clause),
    /// An error.
    Error {
        /// The gRPC status code's name, such as `FailedPrecondition`.
        code: String,
        /// What its text must contain.
        contains: String,
    },
}

/// Why a scenario cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("scenario {path}: {reason}")]
pub struct Unreadable {
    path: String,
    reason: String,
}

impl Scenario {
    /// Reads a scenario's file.
    pub fn read(path: &Path) -> Result<Scenario, Unreadable> {
        let unreadable = |reason: String| Unreadable { path: path.display().to_string(), reason };
        let text = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
        if text.len() > limits::SCENARIO_FILE {
            return Err(unreadable(format!("larger than {} bytes", limits::SCENARIO_FILE)));
        }
        serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))
    }

    /// The scenario of this program: what a policy is tried on before anything was attested.
    pub fn built_in() -> Option<Scenario> {
        serde_json::from_str(include_str!("../../../fixtures/scenarios/v2-systemd.json")).ok()
    }

    /// The scenario's process, on its machine.
    pub fn workload(&self) -> Workload {
        let processes = Arc::new(self.recorded_processes());
        let docker = Arc::new(self.containers(processes.clone(), false));
        let machine = Machine::new(processes, docker);
        Workload::new(Arc::new(machine), self.pid)
    }

    fn recorded_processes(&self) -> RecordedProcesses {
        RecordedProcesses { processes: self.processes.clone(), now: self.now, own_cgroup: self.own_cgroup.clone() }
    }

    /// `declared`: `engine_shares_pid_namespace`.
    fn containers(&self, processes: Arc<RecordedProcesses>, declared: bool) -> Containers {
        let context = ProofContext { declared, ..ProofContext::ALL };
        Containers::new(Arc::new(RecordedEngine(self.docker.clone())), processes, context)
    }

    /// What its own configuration means.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn configuration(&self) -> Result<Configuration, Error> {
        Ok(crate::config::load(Some("example.org"), &self.config)?)
    }

    /// Attests the scenario's process, in the sandbox, as a real one: with the policy and the extensions of its configuration.
    pub async fn run(&self) -> Result<Explanation, Error> {
        let broken =
            |error: wasmtime::Error| Error::Fault(Fault::Malformed(format!("the sandbox cannot be made: {error}")));
        let attestor = Attestor::of(Arc::new(RecordedProcesses::default()), Metrics::disabled()).map_err(broken)?;
        self.run_beside(&attestor, self.configuration()?).await
    }

    /// The same with another configuration than its own, and in the sandbox of `attestor`.
    pub async fn run_beside(&self, attestor: &Attestor, configuration: Configuration) -> Result<Explanation, Error> {
        let processes = Arc::new(self.recorded_processes());
        let attestor = attestor.beside(processes.clone());
        let containers = self.containers(processes, configuration.engine_shares_pid_namespace);
        attestor.configure_with(configuration, containers).await?;
        attestor.explain(self.pid).await
    }
}

impl Expect {
    /// What differs; `Ok` when nothing does.
    pub fn judge(&self, run: &Result<Explanation, Error>) -> Result<(), String> {
        let (outcome, asked) = match run {
            Ok(explanation) => (explanation.outcome.as_ref(), &explanation.asked[..]),
            Err(error) => (Err(error), &[][..]),
        };
        match (self, outcome) {
            (Expect::Selectors(expected), Ok(got)) if expected == got => Ok(()),
            (Expect::NotProven(clause), Ok(got)) if got.is_empty() => {
                match asked.iter().any(|asked| asked.not_proven == Some(*clause)) {
                    true => Ok(()),
                    false => {
                        let notes: Vec<&str> = asked.iter().map(|asked| asked.note.as_str()).collect();
                        Err(format!("expected that clause {clause} does not hold, got {notes:?}"))
                    }
                }
            }
            (Expect::Error { code, contains }, Err(error))
                if format!("{:?}", error.code()) == *code && error.to_string().contains(contains) =>
            {
                Ok(())
            }
            (expected, Ok(got)) => Err(format!("expected {expected:?}, got {got:?}")),
            (expected, Err(error)) => Err(format!("expected {expected:?}, got {:?}: {error}", error.code())),
        }
    }
}
