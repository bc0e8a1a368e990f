//! Scenarios: recorded machines, and what an attestation on each must come to. One JSON file each; see fixtures/scenarios.

pub mod expect;
mod run;
pub mod verdict;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use containers::engine::recorded::{RecordedContainer, RecordedEngine};
use containers::process::System;
use containers::process::recorded::{RecordedProcess, RecordedProcesses};
use containers::{Containers, ProofContext};
use schemars::{JsonSchema, Schema, schema_for};
use serde::{Deserialize, Serialize};

pub use self::expect::Expect;
use self::verdict::RecordedVerdict;
use crate::config::{Configuration, Invalid};
use crate::limits;
use crate::machine::FixedMachine;
use crate::workload::{Backends, Workload};

/// A recorded machine, a process on it, and the expected result.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The JSON schema of the file, for editors: what `docker-attestor policy schema` prints.
    #[serde(rename = "$schema", default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The machine, and what the scenario shows.
    pub description: String,
    /// The machine's operating system.
    #[serde(default, skip_serializing_if = "is_default")]
    pub system: System,
    /// The `plugin_data`. Empty for the defaults.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub config: String,
    /// The process that is attested.
    pub pid: i32,
    /// The processes, by pid.
    pub processes: BTreeMap<i32, RecordedProcess>,
    /// Lines of the attestor's own /proc/self/cgroup.
    #[serde(default, skip_serializing_if = "is_default")]
    pub own_cgroup: Vec<String>,
    /// The time at which the engine is asked, in clock ticks since boot. By default after every process was started.
    #[serde(default = "after_everything", skip_serializing_if = "is_after_everything")]
    pub now: u64,
    /// The Docker engine's answers by container id. The engine knows no other ids.
    #[serde(default)]
    pub docker: BTreeMap<String, RecordedContainer>,
    /// The verdict on the container's image. With it the policy has the capability `sigstore`, and no registry is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<RecordedVerdict>,
    /// The expected result of the attestation.
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

    /// Writes the scenario over its file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, self.to_json()?)
    }

    /// The scenario as its file holds it.
    ///
    /// # Errors
    /// Never, for a scenario that was read or recorded.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// The JSON schema of a scenario's file (draft 2020-12).
    pub fn schema() -> Schema {
        schema_for!(Scenario)
    }

    /// The scenario in this program: a machine with this program's operating system.
    pub fn built_in() -> Option<Scenario> {
        let text = match System::THIS {
            System::Linux => include_str!("../../../../fixtures/scenarios/v2-systemd.json"),
            System::Windows => include_str!("../../../../fixtures/scenarios/windows.json"),
        };
        serde_json::from_str(text).ok()
    }

    /// The scenario's machine.
    pub fn machine(&self) -> FixedMachine {
        FixedMachine {
            processes: Arc::new(self.recorded_processes()),
            engine: Arc::new(RecordedEngine(self.docker.clone())),
            reads_namespaces: true,
            decision: self.verdict.as_ref().map(RecordedVerdict::answer),
        }
    }

    /// The scenario's process, on its machine.
    pub fn workload(&self) -> Workload {
        let FixedMachine { processes, engine, .. } = self.machine();
        let docker = Containers::new(engine, Arc::clone(&processes), ProofContext::ALL);
        Workload::new(Arc::new(Backends::new(processes, Arc::new(docker))), self.pid)
    }

    fn recorded_processes(&self) -> RecordedProcesses {
        RecordedProcesses {
            system: self.system,
            processes: self.processes.clone(),
            now: self.now,
            own_cgroup: self.own_cgroup.clone(),
        }
    }

    /// The scenario's own configuration.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration.
    pub fn configuration(&self) -> Result<Configuration, Invalid> {
        crate::config::load_for(self.system, Some("example.org"), &self.config)
    }
}

/// The workload of the scenario in this program: what a policy is tried on before any workload was attested.
pub fn trial_workloads() -> Vec<Workload> {
    Scenario::built_in().iter().map(Scenario::workload).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The schema is made from the types that read the file, so it cannot know other keys than they do. What is left to prove is that
    /// it is strict and documented.
    #[test]
    fn the_schema_knows_every_key_of_a_scenario_and_no_other() {
        let schema = serde_json::to_value(Scenario::schema()).unwrap();
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["required"], serde_json::json!(["description", "pid", "processes", "expect"]));
        for (name, property) in schema["properties"].as_object().unwrap() {
            assert!(property["description"].is_string(), "{name}: {property}");
        }
        for definition in ["RecordedProcess", "RecordedContainer"] {
            assert_eq!(schema["$defs"][definition]["additionalProperties"], false, "{schema}");
        }
        assert!(schema["$defs"]["RecordedContainer"]["properties"]["image_manifest_digest"].is_object());
    }
}
