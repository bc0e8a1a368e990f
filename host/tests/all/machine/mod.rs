//! A recorded machine for tests: some containers, and processes.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the verdict")]
#![allow(dead_code, reason = "every test file takes what it needs")]

use std::collections::BTreeMap;
use std::sync::Arc;

use containers::engine::{Engine, InspectFuture, Inspected, Peer, RepoDigestsFuture};
use containers::process::recorded::{RecordedProcess, RecordedProcesses};
use containers::{Container, ContainerId, Containers, ProofContext};
use docker_attestor::attestation::Attestor;
use docker_attestor::config;
use docker_attestor::error::Error;
use docker_attestor::sandbox::compiler;
use docker_attestor::telemetry::metrics::Metrics;

/// A container, and one of somebody else.
pub(crate) const OURS: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub(crate) const OTHERS: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

/// In our container, as root; the same as another user; the same in a cgroup of its own below the container's.
pub(crate) const PID: i32 = 101;
pub(crate) const PID_OF_USER: i32 = 102;
pub(crate) const PID_BELOW: i32 = 103;
/// In a container within ours, and so in both.
pub(crate) const PID_WITHIN: i32 = 401;
pub(crate) const WITHIN: &str = "1111111111111111111111111111111111111111111111111111111111111111";
/// In no container.
pub(crate) const PID_OF_HOST: i32 = 300;

/// Knows the containers, each with a label and an env value of its own.
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
        // The user who started the one within ours put it there.
        let (pid_mode, cgroup_parent) = match id.as_str() {
            WITHIN => (format!("container:{OURS}"), format!("/docker/{OURS}/docker")),
            _ => (String::new(), String::new()),
        };
        let inspected = Inspected { container, pid, pid_mode, cgroup_parent, engine: Peer::default() };
        Box::pin(std::future::ready(Ok(Some(inspected))))
    }

    fn repo_digests<'a>(&'a self, _: &'a str) -> RepoDigestsFuture<'a> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

/// A process in this cgroup of the unified hierarchy, with these pids and these pid namespaces, as [`RecordedProcess`] has them.
pub(crate) fn process(cgroup: &str, nspid: &[i32], namespaces: &[u64]) -> RecordedProcess {
    RecordedProcess {
        cgroup: vec![format!("0::{cgroup}")],
        start_time: 1,
        pid_namespaces: namespaces.to_vec(),
        nspid: nspid.to_vec(),
        ..RecordedProcess::default()
    }
}

/// The processes.
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

/// The containers of its engine.
pub(crate) fn containers() -> Containers {
    Containers::new(Arc::new(KnowsAll), processes(), ProofContext::ALL)
}

/// An attestor of this machine, configured.
pub(crate) async fn attestor(plugin_data: &str) -> Arc<Attestor> {
    let attestor = Attestor::of(processes(), Metrics::disabled()).unwrap();
    configure(&attestor, plugin_data).await.unwrap();
    Arc::new(attestor)
}

/// Configures it, again.
pub(crate) async fn configure(attestor: &Attestor, plugin_data: &str) -> Result<(), Error> {
    compiler::compile_with(env!("CARGO_BIN_EXE_docker-attestor").into());
    attestor.configure_with(config::load(Some("example.org"), plugin_data)?, containers()).await
}

/// Resident bytes of this process, on the machine that runs the test.
pub(crate) fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}
