//! An engine of a recorded machine, which scenarios replay.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Engine, InspectFuture, Inspected, ListFuture, ListedContainer, Peer, RepoDigestsFuture};
use crate::container::{Container, ContainerId};
use crate::error::{EngineError, Error};
use crate::process::Process;
use crate::process::recorded::RecordedProcess;

/// What an engine answers for one container.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordedContainer {
    /// Another id than was asked for: a lying engine.
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
    /// `HostConfig.Isolation`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub isolation: String,
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
    /// Instead of an answer: the engine is unreachable.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unavailable: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl RecordedContainer {
    /// Records what an engine answered.
    pub fn of(inspected: &Inspected) -> RecordedContainer {
        let Inspected { container, pid, pid_mode, cgroup_parent, isolation, engine } = inspected;
        let engine_cgroup = engine.process.as_ref().and_then(|process| process.cgroup().ok()).unwrap_or_default();
        RecordedContainer {
            id: None,
            pid: *pid,
            pid_mode: pid_mode.clone(),
            cgroup_parent: cgroup_parent.clone(),
            isolation: isolation.clone(),
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

    /// The answer to a question about the container `id`.
    pub fn inspected(&self, id: &ContainerId) -> Inspected {
        Inspected {
            container: Container {
                id: self.id.clone().unwrap_or_else(|| id.as_str().to_owned()),
                labels: self.labels.clone().into_iter().collect(),
                env: self.env.clone(),
                image: self.image.clone(),
                image_id: self.image_id.clone(),
                image_manifest_digest: self.image_manifest_digest.clone(),
            },
            pid: self.pid,
            pid_mode: self.pid_mode.clone(),
            cgroup_parent: self.cgroup_parent.clone(),
            isolation: self.isolation.clone(),
            engine: self.peer(),
        }
    }

    fn peer(&self) -> Peer {
        let process = || -> Arc<dyn Process> {
            Arc::new(RecordedProcess { cgroup: self.engine_cgroup.clone(), ..RecordedProcess::default() })
        };
        Peer { uid: self.engine_uid, process: (!self.engine_cgroup.is_empty()).then(process) }
    }
}

/// An engine with these containers, by id. It knows no others.
#[derive(Debug, Clone, Default)]
pub struct RecordedEngine(pub BTreeMap<String, RecordedContainer>);

impl Engine for RecordedEngine {
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> InspectFuture<'a> {
        let answer = match self.0.get(id.as_str()) {
            None => Ok(None),
            Some(recorded) if recorded.unavailable => Err(Error::Engine {
                endpoint: "(recorded)".to_owned(),
                error: EngineError::Unreachable { reason: "connection refused".to_owned(), tries: 1 },
            }),
            Some(recorded) => Ok(Some(recorded.inspected(id))),
        };
        Box::pin(ready(answer))
    }

    fn repo_digests<'a>(&'a self, image: &'a str) -> RepoDigestsFuture<'a> {
        let of = self.0.values().find(|recorded| recorded.image_id.as_deref() == Some(image));
        Box::pin(ready(Ok(of.map_or_else(Vec::new, |recorded| recorded.repo_digests.clone()))))
    }

    /// Recorded containers have no names.
    fn list(&self, all: bool) -> ListFuture<'_> {
        let listed = self.0.iter().filter(|(_, recorded)| all || recorded.pid > 0).filter_map(|(id, recorded)| {
            let (name, image) = (String::new(), recorded.image.clone());
            Some(ListedContainer { id: ContainerId::new(id)?, name, image })
        });
        Box::pin(ready(Ok(listed.collect())))
    }
}
