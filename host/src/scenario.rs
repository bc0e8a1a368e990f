//! A recorded machine: processes, the engine's answers, and what an attestation must come to. One JSON file each; see
//! fixtures/scenarios.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::attestor::{Attestor, Error, Explanation};
use crate::bindings::docker_attestor::policy::types::Fault;
use crate::capability::{Machine, Workload};
use crate::config::Configuration;
use crate::containers::cache::{Container, Containers, Engine, Finding, Inspected, Inspecting, Peer};
use crate::containers::process::Process;
use crate::containers::process::recorded::{Recorded, RecordedProcess};
use crate::containers::proof::{Clause, ContainerId, ProofContext};
use crate::limits;
use crate::telemetry::metrics::Metrics;

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
    pub docker: BTreeMap<String, Recording>,
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

/// What the engine answers for one container.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// Another id than was asked for; a lying engine.
    #[serde(default, skip_serializing_if = "is_default")]
    pub id: Option<String>,
    /// `State.Pid`.
    pub pid: i32,
    /// `HostConfig.PidMode`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pid_mode: String,
    /// `HostConfig.CgroupParent`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cgroup_parent: String,
    /// The uid of the engine's process.
    #[serde(default, skip_serializing_if = "is_default")]
    pub engine_uid: u32,
    /// Lines of the /proc/PID/cgroup of the engine's process. Empty where the process is not known.
    #[serde(default, skip_serializing_if = "is_default")]
    pub engine_cgroup: Vec<String>,
    /// `Config.Labels`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    /// `Config.Env`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub env: Vec<String>,
    /// `Config.Image`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub image: String,
    /// `Image`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub image_id: Option<String>,
    /// `RepoDigests` of the image.
    #[serde(default, skip_serializing_if = "is_default")]
    pub repo_digests: Vec<String>,
    /// `ImageManifestDescriptor.digest`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub image_manifest_digest: Option<String>,
    /// Instead of an answer: the engine is away.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unavailable: bool,
}

impl Recording {
    /// What an engine answered.
    pub fn of(inspected: &Inspected) -> Recording {
        let Inspected { container, pid, pid_mode, cgroup_parent, engine } = inspected;
        let engine_cgroup = engine.process.as_ref().and_then(|process| process.cgroup().ok()).unwrap_or_default();
        Recording {
            id: None,
            pid: *pid,
            pid_mode: pid_mode.clone(),
            cgroup_parent: cgroup_parent.clone(),
            engine_uid: engine.uid,
            engine_cgroup: String::from_utf8_lossy(&engine_cgroup).lines().map(str::to_owned).collect(),
            labels: container.labels.iter().cloned().collect(),
            env: container.env.clone(),
            image: container.image.clone(),
            image_id: container.image_id.clone(),
            repo_digests: Vec::new(),
            image_manifest_digest: container.image_manifest_digest.clone(),
            unavailable: false,
        }
    }
}

impl Recording {
    fn engine(&self) -> Peer {
        let process = || -> Arc<dyn Process> {
            Arc::new(RecordedProcess { cgroup: self.engine_cgroup.clone(), ..RecordedProcess::default() })
        };
        Peer { uid: self.engine_uid, process: (!self.engine_cgroup.is_empty()).then(process) }
    }
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
        if text.len() > limits::ENGINE_REPLY {
            return Err(unreadable(format!("larger than {} bytes", limits::ENGINE_REPLY)));
        }
        serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))
    }

    /// The scenario of this program: what a policy is tried on before anything was attested.
    pub fn built_in() -> Option<Scenario> {
        serde_json::from_str(include_str!("../../fixtures/scenarios/v2-systemd.json")).ok()
    }

    /// The scenario's process, on its machine.
    pub fn workload(&self) -> Workload {
        let processes = Arc::new(self.recorded_processes());
        let docker = Arc::new(self.containers(processes.clone(), false));
        let machine = Machine::new(processes, docker);
        Workload::new(Arc::new(machine), self.pid)
    }

    fn recorded_processes(&self) -> Recorded {
        Recorded { processes: self.processes.clone(), now: self.now, own_cgroup: self.own_cgroup.clone() }
    }

    /// `declared`: `engine_shares_pid_namespace`.
    fn containers(&self, processes: Arc<Recorded>, declared: bool) -> Containers {
        let context = ProofContext { declared, ..ProofContext::ALL };
        Containers::new(Box::new(RecordedEngine(self.docker.clone())), processes, context)
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
        let attestor = Attestor::of(Arc::new(Recorded::default()), Metrics::disabled()).map_err(broken)?;
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

struct RecordedEngine(BTreeMap<String, Recording>);

impl Engine for RecordedEngine {
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> Inspecting<'a> {
        let answer = match self.0.get(id.as_str()) {
            None => Ok(None),
            Some(recording) if recording.unavailable => {
                Err(Fault::Unavailable("container engine (recorded): connection refused".to_owned()))
            }
            Some(recording) => Ok(Some(Inspected {
                container: Container {
                    id: recording.id.clone().unwrap_or_else(|| id.as_str().to_owned()),
                    labels: recording.labels.clone().into_iter().collect(),
                    env: recording.env.clone(),
                    image: recording.image.clone(),
                    image_id: recording.image_id.clone(),
                    image_manifest_digest: recording.image_manifest_digest.clone(),
                },
                pid: recording.pid,
                pid_mode: recording.pid_mode.clone(),
                cgroup_parent: recording.cgroup_parent.clone(),
                engine: recording.engine(),
            })),
        };
        Box::pin(std::future::ready(answer))
    }

    fn repo_digests<'a>(&'a self, image: &'a str) -> Finding<'a> {
        let of = self.0.values().find(|recording| recording.image_id.as_deref() == Some(image));
        Box::pin(std::future::ready(Ok(of.map_or_else(Vec::new, |recording| recording.repo_digests.clone()))))
    }
}
