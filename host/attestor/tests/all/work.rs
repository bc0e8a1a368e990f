//! The host's work for a component counts as the component's cost. It is bounded, counted, and lets other tasks run.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use containers::engine::{Engine, InspectFuture, Inspected, Peer, RepoDigestsFuture};
use containers::process::recorded::RecordedProcesses;
use containers::{Claimant, Container, ContainerId, Containers, ProofContext};
use docker_attestor::attestation::Extension;
use docker_attestor::config;
use docker_attestor::error::Error;
use docker_attestor::workload::{Answer, Backends, Question, Workload};
use sandbox::inspect::Description;

use crate::component::{asking, data_at, encode, extension_text, policy_text};
use crate::machine::{answer, policy_of, process, runtime, sandbox, settings};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const PID: i32 = 101;

/// The largest container that an answer may hold: 4,000 labels of 240 bytes, whose values have a common beginning.
struct Large;

impl Engine for Large {
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> InspectFuture<'a> {
        let container = Container {
            id: id.as_str().to_owned(),
            labels: (0..4_000).map(|number| (format!("key{number}"), format!("{:0>240}", number))).collect(),
            env: Vec::new(),
            image: String::new(),
            image_id: None,
            image_manifest_digest: None,
        };
        let (pid_mode, cgroup_parent) = (String::new(), String::new());
        let inspected = Inspected {
            container,
            pid: 100,
            pid_mode,
            cgroup_parent,
            isolation: String::new(),
            engine: Peer::default(),
        };
        Box::pin(std::future::ready(Ok(Some(inspected))))
    }

    fn repo_digests<'a>(&'a self, _: &'a str) -> RepoDigestsFuture<'a> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

/// A process in that container. The engine's answer is cached already.
async fn workload() -> Workload {
    let process = |nspid: [i32; 2]| process(&format!("/docker/{ID}"), &nspid, &[2, 1]);
    let processes = BTreeMap::from([(100, process([100, 1])), (PID, process([PID, 7]))]);
    let processes = Arc::new(RecordedProcesses { processes, now: 2, ..RecordedProcesses::default() });
    let docker = Arc::new(Containers::new(Arc::new(Large), processes.clone(), ProofContext::ALL));
    docker.fetch(&ContainerId::new(ID).unwrap(), Claimant::Attestor).await.unwrap();
    Workload::new(Arc::new(Backends::new(processes, docker)), PID)
}

/// A component with much memory. It frees no memory, but reuses that of earlier answers before each claim.
fn with_memory(text: &str, world: &str) -> Vec<u8> {
    encode(&text.replace("(memory (export \"memory\") 1)", "(memory (export \"memory\") 200)"), world)
}

fn policy(functions: &str, attest: &str) -> Vec<u8> {
    with_memory(&policy_text("1.1.0", functions, "(i32.const 16)", attest), "policy")
}

fn claim() -> String {
    format!("(global.set $top (i32.const 262144)) {}", asking(ID))
}

async fn attest(component: &[u8]) -> Result<Vec<String>, Error> {
    let sandbox = sandbox();
    let policy = policy_of(&sandbox, component).await.unwrap();
    answer(&sandbox, &policy, workload().await).await
}

/// The CPU time of this thread, on which everything in these tests runs (proc_pid_schedstat in the kernel's documentation).
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_container_is_handed_over_again_and_again_only_within_the_limit() {
    let again = |times: usize| {
        let data = data_at(4096, ID.as_bytes());
        let body = format!(
            "(local i32)
            (loop $again {} (local.set 6 (i32.add (local.get 6) (i32.const 1)))
                (br_if $again (i32.lt_u (local.get 6) (i32.const {times}))))
            (i32.const 16)",
            claim()
        );
        policy(&data, &body)
    };
    assert_eq!(attest(&again(5)).await.unwrap(), Vec::<String>::new());
    let before = cpu_time();
    let error = attest(&again(1_000)).await.unwrap_err();
    assert!(error.to_string().contains("asked of the host took more CPU than a call may"), "{error}");
    let took = cpu_time() - before;
    assert!(took < Duration::from_millis(500), "{took:?}, the compilation included");
}

#[tokio::test]
async fn the_built_in_policy_has_memory_for_the_largest_container() {
    let runtime = runtime();
    let selectors = answer(&runtime.sandbox, &runtime.builtin, workload().await).await.unwrap();
    let labels = selectors.iter().filter(|selector| selector.starts_with("label:")).count();
    assert_eq!((labels, selectors.iter().map(String::len).sum::<usize>() > 1_000_000), (4_000, true));
}

/// 64 lines of 64 KiB, with a text that begins like the values.
fn log() -> String {
    "(memory.fill (i32.const 65536) (i32.const 48) (i32.const 65536))
    (loop $again (call $log (i32.const 1) (i32.const 65536) (i32.const 65536))
        (global.set $lines (i32.add (global.get $lines) (i32.const 1)))
        (br_if $again (i32.lt_u (global.get $lines) (i32.const 64))))"
        .to_owned()
}

const LINES: &str = "(global $lines (mut i32) (i32.const 0))";

#[tokio::test]
async fn lines_are_cut_before_they_are_searched_for_values() {
    let data = format!("{LINES} {}", data_at(4096, ID.as_bytes()));
    let component = policy(&data, &format!("{} {} (i32.const 16)", claim(), log()));
    let before = cpu_time();
    assert_eq!(attest(&component).await.unwrap(), Vec::<String>::new());
    // The compilation takes some 100 ms. If each line were searched as a whole for each value in turn, it would take
    // seconds.
    let took = cpu_time() - before;
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[tokio::test]
async fn an_extension_that_is_told_nothing_costs_nothing_for_what_the_container_has() {
    let component = with_memory(&extension_text("1.1.0", LINES, &format!("{} (call $done)", log())), "extension");
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), &component).unwrap();
    let configured = format!("extension \"team\" {{ path = {:?} unpinned = true }}", path.path());
    let configured = config::load(Some("example.org"), &configured).unwrap().extensions.remove(0);
    let sandbox = sandbox();
    let compiled = sandbox.compile(Arc::from(component.as_slice())).await.unwrap();
    let extension = Extension {
        code: sandbox.extension(&compiled).unwrap(),
        description: Description::of(&component).unwrap(),
        name: configured.name,
        grants: configured.grants,
        on_failure: configured.on_failure,
        settings: configured.component.settings,
    };
    let mut workload = workload().await;
    let question = Question::Container(sandbox::wit::Engine::Docker, ID.to_owned());
    let Some(Ok(Answer::Container(Some(container)))) = workload.answer(&question).cloned() else {
        panic!("not proven")
    };
    let before = cpu_time();
    extension.derive(&sandbox, &container, None, || Claimant::Attestor).await.0.unwrap();
    let took = cpu_time() - before;
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[tokio::test]
async fn other_tasks_run_while_the_host_works_for_a_component() {
    let turns = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&turns);
    let counter = tokio::spawn(async move {
        loop {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    let data = data_at(4096, ID.as_bytes());
    let component = policy(&data, &format!("{} (i32.const 16)", claim().repeat(8)));
    let sandbox = sandbox();
    let policy = policy_of(&sandbox, &component).await.unwrap();
    let mut instance = sandbox.instance(&policy.code, workload().await).await.unwrap();
    let before = turns.load(Ordering::Relaxed);
    instance.attest(&settings()).await.unwrap().unwrap();
    let meanwhile = turns.load(Ordering::Relaxed) - before;
    assert!(meanwhile >= 4, "{meanwhile} turns of another task while a container was handed over eight times");
    counter.abort();
}
