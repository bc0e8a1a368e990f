//! The questions of a policy.

use std::fmt;

use sandbox::wit::Engine;

/// A question that a policy may ask: one for each function of the contract, but `log.write`.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// `process.cgroups`
    Cgroups,
    /// `process.cgroup-mounts`
    CgroupMounts,
    /// `job-objects.names`
    JobObjectNames,
    /// `docker.container`: the engine, and the container id that the policy claims.
    Container(Engine, String),
    /// `sigstore.verify`
    Verify,
    /// The grant `process` of an extension. The host asks it, not the policy.
    Credentials,
}

impl Question {
    /// How many bytes of memory the question takes, approximately.
    pub fn bytes(&self) -> usize {
        match self {
            Question::Container(_, claim) => claim.len(),
            _ => 0,
        }
    }
}

/// The question in an operator's words.
impl fmt::Display for Question {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Question::Cgroups => formatter.write_str("process.cgroups: which cgroups is it in?"),
            Question::CgroupMounts => formatter.write_str("process.cgroup-mounts: which cgroup mounts does it see?"),
            Question::JobObjectNames => formatter.write_str("job-objects.names: which job objects is it in?"),
            Question::Container(engine, id) => {
                let id: String = id.chars().take(80).collect();
                let engine = engine_name(engine);
                write!(formatter, "docker.container: claims to be in container \"{id}\" of {engine}")
            }
            Question::Verify => formatter.write_str("sigstore.verify: is the image signed?"),
            Question::Credentials => formatter.write_str("the grant process of an extension: whose process is it?"),
        }
    }
}

/// The name of an engine as an operator knows it.
pub fn engine_name(engine: &Engine) -> &'static str {
    match engine {
        Engine::Docker => "docker",
        Engine::Podman => "podman",
        Engine::RootlessPodman(_) => "rootless podman",
    }
}
