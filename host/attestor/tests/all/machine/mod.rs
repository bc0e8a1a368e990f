//! A recorded machine for tests, with some containers and processes.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the verdict")]
#![allow(dead_code, reason = "every test file takes what it needs")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use containers::engine::{Engine, InspectFuture, Inspected, Peer, RepoDigestsFuture};
use containers::process::Processes;
use containers::process::recorded::{RecordedProcess, RecordedProcesses};
use containers::{Container, ContainerId, Containers, ProofContext};
use docker_attestor::attestation::{Policy, Sandbox};
use docker_attestor::attestor::Attestor;
use docker_attestor::components::Runtime;
use docker_attestor::config;
use docker_attestor::error::Error;
use docker_attestor::machine::FixedMachine;
use docker_attestor::scenario::trial_workloads;
use docker_attestor::telemetry::metrics::Metrics;
use docker_attestor::workload::Workload;
use sandbox::Compilation;
use sandbox::inspect::{Description, World};
use sandbox::wit::{Capabilities, Settings};

/// The id of the workload's container, and that of another workload's.
pub(crate) const OURS: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub(crate) const OTHERS: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

/// Processes in our container: one as root, one as another user, and one in a cgroup of its own below the container's.
pub(crate) const PID: i32 = 101;
pub(crate) const PID_OF_USER: i32 = 102;
pub(crate) const PID_BELOW: i32 = 103;
/// A process in a container within ours, and so in both containers.
pub(crate) const PID_WITHIN: i32 = 401;
pub(crate) const WITHIN: &str = "1111111111111111111111111111111111111111111111111111111111111111";
/// A process in no container.
pub(crate) const PID_OF_HOST: i32 = 300;

/// An engine that knows the containers, each with its own label and env value.
pub(crate) struct KnowsAll;

impl Engine for KnowsAll {
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> InspectFuture<'a> {
        let (pid, name) = match id.as_str() {
            OURS => (100, "ours"),
            OTHERS => (200, "theirs"),
            WITHIN => (400, "within"),
            _ => return Box::pin(std::future::ready(Ok(None))),
        };
        let container = Container {
            id: id.as_str().to_owned(),
            labels: vec![("name".to_owned(), name.to_owned()), ("role:admin".to_owned(), "a\nb".to_owned())],
            env: vec![format!("NAME={name}"), "LINES=a\nb".to_owned(), "TOKEN=secret-token".to_owned()],
            image: format!("{name}:1"),
            image_id: Some(format!("sha256:{name}")),
            image_manifest_digest: None,
        };
        // The user who started the inner container chose this cgroup parent.
        let (pid_mode, cgroup_parent) = match id.as_str() {
            WITHIN => (format!("container:{OURS}"), format!("/docker/{OURS}/docker")),
            _ => (String::new(), String::new()),
        };
        let isolation = String::new();
        let inspected = Inspected { container, pid, pid_mode, cgroup_parent, isolation, engine: Peer::default() };
        Box::pin(std::future::ready(Ok(Some(inspected))))
    }

    fn repo_digests<'a>(&'a self, _: &'a str) -> RepoDigestsFuture<'a> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

/// A process in this cgroup of the unified hierarchy. The pids and pid namespaces are those of [`RecordedProcess`].
pub(crate) fn process(cgroup: &str, nspid: &[i32], namespaces: &[u64]) -> RecordedProcess {
    RecordedProcess {
        cgroup: vec![format!("0::{cgroup}")],
        start_time: 1,
        pid_namespaces: namespaces.to_vec(),
        nspid: nspid.to_vec(),
        ..RecordedProcess::default()
    }
}

/// The processes of the recorded machine.
pub(crate) fn processes() -> Arc<RecordedProcesses> {
    let ours = format!("/docker/{OURS}");
    let within = format!("{ours}/docker/{WITHIN}");
    let user = RecordedProcess { uid: 1_000, gid: 2_000, ..process(&ours, &[PID_OF_USER, 8], &[2, 1]) };
    let processes = BTreeMap::from([
        (100, process(&ours, &[100, 1], &[2, 1])),
        (PID, process(&ours, &[PID, 7], &[2, 1])),
        (PID_OF_USER, user),
        (PID_BELOW, process(&format!("{ours}/below"), &[PID_BELOW, 9], &[2, 1])),
        (200, process(&format!("/docker/{OTHERS}"), &[200, 1], &[3, 1])),
        (400, process(&within, &[400, 50, 1], &[4, 2, 1])),
        (PID_WITHIN, process(&within, &[PID_WITHIN, 51, 2], &[4, 2, 1])),
        (PID_OF_HOST, process("/user.slice", &[PID_OF_HOST], &[1])),
    ]);
    Arc::new(RecordedProcesses { processes, now: 2, ..RecordedProcesses::default() })
}

/// The containers of the machine's engine.
pub(crate) fn containers() -> Containers {
    Containers::new(Arc::new(KnowsAll), processes(), ProofContext::ALL)
}

/// Compilation in a process of its own, as in the program.
#[expect(unsafe_code, reason = "the program of a test is no compiler")]
pub(crate) fn compilation() -> Compilation {
    // SAFETY: Cargo built the program of the same sources.
    unsafe { Compilation::in_process_of(env!("CARGO_BIN_EXE_docker-attestor").into()) }
}

/// The sandbox, whose compiler is a process of its own.
pub(crate) fn runtime() -> Arc<Runtime> {
    Arc::new(Runtime::new(compilation(), Metrics::disabled()).unwrap())
}

/// An attestor of a machine with this engine, without a configuration yet.
pub(crate) fn attestor_of(processes: Arc<dyn Processes>, engine: Arc<dyn Engine>) -> Attestor {
    let machine = FixedMachine { processes, engine, reads_namespaces: true, decision: None };
    Attestor::new(Arc::new(machine), runtime(), trial_workloads, Metrics::disabled())
}

/// An attestor of the recorded machine, without a configuration yet.
pub(crate) fn unconfigured() -> Attestor {
    attestor_of(processes(), Arc::new(KnowsAll))
}

/// A configured attestor of the recorded machine.
pub(crate) async fn attestor(plugin_data: &str) -> Arc<Attestor> {
    let attestor = unconfigured();
    configure(&attestor, plugin_data).await.unwrap();
    Arc::new(attestor)
}

/// Configures the attestor, for the first time or again.
pub(crate) async fn configure(attestor: &Attestor, plugin_data: &str) -> Result<(), Error> {
    attestor.configure(config::load(Some("example.org"), plugin_data)?).await
}

/// A sandbox that compiles in the process of the test.
pub(crate) fn sandbox() -> Arc<Sandbox> {
    Arc::new(Sandbox::new(Compilation::in_this_process()).unwrap())
}

/// Makes a policy from these bytes without a trial, or returns why they are none.
pub(crate) async fn policy_of(sandbox: &Sandbox, component: &[u8]) -> Result<Policy, String> {
    let description = Description::of(component).map_err(|refused| refused.to_string())?;
    description.check(World::Policy).map_err(|refused| refused.to_string())?;
    let compiled = sandbox.compile(component.into()).await.map_err(|error| error.to_string())?;
    let code = sandbox.policy(&compiled).map_err(|error| error.to_string())?;
    Ok(Policy::new(code, description.digest, description.version))
}

/// The settings of an empty configuration.
pub(crate) fn settings() -> Settings {
    Settings {
        capabilities: Capabilities::PROCESS | Capabilities::DOCKER,
        use_new_container_locator: true,
        container_id_cgroup_matchers: Vec::new(),
        extra: Vec::new(),
    }
}

/// The answer of a policy for a workload.
pub(crate) async fn answer(sandbox: &Sandbox, policy: &Policy, workload: Workload) -> Result<Vec<String>, Error> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    policy.attest(sandbox, &settings(), workload, deadline).await.1
}

/// The resident bytes of this process.
pub(crate) fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}
